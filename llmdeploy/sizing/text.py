"""Figures as people read them."""

from __future__ import annotations


def size(count: float) -> str:
    """Return bytes in binary units."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def plural(count: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def usd(amount: float) -> str:
    """Return a price per hour: cents, more digits below one dollar."""
    return f"{amount:,.2f} USD" if amount >= 1 else f"{amount:.4f} USD"


def rate(amount: float) -> str:
    """Return a predicted rate: as many digits as such a prediction is worth."""
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.1f}"


def few(tokens: int) -> str:
    """Return tokens as a stack file says them: `32K` where that is exact."""
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)
