"""`llmdeploy compliance`: show what profiles demand, who says so, and how far that was checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from ..compliance import CONTROLS, PROFILES
from ..diagnostics import nearest
from ..errors import LlmdeployError
from ..views.compliance_view import compliance_document, compliance_lines, names, shown
from ..views.document import dumps
from .options import Format, FormatOption, say, verb
from .options import show as show_lines

app = verb()


@app.callback()
def compliance() -> None:
    """Show what compliance profiles demand, and who says so."""


@app.command()
def show(
    asked: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROFILE|CONTROL]...", help="Such as hipaa or ENC-01; default: all.", show_default=False),
    ] = None,
    format: FormatOption = Format.HUMAN,
) -> None:
    """Show profiles and controls: what the plan does, what the audit proves, what is not covered, and each passage with how it
    was read. Needs no network."""
    what = shown([_known(name) for name in asked or ()], datetime.now(UTC).date())
    if format is Format.JSON:
        say(dumps(compliance_document(what)))
    else:
        show_lines(compliance_lines(what))


def _known(name: str) -> str:
    """Return the name of a profile or the id of a control, as it is written; any case is taken."""
    known = {one.lower(): one for one in names()}
    if name.lower() not in known:
        hint = nearest(name.upper(), CONTROLS) or nearest(name.lower(), PROFILES)
        raise LlmdeployError(f'there is no profile and no control "{name}"', hint=hint)
    return known[name.lower()]
