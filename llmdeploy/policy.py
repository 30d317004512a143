"""What a stack's compliance profiles force, and what a judge found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Demand:
    """One thing that a profile forces: which control of which profile, and the sentence the plan prints."""

    control: str
    profile: str
    sentence: str


@dataclass(frozen=True)
class Policy:
    """What the stack's profiles force; it shapes sizing and layout. The strictest profile wins."""

    profiles: tuple[str, ...] = ()
    demands: tuple[Demand, ...] = ()

    def demand(self, control: str) -> Demand | None:
        """Return the demand of `control`, or None when no profile forces it."""
        return next((demand for demand in self.demands if demand.control == control), None)


@dataclass(frozen=True)
class Finding:
    """A judgement on the plan: which control, about which resource, its citation, the place in the stack file, the way out."""

    control: str
    result: Literal["fail", "warn"]
    sentence: str
    address: str = ""
    citation: str = ""
    path: str = ""
    way_out: str = ""
