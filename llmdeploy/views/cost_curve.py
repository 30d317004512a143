"""The cost curve in plain characters: both axes logarithmic, self-hosted in steps, each hosted API a letter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from ..cost import tokens_text
from .screen import Line, line

_ROWS = 16
_MARGIN = 8
_SELF = "#"
_CROSSING = "X"
_LETTERS = "abcdefghijklmnopqrstuvw"


def curve_lines(economics: Mapping[str, Any], width: int) -> Iterator[Line]:
    """Yield the picture in at most `width` columns. economics: the document, with a curve."""
    curve = economics["curve"]
    tokens: Sequence[float] = curve["tokens_per_month"]
    hosted: Mapping[str, Sequence[float]] = curve["hosted"]
    names = list(hosted)[: len(_LETTERS)]
    picture = _Picture(tokens, curve["self_hosted_usd"], [hosted[name] for name in names], width - _MARGIN)
    for letter, name in zip(_LETTERS, names, strict=False):
        picture.draw(hosted[name], letter)
    picture.draw(curve["self_hosted_usd"], _SELF)
    for one in economics["against"]:
        if one["name"] in names and one["break_even_tokens_per_month"]:
            picture.mark(one["break_even_tokens_per_month"], curve["self_hosted_usd"])
    yield line(("USD per month, by tokens per month", "bold"))
    yield from picture.lines()
    legend = [f"{_SELF} self-hosted", *(f"{letter} {name}" for letter, name in zip(_LETTERS, names, strict=False))]
    crossed = [f"{_CROSSING} break-even"] if any(one["break_even_tokens_per_month"] for one in economics["against"]) else []
    yield line(" " * _MARGIN, "   ".join([*legend, *crossed]), hang=_MARGIN)


class _Picture:
    """A grid of characters with logarithmic axes."""

    def __init__(self, tokens: Sequence[float], own: Sequence[float], hosted: Sequence[Sequence[float]], columns: int) -> None:
        self._tokens = tokens
        self._columns = columns
        top = max([own[-1], *(one[-1] for one in hosted)])
        self._high = ceil(log10(max(top, 1.0)))
        least = min((usd for usd in own if usd > 0), default=1.0)
        self._low = min(self._high, floor(log10(max(least, 1.0)))) - 1
        self._grid = [[" "] * columns for _ in range(_ROWS + 1)]

    def draw(self, usd: Sequence[float], mark: str) -> None:
        """Draw a line from left to right; what lies below the picture is left out, and a jump is drawn through."""
        last: int | None = None
        for column in range(self._columns):
            row = self._row(usd[round(column * (len(usd) - 1) / (self._columns - 1))])
            if row is None:
                continue
            start = row if last is None else last
            for at in {row, *range(min(start, row) + 1, max(start, row))}:
                self._grid[at][column] = mark
            last = row

    def mark(self, tokens: float, usd: Sequence[float]) -> None:
        """Mark a point of a line."""
        share = self._share(tokens)
        row = self._row(usd[round(min(1.0, max(0.0, share)) * (len(usd) - 1))])
        if row is not None and 0 <= share <= 1:
            self._grid[row][round(share * (self._columns - 1))] = _CROSSING

    def _share(self, tokens: float) -> float:
        first, last = log10(self._tokens[0]), log10(self._tokens[-1])
        return (log10(tokens) - first) / (last - first)

    def _row(self, usd: float) -> int | None:
        """Return the row of an amount, 0 at the bottom; None below the picture."""
        if usd <= 0:
            return None
        row = round((log10(usd) - self._low) / (self._high - self._low) * _ROWS)
        return min(row, _ROWS) if row >= 0 else None

    def lines(self) -> Iterator[Line]:
        """Yield the rows from the top, then the axis with its decades."""
        labels: dict[int, str] = {}
        for power in range(self._low, self._high + 1):
            labels[round((power - self._low) / (self._high - self._low) * _ROWS)] = tokens_text(10**power)
        for row in range(_ROWS, -1, -1):
            yield line(
                labels.get(row, "").rjust(_MARGIN - 2), " |" if row not in labels else " +", "".join(self._grid[row]).rstrip()
            )
        yield line(" " * (_MARGIN - 1), "+", "-" * self._columns)
        yield line(" " * _MARGIN, self._decades())

    def _decades(self) -> str:
        text = [" "] * self._columns
        first, last = ceil(log10(self._tokens[0]) - 1e-9), floor(log10(self._tokens[-1]) + 1e-9)
        for power in range(first, last + 1):
            label = tokens_text(10**power)
            start = min(round(self._share(10**power) * (self._columns - 1)), self._columns - len(label))
            text[start : start + len(label)] = label
        return "".join(text).rstrip()
