"""Rows of text under headings; on a narrow screen one block for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .screen import Line, line

_GAP = 2


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[Line]:
    """Yield the table. width: columns of the screen, None when there is no limit."""
    widths = _widths(headings, rows)
    if width is not None and columns(headings, rows) > width:
        yield from _blocks(headings, rows)
        return
    for number, row in enumerate([headings, *rows]):
        cells = [text.ljust(size + _GAP) for text, size in zip(row, widths, strict=True)]
        yield line(("".join(cells).rstrip(), "" if number else "bold"))


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the columns of the screen that the table takes."""
    return sum(_widths(headings, rows)) + _GAP * (len(headings) - 1)


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]


def _blocks(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Line]:
    for row in rows:
        for number, (heading, text) in enumerate(zip(headings, row, strict=True)):
            yield line(("  " if number else ""), (f"{heading.lower().strip()}: ", "bold"), text.strip(), hang=4)
