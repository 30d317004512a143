"""Lays the architecture picture of a plan out. Wide, requests run from left to right; narrow, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .html_blocks import (
    FRONT_HEIGHT,
    Port,
    band,
    chip,
    clients,
    counted,
    fan,
    flow_chip,
    front,
    machine,
    more,
    store_chip,
    title,
    travels,
)
from .html_drawing import Box, Canvas, Drawing, Text
from .html_picture import Machines, Part, Picture, State, Zone

WIDE = 1120
NARROW = 340
BOXES = 24
"""At most so many machines are drawn; the others are counted."""
_ALONE = 3
_LEFT = 210
_FRONT = 160
_STORES = 216


def architecture(picture: Picture, *, wide: bool) -> Drawing:
    """Return the picture, `WIDE` or `NARROW` pixels wide."""
    canvas = Canvas()
    main = [zone for zone in picture.zones if zone.machines]
    aside = [zone for zone in picture.zones if not zone.machines]
    outer = [part for zone in aside for part in zone.fronts]
    end = _wide(canvas, picture, main, outer) if wide else _narrow(canvas, picture, main, outer)
    end = _around(canvas, picture, aside, end, _LEFT if wide else 0, WIDE - _LEFT if wide else NARROW)
    width = WIDE if wide else NARROW
    name = "architecture" if wide else "architecture-narrow"
    return Drawing(name, width, end + 2, "Architecture", description(picture), tuple(canvas.shapes))


def _around(canvas: Canvas, picture: Picture, aside: Sequence[Zone], end: float, x: float, width: float) -> float:
    """Draw, below the regions with machines, where data goes and what lies elsewhere; return the lower end."""
    if picture.leaving:
        bounded = any(zone.name for zone in picture.zones if zone.machines)
        canvas.arrow([(x + 17, end), (x + 17, end + 44)], "leaving")
        canvas.text(x + 30, end + 28, "leaves the region" if bounded else "goes elsewhere", "note warn")
        end = band(canvas, x, end + 44, width, "", [flow_chip(flow, leaving=True) for flow in picture.leaving])
    for zone in aside:
        if zone.stores:
            end = band(canvas, x, end + 28, width, _aside(zone), [store_chip(part) for part in zone.stores])
    return end


def description(picture: Picture) -> str:
    """Return the picture in sentences."""
    found = [f"{' '.join(picture.clients).strip()}{f', {picture.entry.text}' if picture.entry else ''}."]
    for zone in picture.zones:
        where = f" in {zone.name}" if zone.name else ""
        found += [f"Front{where}: {_told(part)}." for part in zone.fronts]
        for one in zone.machines:
            gpus = f" with {one.gpus} x {one.gpu}" if one.gpu else ""
            found.append(f"{title(one)}{where}{gpus}: {'; '.join(map(_told, one.parts))}.")
        found += [f"Beside the machines{where}: {_told(part)}." for part in zone.stores]
        found += [f"To {flow.to}{where}: {'; '.join(flow.what)}." for flow in zone.flows]
    for flow in picture.leaving:
        found.append(f"Leaves to {flow.to}{f' in {flow.region}' if flow.region else ''}: {'; '.join(flow.what)}.")
    return " ".join(found)


def _told(part: Part) -> str:
    return ", ".join([counted(part), *(state.text for state in part.states)])


def _aside(zone: Zone) -> str:
    if zone.name:
        return f"Region {zone.name}"
    return "With the operator" if all(part.operators for part in zone.stores) else "In no region of the stack"


def _expanded(zones: Sequence[Machines]) -> list[Machines]:
    """Return the boxes to draw: a few machines that are alike one by one, many as one."""
    found: list[Machines] = []
    for one in zones:
        found += [replace(one, names=(name,)) for name in one.names] if len(one.names) <= _ALONE else [one]
    return found


# --- wide -------------------------------------------------------------------------------------------------------------------


def _wide(canvas: Canvas, picture: Picture, zones: Sequence[Zone], outer: Sequence[Part]) -> float:
    """Draw the clients at the left, and regions one below the other; return the lower end."""
    end, doors = 0.0 if zones[0].name else 6.0, list[Port]()
    for zone in zones:
        found, bottom = _wide_zone(canvas, zone, end)
        doors += found
        end = bottom + 20
    y = sum(port.y for port in doors) / len(doors)
    top = y - 26 - 90 * len(outer)
    clients(canvas, 0, top, 124, picture.clients)
    for index, part in enumerate(outer):
        canvas.arrow([(62, top + 52 + 90 * index), (62, top + 90 * (index + 1) + 3)], "")
        front(canvas, 0, top + 90 * (index + 1) + 3, 124, part)
    trunk = (124 + _LEFT) / 2
    fan(canvas, [Port(124, y)], doors, trunk)
    travels(canvas, trunk, min(port.y for port in doors) - 8, picture.entry)
    return end - 20


def _wide_zone(canvas: Canvas, zone: Zone, top: float) -> tuple[list[Port], float]:
    """Draw one region; return where requests enter it, and its lower end."""
    pad = 22 if zone.name else 0
    under = len(canvas.shapes)
    y = top + (44 if zone.name else 0)
    stores_x = WIDE - pad - _STORES
    left = _LEFT + pad + (_FRONT + 106 if zone.fronts else 0)
    right = stores_x - 60 if zone.stores or zone.flows else min(WIDE - pad, left + 460)
    ports, sides, end = _wide_machines(canvas, zone, left, right, y)
    targets, stores_end = _wide_stores(canvas, zone, stores_x, y)
    if zone.others and stores_end == y:
        canvas.text(left, end + 22, _besides(zone), "note")
        end += 28
    end = max(end, stores_end)
    if sides and targets:
        fan(canvas, sides, targets, right + 30, "thin")
    if zone.fronts:
        middle = (ports[0].y + ports[-1].y) / 2
        first = max(y, middle - FRONT_HEIGHT / 2)
        fronts = [front(canvas, _LEFT + pad, first + 60 * i, _FRONT, part) for i, part in enumerate(zone.fronts)]
        trunk = left - 53
        fan(canvas, [Port(port.x + _FRONT, port.y) for port in fronts], ports, trunk)
        travels(canvas, trunk, min(ports[0].y, fronts[0].y) - 8, zone.machines[0].entry)
        ports, end = fronts, max(end, fronts[-1].y + FRONT_HEIGHT / 2)
    if zone.name:
        edge = WIDE if zone.stores or zone.flows else right + pad
        _boundary(canvas, under, zone.name, _LEFT, top, edge - _LEFT, end + pad - top)
        end += pad
    return ports, end


def _wide_machines(canvas: Canvas, zone: Zone, left: float, right: float, y: float) -> tuple[list[Port], list[Port], float]:
    """Draw the machines; return where requests enter them, where lines to stores begin, and the lower end."""
    ports, sides = list[Port](), list[Port]()
    boxes = _expanded(zone.machines)
    for one in boxes[:BOXES]:
        bottom = machine(canvas, left, y, right - left, one)
        ports.append(Port(left, y + FRONT_HEIGHT / 2))
        if one.uses:
            sides.append(Port(right, y + FRONT_HEIGHT / 2))
        y = bottom + 16
    if len(boxes) > BOXES:
        canvas.text(left, y + 6, _left_out(boxes), "note")
        y += 30
    return ports, sides, y - 16


def _left_out(boxes: Sequence[Machines]) -> str:
    return f"and {sum(len(one.names) for one in boxes[BOXES:])} more machines of other forms"


def _wide_stores(canvas: Canvas, zone: Zone, x: float, y: float) -> tuple[list[Port], float]:
    """Draw what lies beside the machines; return where lines from them end, and the lower end."""
    used = {name for one in zone.machines for name in one.uses}
    targets = list[Port]()
    end = y
    for part in zone.stores:
        if part.name in used:
            targets.append(Port(x, end + FRONT_HEIGHT / 2))
        end = chip(canvas, x, end, _STORES, store_chip(part)) + 10
    for flow in zone.flows:
        end = chip(canvas, x, end, _STORES, flow_chip(flow, leaving=False)) + 10
    if zone.others and end > y:
        canvas.text(x, end + 12, _besides(zone), "note")
        end += 26
    return targets, max(y, end - 10)


def _besides(zone: Zone) -> str:
    return f"{more(zone.others, after=bool(zone.stores))} of the stack"


def _boundary(canvas: Canvas, under: int, name: str, x: float, y: float, width: float, height: float) -> None:
    """Draw the boundary of a region below what was drawn since `under`."""
    canvas.shapes[under:under] = [
        Box(x + 0.5, y + 0.5, width - 1, height, "zone", 10),
        Text(x + 22 if width > NARROW else x + 14, y + 26, f"Region {name}", "heading"),
    ]


# --- narrow -----------------------------------------------------------------------------------------------------------------


def _narrow(canvas: Canvas, picture: Picture, zones: Sequence[Zone], outer: Sequence[Part]) -> float:
    """Draw everything in one column; return the lower end."""
    y = clients(canvas, 90, 0, NARROW - 180, picture.clients)
    state = picture.entry
    for part in outer:
        y = _down(canvas, y, 40, state)
        front(canvas, 50, y, NARROW - 100, part)
        y, state = y + FRONT_HEIGHT, None
    for zone in zones:
        y, state = _narrow_zone(canvas, zone, y, state) + 14, None
    return y - 14


def _narrow_zone(canvas: Canvas, zone: Zone, start: float, state: State | None) -> float:
    pad, under = 12 if zone.name else 0, len(canvas.shapes)
    width = NARROW - 2 * pad
    # The arrow crosses the boundary, as requests do.
    y = _down(canvas, start, 78 if zone.name else 40, state)
    for part in zone.fronts:
        front(canvas, 50, y, NARROW - 100, part)
        y = _down(canvas, y + FRONT_HEIGHT, 40, zone.machines[0].entry)
    boxes = _expanded(zone.machines)
    for one in boxes[:BOXES]:
        y = machine(canvas, pad, y, width, one) + 10
    if len(boxes) > BOXES:
        canvas.text(pad, y + 8, _left_out(boxes), "note")
        y += 24
    for part in zone.stores:
        y = chip(canvas, pad, y, width, store_chip(part)) + 10
    for flow in zone.flows:
        y = chip(canvas, pad, y, width, flow_chip(flow, leaving=False)) + 10
    if zone.others:
        canvas.text(pad, y + 10, _besides(zone), "note")
        y += 24
    if zone.name:
        _boundary(canvas, under, zone.name, 0, start + 34, NARROW, y + 2 - start - 34)
    return y + 2 if zone.name else y - 10


def _down(canvas: Canvas, y: float, length: float, state: State | None) -> float:
    """Draw an arrow down, and how data travels on it; return its end."""
    canvas.arrow([(NARROW / 2, y), (NARROW / 2, y + length)], "")
    travels(canvas, NARROW / 2 + 60, y + 22, state)
    return y + length
