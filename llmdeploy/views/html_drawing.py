"""Shapes of a picture in an HTML plan. Python decides where they lie; the template writes them, and escapes every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Anchor = Literal["start", "middle", "end"]

# No font is measured: this is the mean width of a letter in the widest of the usual system fonts, so that text never runs over.
_LETTER = 0.58


@dataclass(frozen=True)
class Box:
    """A rectangle. style: names of CSS classes."""

    kind: ClassVar[str] = "box"
    x: float
    y: float
    width: float
    height: float
    style: str = ""
    radius: float = 6


@dataclass(frozen=True)
class Text:
    """One line of text; x and y are of its baseline at the anchor."""

    kind: ClassVar[str] = "text"
    x: float
    y: float
    text: str
    style: str = ""
    anchor: Anchor = "start"


@dataclass(frozen=True)
class Path:
    """Lines and curves in SVG's own notation, made of numbers only."""

    kind: ClassVar[str] = "path"
    d: str
    style: str = ""


@dataclass(frozen=True)
class Dot:
    """A circle."""

    kind: ClassVar[str] = "dot"
    x: float
    y: float
    radius: float
    style: str = ""


Shape = Box | Text | Path | Dot


@dataclass(frozen=True)
class Drawing:
    """A picture in pixels. name: its id in the page; title and description: what it tells those who cannot see it."""

    name: str
    width: float
    height: float
    title: str
    description: str
    shapes: tuple[Shape, ...]


@dataclass
class Canvas:
    """Collects shapes."""

    shapes: list[Shape] = field(default_factory=list[Shape])

    def box(self, x: float, y: float, width: float, height: float, style: str, radius: float = 6) -> None:
        """Draw a rectangle."""
        self.shapes.append(Box(x, y, width, height, style, radius))

    def text(self, x: float, y: float, text: str, style: str = "", anchor: Anchor = "start") -> None:
        """Write a line of text."""
        self.shapes.append(Text(x, y, text, style, anchor))

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Draw straight lines from point to point."""
        self.shapes.append(Path(polyline(points), style))

    def path(self, d: str, style: str) -> None:
        """Draw a path."""
        self.shapes.append(Path(d, style))

    def dot(self, x: float, y: float, radius: float, style: str) -> None:
        """Draw a circle."""
        self.shapes.append(Dot(x, y, radius, style))

    def arrow(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Draw lines with a head at their end, which must run along an axis."""
        (x0, y0), (x, y) = points[-2:]
        self.line(points, f"link {style}")
        if x0 == x:
            back = -6 if y > y0 else 6
            head = [(x - 4, y + back), (x, y), (x + 4, y + back)]
        else:
            back = -6 if x > x0 else 6
            head = [(x + back, y - 4), (x, y), (x + back, y + 4)]
        self.line(head, f"link {style}")


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Return straight lines from point to point as an SVG path."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def number(value: float) -> str:
    """Return a coordinate with at most one decimal."""
    text = f"{value:.1f}"
    return "0" if text in ("-0.0", "0.0") else text.removesuffix(".0")


def text_width(text: str, size_px: float) -> float:
    """Return about how many pixels wide a text is, rather more than less."""
    return len(text) * size_px * _LETTER


def wrapped(text: str, width_px: float, size_px: float, lines: int = 2) -> list[str]:
    """Return a text in at most so many lines; the last is cut where it does not fit."""
    found: list[str] = []
    rest = text
    while len(found) < lines - 1 and text_width(rest, size_px) > width_px:
        letters = int(width_px / (size_px * _LETTER))
        cut = rest.rfind(" ", 0, letters + 1)
        if cut < 1:
            break
        found.append(rest[:cut])
        rest = rest[cut + 1 :]
    return [*found, elide(rest, width_px, size_px)]


def elide(text: str, width_px: float, size_px: float) -> str:
    """Return as much of a text as fits."""
    letters = int(width_px / (size_px * _LETTER))
    return text if len(text) <= letters else f"{text[: max(1, letters - 2)]}\u2026"
