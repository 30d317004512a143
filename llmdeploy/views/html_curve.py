"""The cost curve of an HTML plan: USD a month over tokens a month, both logarithmic, one line for each hosted API."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..cost import tokens_text
from ..resource import Tree
from .html_drawing import Canvas, Drawing, elide, polyline, text_width

WIDE = (1120, 440)
NARROW = (340, 320)
_SIZE = 12
_GAP = 16
"""Pixels between two labels at the right edge."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axes:
    """Decades of tokens (x) and USD (y) a month that are drawn, and where the plot lies in pixels."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, point: Point) -> Point:
        """Return the pixels of (tokens, USD)."""
        x, y = math.log10(point[0]), math.log10(point[1])
        return (
            self.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left),
            self.bottom - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top),
        )


@dataclass(frozen=True)
class Series:
    """One line: its name, its points in rising order of tokens, and the tokens from which self-hosting is cheaper."""

    name: str
    points: tuple[Point, ...]
    break_even: float | None = None


def curve(economics: Mapping[str, Tree], *, wide: bool) -> Drawing | None:
    """Return the picture; None where the plan has no curve."""
    found = economics.get("curve")
    if not found or len(found["tokens_per_month"]) < 2:
        return None
    tokens = found["tokens_per_month"]
    own = Series("self-hosted", _points(tokens, found["self_hosted_usd"]))
    against = {row["name"]: row.get("break_even_tokens_per_month") for row in economics.get("against", ())}
    hosted = [Series(name, _points(tokens, usd), against.get(name)) for name, usd in found["hosted"].items()]
    hosted = [one for one in hosted if one.points]
    if len(own.points) < 2:
        return None
    width, height = WIDE if wide else NARROW
    axes = _axes(own, hosted, width, height, 180 if wide else 24)
    canvas = Canvas()
    _grid(canvas, axes, wide=wide)
    _marks(canvas, axes, economics, wide=wide)
    for one in hosted:
        canvas.path(polyline(list(map(axes.at, _inside(one.points, axes)))), "hosted")
    canvas.path(polyline(list(_steps(own.points, axes))), "own")
    ends = _ends(axes, own, hosted)
    if wide:
        _names(canvas, axes, ends)
    else:
        height = _key(canvas, axes, ends, height)
    _crossings(canvas, axes, hosted)
    name = "curve" if wide else "curve-narrow"
    return Drawing(name, width, height, "USD a month over tokens a month", _description(hosted), tuple(canvas.shapes))


def _points(tokens: Sequence[float], usd: Sequence[float]) -> tuple[Point, ...]:
    """Return the points that have a place on logarithmic axes."""
    return tuple((x, y) for x, y in zip(tokens, usd, strict=True) if x > 0 and y > 0)


def _description(hosted: Sequence[Series]) -> str:
    told = [
        f"{one.name}: self-hosting is cheaper from {tokens_text(one.break_even)} tokens a month on."
        if one.break_even
        else f"{one.name}: self-hosting is not cheaper at any use that this stack can carry."
        for one in hosted
    ]
    return " ".join(["Self-hosting costs the same until another machine is needed.", *told])


# --- axes -------------------------------------------------------------------------------------------------------------------


def _axes(own: Series, hosted: Sequence[Series], width: float, height: float, labels: float) -> Axes:
    """Choose what is drawn: all of the self-hosted line, and of the others what lies less than two decades below it."""
    highest = max(y for one in (own, *hosted) for _, y in one.points)
    lowest = min(y for _, y in own.points)
    floor = max(min(y for one in (own, *hosted) for _, y in one.points), lowest / 100)
    x = (math.log10(own.points[0][0]), math.log10(own.points[-1][0]))
    y = (math.log10(floor) - 0.05, max(math.log10(highest) + 0.05, math.log10(floor) + 1))
    return Axes(56, 16, width - labels - 8, height - 44, x, y)


def _grid(canvas: Canvas, axes: Axes, *, wide: bool) -> None:
    """Draw a fine line at each power of ten, with its figure."""
    for power in range(math.ceil(axes.y[0]), math.floor(axes.y[1]) + 1):
        _, y = axes.at((10 ** axes.x[0], 10.0**power))
        canvas.line([(axes.left, y), (axes.right, y)], "grid")
        canvas.text(axes.left - 8, y + 4, f"${tokens_text(10.0**power)}", "note", "end")
    powers = range(math.ceil(axes.x[0]), math.floor(axes.x[1]) + 1)
    for power in powers:
        x, _ = axes.at((10.0**power, 10 ** axes.y[0]))
        canvas.line([(x, axes.top), (x, axes.bottom)], "grid")
        canvas.text(x, axes.bottom + 18, tokens_text(10.0**power), "note", "middle")
    canvas.line([(axes.left, axes.bottom), (axes.right, axes.bottom)], "axis")
    canvas.text(axes.right, axes.bottom + 38, "tokens a month", "note", "end")
    canvas.text(axes.left, 10, "USD a month", "note", "start" if wide else "middle")


def _marks(canvas: Canvas, axes: Axes, economics: Mapping[str, Tree], *, wide: bool) -> None:
    """Draw upright lines at the use that is expected and at what the planned machines can carry."""
    assumed: Mapping[str, float | None] = economics.get("assumptions") or {}
    capacity: float | None = economics.get("capacity_tokens_per_month")
    row, limit = 0, "limit of these machines" if wide else "limit"
    for tokens, text in ((assumed.get("tokens_per_month"), "expected"), (capacity, limit)):
        if not tokens or not axes.x[0] <= math.log10(tokens) <= axes.x[1]:
            continue
        x, _ = axes.at((tokens, 10 ** axes.y[0]))
        canvas.line([(x, axes.top), (x, axes.bottom)], "mark")
        label = f"{text} {tokens_text(tokens)}"
        left = x + 6 + text_width(label, _SIZE) > axes.right
        canvas.text(x - 5 if left else x + 5, axes.bottom - 8 - 15 * row, label, "note", "end" if left else "start")
        row += 1


# --- lines ------------------------------------------------------------------------------------------------------------------


def _steps(points: Sequence[Point], axes: Axes) -> Iterator[Point]:
    """Yield the corners of a line that stays until it jumps: machines come as wholes."""
    before: float | None = None
    for x, y in (axes.at(point) for point in points):
        if before is not None and before != y:
            yield x, before
        if before != y:
            yield x, y
        before = y
    yield axes.right, before or axes.bottom


def _inside(points: Sequence[Point], axes: Axes) -> list[Point]:
    """Return the part of a rising line that lies above the lower edge, beginning exactly on it."""
    floor = 10 ** axes.y[0]
    start = next((i for i, (_, y) in enumerate(points) if y >= floor), len(points))
    found = list(points[start:])
    if 0 < start < len(points):
        found.insert(0, (_tokens_at(points[start - 1], points[start], floor), floor))
    return found or [points[-1]]


def _tokens_at(before: Point, after: Point, usd: float) -> float:
    """Return where a line between two points reaches a height; straight on logarithmic axes."""
    share = math.log(usd / before[1]) / math.log(after[1] / before[1])
    return before[0] * (after[0] / before[0]) ** share


def _usd_at(points: Sequence[Point], tokens: float) -> float | None:
    index = bisect_right([x for x, _ in points], tokens)
    if index == 0 or index == len(points):
        return None
    (x0, y0), (x1, y1) = points[index - 1], points[index]
    return y0 * (y1 / y0) ** (math.log(tokens / x0) / math.log(x1 / x0))


# --- labels -----------------------------------------------------------------------------------------------------------------


def _ends(axes: Axes, own: Series, hosted: Sequence[Series]) -> list[tuple[float, str, str]]:
    """Return height, name and style of each line at its right end, from the top down."""
    found = [(axes.at(one.points[-1])[1], one.name, "label") for one in hosted]
    return sorted([*found, (axes.at(own.points[-1])[1], own.name, "label own-label")])


def _names(canvas: Canvas, axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write the name of each line beside its end, moved apart where they would touch."""
    for y, (end, name, style) in zip(_apart([end for end, _, _ in ends], axes), ends, strict=True):
        canvas.line([(axes.right + 2, end), (axes.right + 12, y)], "leader")
        canvas.text(axes.right + 16, y + 4, elide(name, 168, _SIZE), style)


