"""The blocks that the architecture picture is built from: boxes with their texts, and the lines between them.

Functions that draw a block take where it begins and return its lower end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .figures import TIMES, gpu_title
from .html_drawing import Canvas, elide, text_width, wrapped
from .html_picture import Flow, Machines, Part, State

FRONT_HEIGHT = 46
_ROW = 21
_SIZE = 13
_NOTE = 12
_ICONS = {
    "lock": "m2 5.5h8v6h-8zm2 0v-1.7a2 2 0 0 1 4 0v1.7",
    "open": "m2 5.5h8v6h-8zm2 0v-2.6a2 2 0 0 1 3.8 -.9",
    "disk": "m2 2.6a4 1.6 0 0 1 8 0v6.8a4 1.6 0 0 1 -8 0zm0 0a4 1.6 0 0 0 8 0",
    "door": "m.5 6h7m-2.8 -2.8l2.8 2.8l-2.8 2.8m4.6 -7.3v9",
    "part": "m3 3h6v6h-6z",
}


@dataclass(frozen=True)
class Port:
    """Where a line starts or ends."""

    x: float
    y: float


@dataclass(frozen=True)
class Chip:
    """A small box: what it is, and facts about it below."""

    title: str
    facts: tuple[State, ...]
    icon: str = "part"
    style: str = "chip"
    mark: str = ""

    def lines(self, width: float) -> list[State]:
        """Return the facts, wrapped to the width of the box."""
        return [State(text, one.mood) for one in self.facts for text in wrapped(one.text, width - 38, _NOTE, lines=3)]

    def height(self, width: float) -> float:
        """Return its height in pixels."""
        return 34 + 17 * len(self.lines(width))


def store_chip(part: Part) -> Chip:
    """Return the box of what lies beside the machines."""
    return Chip(counted(part), part.states, "disk" if part.stores else "door" if part.enters else "part", mark=part.mark)


def flow_chip(flow: Flow, *, leaving: bool) -> Chip:
    """Return the box of a place that data goes to."""
    facts = [State(what) for what in flow.what]
    if leaving:
        facts.append(State(f"in {flow.region}" if flow.region else "in a region that is not known", "warn"))
    return Chip(flow.to, tuple(facts), "door", "chip leaves" if leaving else "chip")


def counted(part: Part) -> str:
    """Return the name of a part, and how many there are."""
    return f"{part.name} {TIMES} {part.count}" if part.count > 1 else part.name


def title(one: Machines) -> str:
    """Return what a box of machines is called."""
    return one.names[0] if len(one.names) == 1 else f"{len(one.names)} machines alike"


def chip(canvas: Canvas, x: float, y: float, width: float, one: Chip) -> float:
    """Draw a small box."""
    canvas.box(x, y, width, one.height(width), one.style)
    icon(canvas, one.icon, x + 11, y + 10, "icon")
    marked(canvas, x + 30, y + 21, width - 40, one.title, one.mark)
    for index, fact in enumerate(one.lines(width)):
        canvas.text(x + 30, y + 38 + 17 * index, fact.text, f"note {fact.mood}".strip())
    return y + one.height(width)


def band(canvas: Canvas, x: float, y: float, width: float, heading: str, chips: Sequence[Chip]) -> float:
    """Draw a heading and small boxes below it, as many in a row as fit."""
    if heading:
        canvas.text(x, y + 10, heading, "heading")
        y += 22
    columns = max(1, int((width + 16) // 260))
    each = min(280, (width - 16 * (columns - 1)) / columns) if columns > 1 else width
    for start in range(0, len(chips), columns):
        row = chips[start : start + columns]
        y = 12 + max(chip(canvas, x + (each + 16) * i, y, each, one) for i, one in enumerate(row))
    return y - 12


def clients(canvas: Canvas, x: float, y: float, width: float, texts: tuple[str, str]) -> float:
    """Draw who asks."""
    canvas.box(x, y, width, 52, "clients", 26)
    first, second = texts
    canvas.text(x + width / 2, y + (24 if second else 31), first, "name", "middle")
    if second:
        canvas.text(x + width / 2, y + 40, second, "note", "middle")
    return y + 52


def front(canvas: Canvas, x: float, y: float, width: float, part: Part) -> Port:
    """Draw what stands before the machines; return the middle of its left side."""
    canvas.box(x, y, width, FRONT_HEIGHT, "front")
    icon(canvas, "door", x + 12, y + 17, "icon")
    marked(canvas, x + 32, y + 28, width - 42, counted(part), part.mark)
    return Port(x, y + FRONT_HEIGHT / 2)


def machine(canvas: Canvas, x: float, y: float, width: float, one: Machines) -> float:
    """Draw a machine: its GPUs, and what runs on it in the order in which a request passes."""
    several = len(one.names) > 1
    height = 40 + (24 if one.gpu else 0) + (18 if several else 0) + _ROW * len(one.parts) + (20 if one.others else 0) + 6
    if several:
        canvas.box(x + 8, y + 8, width, height, "machine behind")
        canvas.box(x + 4, y + 4, width, height, "machine behind")
    canvas.box(x, y, width, height, "machine")
    kind_width = text_width(one.kind, _NOTE) + 16 if one.kind else 0
    canvas.text(x + 14, y + 24, elide(title(one), width - 28 - kind_width, 14), "name large")
    if one.kind:
        canvas.text(x + width - 14, y + 24, one.kind, "note", "end")
    line = y + 40
    if several:
        names = ", ".join(one.names)
        if text_width(names, _NOTE) > width - 28:
            names = f"{one.names[0]} \u2026 {one.names[-1]}"
        canvas.text(x + 14, line + 4, elide(names, width - 28, _NOTE), "note")
        line += 18
    if one.gpu:
        _gpus(canvas, x + 14, line - 4, width - 28, one)
        line += 24
    for part in one.parts:
        _part(canvas, x, line, width, part)
        line += _ROW
    if one.others:
        canvas.text(x + 34, line + 13, more(one.others, after=bool(one.parts)), "note")
    return y + height + (8 if several else 0)


def _gpus(canvas: Canvas, x: float, y: float, width: float, one: Machines) -> None:
    """Draw one square for each GPU that is used, and say which kind."""
    label = f"{one.gpus} {TIMES} {gpu_title(one.gpu)}"
    drawn = min(one.gpus, int((width - text_width(label, _NOTE) - 8) // 17))
    for index in range(drawn):
        canvas.box(x + 17 * index, y, 13, 13, "gpu", 3)
    canvas.text(x + 17 * drawn + 5, y + 11, label, "note strong")


def _part(canvas: Canvas, x: float, y: float, width: float, part: Part) -> None:
    kind = "door" if part.enters else "disk" if part.stores else "part"
    icon(canvas, kind, x + 13, y + 3, "icon")
    told = part.states[0]
    marked(canvas, x + 34, y + 13, width - 58 - text_width(told.text, _NOTE), counted(part), part.mark)
    canvas.text(x + width - 14, y + 13, told.text, f"note {told.mood}".strip(), "end")


def more(count: int, *, after: bool) -> str:
    """Return the line about parts that have nothing to do with data."""
    return f"{'and ' if after else ''}{count} {'more ' if after else ''}part{'' if count == 1 else 's'}"


def marked(canvas: Canvas, x: float, y: float, width: float, text: str, mark: str) -> None:
    """Write a name, and before it how the plan changes it."""
    if mark:
        canvas.text(x, y, mark, f"name {mark_style(mark)}")
        x, width = x + text_width(mark, _SIZE) + 5, width - text_width(mark, _SIZE) - 5
    canvas.text(x, y, elide(text, width, _SIZE), "name")


def mark_style(mark: str) -> str:
    """Return the CSS class of a mark of a change."""
    return {"+": "create", "~": "update", "-": "delete", ">": "adopt"}.get(mark, "replace")


def icon(canvas: Canvas, name: str, x: float, y: float, style: str) -> None:
    """Draw a sign of 12 by 12 pixels."""
    canvas.path(f"M{x:g} {y:g}{_ICONS[name]}", style)


# --- lines ------------------------------------------------------------------------------------------------------------------


def fan(canvas: Canvas, sources: Sequence[Port], targets: Sequence[Port], trunk_x: float, style: str = "") -> None:
    """Draw lines from all sources over one trunk to all targets, from left to right."""
    heights = [port.y for port in (*sources, *targets)]
    if max(heights) - min(heights) < 1:
        canvas.arrow([(sources[0].x, heights[0]), (targets[0].x, heights[0])], style)
        return
    canvas.line([(trunk_x, min(heights)), (trunk_x, max(heights))], f"link {style}")
    for port in _distinct(sources):
        canvas.line([(port.x, port.y), (trunk_x, port.y)], f"link {style}")
    for port in targets:
        canvas.arrow([(trunk_x, port.y), (port.x, port.y)], style)


def _distinct(ports: Iterable[Port]) -> list[Port]:
    return list(dict.fromkeys(ports))


def travels(canvas: Canvas, x: float, y: float, state: State | None) -> None:
    """Say over a line, around x, how data travels on it."""
    if state is None:
        return
    word = state.text.partition(" in ")[0] if state.mood else state.text
    sign = {"good": "lock", "bad": "open"}.get(state.mood)
    width = text_width(word, _NOTE)
    if sign:
        icon(canvas, sign, x - width / 2 - 8, y - 11, f"icon {state.mood}")
    canvas.text(x + (6 if sign else 0), y, word, f"note {state.mood}".strip(), "middle")
