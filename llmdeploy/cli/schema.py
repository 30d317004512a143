"""`llmdeploy schema`."""

from __future__ import annotations

from ..registry import Registry
from ..stack.schema import json_schema
from ..views.document import dumps
from .options import say, verb

app = verb()


@app.command()
def schema() -> None:
    """Print the JSON Schema of the stack file. For editors; with the parts of the installed providers."""
    say(dumps(json_schema(Registry().configs())))
