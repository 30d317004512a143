"""`llmdeploy logs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Annotated

import typer

from ..diagnostics import nearest
from ..errors import Interrupted, LlmdeployError
from ..resource import Tree
from ..sdk import Run
from ..state.model import Entry, State
from ..workflow import Project, entries_with, operate
from .options import HERE, StackOption, screen, verb
from .session import open_session

app = verb()


@app.command()
def logs(
    resources: Annotated[
        list[str] | None, typer.Argument(metavar="RESOURCE", help="Addresses or types. Left out: all that have logs.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    stack: StackOption = HERE,
) -> None:
    """Show the logs of engine and gateway. They hold no prompts and no answers."""
    session = open_session(stack)
    with session.looking() as (state, run):
        chosen = _chosen(entries_with(session.project, state, "logs"), resources or ())
        _stream(session.project, state, run, chosen, {"lines": lines, "follow": follow})


def _chosen(entries: Sequence[Entry], wanted: Sequence[str]) -> list[Entry]:
    names = {entry.address for entry in entries} | {entry.type for entry in entries}
    for name in wanted:
        if name not in names:
            raise LlmdeployError(f"{name} has no logs", hint=nearest(name, names))
    chosen = [entry for entry in entries if not wanted or entry.address in wanted or entry.type in wanted]
    if not chosen:
        raise LlmdeployError("nothing that exists has logs")
    return chosen


def _stream(project: Project, state: State, run: Run, entries: Sequence[Entry], arguments: dict[str, Tree]) -> None:
    """Read all logs at once. Whatever ends one of them early ends all."""
    out, lock = screen(), Lock()

    def writer(prefix: str) -> Callable[[str], None]:
        def write(text: str) -> None:
            with lock:
                out.text(prefix + text)
                out.flush()

        return write

    def read(entry: Entry) -> None:
        prefix = f"{entry.address} | " if len(entries) > 1 else ""
        try:
            operate(project, state, run, entry, "logs", arguments, on_progress=writer(prefix))
        except Interrupted:
            return
        except BaseException:
            run.abort.set()
            raise

    pool = ThreadPoolExecutor(len(entries))
    try:
        for future in [pool.submit(read, entry) for entry in entries]:
            future.result()
    except BaseException:  # also a Ctrl-C while the threads start: no thread may go on then, or the program would not end
        run.abort.set()
        raise
    finally:
        pool.shutdown()
