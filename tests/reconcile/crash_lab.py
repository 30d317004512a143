"""Worlds that can end at any effect: the real engine and the real stores, on a cloud, a disk and a bucket in memory.

A world is all that outlives a run: the cloud, and what is durable of state, journal and lock.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
import yaml

from llmdeploy.desired import Desired, desire, inputs_of
from llmdeploy.event import Event
from llmdeploy.graph import Graph
from llmdeploy.plan import Plan
from llmdeploy.reconcile.apply import Outcome
from llmdeploy.registry import Registry
from llmdeploy.resource import Tree, resolve
from llmdeploy.sdk import Ref, Run
from llmdeploy.state.journal import decode
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import State
from llmdeploy.state.s3 import LEASE_S, S3Store
from llmdeploy.state.store import Store
from llmdeploy.testing.cloud import FakeCloud, Fault, Habits, LocalCloud
from llmdeploy.testing.cloud_provider import CloudConfig, FakeCloudProvider, Node
from llmdeploy.testing.effects import Effects
from llmdeploy.testing.memory_bucket import MemoryBucket
from llmdeploy.testing.memory_disk import Kept, MemoryDisk
from llmdeploy.workflow import Project, apply_plan, identity_of, make_plan, preflight

FOLDER = Path("/stack/.llmdeploy")
CANARY = "canary-5f0e"
HABITS = Habits(hidden_reads=1, pending_reads=1)


class World(Protocol):
    """What outlives a run. Runs change it in place; `fork` and `futures` give worlds apart."""

    @property
    def cloud(self) -> FakeCloud: ...

    def store(self, effects: Effects) -> Store:
        """Return the store as a new process opens it."""
        ...

    def content(self) -> Mapping[str, bytes]:
        """Return what is stored, by the last part of its name."""
        ...

    def fork(self, faults: tuple[Fault, ...] = ()) -> World:
        """Return the same world once more."""
        ...

    def futures(self) -> Iterator[World]:
        """Yield the worlds that the next run may find when this one dies now."""
        ...


@dataclass
class LocalWorld:
    """State in files."""

    cloud: FakeCloud = field(default_factory=lambda: FakeCloud(HABITS))
    disk: MemoryDisk = field(default_factory=MemoryDisk)

    def __post_init__(self) -> None:
        if not self.disk.names(Path("/")):  # the folder of the stack file is there, and durable
            self.disk.make_folder(FOLDER.parent)
            self.disk.sync_folder(Path("/"))

    def store(self, effects: Effects) -> Store:
        self.disk.effects = effects
        return LocalStore(FOLDER, self.disk)

    def content(self) -> Mapping[str, bytes]:
        return {name.rpartition("/")[2]: content for name, content in self.disk.content().items()}

    def fork(self, faults: tuple[Fault, ...] = ()) -> LocalWorld:
        return LocalWorld(self.cloud.fork(faults), self.disk.crash(Kept(None, content=True)))

    def futures(self) -> Iterator[LocalWorld]:
        for kept in self.disk.futures():
            yield LocalWorld(self.cloud.fork(), self.disk.crash(kept))

    def torn(self) -> Iterator[LocalWorld]:
        """Yield the worlds in which only the first bytes of the last write are down: each number of them."""
        for byte in range(self.disk.torn_bytes()):
            yield LocalWorld(self.cloud.fork(), self.disk.crash(Kept(None, torn=byte)))


@dataclass
class BucketWorld:
    """State in a bucket. A run that dies leaves its lock; the next one comes when the lease has ended."""

    cloud: FakeCloud = field(default_factory=lambda: FakeCloud(HABITS))
    bucket: MemoryBucket = field(default_factory=MemoryBucket)

    def store(self, effects: Effects) -> Store:
        return S3Store(self.bucket.door(effects), "demo", "s3://bucket/demo")

    def content(self) -> Mapping[str, bytes]:
        return {name.rpartition("/")[2]: content for name, content in self.bucket.content().items()}

    def fork(self, faults: tuple[Fault, ...] = ()) -> BucketWorld:
        return BucketWorld(self.cloud.fork(faults), self.bucket.copy())

    def futures(self) -> Iterator[BucketWorld]:
        world = self.fork()
        world.bucket.advance(2 * LEASE_S)
        yield world


def fingerprint(world: World) -> str:
    """Return a digest of all that a later run can notice.

    Of state and journal that is what they come to together, the serials that runs began at, and whether the end is torn. A lock
    ends with its process or its lease; kept generations are for people, so only their names count.
    """
    content = world.content()
    stored: dict[str, Any] = {}
    for name, data in content.items():
        if name.startswith("journal"):
            lines = decode(data, name)
            begins = sorted({(record["serial"], record["lineage"]) for record in lines.records if record["kind"] == "begin"})
            stored[name] = (begins, lines.size != len(data))
        else:
            stored[name] = [json.loads(data)[key] for key in ("serial", "lineage")] if name == "state.json" else ""
    for name in ("lock", "state.json.lock"):
        stored.pop(name, None)
    state = world.store(Effects()).read()
    document = (sorted(stored.items()), state.to_json("") if state else "", world.cloud.world())
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


# --- what a stack file asks for ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """A stack: its desired form (None: nothing), and the most members of each rollout group that may be out of service."""

    desired: Desired | None
    at_once: Mapping[str, int] = field(default_factory=dict[str, int])
    members: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def addresses(self) -> set[str]:
        return {resource.address for resource in self.desired.graph} if self.desired else set()


@dataclass
class Ran:
    """A run that came to its end."""

    plan: Plan
    outcome: Outcome
    effects: Effects
    events: list[Event]


class Lab:
    """Plans and applies on worlds, as the command line does.

    lineages: those that new stacks get, one after the other; random as long as nobody says otherwise.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.lineages: Iterator[str] = (uuid4().hex for _ in count())
        monkeypatch.setattr(State, "fresh", self._fresh)
        self._clouds: dict[str, LocalCloud] = {}
        self._number = count()
        self._provider = FakeCloudProvider(self._connect)
        self.registry = Registry({"fakecloud": self._provider})
        config = {"resources": [{"address": "fake_network.any"}]}
        document = {"version": 1, "name": "demo", "model": {"id": "tiny-random"}, "provider": {"fakecloud": config}}
        (folder / "stack.yaml").write_text(yaml.safe_dump(document))
        self._base = desire(inputs_of(folder), self.registry)
        self.nothing = Wish(None)

    def _fresh(self, stack: str) -> State:
        return State(next(self.lineages), stack)

    def _connect(self, run: Run) -> LocalCloud:
        return self._clouds[run.environ["WORLD"]]

    def wish(self, *nodes: Mapping[str, Any], outputs: Mapping[str, str] | None = None) -> Wish:
        """Return what a stack file with these resources asks for; outputs: name -> `ADDRESS#OUTPUT`."""
        config = CloudConfig(resources=tuple(Node.model_validate(node) for node in nodes))
        resources = self._provider.resources(config)
        tree: dict[str, Tree] = {name: Ref(*text.split("#")) for name, text in (outputs or {}).items()}
        groups = {resource.address: resource.rollout for resource in resources if resource.rollout}
        return Wish(
            replace(self._base, graph=Graph(resources), outputs=tree),
            {group.name: group.max_unavailable for group in groups.values()},
            {address: group.name for address, group in groups.items()},
        )

    def project(self, world: World, effects: Effects) -> Project:
        """Return the project as a new process opens it."""
        key = str(next(self._number))
        self._clouds[key] = LocalCloud(world.cloud, effects)
        project = Project(self.folder, self.registry, {"PASSWORD": CANARY, "WORLD": key})
        project.store = world.store(effects)
        return project

    def plan(self, world: World, wish: Wish) -> Plan:
        """Plan, without an effect."""
        project = self.project(world, Effects(cut_at=1))
        state = project.state()
        with project.run(identity_of(state, wish.desired)) as run:
            return make_plan(project, wish.desired, run, state)

    def apply(self, world: World, wish: Wish, effects: Effects | None = None, *, parallelism: int = 1) -> Ran:
        """Apply to the end, or until `effects` cut the power."""
        effects = effects or Effects()
        project = self.project(world, effects)
        events: list[Event] = []
        with project.lock("apply"):
            state = project.state()
            with project.run(identity_of(state, wish.desired)) as run:
                plan = make_plan(project, wish.desired, run, state)
                preflight(plan, project.types(state, "fakecloud"), run, state or State(lineage="", stack="demo"))
                outcome = apply_plan(project, plan, state, run, events.append, parallelism=parallelism)
        return Ran(plan, outcome, effects, events)

    def stored(self, world: World) -> State | None:
        """Return the state as the next run reads it."""
        return world.store(Effects()).read()


