"""`llmdeploy validate`."""

from __future__ import annotations

import typer

from ..desired import desire, inputs_of
from ..errors import LlmdeployError
from ..registry import Registry
from ..views.document import dumps
from ..views.errors import diagnostics_document
from ..views.screen import line
from .options import HERE, Format, FormatOption, StackArgument, VarFileOption, VarOption, say, show, variables_of, verb

app = verb()


@app.command()
def validate(
    stack: StackArgument = HERE, format: FormatOption = Format.HUMAN, var: VarOption = None, var_file: VarFileOption = None
) -> None:
    """Check the stack file. Tells every error at once, also of pairs that cannot be; touches nothing."""
    inputs = inputs_of(stack, variables_of(var), var_file or ())
    try:
        desired = desire(inputs, Registry(), "sparing")
    except LlmdeployError as error:
        if format is Format.HUMAN:
            raise
        say(dumps(diagnostics_document(error)))
        raise typer.Exit(error.exit_code) from None
    if format is Format.JSON:
        say(dumps(diagnostics_document(None, desired.warnings)))
        return
    show([*(line(("Warning: ", "bold yellow"), text, hang=9) for text in desired.warnings), line("The stack file is valid.")])
