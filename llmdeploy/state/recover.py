"""The state that a journal leads to, or the reason why the two do not belong together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import StateCorrupt
from .fold import fold
from .model import State


def recover(state: State | None, records: Sequence[dict[str, Any]], where: str, journal: str) -> State | None:
    """Return `state` with what a killed run did folded in; None when there is neither. `where` and `journal` name the two.

    Every run begins at the serial that it found. So the records from the first `begin` of the state's own serial on are news, and
    what lies before is in the state already: a run died after it wrote the state and before it dropped the journal.

    Raises:
        StateCorrupt: the state is missing, older than the journal, or another stack's.
    """
    begins = [index for index, record in enumerate(records) if record["kind"] == "begin"]
    if not records:
        return state
    if not begins or begins[0] != 0:
        raise StateCorrupt(f"{journal} has lost its beginning", hint="restore it from a backup of the place where it lies")
    first = records[0]
    if state is None:
        # Only the first run of all begins without a state; any other journal tells half the story.
        if first["serial"] != 0:
            raise StateCorrupt(f"{where} is missing beside its journal", hint=f"restore the state of serial {first['serial']}")
        state = State(lineage=first["lineage"], stack=first["stack"])
    serials = [records[index]["serial"] for index in begins]
    if {records[index]["lineage"] for index in begins} != {state.lineage}:
        raise StateCorrupt(f"{where} and {journal} belong to different stacks", hint="move away the one that is foreign here")
    if serials[0] > state.serial:
        raise StateCorrupt(
            f"{where} has serial {state.serial}, but a run began at serial {serials[0]}: an older state was put in its place",
            hint=f"restore the state of serial {serials[0]}; if it is lost, move {journal} away: what that run did is lost too",
        )
    if state.serial not in serials:
        return state
    return fold(state, records[begins[serials.index(state.serial)] :])
