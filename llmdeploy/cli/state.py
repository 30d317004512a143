"""`llmdeploy state`: look into the state, and mend what no plan can."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

import typer

from .. import __version__
from ..diagnostics import nearest
from ..errors import LlmdeployError
from ..state.model import Entry, State
from ..views.document import dumps
from ..views.json_view import entry_document
from ..views.screen import line
from ..views.state_view import entry_lines
from .options import (
    HERE,
    Format,
    FormatOption,
    LockTimeoutOption,
    StackArgument,
    StackOption,
    YesOption,
    duration_s,
    say,
    verb,
)
from .options import show as show_lines
from .session import confirmed, need_answer, open_session

app = verb()


@app.callback()
def state() -> None:
    """Look into the state, and mend what no plan can."""


@app.command("list")
def list_addresses(stack: StackArgument = HERE, format: FormatOption = Format.HUMAN) -> None:
    """List the address of everything that exists."""
    addresses = sorted(open_session(stack).stored().entries)
    if format is Format.JSON:
        say(dumps(addresses))
    else:
        show_lines(line(address) for address in addresses)


@app.command()
def show(
    address: Annotated[str, typer.Argument(help="As `state list` has it.")],
    stack: StackOption = HERE,
    format: FormatOption = Format.HUMAN,
) -> None:
    """Show one resource in full."""
    entries = open_session(stack).stored().entries
    if address not in entries:
        raise LlmdeployError(f"there is no {address} in the state", hint=nearest(address, entries))
    if format is Format.JSON:
        say(dumps(entry_document(entries[address])))
    else:
        show_lines(entry_lines(entries[address]))


@app.command()
def pull(stack: StackArgument = HERE) -> None:
    """Print the whole state as JSON, decrypted, with what a killed run did."""
    say(dumps(json.loads(open_session(stack).stored().to_json(__version__))))


@app.command("rm")
def remove(
    address: Annotated[str, typer.Argument(help="As `state list` has it.")],
    stack: StackOption = HERE,
    yes: YesOption = False,
    lock_timeout: LockTimeoutOption = "0s",
) -> None:
    """Forget one resource. Nothing is deleted: what exists stays, and goes on costing."""
    need_answer(yes)
    timeout_s = duration_s(lock_timeout)
    session = open_session(stack)
    with session.project.lock("state rm", timeout_s):
        state = session.stored()
        _check_forgettable(state, address)
        say(f"{address} will be forgotten. It is not deleted: what exists of it stays as it is, and goes on costing.")
        if not yes and not confirmed(f"Forget {address}?"):
            raise LlmdeployError("not forgotten: nothing was touched")
        left = {name: entry for name, entry in state.entries.items() if name != address}
        session.project.store.begin(state)
        session.project.store.write(replace(state, serial=state.serial + 1, entries=left))
    say(f"Forgotten: {address}.")


def _check_forgettable(state: State, address: str) -> None:
    if address not in state.entries:
        raise LlmdeployError(f"there is no {address} in the state", hint=nearest(address, state.entries))
    needing = sorted(name for name, entry in state.entries.items() if address in _needs(entry))
    if needing:
        raise LlmdeployError(f"{address} is needed by {', '.join(needing)}", hint="forget those first, or destroy the stack")


def _needs(entry: Entry) -> set[str]:
    return {*entry.dependencies, *(one for old in entry.deposed for one in old.dependencies)}


@app.command()
def unlock(
    lock_id: Annotated[str, typer.Argument(help="As the message about the lock has it.")],
    stack: StackOption = HERE,
) -> None:
    """Take the lock from a command that is gone. If it lives after all, it can write no more."""
    holder = open_session(stack).project.store.unlock(lock_id)
    say(f"Unlocked. It was held: {holder}.")
