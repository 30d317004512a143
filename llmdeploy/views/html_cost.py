"""What an HTML plan tells of the cost: the bill line by line, what a million tokens cost, and from when on it is worth it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..cost import tokens_text
from ..plan import Plan
from ..prices import CostLine, Total
from ..resource import Tree
from .figures import aligned, count, exact_usd, quantity, usd


@dataclass(frozen=True)
class Line:
    """One line of the bill as texts. once: what is paid one time, which then is in no other column. source: number of it."""

    label: str
    quantity: str
    unit: str
    price: str
    hour: str
    month: str
    once: str
    source: str
    confidence: str
    note: str


@dataclass(frozen=True)
class Against:
    """One hosted API, as texts.

    input, cached, output: its prices per million tokens; blended: in the assumed mix. break_even: tokens a month from which
    self-hosting is cheaper, "" for never. at: its price of a month at the volume that was asked for.
    """

    name: str
    input: str
    cached: str
    output: str
    blended: str
    break_even: str
    as_of: str
    note: str
    at: str


@dataclass(frozen=True)
class CostView:
    """All of it.

    hour, month, once: sums in USD. change: "12.00 more than", before: what exists now; "" where nothing does. unpriced: labels of
    lines without a price; priced: whether any has one. at: the volume that was asked for, own_at: what it costs self-hosted.
    compared: whether there is a curve; rule: what it takes for granted. assumptions: what the figures rest on, as sentences.
    """

    hour: str
    hour_exact: str
    month: str
    month_short: str
    once: str
    change: str
    before: str
    unpriced: tuple[str, ...]
    priced: bool
    compared: bool
    lines: tuple[Line, ...]
    sources: tuple[str, ...]
    per_million: tuple[tuple[str, str], ...]
    against: tuple[Against, ...]
    at: str
    own_at: str
    rule: str
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]


def cost_view(plan: Plan) -> CostView | None:
    """Return what is shown of the cost; None where nothing has one, before or after."""
    economics = plan.economics
    if not (economics or plan.cost or plan.prior_cost):
        return None
    total, prior = Total.of(plan.cost), Total.of(plan.prior_cost)
    at: Mapping[str, Tree] = economics.get("at") or {}
    own_at: float | None = at.get("self_hosted_usd")
    sources = list(dict.fromkeys(one.source for one in plan.cost if one.source))
    lines = [_line(one, sources) for one in plan.cost]
    against = [_against(row, at) for row in _list(economics, "against")]
    return CostView(
        hour=usd(total.usd_per_hour),
        hour_exact=_amount(total.usd_per_hour, digits=4),
        month=usd(total.usd_per_month),
        month_short=count(total.usd_per_month) if total.usd_per_month >= 1000 else usd(total.usd_per_month),
        once=usd(total.usd_once) if total.usd_once else "",
        change=_change(total.usd_per_month - prior.usd_per_month) if plan.prior_cost else "",
        before=usd(prior.usd_per_month) if plan.prior_cost else "",
        unpriced=total.unpriced,
        priced=not plan.cost or any(one.usd is not None for one in plan.cost),
        compared=bool(economics.get("curve")),
        lines=_in_line(lines, "quantity", "price", "hour", "month", "once"),
        sources=tuple(sources),
        per_million=tuple(
            (f"{100 * row['utilization']:.0f} %", usd(row["usd"])) for row in _list(economics, "usd_per_million_tokens")
        ),
        against=_in_line(against, "input", "cached", "output", "blended", "at"),
        at=tokens_text(at["tokens_per_month"]) if at else "",
        own_at=usd(own_at) if own_at is not None else "",
        rule=_rule(economics),
        assumptions=tuple(_assumptions(economics)) if economics else (),
        notes=tuple(map(str, (*_list(economics, "notes"), *_list(economics, "stale")))),
    )


def _list(economics: Mapping[str, Tree], name: str) -> Iterable[Any]:
    return economics.get(name) or ()


Row = TypeVar("Row", Line, Against)


def _in_line(rows: Sequence[Row], *columns: str) -> tuple[Row, ...]:
    """Return rows with the points of each column's figures in line."""
    texts = {name: aligned([getattr(row, name) for row in rows]) for name in columns}
    return tuple(replace(row, **{name: texts[name][index] for name in columns}) for index, row in enumerate(rows))


