"""Numbers as text. Each kind of figure has one form in all views, so that columns of them line up."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

GIB = 2**30
TIMES = "\u00d7"


def gib(size_bytes: float) -> str:
    """Return bytes as GiB with two decimals: `18.25`; `<0.01` for what is there all the same."""
    return "<0.01" if 0 < size_bytes < GIB / 200 else f"{size_bytes / GIB:,.2f}"


def gpu_title(name: str) -> str:
    """Return the short name of a GPU as it is written elsewhere: `L40S`, `RTX PRO 6000`."""
    return name.upper().replace("_", " ")


def count(number: float) -> str:
    """Return a whole number with its thousands apart: `131,072`."""
    return f"{number:,.0f}"


def usd(amount: float) -> str:
    """Return USD with cents: `7,659.63`; four digits of what is small: `0.0225`; `<0.0001` for what is there all the same."""
    if amount == 0 or abs(amount) >= 0.1:
        return f"{amount:,.2f}"
    return f"{amount:.4f}" if abs(amount) >= 0.0001 else "<0.0001"


def aligned(texts: Sequence[str]) -> list[str]:
    """Return the texts of one column, filled up at the right with blanks as wide as digits, so that the points stand in line."""
    digits = [len(text.partition(".")[2]) if "." in text else -1 for text in texts]
    most = max((count for text, count in zip(texts, digits, strict=True) if text[-1:].isdigit()), default=0)
    return [
        text + ("\u2008" if count < 0 <= most - 1 else "") + "\u2007" * (most - max(count, 0)) if text[-1:].isdigit() else text
        for text, count in zip(texts, digits, strict=True)
    ]


def exact_usd(amount: float) -> str:
    """Return a price with all its digits: at least two decimals, at most seven figures in all."""
    most = 6 - max(0, floor(log10(abs(amount)))) if amount else 2
    whole, _, rest = f"{amount:,.{max(2, most)}f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def quantity(number: float) -> str:
    """Return how much of something is paid, in about four digits: `2`, `730`, `0.073`, `131.4`, `1,234.5`."""
    digits = 1 if abs(number) >= 100 else 2 if abs(number) >= 10 else 4
    whole, _, rest = f"{number:,.{digits}f}".partition(".")
    return f"{whole}.{rest.rstrip('0')}".rstrip(".")


def three(number: float) -> str:
    """Return a number in three digits, or whole when it has more: `0.25`, `12.5`, `310`, `1,234`."""
    if abs(number) >= 99.95:
        return f"{number:,.0f}"
    digits = 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f}".rstrip("0").rstrip(".")


def percent(part: float, whole: float) -> str:
    """Return a share of the whole: `41 %`; `<1 %` for what is there all the same."""
    share = 100 * part / whole if whole else 0.0
    return "<1 %" if 0 < share < 0.5 else f"{share:.0f} %"
