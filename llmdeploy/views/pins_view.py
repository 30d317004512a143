"""What a new lock file pins otherwise than the old one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..pins import Pins
from ..resource import Tree
from . import value
from .screen import Line, line


def pins_lines(old: Pins | None, new: Pins) -> Iterator[Line]:
    """Yield one line for each pin that is new, other or gone."""
    before, after = _pins(old), _pins(new)
    for name in dict.fromkeys([*after, *before]):
        if name not in before:
            yield line("  ", ("+", "green"), f" {name}: {value.short(after[name])}", hang=6)
        elif name not in after:
            yield line("  ", ("-", "red"), f" {name}", hang=6)
        elif before[name] != after[name]:
            yield line("  ", ("~", "yellow"), f" {name}: {value.change(before[name], after[name])}", hang=6)


def _pins(pins: Pins | None) -> Mapping[str, Tree]:
    if pins is None:
        return {}
    tree = pins.model_dump(mode="json", exclude_none=True, exclude={"version", "written_by"})
    model = tree.get("model", {})
    files = {f"model.files.{one['path']}": one["sha256"] for one in model.pop("files", ())}
    return {**dict(value.leaves(tree)), **files}
