"""What a machine costs that somebody owns: purchase over its life, power, and the room that it stands in."""

from __future__ import annotations

from collections.abc import Iterator

from llmdeploy.sdk import HOURS_PER_MONTH, CostLine, Tariff

PURCHASE = "machine.purchase"
"""USD for one machine, once."""
MONTHS = "machine.months"
"""Months over which the purchase is spread."""
WATTS = "machine.watts"
"""Watts that one machine draws on average."""
POWER = "power.kwh"
"""USD for one kilowatt-hour."""
COLOCATION = "colocation.machine_month"
"""USD for the room, cooling and network of one machine in a month."""


def cost_lines(tariff: Tariff) -> tuple[CostLine, ...]:
    """Return the lines of one owned machine. What the owner gives no price for is one line of unknown cost, never zero."""
    found = (*_purchase(tariff), *_power(tariff), *_colocation(tariff))
    if found:
        return found
    note = f"set {PURCHASE} and {MONTHS}, {WATTS} and {POWER}, or {COLOCATION} under prices"
    return (CostLine("machine (owned)", 1, "machine", None, "month", "no price of it", "unverified", note),)


def _purchase(tariff: Tariff) -> Iterator[CostLine]:
    price, months = tariff.prices.get(PURCHASE), tariff.prices.get(MONTHS)
    if price is None:
        return
    label, usd = "machine (owned): purchase", f"{price.usd:,.0f} USD"
    if months is None or months.usd <= 0:
        note = f"{usd}, spread over nobody knows how many months"
        yield CostLine(label, 1, "machine", None, "month", f"no price {MONTHS}", "unverified", note)
    else:
        note = f"{usd} over {months.usd:g} months"
        yield CostLine(label, 1, "machine", price.usd / months.usd, "month", price.source, price.confidence, note)


def _power(tariff: Tariff) -> Iterator[CostLine]:
    watts = tariff.prices.get(WATTS)
    label = "machine (owned): power"
    if watts is not None:
        note = f"{watts.usd:g} W x {HOURS_PER_MONTH} h"
        yield tariff.line(label, watts.usd * HOURS_PER_MONTH / 1000, POWER, "month", note=note, unit="kWh")
    elif POWER in tariff.prices:
        yield CostLine(label, 1, "machine", None, "month", f"no price {WATTS}", "unverified", "nobody said what it draws")


def _colocation(tariff: Tariff) -> Iterator[CostLine]:
    if COLOCATION in tariff.prices:
        yield tariff.line("machine (owned): colocation", 1, COLOCATION, "month", unit="machine")
