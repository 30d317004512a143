"""`llmdeploy state`: look into the state."""

from __future__ import annotations

from typing import Annotated

import typer

from ..diagnostics import nearest
from ..errors import LlmdeployError
from ..views.document import dumps
from ..views.json_view import entry_document
from ..views.screen import line
from ..views.state_view import entry_lines
from .options import HERE, Format, FormatOption, StackArgument, StackOption, say, verb
from .options import show as show_lines
from .session import open_session

app = verb()


@app.callback()
def state() -> None:
    """Look into the state."""


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
