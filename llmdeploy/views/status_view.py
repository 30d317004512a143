"""How everything is that exists: one line each, and what differs from what was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from ..change import Drift
from ..resource import Tree
from ..sdk import ReadResult
from ..state.model import Entry, State
from . import value
from .screen import BLANK, Line, line
from .state_view import STATUS
from .table import table

_UNWELL = frozenset({"degraded", "down", "ended", "failed", "gone", "missing", "stopped", "unfinished", "unhealthy", "unknown"})


@dataclass(frozen=True)
class Health:
    """How one resource is: `state` in a word or two, whether that is well, what differs, and what its type tells besides.

    notes: sentences of its type about how it is; of one that is not well they say why.
    """

    address: str
    state: str
    healthy: bool
    drift: tuple[Drift, ...] = ()
    error: str = ""
    details: Mapping[str, Tree] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: Entry, read: ReadResult, inspected: Mapping[str, Tree] | None = None, error: str = "") -> Health:
        """Judge one resource: from the state, what refresh saw, and what its `inspect` operation told, if it has one.

        An inspection tells `state`, `healthy` where the word is not one of those that everybody takes as bad, and `notes`, a list
        of sentences.
        """
        told = dict(inspected or {})
        state = str(told.pop("state", "ok"))
        well = bool(told.pop("healthy", state not in _UNWELL))
        notes = tuple(str(note) for note in told.pop("notes", ()))
        if error:
            state, well = "unknown", False
        elif entry.status != "ok":
            state, well, error = "unfinished", False, STATUS.get(entry.status, entry.status)
        elif not read.exists:
            state, well = "gone", False
        return cls(entry.address, state, well and not read.drift, read.drift, error, told, notes)


def status_lines(state: State, found: Sequence[Health], width: int | None) -> Iterator[Line]:
    """Yield the table, then what is wrong, and what is well and worth a sentence."""
    if not found:
        yield line(f'Nothing exists of the stack "{state.stack}".')
        return
    rows = [(one.address, one.state + (" (drift)" if one.drift else ""), _details(one)) for one in found]
    yield from table(("RESOURCE", "STATE", "DETAILS"), rows, width)
    told = [one for one in found if not one.healthy or one.notes]
    if told:
        yield BLANK
    for one in told:
        sentences = [*(drift.sentence for drift in one.drift), *([one.error] if one.error else []), *one.notes]
        yield line((one.address, "bold"), ": ", ("; ".join(sentences) or one.state, "" if one.healthy else "yellow"), hang=2)
    if any(one.drift or one.state == "gone" for one in told):
        yield line("`llmdeploy plan` shows what would be done about it.")


def status_document(state: State, found: Sequence[Health]) -> dict[str, Tree]:
    """Return the same as JSON."""
    return {
        "stack": state.stack,
        "lineage": state.lineage,
        "healthy": bool(found) and all(one.healthy for one in found),
        "resources": [{**asdict(one), "details": dict(one.details or {})} for one in found],
    }


def _details(one: Health) -> str:
    items = [(name, item) for name, item in (one.details or {}).items() if item not in (None, "", [], {})]
    return ", ".join(f"{name}: {value.short(item, 40)}" for name, item in items)
