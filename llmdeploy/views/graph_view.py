"""What depends on what: for Graphviz, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .. import __version__
from ..graph import Graph
from ..resource import Resource, Tree
from .document import FORMAT_VERSION


def graph_dot(stack: str, graph: Graph) -> str:
    """Return the graph in Graphviz' language: an arrow goes from a resource to what it needs; each group has its box."""
    groups: dict[str, list[Resource]] = {}
    for resource in graph:
        groups.setdefault(resource.group, []).append(resource)
    lines = [f"digraph {_quoted(stack)} {{", '  rankdir = "RL";', '  node [shape = "box"];']
    for number, group in enumerate(sorted(groups)):
        nodes = [f"    {_quoted(resource.address)};" for resource in groups[group]]
        lines += [f'  subgraph "cluster_{number}" {{', f"    label = {_quoted(group)};", *nodes, "  }"]
    lines += [f"  {_quoted(source)} -> {_quoted(target)};" for source, target in _edges(graph)]
    return "\n".join([*lines, "}"])


def graph_document(stack: str, graph: Graph) -> dict[str, Tree]:
    """Return the graph as nodes, dependencies first, and edges from a resource to what it needs."""
    return {
        "format_version": FORMAT_VERSION,
        "llmdeploy_version": __version__,
        "stack": stack,
        "nodes": [_node(resource) for resource in graph],
        "edges": [{"from": source, "to": target} for source, target in _edges(graph)],
    }


def _node(resource: Resource) -> dict[str, Tree]:
    return {
        "address": resource.address,
        "type": resource.type,
        "provider_name": resource.provider,
        "group": resource.group,
        "depends_on": sorted(resource.dependencies),
    }


def _edges(graph: Graph) -> Iterator[tuple[str, str]]:
    return ((resource.address, target) for resource in graph for target in sorted(resource.dependencies))


def _quoted(text: str) -> str:
    # JSON's escapes of quotes are Graphviz' too; a backslash begins an escape there, so it must be doubled, as JSON does.
    return json.dumps(text, ensure_ascii=False)
