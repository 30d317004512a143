"""`llmdeploy schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..registry import Registry
from ..stack.schema import json_schema
from ..views.document import dumps
from ..views.json_view import plan_schema
from .options import say, verb

app = verb()


@app.command()
def schema(
    plan: Annotated[bool, typer.Option("--plan", help="That of `plan --format json` instead.")] = False,
) -> None:
    """Print the JSON Schema of the stack file. For editors; with the parts of the installed providers."""
    say(plan_schema() if plan else dumps(json_schema(Registry().configs())))
