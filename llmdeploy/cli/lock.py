"""`llmdeploy lock`."""

from __future__ import annotations

from pathlib import Path

from .. import pins
from ..desired import pinned
from ..errors import StackError
from ..pins import Pins
from ..views.pins_view import pins_lines
from ..views.screen import line
from .options import HERE, StackArgument, VarFileOption, VarOption, show, variables_of, verb
from .session import open_session

app = verb()


@app.command()
def lock(stack: StackArgument = HERE, var: VarOption = None, var_file: VarFileOption = None) -> None:
    """Pin what the stack is made of in stack.lock.yaml. Commit that file beside the stack file."""
    session = open_session(stack, variables_of(var), var_file or ())
    path, new = pinned(session.inputs, session.registry)
    old = _present(path)
    if old is not None and old.sha256 == new.sha256:
        show([line(f"{path} is up to date.")])
        return
    pins.write(path, new)
    show([*pins_lines(old, new), line(f"Wrote {path}. Commit it beside the stack file.", hang=2)])


def _present(path: Path) -> Pins | None:
    """Return the pins that are there; a broken file counts as none, because this verb mends it."""
    try:
        return pins.read(path)
    except StackError:
        return None
