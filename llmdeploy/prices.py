"""Prices, what a stack is expected to do in a month, and the lines of a bill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

HOURS_PER_MONTH: Final = 730
"""Hours of a month in every figure of llmdeploy: 365 x 24 / 12."""

Confidence = Literal["seen", "derived", "unverified"]
"""How a fact is known. seen: read in the source that is named; derived: computed from seen ones; unverified: from memory or from
a text that could not be checked."""

Per = Literal["hour", "month", "once"]
"""How often a quantity is paid: for each hour, for each month, or one time."""


@dataclass(frozen=True)
class Price:
    """A price of one unit: USD, the unit in words ("hour", "GB-month", "GB"), where it comes from, as of when (YYYY-MM-DD)."""

    usd: float
    unit: str
    source: str
    as_of: str = ""
    confidence: Confidence = "unverified"


@dataclass(frozen=True)
class Usage:
    """What a stack is expected to do in a month, for the lines of a bill that depend on it.

    requests, tokens_in and tokens_out: of the whole stack in one month. weights_bytes: one copy of the model's files.
    """

    requests: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    weights_bytes: int = 0


@dataclass(frozen=True)
class CostLine:
    """One line of a bill: what it is, how much of it is paid how often, and the price of one unit.

    quantity: units per `per`. usd_per_unit: None when there is no price. note: what the quantity rests on. A line that is paid
    once counts neither by the hour nor by the month.
    """

    label: str
    quantity: float
    unit: str
    usd_per_unit: float | None
    per: Per = "hour"
    source: str = ""
    confidence: Confidence = "unverified"
    note: str = ""

    @property
    def usd(self) -> float | None:
        """USD of all units together, per `per`; None when there is no price."""
        return None if self.usd_per_unit is None else self.quantity * self.usd_per_unit

    @property
    def usd_per_hour(self) -> float | None:
        """USD per hour; 0 for what is paid once, None when there is no price."""
        return _scaled(self.usd, {"hour": 1.0, "month": 1 / HOURS_PER_MONTH, "once": 0.0}[self.per])

    @property
    def usd_per_month(self) -> float | None:
        """USD per month of 730 hours; 0 for what is paid once, None when there is no price."""
        return _scaled(self.usd, {"hour": float(HOURS_PER_MONTH), "month": 1.0, "once": 0.0}[self.per])

    @property
    def usd_once(self) -> float | None:
        """USD that are paid one time; 0 for what comes again, None when there is no price."""
        return _scaled(self.usd, 1.0 if self.per == "once" else 0.0)


def _scaled(usd: float | None, factor: float) -> float | None:
    return None if usd is None else usd * factor


@dataclass(frozen=True)
class Tariff:
    """What a resource type computes its lines with: prices by name in the region of the stack, and the expected usage.

    Names have no region, for example `ec2.g6e.xlarge` (USD per hour) or `ebs.gp3` (USD per GB-month).
    """

    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    usage: Usage = Usage()

    def line(self, label: str, quantity: float, name: str, per: Per = "hour", *, note: str = "", unit: str = "") -> CostLine:
        """Return the line of `quantity` units at the price `name`; without that price its cost is unknown, never zero."""
        price = self.prices.get(name)
        if price is None:
            return CostLine(label, quantity, unit or per, None, per, f"no price {name}", "unverified", note)
        source = f"{price.source}, {price.as_of}" if price.as_of else price.source
        return CostLine(label, quantity, unit or price.unit, price.usd, per, source, price.confidence, note)


@dataclass(frozen=True)
class Total:
    """A sum of lines. unpriced: labels of lines without a price, which the sums leave out."""

    usd_per_hour: float
    usd_per_month: float
    usd_once: float
    unpriced: tuple[str, ...] = ()

    @classmethod
    def of(cls, lines: Iterable[CostLine]) -> Total:
        """Add lines up."""
        found = list(lines)
        return cls(
            sum(one.usd_per_hour or 0.0 for one in found),
            sum(one.usd_per_month or 0.0 for one in found),
            sum(one.usd_once or 0.0 for one in found),
            tuple(dict.fromkeys(one.label for one in found if one.usd is None and one.quantity)),
        )
