"""What the architecture picture of a plan shows, told by groups and traits alone: who reaches what, where data lies and goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..change import Change
from ..plan import Plan
from ..resource import Tree, iter_refs
from ..traits import Custody, Exposure, Traits
from .human import symbol
from .sizing_view import machine_kind

_STACK = "stack"
_ACRONYMS = frozenset({"api", "ca", "cpu", "dns", "eip", "gpu", "iam", "ip", "kms", "nat", "s3", "tls", "vpc"})
_EXPOSURES: tuple[Exposure, ...] = ("public", "private", "host", "none")
_CLIENTS: Mapping[Exposure, tuple[str, str]] = {
    "public": ("Clients", "from anywhere"),
    "private": ("Clients", "in the network"),
    "host": ("Clients", "on the machine"),
    "none": ("Clients", ""),
}
_CUSTODY: Mapping[Custody, str] = {
    "none": "",
    "operator-file": "key in the operator's file",
    "reference": "key by reference",
    "kms": "key in a KMS",
}


@dataclass(frozen=True)
class State:
    """One fact about data. mood: "good" when encrypted, "bad" when anybody could read it, "" otherwise."""

    text: str
    mood: str = ""


@dataclass(frozen=True)
class Part:
    """One resource, or several alike.

    states: what its traits say about data. mark: how the plan changes it, empty where the whole plan does the same. stores: it
    holds data; enters: requests come in; operators: its secret lies in a file of the operator.
    """

    name: str
    states: tuple[State, ...] = ()
    count: int = 1
    mark: str = ""
    stores: bool = False
    enters: bool = False
    operators: bool = False


@dataclass(frozen=True)
class Machines:
    """One machine, or several that are alike.

    gpus: how many of one machine are used. parts: what says something about data, the entry first; others: how many more there
    are. entry: how requests travel to it. uses: names of the stack's parts that it depends on.
    """

    names: tuple[str, ...]
    kind: str = ""
    gpu: str = ""
    gpus: int = 0
    parts: tuple[Part, ...] = ()
    others: int = 0
    entry: State | None = None
    uses: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Flow:
    """Data that goes elsewhere: to whom, into which region ("" when nobody says), and what, from which parts."""

    to: str
    region: str
    what: tuple[str, ...]


@dataclass(frozen=True)
class Zone:
    """What lies in one region; name is "" for what lies in none. flows: data that goes elsewhere in it."""

    name: str
    fronts: tuple[Part, ...] = ()
    machines: tuple[Machines, ...] = ()
    stores: tuple[Part, ...] = ()
    flows: tuple[Flow, ...] = ()
    others: int = 0


@dataclass(frozen=True)
class Picture:
    """All of it. clients: two lines of text; entry: how their requests travel. leaving: data that leaves a region."""

    clients: tuple[str, str]
    entry: State | None
    zones: tuple[Zone, ...]
    leaving: tuple[Flow, ...] = ()


def picture(plan: Plan) -> Picture | None:
    """Return what stands once the plan is carried out; None where no machine says anything about data, as after a destroy."""
    scene = _Scene.of(plan)
    if plan.mode != "apply" or not any(_states(one.traits) for one in scene.on_machines):
        return None
    entries = [one for one in scene.beside if one.address in scene.fronts]
    entries = entries or [one for one in scene.on_machines if one.traits.exposure != "none"]
    widest = _widest(entries)
    entry = next((one for one in entries if one.traits.exposure == widest), None)
    return Picture(
        _CLIENTS[widest],
        _in_transit(entry.traits) if entry else None,
        tuple(_zone(scene, region) for region in scene.all_regions),
        _flows(scene, leaving=True),
    )


def _widest(entries: Iterable[Change]) -> Exposure:
    """Return from how far away the stack can be reached."""
    found = {change.traits.exposure for change in entries}
    for one in _EXPOSURES:
        if one in found:
            return one
    return "none"


@dataclass(frozen=True)
class _Scene:
    """The resources, sorted.

    machines: by group; regions: where each lies, "" for nowhere. beside: what belongs to no machine; fronts: addresses of what of
    it stands before the machines. prefixes: first words of types that say nothing. uniform: the plan does the same to everything.
    """

    sizing: Mapping[str, Tree]
    machines: Mapping[str, Sequence[Change]]
    regions: Mapping[str, str]
    beside: Sequence[Change]
    fronts: frozenset[str]
    prefixes: frozenset[str]
    uniform: bool

    @classmethod
    def of(cls, plan: Plan) -> _Scene:
        """Sort what stands once the plan is carried out."""
        standing = [one for one in plan.changes if one.action != "delete" and (one.action != "no-op" or one.before is not None)]
        machines = _machine_groups(standing)
        beside = [change for change in standing if (change.group or _STACK) not in machines]
        words = Counter(kind.partition("_")[0] for kind in {change.type for change in standing} if "_" in kind)
        return cls(
            plan.sizing,
            machines,
            {name: _region(members) for name, members in machines.items()},
            beside,
            _fronts(beside, [one for members in machines.values() for one in members], plan.outputs),
            frozenset(word for word, times in words.items() if times > 1),
            len({change.action for change in standing}) == 1,
        )

    @property
    def on_machines(self) -> list[Change]:
        """What belongs to machines."""
        return [one for members in self.machines.values() for one in members]

    @property
    def all_regions(self) -> list[str]:
        """All regions in alphabetical order, nowhere last."""
        found = {*self.regions.values(), *(change.traits.region or "" for change in self.beside)}
        return sorted(found, key=lambda name: (not name, name))

    def name(self, change: Change) -> str:
        """Return what a resource is called: its type, without a first word that several types share (`cloud_disk`: `disk`)."""
        prefix, _, rest = change.type.partition("_")
        words = (rest if rest and prefix in self.prefixes else change.type).split("_")
        return " ".join(word.upper() if word in _ACRONYMS else word for word in words)

    def mark(self, change: Change) -> str:
        """Return the mark of a change, where not all of the plan is the same."""
        return "" if self.uniform or not change.effective else symbol(change)[0]


def _machine_groups(standing: Iterable[Change]) -> dict[str, list[Change]]:
    """Return the groups that are machines: something in them never leaves a machine. If that is nowhere, all but the stack's."""
    groups: dict[str, list[Change]] = {}
    for change in standing:
        groups.setdefault(change.group or _STACK, []).append(change)
    found = {name: members for name, members in groups.items() if any(one.traits.in_transit == "local" for one in members)}
    return found or {name: members for name, members in groups.items() if name != _STACK}


