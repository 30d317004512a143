"""Lines of a bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Prices = Mapping[str, float]
"""Price in USD by name, for example `ec2.g6e.xlarge.eu-central-1.hour`."""


@dataclass(frozen=True)
class CostLine:
    """One line: what it is, how many, USD per hour for all of them (None: unknown), and where the price comes from."""

    label: str
    quantity: float
    usd_per_hour: float | None
    source: str
