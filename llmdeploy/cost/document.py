"""What a stack costs, as the document that plans carry and `llmdeploy cost --format json` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import TYPE_CHECKING

from ..prices import HOURS_PER_MONTH, CostLine, Total
from ..resource import Tree
from .break_even import Crossing, SelfHosted, blended, crossover, hosted_usd
from .volume import MILLION, Assumptions, Fleet, expected_tokens, whole

if TYPE_CHECKING:
    from ..catalog import HostedModel

UTILIZATIONS = (0.1, 0.25, 0.4, 0.7, 1.0)
_POINTS_PER_DECADE = 20
_MOST_DECADES = 5
_FIRST_DECADE = 3
_CENTS, _FINE = 2, 6


@dataclass(frozen=True)
class Accounts:
    """What the document is made of.

    lines: the bill at the expected usage; machines and shared: the bills without any usage, of what every machine has and of what
    the stack has once. fleet: None when nobody predicts how much it carries. against: hosted models. stale: sentences about
    tables of prices that are old.
    """

    lines: tuple[CostLine, ...]
    machines: tuple[CostLine, ...] = ()
    shared: tuple[CostLine, ...] = ()
    fleet: Fleet | None = None
    assumptions: Assumptions = field(default_factory=Assumptions)
    against: tuple[HostedModel, ...] = ()
    stale: tuple[str, ...] = ()

    @property
    def tokens(self) -> float:
        """Tokens per month that `lines` are for."""
        return expected_tokens(self.fleet, self.assumptions)

    @property
    def withheld(self) -> str:
        """Why no cost per token can be told; empty when it can."""
        missing = [one.label for one in self.machines if one.usd is None and one.quantity and one.per != "once"]
        if missing:
            return f"no cost per token and no break-even, because there is no price for {', '.join(dict.fromkeys(missing))}"
        if not any(one.usd_per_month for one in self.lines):
            return "no cost per token and no break-even, because nothing here has a price: give your own under `prices:`"
        return "" if self.fleet else "no cost per token and no break-even, because no throughput is predicted for this hardware"

    @property
    def self_hosted(self) -> SelfHosted | None:
        """How the cost grows with the volume; None when that cannot be told."""
        if self.fleet is None or self.withheld:
            return None
        machines, shared = Total.of(self.machines), Total.of(self.shared)
        used = Total.of(self.lines).usd_per_month - machines.usd_per_month - shared.usd_per_month
        carried = self.fleet.tokens_per_month(self.assumptions.input_share) * self.assumptions.utilization
        return SelfHosted(
            fixed_usd=shared.usd_per_month + self.assumptions.operations_usd_per_month,
            unit_usd=machines.usd_per_month / self.fleet.units,
            unit_tokens=carried * self.fleet.replicas_per_unit,
            units=self.fleet.units,
            token_usd=max(0.0, used / self.tokens) if self.tokens else 0.0,
        )


def document(accounts: Accounts) -> dict[str, Tree]:
    """Return the document. Sums per month and once are rounded to cents, other USD to millionths, tokens to whole ones."""
    total, own, fleet = Total.of(accounts.lines), accounts.self_hosted, accounts.fleet
    assumed = accounts.assumptions
    capacity = fleet.capacity(assumed.input_share) if fleet else None
    # A bill without any price is unknown, not zero.
    priced = not accounts.lines or any(one.usd is not None for one in accounts.lines)
    return {
        "usd_per_hour": round(total.usd_per_hour, _FINE) if priced else None,
        "usd_per_month": round(total.usd_per_month, _CENTS) if priced else None,
        "usd_once": round(total.usd_once, _CENTS) if priced else None,
        "prior_usd_per_month": None,
        "unpriced": list(total.unpriced),
        "lines": [line_document(one) for one in accounts.lines],
        "assumptions": _assumptions(assumed),
        "capacity_tokens_per_month": None if capacity is None else round(capacity),
        "usd_per_million_tokens": list(_per_million(own, capacity)) if own and capacity else [],
        "idle": _idle(accounts, capacity),
        "at": _at(accounts, own),
        "against": [_against(one, assumed, own) for one in accounts.against],
        "curve": _curve(accounts, own) if own else None,
        "notes": list(_notes(accounts)),
        "stale": list(accounts.stale),
    }


def line_document(one: CostLine) -> dict[str, Tree]:
    """Return one line of a bill."""
    return {
        "label": one.label,
        "quantity": one.quantity,
        "unit": one.unit,
        "usd_per_unit": one.usd_per_unit,
        "per": one.per,
        "usd_per_hour": _rounded(one.usd_per_hour),
        "usd_per_month": _rounded(one.usd_per_month),
        "usd_once": _rounded(one.usd_once),
        "source": one.source,
        "confidence": one.confidence,
        "note": one.note,
    }


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, _FINE)


def _assumptions(assumed: Assumptions) -> dict[str, Tree]:
    return {
        "hours_per_month": HOURS_PER_MONTH,
        "utilization": assumed.utilization,
        "input_share": assumed.input_share,
        "cached_share": assumed.cached_share,
        "tokens_per_request": assumed.tokens_per_request,
        "operations_usd_per_month": assumed.operations_usd_per_month,
        "tokens_per_month": assumed.tokens_per_month,
    }


def usd_per_million(own: SelfHosted, tokens: float) -> float:
    """Return USD per million tokens when the stack as it is carries `tokens` in a month."""
    return ((own.fixed_usd + own.unit_usd * own.units) / tokens + own.token_usd) * MILLION


def _per_million(own: SelfHosted, capacity: float) -> Iterator[dict[str, Tree]]:
    for share in UTILIZATIONS:
        yield {"utilization": share, "usd": round(usd_per_million(own, capacity * share), _FINE)}


def _idle(accounts: Accounts, capacity: float | None) -> dict[str, Tree] | None:
    """Return the part of the machines' cost that is paid while they have nothing to do; None when that cannot be told."""
    if not capacity or accounts.withheld:
        return None
    paid = Total.of(accounts.machines).usd_per_month
    busy = min(1.0, accounts.tokens / capacity)
    return {
        "utilization": round(busy, _FINE),
        "usd_per_month": round(paid * (1 - busy), _CENTS),
        "of_usd_per_month": round(paid, _CENTS),
    }