# --- the invariants -----------------------------------------------------------------------------------------------------------


def check_whole(lab: Lab, world: World, wish: Wish) -> None:
    """After a run that came to its end: the world is what was wished, everything was made once, and nothing else is there."""
    state = lab.stored(world)
    assert state is not None
    live = world.cloud.objects()
    # (a) one live object per address, and nothing else of ours
    assert Counter(one.tags["llmdeploy:address"] for one in live) == Counter(wish.addresses)
    assert set(state.entries) == wish.addresses
    for one in live:
        entry = state.entries[one.tags["llmdeploy:address"]]
        assert (one.id, one.tags["llmdeploy:generation"], entry.status, entry.deposed) == (
            entry.id,
            str(entry.generation),
            "ok",
            (),
        )
        assert one.params == entry.spec
        assert one.serving
        assert one.tags["llmdeploy:lineage"] == state.lineage
    if wish.desired:
        outputs = {address: entry.outputs for address, entry in state.entries.items()}
        for resource in wish.desired.graph:
            assert state.entries[resource.address].spec == resolve(resource.values, outputs), resource.address
        assert state.outputs == resolve(wish.desired.outputs, outputs)
    # (b) nothing was made twice
    twice = {name: made for name, made in world.cloud.creates.items() if made != 1}
    assert twice == {}
    # (c) there is nothing left to do
    assert lab.plan(world, wish).nothing_to_do
    # (f) no secret in anything that is stored
    assert not [name for name, content in world.content().items() if CANARY.encode() in content]


