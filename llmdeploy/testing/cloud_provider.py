"""The provider `fakecloud`: any graph on the fake cloud, described in the stack file.

It is no entry point of llmdeploy; tests install it with a folder on the path, as anybody's provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from ..resource import as_mapping, as_sequence
from ..sdk import (
    Found,
    Fragment,
    Group,
    LayoutRequest,
    LlmdeployError,
    Provider,
    ProviderError,
    ReadRequest,
    ReadResult,
    Ref,
    Resource,
    ResourceType,
    Run,
    Tree,
)
from .cloud import Cloud, Json
from .cloud_types import Bucket, CloudType, Door, Machine, Network, Template
from .fake_cloud import SocketCloud

ENDPOINT = "FAKECLOUD_SOCKET"
"""The environment variable that says where the cloud listens; as with real clouds it is not a part of the stack."""


class Node(BaseModel):
    """One resource. values: its spec, where `{ref: ADDRESS#OUTPUT}` stands for an output of another one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    values: dict[str, Any] = {}
    after: tuple[str, ...] = ()
    prevent_destroy: bool = False
    rollout: dict[str, Any] | None = None


class CloudConfig(BaseModel):
    """The whole graph, and the output of a resource (`ADDRESS#OUTPUT`) that is the stack's endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resources: tuple[Node, ...] = ()
    endpoint: str = ""


class FakeCloudProvider:
    """Lays out what its configuration lists. connect: how a run reaches the cloud; poll_s: seconds between two looks."""

    name = "fakecloud"
    Config = CloudConfig

    def __init__(self, connect: Callable[[Run], Cloud], poll_s: float = 0.0) -> None:
        door = Door(connect, poll_s)
        kinds: tuple[CloudType[Any, Any], ...] = (Network(door), Template(door), Bucket(door), Machine(door))
        self._door = door
        self._kinds = {kind.name: kind for kind in kinds}
        self.types: Mapping[str, ResourceType[Any, Any]] = self._kinds

    def layout(self, request: LayoutRequest) -> Fragment:
        """Return the listed resources."""
        config = CloudConfig.model_validate(request.config.model_dump())
        endpoint: Tree = _ref(config.endpoint) if config.endpoint else "https://fakecloud.invalid"
        return Fragment(self.resources(config), serves=True, outputs={"endpoint": endpoint})

    def resources(self, config: CloudConfig) -> tuple[Resource, ...]:
        """Return the resources of `config`. Raises LlmdeployError for one that is none."""
        return tuple(self._resource(node) for node in config.resources)

    def _resource(self, node: Node) -> Resource:
        type_name = node.address.partition(".")[0]
        if type_name not in self._kinds:
            raise LlmdeployError(f"{node.address}: fakecloud has no type {type_name}", hint=f"it has {', '.join(self._kinds)}")
        try:
            values = self._kinds[type_name].spec.model_validate(_with_refs(node.values)).tree()
        except ValidationError as error:
            raise LlmdeployError(f"{node.address}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
        return Resource(
            node.address,
            type_name,
            self.name,
            values,
            frozenset(node.after),
            group="fakecloud",
            path="provider",
            prevent_destroy=node.prevent_destroy,
            rollout=Group(**node.rollout) if node.rollout else None,
        )

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Look at all of them: one list per kind, again as long as something is missing that may only be hidden."""
        for name in sorted({request.type for request in requests}):
            yield from self._refresh(run, self._kinds[name], [one for one in requests if one.type == name])

    def _refresh(self, run: Run, kind: CloudType[Any, Any], requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        seen: dict[str, Mapping[str, Json]] = {}
        for _ in self._door.looks(run):
            for found in self._listed(run, kind=kind.kind):
                for request in requests:
                    if _is(found, request):
                        seen[request.prior.address] = found
            if len(seen) == len(requests):
                break
        for request in requests:
            prior, found = request.prior, seen.get(request.prior.address)
            drift = kind.drift(run, prior, found) if found and prior.status == "ok" else ()
            yield ReadResult(prior.address, exists=found is not None, drift=drift)

    def _listed(self, run: Run, **which: Json) -> list[dict[str, Json]]:
        lineage = run.identity.lineage
        return self._door.ask(run, "list", tags={"llmdeploy:lineage": lineage}, **which) if lineage else []

    def sweep(self, run: Run, config: BaseModel) -> Iterable[Found]:
        """Return what carries the tags of this stack, with one call."""
        del config
        names = {kind.kind: name for name, kind in self._kinds.items()}
        for found in self._listed(run):
            name, tags = names[found["kind"]], found["tags"]
            yield Found(
                address=tags["llmdeploy:address"],
                type=name,
                provider=self.name,
                id=found["id"],
                generation=int(tags["llmdeploy:generation"]),
                spec=found["params"],
                outputs=self._kinds[name].outputs_of(found),
            )

    def account(self, run: Run, config: BaseModel) -> Mapping[str, str]:
        """Return the account and the region; empty when the cloud does not answer."""
        del config
        try:
            return self._door.ask(run, "account")
        except ProviderError:
            return {}


def _is(found: Mapping[str, Json], request: ReadRequest) -> bool:
    """Whether `found` is what was asked for: by its id, or by its tags when its id was never told."""
    prior, tags = request.prior, found["tags"]
    if prior.id:
        return found["id"] == prior.id
    return (tags["llmdeploy:address"], tags["llmdeploy:generation"]) == (prior.address, str(prior.generation))


def _ref(text: str) -> Ref:
    address, _, output = text.partition("#")
    return Ref(address, output)


def _with_refs(tree: Tree) -> Tree:
    """Return `tree` with a `Ref` for each `{ref: ADDRESS#OUTPUT}`."""
    if (mapping := as_mapping(tree)) is not None:
        if set(mapping) == {"ref"}:
            return _ref(cast("str", mapping["ref"]))
        return {key: _with_refs(value) for key, value in mapping.items()}
    if (sequence := as_sequence(tree)) is not None:
        return [_with_refs(item) for item in sequence]
    return tree


def _from_environment(run: Run) -> Cloud:
    path = run.environ.get(ENDPOINT)
    if not path:
        raise ProviderError(
            f"the fake cloud is nowhere: {ENDPOINT} is not set",
            hint="start it with `python -m llmdeploy.testing.fake_cloud --socket PATH`",
        )
    return SocketCloud(path)


fakecloud: Provider = FakeCloudProvider(_from_environment, poll_s=0.005)
