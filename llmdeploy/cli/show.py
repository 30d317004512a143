"""`llmdeploy show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import LlmdeployError
from ..plan_file import is_plan_file, load
from ..views.document import dumps
from ..views.human import saved_line
from ..views.json_view import state_document
from ..views.screen import BLANK
from ..views.state_view import state_lines
from .options import HERE, PlanFormat, PlanFormatOption, say, verb
from .options import show as show_lines
from .session import open_session
from .show_plan import show_plan

app = verb()


@app.command()
def show(
    stack: Annotated[
        Path, typer.Argument(metavar="STACK|PLANFILE", help="Stack file or its folder, or a saved plan.", show_default=False)
    ] = HERE,
    format: PlanFormatOption = PlanFormat.HUMAN,
) -> None:
    """Show what exists, as the state has it, or a saved plan. Looks at no machine."""
    if is_plan_file(stack):
        saved = load(stack)
        if format is PlanFormat.HUMAN:
            show_lines([saved_line(saved), BLANK])
        show_plan(saved.plan, format, saved)
        return
    if stack.is_file() and stack.suffix not in (".yaml", ".yml") and b"provider" not in stack.read_bytes():
        # What exists is shown beside a broken stack file too; but not because of any file that lies in its folder.
        raise LlmdeployError(f"{stack} is neither a saved plan nor a stack file", hint="`llmdeploy plan --out FILE` saves a plan")
    state = open_session(stack).stored()
    if format in (PlanFormat.MARKDOWN, PlanFormat.HTML):
        raise LlmdeployError(f"only a saved plan can be shown as {format.value}", hint="name the plan file, or use --format json")
    if format is PlanFormat.JSON:
        say(dumps(state_document(state)))
    else:
        show_lines(state_lines(state))
