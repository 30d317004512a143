"""`llmdeploy output`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ..diagnostics import nearest
from ..errors import LlmdeployError
from ..resource import Tree, as_mapping, as_sequence
from ..views.document import dumps
from ..views.human import output_lines
from ..views.value import leaves
from .options import HERE, StackOption, say, show, verb
from .session import open_session

app = verb()


class OutputFormat(StrEnum):
    """How to print: raw is the bare text of one value, for scripts."""

    HUMAN = "human"
    JSON = "json"
    RAW = "raw"


@app.command()
def output(
    name: Annotated[
        str | None, typer.Argument(help="Such as endpoint or keys.NAME.file; all if left out.", show_default=False)
    ] = None,
    stack: StackOption = HERE,
    format: Annotated[OutputFormat, typer.Option("--format", help="How to answer.")] = OutputFormat.HUMAN,
) -> None:
    """Print the stack's outputs: endpoint, model, key files. All of them, or one."""
    outputs = open_session(stack).stored().outputs
    found: Tree = dict(outputs) if name is None else _find(outputs, name)
    mapping = as_mapping(found)
    if format is OutputFormat.JSON:
        say(dumps(found))
    elif mapping is not None and format is OutputFormat.HUMAN:
        show(output_lines(mapping))
    elif mapping is not None or as_sequence(found) is not None:
        raise LlmdeployError(f"{name or 'this'} is more than one value", hint="name one of them, or use --format json")
    else:
        say(found if isinstance(found, str) else dumps(found, lines=True))


def _find(outputs: Tree, name: str) -> Tree:
    found: Tree = outputs
    for part in name.split("."):
        mapping = as_mapping(found)
        if mapping is None or part not in mapping:
            if "/" in name:
                raise LlmdeployError(f"{name} is a folder, not an output", hint=f"llmdeploy output --stack {name}")
            names = [dotted for dotted, _ in leaves(outputs, limit=0)]
            raise LlmdeployError(f'there is no output "{name}"', hint=nearest(name, names) or "`llmdeploy output` lists them")
        found = mapping[part]
    return found