def _fronts(beside: Sequence[Change], on_machines: Sequence[Change], outputs: Tree) -> frozenset[str]:
    """Return what stands before the machines: it can be reached, passes data on, and keeps none.

    What machines need does so too, but for them. It is a front all the same when clients are told of it: a certificate may need
    its name.
    """
    needs = {change.address: change.dependencies for change in (*beside, *on_machines)}
    needed = _closure(needs, [address for change in on_machines for address in change.dependencies])
    told = _closure(needs, [ref.address for ref in iter_refs(outputs)])
    passing = [one for one in beside if _answers(one.traits) and one.traits.at_rest == "none"]
    return frozenset(one.address for one in passing if one.address not in needed - told)


def _closure(needs: Mapping[str, Sequence[str]], start: Iterable[str]) -> set[str]:
    """Return addresses with all that they depend on, directly or not."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        address = waiting.pop()
        if address not in found:
            found.add(address)
            waiting += needs.get(address, ())
    return found


def _region(members: Iterable[Change]) -> str:
    return next((change.traits.region for change in members if change.traits.region), "")


# --- regions and machines ---------------------------------------------------------------------------------------------------


def _zone(scene: _Scene, region: str) -> Zone:
    here = [change for change in scene.beside if (change.traits.region or "") == region]
    fronts = [change for change in here if change.address in scene.fronts]
    stores = [change for change in here if change.address not in scene.fronts and _keeps(change.traits)]
    return Zone(
        region,
        _parts(scene, fronts),
        _machines(scene, region, stores),
        _parts(scene, stores),
        tuple(flow for flow in _flows(scene, leaving=False) if flow.region == region),
        len(here) - len(fronts) - len(stores),
    )


def _machines(scene: _Scene, region: str, stores: Sequence[Change]) -> tuple[Machines, ...]:
    """Return the machines of one region, those that are alike as one."""
    names = {store.address: scene.name(store) for store in stores}
    alike: dict[Machines, list[str]] = {}
    for name, members in scene.machines.items():
        if scene.regions[name] == region:
            alike.setdefault(_machine(scene, members, names), []).append(name)
    return tuple(replace(one, names=tuple(members)) for one, members in alike.items())


def _machine(scene: _Scene, members: Sequence[Change], stores: Mapping[str, str]) -> Machines:
    # Dependents first: that is the way of a request, from the entry to the disk.
    told = [change for change in reversed(members) if _states(change.traits)]
    widest = _widest(told)
    entry = next((change for change in told if change.traits.exposure == widest != "none"), None)
    kind, gpu, gpus = _hardware(scene.sizing)
    return Machines(
        names=(),
        kind=kind,
        gpu=gpu,
        gpus=gpus,
        parts=_parts(scene, told, entry),
        others=len(members) - len(told),
        entry=_in_transit(entry.traits) if entry else None,
        uses=frozenset(stores[address] for change in members for address in change.dependencies if address in stores),
    )


def _hardware(sizing: Mapping[str, Tree]) -> tuple[str, str, int]:
    """Return the kind of machine, of GPU, and how many GPUs of one machine are used."""
    gpu, kind = str(sizing.get("gpu") or ""), machine_kind(sizing)
    machines = max(1, int(sizing.get("machines") or 1))
    used = -(-int(sizing.get("gpus_per_replica") or 0) * int(sizing.get("replicas") or 1) // machines)
    return kind, gpu, used if gpu else 0


def _flows(scene: _Scene, *, leaving: bool) -> tuple[Flow, ...]:
    """Return the data that goes elsewhere, each place once: out of the region of its sender, or in it.

    What runs on a machine is where the machine is. A region that nobody tells is another one.
    """
    found: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for change in (*scene.beside, *scene.on_machines):
        region = change.traits.region or scene.regions.get(change.group) or None
        for flow in change.traits.data_flows:
            if (flow.region is None or flow.region != region) is leaving:
                what = found.setdefault((flow.to, flow.region or ""), {})
                what.setdefault(flow.what, {})[scene.name(change)] = None
    return tuple(
        Flow(to, region, tuple(f"{what}, from {', '.join(names)}" for what, names in told.items()))
        for (to, region), told in found.items()
    )


# --- resources --------------------------------------------------------------------------------------------------------------


def _parts(scene: _Scene, changes: Iterable[Change], entry: Change | None = None) -> tuple[Part, ...]:
    """Return resources, those that are alike as one. entry: where requests come in, of a machine."""
    alike = Counter(
        Part(
            scene.name(change),
            _states(change.traits),
            mark=scene.mark(change),
            stores=change.traits.at_rest != "none",
            enters=change is entry if entry else change.traits.exposure != "none",
            operators=change.traits.custody == "operator-file",
        )
        for change in changes
    )
    return tuple(replace(one, count=times) for one, times in alike.items())


def _keeps(traits: Traits) -> bool:
    """Whether it is worth a box of its own beside the machines: it keeps something, or answers them."""
    return _answers(traits) or traits.at_rest != "none" or traits.custody != "none" or traits.retention_days is not None


def _answers(traits: Traits) -> bool:
    """Whether others connect to it, and data moves through it."""
    return traits.exposure != "none" and traits.in_transit != "none"


def _states(traits: Traits) -> tuple[State, ...]:
    """Return what the traits say about data, the most important first."""
    found = [_at_rest(traits), _in_transit(traits)]
    found += [State(text) for text in (_CUSTODY[traits.custody],) if text]
    found += [State(f"keeps {traits.retention_days} days")] if traits.retention_days is not None else []
    return tuple(one for one in found if one)


def _at_rest(traits: Traits) -> State | None:
    return {
        "encrypted": State("encrypted at rest", "good"),
        "plain": State("plain at rest", "bad"),
        "none": None,
    }[traits.at_rest]


def _in_transit(traits: Traits) -> State | None:
    return {
        "encrypted": State("encrypted in transit", "good"),
        "plain": State("plain in transit", "bad"),
        "local": State("inside the machine"),
        "none": None,
    }[traits.in_transit]