def _at(accounts: Accounts, own: SelfHosted | None) -> dict[str, Tree] | None:
    """Return what the volume that was asked for costs here and there; None when none was asked for."""
    fleet, assumed = accounts.fleet, accounts.assumptions
    tokens = assumed.tokens_per_month
    if tokens is None:
        return None
    return {
        "tokens_per_month": round(tokens),
        "replicas": max(fleet.replicas, whole(tokens / own.unit_tokens * fleet.replicas_per_unit)) if own and fleet else None,
        "self_hosted_usd": round(own.usd(tokens), _CENTS) if own else None,
        "hosted": {one.name: round(hosted_usd(one, assumed, tokens), _CENTS) for one in accounts.against},
    }


# --- hosted APIs ------------------------------------------------------------------------------------------------------------


def _against(one: HostedModel, assumed: Assumptions, own: SelfHosted | None) -> dict[str, Tree]:
    price = blended(one, assumed)
    crossing = own.break_even(price) if own else None
    notes = [_verdict(own, crossing, assumed)] if own else []
    if one.ends:
        notes.append(f"its provider switches it off on {one.ends}")
    return {
        "name": one.name,
        "provider": one.provider,
        "input": one.input,
        "cached": one.cached,
        "output": one.output,
        "source": one.source,
        "as_of": one.as_of,
        "confidence": one.confidence,
        "blended": round(price, _FINE),
        "break_even_tokens_per_month": round(crossing.lasting) if crossing else None,
        "note": "; ".join(note for note in notes if note),
    }


