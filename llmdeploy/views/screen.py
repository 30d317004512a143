"""Lines of styled text, and the terminal, pipe or file they are written to.

Views return lines; nothing but `Screen` knows about width, colour and encoding. What llmdeploy itself writes is ASCII, so that it
reads the same in every locale.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from .visible import printable

if TYPE_CHECKING:
    from rich.console import Console

_MAX_WIDTH = 120
_MIN_WIDTH = 20

Part = tuple[str, str]
"""Text, and its style in rich's words ("", "bold", "green" ...)."""


@dataclass(frozen=True)
class Line:
    """One line. Where it does not fit it goes on in the next, indented by `hang` columns."""

    parts: tuple[Part, ...]
    hang: int = 0

    @property
    def plain(self) -> str:
        """The text without styles."""
        return "".join(text for text, _ in self.parts)


Lines = Iterable[Line]


def line(*parts: str | Part, hang: int = 0) -> Line:
    """Return a line of texts and `(text, style)` pairs. Control characters in them are made visible."""
    pairs = (part if isinstance(part, tuple) else (part, "") for part in parts)
    return Line(tuple((printable(text), style) for text, style in pairs), hang)


BLANK = Line(())


def wrap(one: Line, width: int | None) -> Iterator[Line]:
    """Yield the line in pieces of at most `width` columns, broken at blanks. A longer word is left whole, for copying."""
    if width is None or len(text := one.plain) <= width:
        yield one
        return
    width = max(width, _MIN_WIDTH)
    hang = min(one.hang, width // 2)
    start, fits, room = 0, 0, width
    for word in re.finditer(r"\S+", text):
        if word.end() - start > room and fits > start:
            yield _slice(one, start, fits, hang if start else 0)
            start, room = word.start(), width - hang
        fits = word.end()
    yield _slice(one, start, len(text), hang if start else 0)


def _slice(one: Line, start: int, end: int, indent: int) -> Line:
    parts: list[Part] = [(" " * indent, "")] if indent else []
    position = 0
    for text, style in one.parts:
        piece = text[max(0, start - position) : max(0, end - position)]
        position += len(text)
        if piece:
            parts.append((piece, style))
    return Line(tuple(parts))


class Screen:
    """Where lines go.

    interactive: styles are understood and lines can be redrawn; rich leaves colours out where NO_COLOR says so. Width comes from
    COLUMNS or the terminal; in a pipe lines stay whole unless COLUMNS is set.
    """

    def __init__(self, stream: TextIO | None, environ: Mapping[str, str] | None = None) -> None:
        self.stream = stream
        self.environ = os.environ if environ is None else environ
        self.interactive = stream is not None and stream.isatty() and self.environ.get("TERM", "") not in ("", "dumb", "unknown")
        self.width = self._width()

    def _width(self) -> int | None:
        columns = self.environ.get("COLUMNS", "")
        if columns.isascii() and columns.isdigit() and int(columns):
            return min(int(columns), _MAX_WIDTH)
        if self.stream is None or not self.stream.isatty():
            return None
        try:
            return min(os.get_terminal_size(self.stream.fileno()).columns or 80, _MAX_WIDTH)
        except OSError:
            return 80

    @cached_property
    def console(self) -> Console:
        """The rich console on the same stream, for styles and live displays."""
        from rich.console import Console

        return Console(
            file=self.stream,
            width=self.width,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
            _environ=self.environ,
        )

    def write(self, lines: Lines) -> None:
        """Write lines, wrapped to the width."""
        wrapped = [piece for one in lines for piece in wrap(one, self.width)]
        if not wrapped:
            return
        if not self.interactive:
            self.text("\n".join(piece.plain.rstrip() for piece in wrapped))
            return
        from rich.segment import Segment, Segments
        from rich.style import Style

        segments: list[Segment] = []
        for piece in wrapped:
            segments += [Segment(text, Style.parse(style) if style else None) for text, style in piece.parts]
            segments.append(Segment("\n"))
        self.console.print(Segments(segments), end="")

    def text(self, text: str) -> None:
        """Write one text exactly as it is, and a newline."""
        if self.stream is not None:
            self.stream.write(text + "\n")

    def flush(self) -> None:
        """Send what was written on its way."""
        if self.stream is not None:
            self.stream.flush()
