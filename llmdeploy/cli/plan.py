"""`llmdeploy plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..views.document import dumps
from ..views.human import plan_lines
from ..views.json_view import plan_document
from .options import (
    HERE,
    Format,
    FormatOption,
    ReplaceOption,
    StackArgument,
    VarFileOption,
    VarOption,
    say,
    show,
    variables_of,
    verb,
)
from .session import open_session, planning

app = verb()
_CHANGES = 2


@app.command()
def plan(
    stack: StackArgument = HERE,
    format: FormatOption = Format.HUMAN,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 0 without changes, 2 with changes, 1 on an error.")
    ] = False,
    destroy: Annotated[bool, typer.Option("--destroy", help="Plan what destroy would do.")] = False,
    replace: ReplaceOption = None,
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """Show what apply would do."""
    session = open_session(stack, variables_of(var), var_file or ())
    desired = None if destroy else session.desire()
    with planning(session, desired, replace=replace or ()) as (made, state):
        outputs = state.outputs if state else None
        if format is Format.JSON:
            say(dumps(plan_document(made, outputs)))
        else:
            show(plan_lines(made, outputs))
    if detailed_exitcode and not made.nothing_to_do:
        raise typer.Exit(_CHANGES)
