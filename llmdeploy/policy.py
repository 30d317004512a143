"""What a stack's compliance profiles force, and what a judge found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

FindingResult = Literal["fail", "acknowledge", "warn"]
Residency = Literal["eu", "eea", "adequate"]


@dataclass(frozen=True)
class Demand:
    """One control that is in force: the profiles that demand it, and what it demands in one sentence.

    strict: a profile demands it; what is not is part of the baseline only, and told instead of refused.
    """

    control: str
    profiles: tuple[str, ...]
    sentence: str
    strict: bool = True


@dataclass(frozen=True)
class Forced:
    """A value that the stack file left open and a control decides: where it stands in the stack file, and the value."""

    control: str
    path: str
    value: str | int


@dataclass(frozen=True)
class Endpoint:
    """Where a server that data goes to stands, as the operator states it.

    country: two capital letters (ISO 3166-1), or `site` for a server inside the operator's own site. agreement: whether a
    processor agreement covers it (Art. 28 GDPR, a business associate agreement).
    """

    country: str
    agreement: bool = False


@dataclass(frozen=True)
class Policy:
    """What the stack's profiles force together; it shapes sizing and layout. The strictest profile wins.

    profiles: without `none`, sorted. demands: by control. forced: values that the stack file leaves open. residency: None where
    no profile and no entry asks for one. log_days: (least, most) days that log lines are kept; None: no bound. endpoints: what
    the operator states of servers, by host name. conditions: countries of which the operator states that the condition of their
    adequacy decision is met.
    """

    profiles: tuple[str, ...] = ()
    demands: tuple[Demand, ...] = ()
    forced: tuple[Forced, ...] = ()
    residency: Residency | None = None
    log_days: tuple[int | None, int | None] = (None, None)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict[str, Endpoint], hash=False)
    conditions: tuple[str, ...] = ()

    def demand(self, control: str) -> Demand | None:
        """Return the demand of `control`, or None when nothing asks for it."""
        return next((demand for demand in self.demands if demand.control == control), None)

    def strict(self, control: str) -> bool:
        """Return whether a profile, and not the baseline alone, demands `control`."""
        demand = self.demand(control)
        return demand is not None and demand.strict

    def value(self, path: str) -> str | int | None:
        """Return what is forced for a part of the stack file that it leaves open, or None."""
        return next((one.value for one in self.forced if one.path == path), None)


@dataclass(frozen=True)
class Finding:
    """A judgement on the plan: which control, about which resource, its citation, the place in the stack file, the way out.

    result: `fail` and `acknowledge` (a person must state something in the stack file) refuse the plan, `warn` is told. place:
    file, line and column of `path`, "" where it has none.
    """

    control: str
    result: FindingResult
    sentence: str
    address: str = ""
    citation: str = ""
    path: str = ""
    way_out: str = ""
    place: str = ""

    @property
    def refuses(self) -> bool:
        """Whether the plan cannot be applied because of it."""
        return self.result != "warn"


def alike(findings: Iterable[Finding]) -> list[tuple[Finding, tuple[str, ...]]]:
    """Return each finding once, with the addresses that it is about."""
    found: dict[Finding, list[str]] = {}
    for one in findings:
        found.setdefault(replace(one, address=""), []).append(one.address)
    return [(one, tuple(filter(None, addresses))) for one, addresses in found.items()]


def told(finding: Finding, addresses: Sequence[str]) -> str:
    """Return a finding as a sentence that names what it is about."""
    if len(addresses) < 2:
        return f"{''.join(addresses)} {finding.sentence}".strip()
    return f"{', '.join(addresses[:-1])} and {addresses[-1]}: each {finding.sentence}"
