from __future__ import annotations

import json
from typing import Any, cast

import pydot
import pytest

from llmdeploy.graph import Graph
from llmdeploy.resource import Ref, Resource
from llmdeploy.views.document import dumps
from llmdeploy.views.graph_view import graph_document, graph_dot

GRAPH = Graph(
    [
        Resource("host.a", "host", "p", {}, group="a"),
        Resource("engine.a", "engine", "p", {"host": Ref("host.a", "connection")}, group="a"),
        Resource("key.me", "key", "p", {}, depends_on=frozenset({"host.a"}), group='the "stack" \\'),
    ]
)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # pydot calls pyparsing by its older names
def test_graphviz_reads_it() -> None:
    # pydot's parser follows Graphviz' grammar.
    parsed = cast("list[Any] | None", pydot.graph_from_dot_data(graph_dot("demo", GRAPH)))
    assert parsed is not None
    (graph,) = parsed
    assert graph.get_name() == '"demo"'
    assert {(edge.get_source(), edge.get_destination()) for edge in graph.get_edges()} == {
        ('"engine.a"', '"host.a"'),
        ('"key.me"', '"host.a"'),
    }
    boxes = {box.get_label(): {node.get_name() for node in box.get_nodes()} for box in graph.get_subgraphs()}
    assert boxes == {'"a"': {'"host.a"', '"engine.a"'}, r'"the \"stack\" \\"': {'"key.me"'}}


def test_json() -> None:
    document = json.loads(dumps(graph_document("demo", GRAPH)))
    assert [node["address"] for node in document["nodes"]] == ["host.a", "engine.a", "key.me"]
    assert document["nodes"][1] == {
        "address": "engine.a",
        "type": "engine",
        "provider_name": "p",
        "group": "a",
        "depends_on": ["host.a"],
    }
    assert document["edges"] == [{"from": "engine.a", "to": "host.a"}, {"from": "key.me", "to": "host.a"}]
