"""`llmdeploy status`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import typer

from ..errors import LlmdeployError
from ..resource import as_mapping
from ..sdk import ReadResult, Run
from ..state.model import Entry, State
from ..views.document import dumps
from ..views.status_view import Health, status_document, status_lines
from ..workflow import Project, entries_with, operate
from .options import HERE, Format, FormatOption, StackArgument, say, screen, verb
from .session import open_session

app = verb()
_PARALLEL = 8


@app.command()
def status(stack: StackArgument = HERE, format: FormatOption = Format.HUMAN) -> None:
    """Look at everything that exists and tell how it is. Exit code 0: all is well; 1: not."""
    session = open_session(stack)
    with session.looking() as (state, run):
        found = _health(session.project, state, run)
    if format is Format.JSON:
        say(dumps(status_document(state, found)))
    else:
        out = screen()
        out.write(status_lines(state, found, out.width))
    if not found or not all(one.healthy for one in found):
        raise typer.Exit(1)


def _health(project: Project, state: State, run: Run) -> list[Health]:
    reads = project.refresh(state, run)
    inspectable = {entry.address for entry in entries_with(project, state, "inspect")}

    def ask(entry: Entry) -> Health:
        read = reads.get(entry.address, ReadResult(entry.address))
        there = read.exists and entry.status == "ok"
        if entry.address not in inspectable or not there:
            return Health.of(entry, read)
        try:
            data = operate(project, state, run, entry, "inspect", {}).data
        except LlmdeployError as error:
            return Health.of(entry, read, error=error.message)
        return Health.of(entry, read, as_mapping(data) or {})

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(ask, (state.entries[address] for address in sorted(state.entries))))
