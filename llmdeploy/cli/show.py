"""`llmdeploy show`."""

from __future__ import annotations

from ..views.document import dumps
from ..views.json_view import state_document
from ..views.state_view import state_lines
from .options import HERE, Format, FormatOption, StackArgument, say, verb
from .options import show as show_lines
from .session import open_session

app = verb()


@app.command()
def show(stack: StackArgument = HERE, format: FormatOption = Format.HUMAN) -> None:
    """Show what exists, as the state has it. Looks at no machine."""
    state = open_session(stack).stored()
    if format is Format.JSON:
        say(dumps(state_document(state)))
    else:
        show_lines(state_lines(state))