def _change(amount: float) -> str:
    """Return a difference in words; what is below a cent is none."""
    if abs(amount) < 0.005:
        return "as much as"
    return f"{usd(abs(amount))} {'more' if amount > 0 else 'less'} than"


def _line(one: CostLine, sources: Sequence[str]) -> Line:
    once = one.per == "once"
    return Line(
        label=one.label,
        quantity=quantity(one.quantity),
        unit=one.unit,
        price=_amount(one.usd_per_unit),
        hour="" if once else _amount(one.usd_per_hour, digits=4),
        month="" if once else _amount(one.usd_per_month, digits=2),
        once=_amount(one.usd_once, digits=2) if once else "",
        source=f"{sources.index(one.source) + 1}" if one.source else "",
        confidence=one.confidence,
        note=one.note,
    )


def _amount(amount: float | None, digits: int | None = None) -> str:
    """Return an amount; what has no price is unknown, never zero, and what is too small to be seen is said to be there."""
    if amount is None:
        return "unknown"
    if digits is None:
        return exact_usd(amount)
    least = 10**-digits
    return f"<{least:.{digits}f}" if 0 < amount < least / 2 else f"{amount:,.{digits}f}"


def _against(row: Mapping[str, Tree], at: Mapping[str, Tree]) -> Against:
    even = row.get("break_even_tokens_per_month")
    hosted: Mapping[str, float] = at.get("hosted") or {}
    there = hosted.get(row["name"])
    return Against(
        name=str(row["name"]),
        input=_amount(row.get("input")),
        cached=_amount(row["cached"]) if row.get("cached") is not None else "",
        output=_amount(row.get("output")),
        blended=_amount(row.get("blended")),
        break_even=tokens_text(even) if even else "",
        as_of=str(row.get("as_of") or ""),
        note=str(row.get("note") or ""),
        at=usd(there) if there is not None else "",
    )


def _rule(economics: Mapping[str, Tree]) -> str:
    """Return what the curve takes for granted."""
    assumed: Mapping[str, Tree] = economics.get("assumptions") or {}
    if not economics.get("curve"):
        return ""
    busy, share = 100 * assumed["utilization"], 100 * assumed["input_share"]
    added = f"Machines are added once those there are {busy:.0f} % busy"
    return f"Both axes are logarithmic. {added}; {share:.0f} % of the tokens are input."


def _assumptions(economics: Mapping[str, Tree]) -> list[str]:
    assumed: Mapping[str, Tree] = economics["assumptions"]
    found: list[str] = []
    if assumed.get("input_share") is not None:
        cached = assumed.get("cached_share")
        rest = f", of which {100 * cached:.0f} % are read from a cache" if cached else ""
        found.append(f"{100 * assumed['input_share']:.0f} % of the tokens are input{rest}.")
    if assumed.get("tokens_per_request"):
        found.append(f"A request has {quantity(assumed['tokens_per_request'])} tokens.")
    if assumed.get("tokens_per_month"):
        found.append(f"Expected: {tokens_text(assumed['tokens_per_month'])} tokens a month.")
    if economics.get("capacity_tokens_per_month"):
        found.append(
            f"The planned machines can carry {tokens_text(economics['capacity_tokens_per_month'])} tokens a month, by prediction."
        )
    if assumed.get("operations_usd_per_month"):
        staff = usd(assumed["operations_usd_per_month"])
        found.append(f"{staff} USD a month for operations staff, whatever the number of machines.")
    if idle := economics.get("idle"):
        paid, whole = usd(idle["usd_per_month"]), usd(idle["of_usd_per_month"])
        found.append(f"At {100 * idle['utilization']:.0f} % use, {paid} of {whole} USD a month are paid for machines that wait.")
    return found
