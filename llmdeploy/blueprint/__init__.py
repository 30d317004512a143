"""Turns a layout request into the graph: the provider's part, and what the core puts on each of its machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from ..diagnostics import Diagnostics, nearest
from ..errors import LlmdeployError, StackError
from ..graph import Graph
from ..resource import Resource, Tree
from ..sdk import Fragment, LayoutRequest, PlansOnly, Provider, ResourceType
from ..stack.load import Loaded
from .hosts import Hosts
from .request import Files, context_of, engine_pin, layout_request

__all__ = ["Blueprint", "Files", "build", "context_of", "engine_pin", "layout_request", "protected", "refuse_unbuilt"]

Types = Mapping[str, ResourceType[Any, Any]]


@dataclass(frozen=True)
class Blueprint:
    """The desired graph and the stack's outputs, a tree with references."""

    graph: Graph
    outputs: Mapping[str, Tree]


def refuse_unbuilt(loaded: Loaded, provider: Provider) -> None:
    """Refuse, with its place, what the stack file contract knows and this version can neither build nor plan.

    What a provider only plans may ask for more than what is applied.

    Raises:
        StackError: one line for each such part.
    """
    stack = loaded.stack
    asked = {f"keys.{i}.recipient": (key.recipient is not None, "delivery to a public key") for i, key in enumerate(stack.keys)}
    if not isinstance(provider, PlansOnly):
        asked |= {
            "gateway.fallback": (stack.gateway.fallback is not None, "a hosted fallback"),
            "engine.runtime": (stack.engine.runtime == "container", "the container runtime"),
            "hardware.gpu": (stack.hardware.gpu not in ("auto", "none"), "GPUs"),
            "replicas": (stack.replicas > 1, "more than one replica"),
            "storage.device": (stack.storage.device is not None, "a block device of its own for the weights"),
            "storage.encryption": (stack.storage.encryption == "luks2", "LUKS2"),
            "storage.unlock": (stack.storage.unlock == "tpm2", "unlocking by TPM"),
        }
    found = Diagnostics()
    for path, (used, what) in asked.items():
        if used:
            found.error(
                f"{what}: valid, but not part of this version", loaded.source.place(path), path=path, hint="remove it for now"
            )
    found.raise_if_errors()


def build(request: LayoutRequest, provider: str, fragment: Fragment, types: Types, *, shared_state: bool = False) -> Blueprint:
    """Put the core's resources beside those of the provider's fragment. Pure.

    types: of the provider, and of the owner of the host types. shared_state: the state lies where others can go on from, without
    the operator's files.

    Raises:
        StackError: a secret that llmdeploy makes would lie in a file of the operator, where it may not.
        LlmdeployError: the provider's resources do not fit their own types, or form no graph.
    """
    if fragment.serves:
        resources, outputs = fragment.resources, fragment.outputs
    else:
        _check_custody(request, fragment, shared_state)
        builder = Hosts(request, fragment.hosts or provider, fragment)
        resources, outputs = (*fragment.resources, *builder.resources()), builder.outputs()
    return Blueprint(Graph(_checked(resource, types) for resource in resources), outputs)


def protected(graph: Graph, loaded: Loaded) -> Graph:
    """Return the graph with the resources that the stack file lists under `prevent_destroy` marked.

    Raises:
        StackError: an address that is not in the graph, with its place.
    """
    listed = loaded.stack.prevent_destroy
    if not listed:
        return graph
    found = Diagnostics()
    for index, address in enumerate(listed):
        if address not in graph:
            path = f"prevent_destroy[{index}]"
            hint = nearest(address, [resource.address for resource in graph]) or "`llmdeploy graph` lists the addresses"
            found.error(f"there is no resource {address} in this stack", loaded.source.place(path), path=path, hint=hint)
    found.raise_if_errors()
    return Graph(
        replace(resource, prevent_destroy=resource.prevent_destroy or resource.address in listed) for resource in graph
    )  # fmt: skip


def _check_custody(request: LayoutRequest, fragment: Fragment, shared_state: bool) -> None:
    if fragment.kms_key or (fragment.custody and not shared_state):
        return
    secrets = (
        ("storage.key", request.storage.encryption != "none" and request.storage.key is None),
        ("gateway.tls", request.gateway.tls_cert is None),
    )
    generated = [name for name, made in secrets if made]
    if generated:
        rule = "with the state in S3, nobody else could go on" if fragment.custody else "only `local` may do that"
        raise StackError(
            f"what {' and '.join(generated)} would name is left to llmdeploy, and would lie in a file of the operator: {rule}",
            hint="give references: storage.key: file:PATH or env:NAME, gateway.tls: {cert: file:PATH, key: file:PATH}",
        )


def _checked(resource: Resource, types: Types) -> Resource:
    """Return the resource with its spec validated, defaults filled in, references kept."""
    kind = types.get(resource.type)
    if kind is None:
        raise LlmdeployError(f"{resource.address}: no installed provider has the type {resource.type}")
    try:
        values = kind.spec.model_validate(dict(resource.values)).tree()
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise LlmdeployError(f"{resource.address} does not fit its type {resource.type}: {problems}") from None
    return replace(resource, values=values)
