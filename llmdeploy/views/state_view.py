"""A state for a person: what exists, and each resource in full."""

from __future__ import annotations

from collections.abc import Iterator

from ..state.model import Entry, State
from . import value
from .human import output_lines
from .screen import BLANK, Line, line

STATUS = {"ok": "", "creating": "its creation did not end", "tainted": "an operation failed half-way"}


def state_lines(state: State) -> Iterator[Line]:
    """Yield what exists, a few lines each, then the outputs."""
    yield line(("Stack ", ""), (state.stack, "bold"), f"  lineage {state.lineage}, serial {state.serial}", hang=2)
    if state.evidence:
        counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in state.evidence.results.items())
        yield line(f"Audited {state.evidence.at}: {counts}; evidence {state.evidence.file}, head {state.evidence.head}", hang=2)
    if not state.entries:
        yield line("Nothing exists.")
    for address in sorted(state.entries):
        entry = state.entries[address]
        yield BLANK
        yield _title(entry)
        words = [f"{name}: {value.short(item)}" for name, item in value.leaves(entry.outputs) if item not in (None, "", [], {})]
        if words:
            yield line("  " + ", ".join(words), hang=2)
    if state.entries and state.outputs:
        yield BLANK
        yield line(("Outputs", "bold"))
        yield from output_lines(state.outputs)


def entry_lines(entry: Entry) -> Iterator[Line]:
    """Yield one resource with all of its values."""
    yield _title(entry)
    yield line(f"  provider: {entry.provider}, schema version: {entry.version}, generation: {entry.generation}", hang=4)
    if entry.dependencies:
        yield line(f"  depends on: {', '.join(entry.dependencies)}", hang=4)
    for heading, tree in (("values", entry.spec), ("outputs", entry.outputs)):
        found = list(value.leaves(tree))
        if found:
            yield line(("  " + heading, "bold"))
        for name, item in found:
            yield from _value(name, item)


def _value(name: str, item: object) -> Iterator[Line]:
    if not isinstance(item, str) or "\n" not in item:
        yield line(f"    {name}: {value.full(item)}", hang=6)
        return
    yield line(f"    {name}:")
    yield from (line(f"      {text}", hang=6) for text in item.splitlines())


def _title(entry: Entry) -> Line:
    why = STATUS.get(entry.status, entry.status)
    kept = [f", {len(entry.deposed)} replaced and not gone yet"] if entry.deposed else []
    known = [f"  id {entry.id}"] if entry.id not in ("", entry.address) else []
    return line((entry.address, "bold"), *known, *([(f"  ({why})", "yellow")] if why else []), *kept, hang=4)
