"""`llmdeploy graph`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ..views.document import dumps
from ..views.graph_view import graph_document, graph_dot
from .options import HERE, StackArgument, VarFileOption, VarOption, say, variables_of, verb
from .session import open_session

app = verb()


class GraphFormat(StrEnum):
    """How to print the graph."""

    DOT = "dot"
    JSON = "json"


@app.command()
def graph(
    stack: StackArgument = HERE,
    format: Annotated[GraphFormat, typer.Option("--format", help="For Graphviz, or for programs.")] = GraphFormat.DOT,
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """Print what depends on what. As the stack file asks for it: looks at no machine and no state."""
    desired = open_session(stack, variables_of(var), var_file or ()).desire("sparing")
    name = desired.loaded.stack.name
    say(dumps(graph_document(name, desired.graph)) if format is GraphFormat.JSON else graph_dot(name, desired.graph))