def _verdict(own: SelfHosted, crossing: Crossing | None, assumed: Assumptions) -> str:
    """Return what a single figure leaves out."""
    busy = f"at {assumed.utilization:.0%} utilization"
    if crossing is None:
        full = (own.unit_usd / own.unit_tokens + own.token_usd) * MILLION
        return f"dearer at every volume: {full:.2f} USD per million tokens for machines alone {busy}"
    units = own.units_for(crossing.lasting)
    if crossing.first < crossing.lasting:
        return f"cheaper for the first time at {tokens_text(crossing.first)}, dearer again while a machine more is not full yet"
    if units > own.units:
        carried = tokens_text(own.unit_tokens * own.units)
        return f"with {units / own.units:.3g} times the machines of this stack, which carry {carried} {busy}"
    return ""


def tokens_text(tokens: float) -> str:
    """Return a number of tokens for people, in three figures: 930M, 1.42B."""
    for name, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if tokens >= size * 0.9995:
            return f"{float(f'{tokens / size:.3g}'):g}{name}"
    return f"{tokens:.0f}"


def _curve(accounts: Accounts, own: SelfHosted) -> dict[str, Tree]:
    volumes = _volumes(accounts, own)
    return {
        "tokens_per_month": volumes,
        "self_hosted_usd": [round(own.usd(tokens), _CENTS) for tokens in volumes],
        "hosted": {
            one.name: [round(hosted_usd(one, accounts.assumptions, tokens), _CENTS) for tokens in volumes]
            for one in accounts.against
        },
    }


def _volumes(accounts: Accounts, own: SelfHosted) -> list[int]:
    """Return volumes in equal ratios around what the stack carries and where it meets each API, in whole decades."""
    marks = [own.unit_tokens * own.units, *([accounts.tokens] if accounts.tokens > 0 else [])]
    for one in accounts.against:
        price = blended(one, accounts.assumptions)
        crossing = own.break_even(price)
        found = crossing.lasting if crossing else crossover(own.usd(0), price)
        marks += [found] if found else []
    low = max(_FIRST_DECADE, floor(log10(min(marks) / 3)))
    high = min(max(ceil(log10(max(marks) * 3)), low + 1), low + _MOST_DECADES)
    steps = range(_POINTS_PER_DECADE * (high - low) + 1)
    return [round(float(f"{10 ** (low + step / _POINTS_PER_DECADE):.3g}")) for step in steps]


# --- what else must be known ------------------------------------------------------------------------------------------------


def _notes(accounts: Accounts) -> Iterator[str]:
    fleet, assumed = accounts.fleet, accounts.assumptions
    yield f"a month is {HOURS_PER_MONTH} hours (365 x 24 / 12)"
    if fleet:
        yield (
            f"capacity: one replica is predicted to read {fleet.prefill_tokens_per_s:,.0f} tokens/s and to write"
            f" {fleet.decode_tokens_per_s:,.0f} tokens/s, one after the other, with {assumed.input_share:.0%} of all tokens input"
        )
    if assumed.cached_share:
        yield "cached input is cheaper at the API and counted here as read anew: the engine's own prefix cache makes more room"
    if accounts.withheld:
        yield accounts.withheld
    missing = _unpriced(accounts.lines)
    if missing and not accounts.withheld:
        yield f"sums leave out what has no price: {', '.join(missing)}"
    if fleet and fleet.replicas == 1 and not accounts.withheld:
        yield "one replica: nothing answers while it is down; a second one costs as much again as its machines"


def _unpriced(lines: Sequence[CostLine]) -> tuple[str, ...]:
    return Total.of(lines).unpriced


def with_prior(economics: Mapping[str, Tree], prior: Sequence[CostLine] | None) -> dict[str, Tree]:
    """Return the document with what exists now beside it. prior: its bill, None when nothing exists."""
    before = None if prior is None else round(Total.of(prior).usd_per_month, _CENTS)
    return {**economics, "prior_usd_per_month": before}