def check_rollouts(wish: Wish, history: Sequence[tuple[str, str]], out: set[str] | None = None) -> None:
    """Never are more members of a group out of service than it allows. out: those that were when the history begins."""
    away = set(out or ())
    for operation, address in history:
        if address not in wish.members:
            continue
        if operation in ("exit", "delete"):
            away.add(address)
        elif operation in ("enter", "create"):
            away.discard(address)
        group = wish.members[address]
        now_away = {one for one in away if wish.members.get(one) == group}
        assert len(now_away) <= wish.at_once[group], f"{sorted(now_away)} are out of service at once"


def out_of_service(world: World, wish: Wish) -> set[str]:
    """Return the members of rollout groups that are drained now."""
    return {
        address for one in world.cloud.objects() if (address := one.tags["llmdeploy:address"]) in wish.members and not one.serving
    }


# --- the stack of the matrix --------------------------------------------------------------------------------------------------

ROLLOUT = {"name": "web", "max_unavailable": 1, "gate": "probe", "enter": "undrain", "exit": "drain"}


def _web(number: int, **values: Any) -> dict[str, Any]:
    given = {"network": {"ref": "fake_network.net#id"}, "template": {"ref": "fake_template.base#id"}, **values}
    return {"address": f"fake_machine.web-{number}", "values": given, "rollout": {**ROLLOUT, "order": number}}


def first_nodes() -> list[dict[str, Any]]:
    """Twelve resources: a chain (net, template, web; db, cache, logs), a fan-out (net), secrets."""
    return [
        {"address": "fake_network.net", "values": {"cidr": "10.1.0.0/16"}},
        {"address": "fake_network.side"},
        {"address": "fake_template.base", "values": {"image": "one", "network": {"ref": "fake_network.net#id"}}},
        *map(_web, range(3)),
        {"address": "fake_machine.db", "values": {"network": {"ref": "fake_network.net#id"}, "password": "env:PASSWORD"}},
        {"address": "fake_machine.cache", "values": {"config": {"ref": "fake_machine.db#address"}}},
        {"address": "fake_bucket.logs", "values": {"bucket": "demo-logs", "about": {"ref": "fake_machine.cache#id"}}},
        {"address": "fake_bucket.data", "values": {"bucket": "demo-data", "password": "env:PASSWORD"}},
        {"address": "fake_machine.old", "after": ["fake_bucket.data", "fake_network.side"]},
        {"address": "fake_bucket.archive", "values": {"bucket": "demo-archive"}},
    ]


def second_nodes() -> list[dict[str, Any]]:
    """The change: a template replaced new object first, which rolls through web; a replace (db) that updates what knows its
    address (cache); a renamed bucket; an update (net); two deletes (old, side); a create (new)."""
    changed: dict[str, dict[str, Any]] = {
        "fake_network.net": {"mtu": 9000},
        "fake_template.base": {"image": "two"},
        "fake_machine.db": {"image": "other"},
        "fake_machine.cache": {"size": 2},
        "fake_bucket.archive": {"bucket": "demo-archive-2"},
    }
    kept = [node for node in first_nodes() if node["address"] not in ("fake_machine.old", "fake_network.side")]
    nodes = [{**node, "values": {**node.get("values", {}), **changed.get(node["address"], {})}} for node in kept]
    return [*nodes, {"address": "fake_machine.new", "values": {"template": {"ref": "fake_template.base#id"}}}]


def first_wish(lab: Lab) -> Wish:
    """Return what the first stack file asks for."""
    return lab.wish(*first_nodes(), outputs={"endpoint": "fake_machine.web-0#address", "logs": "fake_bucket.logs#url"})


def second_wish(lab: Lab) -> Wish:
    """Return what the changed stack file asks for."""
    return lab.wish(*second_nodes(), outputs={"endpoint": "fake_machine.new#address", "logs": "fake_bucket.logs#url"})