def _key(canvas: Canvas, axes: Axes, ends: Sequence[tuple[float, str, str]], height: float) -> float:
    """Write a number beside each line's end, where a name has no room, and the names below; return the lower end."""
    for index, (y, (_, name, style)) in enumerate(zip(_apart([end for end, _, _ in ends], axes), ends, strict=True), 1):
        canvas.text(axes.right + 6, y + 4, str(index), style)
        canvas.text(axes.left, height + 4 + 18 * index, str(index), style)
        canvas.text(axes.left + 22, height + 4 + 18 * index, elide(name, 250, _SIZE), style)
    return height + 12 + 18 * len(ends)


def _apart(wanted: Sequence[float], axes: Axes) -> list[float]:
    """Return rising heights at least `_GAP` apart, as near to the wanted ones as one pass down and one up bring them."""
    found: list[float] = []
    for y in wanted:
        found.append(max(y, found[-1] + _GAP) if found else max(y, axes.top))
    floor = axes.bottom
    for index in reversed(range(len(found))):
        found[index] = min(found[index], floor)
        floor = found[index] - _GAP
    return found


def _crossings(canvas: Canvas, axes: Axes, hosted: Sequence[Series]) -> None:
    """Mark where self-hosting becomes cheaper, with the figure where it has room."""
    taken: list[tuple[float, float, float, float]] = []
    for one in sorted(hosted, key=lambda one: one.break_even or 0):
        usd = _usd_at(one.points, one.break_even) if one.break_even else None
        if usd is None or one.break_even is None or usd < 10 ** axes.y[0]:
            continue
        x, y = axes.at((one.break_even, usd))
        canvas.dot(x, y, 4.5, "crossing")
        text = tokens_text(one.break_even)
        width = text_width(text, _SIZE)
        for left, top in ((x + 7, y + 4), (x - width - 7, y - 20), (x + 7, y + 20), (x - width - 7, y - 36)):
            place = (left, top, left + width, top + 15)
            if axes.left < left and place[2] < axes.right and not any(_touch(place, other) for other in taken):
                taken.append(place)
                canvas.text(left, top + 12, text, "figure")
                break


def _touch(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
