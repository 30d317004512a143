"""Things in memory behind the real state, journal and scheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from llmdeploy.change import Change, Drift
from llmdeploy.event import Event
from llmdeploy.graph import Graph
from llmdeploy.identity import Identity
from llmdeploy.plan import Plan
from llmdeploy.reconcile.apply import Apply, Outcome
from llmdeploy.reconcile.diff import diff
from llmdeploy.reconcile.refresh import refresh
from llmdeploy.resource import Input, Outputs, Ref, Replace, ReplaceWith, Resource, Spec
from llmdeploy.sdk import Context, Fragment, LayoutRequest, ManagedType, Prior, ReadRequest, ReadResult, ResourceType, Run
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import State


@dataclass
class World:
    """Live objects by address, what was called, and what shall go wrong."""

    live: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    calls: list[str] = field(default_factory=list[str])
    trouble: dict[str, Callable[[Context], None]] = field(default_factory=dict[str, Callable[[Context], None]])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, operation: str, ctx: Context) -> None:
        with self.lock:
            self.calls.append(f"{operation} {ctx.address}")
        if trouble := self.trouble.get(f"{operation} {ctx.address}"):
            trouble(ctx)


class ThingSpec(Spec):
    size: int = 1
    kind: Annotated[str, Replace("the kind of a thing is fixed")] = "plain"
    base: Annotated[Input[str] | None, ReplaceWith("it stands on that thing")] = None
    hint: Input[str] | None = None


class ThingOut(Outputs):
    id: str
    label: str


class Thing(ManagedType[ThingSpec, ThingOut]):
    name = "thing"
    spec = ThingSpec
    outputs = ThingOut
    changing_outputs = frozenset({"label"})
    converges = True

    def __init__(self, world: World) -> None:
        self.world = world

    def predict(self, values: Mapping[str, Any], identity: Identity) -> Mapping[str, Any]:
        return {"label": f"size {values['size']}"}

    def create(self, ctx: Context, spec: ThingSpec) -> ThingOut:
        self.world.call("create", ctx)
        ctx.acked(f"id-{ctx.address}-{ctx.generation}")
        ctx.step("first", lambda: self.world.call("first", ctx))
        ctx.step("second", lambda: self.world.call("second", ctx))
        self.world.live[ctx.address] = spec.model_dump()
        return ThingOut(id=f"{ctx.address}/{ctx.generation}", label=f"size {spec.size}")

    def update(self, ctx: Context, prior: Prior, spec: ThingSpec) -> ThingOut:
        self.world.call("update", ctx)
        self.world.live[ctx.address] = spec.model_dump()
        return ThingOut(id=prior.outputs["id"], label=f"size {spec.size}")

    def delete(self, ctx: Context, prior: Prior) -> None:
        self.world.call("delete", ctx)
        self.world.live.pop(ctx.address, None)

    def read(self, run: Run, prior: Prior) -> ReadResult:
        live = self.world.live.get(prior.address)
        if live is None:
            return ReadResult(prior.address, exists=False)
        wrong = live["size"] != prior.spec["size"]
        return ReadResult(prior.address, drift=(Drift("size", f"size is {live['size']}"),) if wrong else ())


class Things:
    name = "things"
    Config = ThingSpec

    def __init__(self, world: World) -> None:
        self.types: Mapping[str, ResourceType[Any, Any]] = {"thing": Thing(world)}

    def layout(self, request: LayoutRequest) -> Fragment:
        raise AssertionError("not used here")

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        kind = self.types["thing"]
        assert isinstance(kind, ManagedType)
        return [kind.read(run, request.prior) for request in requests]


class Lab:
    """One stack on one world."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.provider = Things(self.world)
        self.store = LocalStore(folder / ".llmdeploy")
        self.folder = folder
        self.events: list[Event] = []

    def plan(self, *resources: Resource) -> Plan:
        state = self.store.read() or State(lineage="", stack="s")
        run = Run(Identity("s", state.lineage or None), self.folder, {})
        reads = refresh(state, {"things": self.provider}, run)
        changes = diff(Graph(resources), state, reads, self.provider.types, run.identity)
        return Plan(
            "s", "apply", run.identity, state.serial, "", "", "", tuple(changes), tuple(Graph(resources)),
            outputs={"first": Ref(resources[0].address, "id")} if resources else {},
        )  # fmt: skip

    def apply(self, *resources: Resource, parallelism: int = 4, stop: threading.Event | None = None) -> Outcome:
        with self.store.lock("apply", 0):
            plan = self.plan(*resources)
            state = self.store.read() or State.fresh("s")
            run = Run(Identity("s", state.lineage), self.folder, {})
            self.events.clear()
            self.world.calls.clear()
            apply = Apply(
                plan, state, self.store, self.provider.types, run, self.events.append, parallelism=parallelism, stop=stop
            )  # fmt: skip
            return apply.run()


def thing(key: str, *after: str, **values: Any) -> Resource:
    return Resource(f"thing.{key}", "thing", "things", ThingSpec(**values).tree(), frozenset(f"thing.{a}" for a in after))


def actions(changes: Iterable[Change]) -> dict[str, str]:
    return {change.address.removeprefix("thing."): change.action for change in changes}
