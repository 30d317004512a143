"""`llmdeploy keys`: list, rotate and revoke API keys."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ..diagnostics import nearest
from ..errors import LlmdeployError
from ..resource import Tree
from ..state.model import Entry
from ..views.document import dumps
from ..views.keys_view import keys_document, keys_lines, revoked_lines, rotated_lines
from ..workflow import change_key, entries_with
from .carry import carry_out, event_view
from .options import (
    HERE,
    Format,
    FormatOption,
    LockTimeoutOption,
    StackArgument,
    StackOption,
    VarFileOption,
    VarOption,
    YesOption,
    duration_s,
    say,
    screen,
    show,
    variables_of,
    verb,
)
from .session import Session, confirmed, need_answer, open_session

app = verb()
NameArgument = Annotated[str, typer.Argument(help="The key's name in the stack file.")]


@app.callback()
def keys() -> None:
    """List, rotate and revoke API keys."""


@app.command("list")
def list_keys(stack: StackArgument = HERE, format: FormatOption = Format.HUMAN) -> None:
    """List every key: whom it is for, how old it is, when it ends. Never the key itself."""
    session = open_session(stack)
    entries = entries_with(session.project, session.project.need_state(), "rotate")
    if format is Format.JSON:
        say(dumps(keys_document(entries, time.time())))
        return
    out = screen()
    out.write(keys_lines(entries, time.time(), out.width))


@app.command()
def rotate(
    name: NameArgument,
    overlap: Annotated[str, typer.Option(metavar="DURATION", help="How long the old key still works.")] = "24h",
    stack: StackOption = HERE,
    lock_timeout: LockTimeoutOption = "0s",
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """Make a new key beside the old one; both work until the overlap ends."""
    session = open_session(stack, variables_of(var), var_file or ())
    data = _change(session, name, "rotate", {"overlap_hours": duration_s(overlap) / 3600}, duration_s(lock_timeout))
    show(rotated_lines(name, data))


@app.command()
def revoke(
    name: NameArgument,
    key_id: Annotated[str | None, typer.Option("--key-id", help="Only this one; see `keys list`.", show_default=False)] = None,
    yes: YesOption = False,
    stack: StackOption = HERE,
    lock_timeout: LockTimeoutOption = "0s",
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """End a key. When this returns, no request with it starts any more."""
    need_answer(yes)
    session = open_session(stack, variables_of(var), var_file or ())
    what = f"credential {key_id} of the key {name}" if key_id else f"the key {name}"
    if not yes and not confirmed(f"Revoke {what}? Whoever uses it is locked out."):
        raise LlmdeployError("not revoked: nothing was touched")
    data = _change(session, name, "revoke", {"key_id": key_id} if key_id else {}, duration_s(lock_timeout))
    show(revoked_lines(name, data, all_of_it=key_id is None))


def _change(session: Session, name: str, operation: str, arguments: dict[str, Tree], timeout_s: float) -> Tree:
    """Change a key, and then what stands on it."""
    desired, project = session.desire(), session.project
    with project.lock(f"keys {operation}", timeout_s):
        state = project.need_state()
        entry = _entry(entries_with(project, state, operation), name)
        with change_key(project, desired, state, entry, operation, arguments) as changed:
            if changed.plan.effective:
                carry_out(project, changed.plan, changed.state, changed.run, event_view())
            return changed.data


def _entry(entries: list[Entry], name: str) -> Entry:
    found = {str(entry.spec.get("name", "")): entry for entry in entries}
    if name not in found:
        raise LlmdeployError(f'there is no key "{name}"', hint=nearest(name, found) or "`llmdeploy keys list` lists them")
    return found[name]
