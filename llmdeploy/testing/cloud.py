"""A small cloud with the nasty habits of real ones: eventual consistency, throttling, lost answers, spent tokens."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from random import Random
from typing import Any, Literal, Protocol

from .effects import Effects

Json = Any
"""A value as JSON knows it."""

LOST = frozenset({"RequestTimeout", "ConnectionReset"})
"""Errors after which nobody knows whether the call had its effect."""
BUSY = frozenset({"Throttling", "InternalError"})


class CloudError(Exception):
    """The cloud refused or lost a call. code: `Throttling`, `InternalError`, `RequestTimeout`, `ConnectionReset`, `NotFound`,
    `AlreadyExists`, `IdempotentParameterMismatch`, `IdempotentObjectTerminated`, `InsufficientCapacity` or `InvalidCall`."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class Cloud(Protocol):
    """A way to a cloud."""

    def call(self, name: str, /, **arguments: Json) -> Json:
        """Call the operation `name` of `FakeCloud`. Raises CloudError."""
        ...


@dataclass(frozen=True)
class Fault:
    """The call number `at` (from 1) fails with `code`, before or after it had its effect."""

    at: int
    code: str
    when: Literal["before", "after"] = "before"


@dataclass(frozen=True)
class Habits:
    """How nasty the cloud is.

    hidden_reads: how many reads do not see a new object yet. pending_reads: how many times a new machine is described before it
    runs. unique: kinds whose names are given once. capacity: most objects of a kind. fault_rate: share of calls that fail at
    random, half of them after they had their effect; at most two in a row. latency_s: seconds that a call is under way before its
    effect, and again before its answer.
    """

    hidden_reads: int = 0
    pending_reads: int = 0
    unique: tuple[str, ...] = ("bucket",)
    capacity: Mapping[str, int] = field(default_factory=dict[str, int])
    fault_rate: float = 0.0
    latency_s: float = 0.0


@dataclass
class CloudObject:
    """One live object. revision grows with each change of its params; parts are what steps attached; hidden and pending count
    down."""

    id: str
    kind: str
    name: str
    params: dict[str, Json]
    tags: dict[str, str]
    parts: dict[str, Json] = field(default_factory=dict[str, Any])
    revision: int = 1
    serving: bool = True
    hidden: int = 0
    pending: int = 0

    def shown(self) -> dict[str, Json]:
        """Return what a client sees."""
        document = dict(vars(self))
        del document["hidden"], document["pending"]
        return {**document, "state": "pending" if self.pending else "running"}

    def copy(self) -> CloudObject:
        """Return an object of its own with the same values. Values are replaced, never changed."""
        return replace(self, params=dict(self.params), tags=dict(self.tags), parts=dict(self.parts))


@dataclass(frozen=True)
class _Token:
    """What a token was used for, and which object it made."""

    request: str
    object_id: str


class FakeCloud:
    """The cloud itself, in memory. Every call is one of its methods with a name in `CALLS`; it takes and gives JSON.

    creates: how often an object came into being, by token and by `address#generation` (of its ownership tags).
    """

    CALLS = ("create", "get", "list", "update", "attach", "serve", "delete", "account")

    def __init__(self, habits: Habits | None = None, *, seed: int = 0, faults: tuple[Fault, ...] = ()) -> None:
        self.habits = habits or Habits()
        self.calls = 0
        self.creates: Counter[str] = Counter()
        self.history: list[tuple[str, str]] = []
        self._faults = {fault.at: fault for fault in faults}
        self._random = Random(seed)  # noqa: S311 - chooses faults
        self._in_a_row = 0
        self._objects: dict[str, CloudObject] = {}
        self._tokens: dict[str, _Token] = {}
        self._ids: Counter[str] = Counter()
        self._guard = threading.RLock()
        self._called = threading.Condition(self._guard)

    def call(self, name: str, /, **arguments: Json) -> Json:
        """Call one operation. Raises CloudError."""
        if name not in self.CALLS:
            raise CloudError("InvalidCall", name)
        self._travel()
        try:
            return self._carry_out(name, arguments)
        finally:
            self._travel()

    def _travel(self) -> None:
        if self.habits.latency_s:
            time.sleep(self.habits.latency_s)

    def _carry_out(self, name: str, arguments: dict[str, Json]) -> Json:
        with self._called:
            self.calls += 1
            self._called.notify_all()
            fault = self._faults.get(self.calls) or self._chance()
            if fault and fault.when == "before":
                raise CloudError(fault.code)
            operation: Callable[..., Json] = getattr(self, f"_{name}")
            # Through JSON, so that no client and no object share a value.
            answer = json.loads(json.dumps(operation(**json.loads(json.dumps(arguments)))))
            if fault:
                raise CloudError(fault.code)
            return answer

    def _chance(self) -> Fault | None:
        if not self.habits.fault_rate or self._in_a_row >= 2 or self._random.random() >= self.habits.fault_rate:
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        code = self._random.choice(sorted(BUSY | LOST))
        return Fault(self.calls, code, "after" if code in LOST and self._random.random() < 0.5 else "before")

    # --- operations ---

    def _create(self, kind: str, params: dict[str, Json], tags: dict[str, str], name: str = "", token: str = "") -> Json:
        request = json.dumps([kind, name, params, tags], sort_keys=True)
        if token and (made := self._tokens.get(token)):
            if made.request != request:
                raise CloudError("IdempotentParameterMismatch", "this token was used with other parameters")
            if made.object_id not in self._objects:
                raise CloudError("IdempotentObjectTerminated", f"{made.object_id} was removed")
            return self._objects[made.object_id].shown()
        if kind in self.habits.unique and any(one.kind == kind and one.name == name for one in self._objects.values()):
            raise CloudError("AlreadyExists", f"{kind} {name}")
        limit = self.habits.capacity.get(kind)
        if limit is not None and sum(one.kind == kind for one in self._objects.values()) >= limit:
            raise CloudError("InsufficientCapacity", f"no capacity for another {kind}")
        made_id = self._new_id(kind, token or name or request)
        pending = self.habits.pending_reads if kind == "machine" else 0
        found = CloudObject(made_id, kind, name, params, tags, hidden=self.habits.hidden_reads, pending=pending)
        self._objects[made_id] = found
        if token:
            self._tokens[token] = _Token(request, made_id)
        address = f"{tags.get('llmdeploy:address', '')}#{tags.get('llmdeploy:generation', '')}"
        self.creates.update([f"token {token}", address] if token else [address])
        self._note("create", found)
        return found.shown()

    def _get(self, id: str) -> Json:
        found = self._visible(id)
        shown = found.shown()
        found.pending = max(0, found.pending - 1)
        return shown

    def _list(self, kind: str | None = None, ids: list[str] | None = None, tags: dict[str, str] | None = None) -> Json:
        """Return what is visible: of a kind, with these ids, with all of these tags."""
        matching = [
            one
            for one in self._objects.values()
            if kind in (None, one.kind)
            and (ids is None or one.id in ids)
            and all(one.tags.get(name) == value for name, value in (tags or {}).items())
        ]
        seen = [one.shown() for one in sorted(matching, key=lambda one: one.id) if not one.hidden]
        for one in matching:
            one.hidden = max(0, one.hidden - 1)
        return seen

    def _update(self, id: str, params: dict[str, Json]) -> Json:
        found = self._visible(id)
        fresh = {**found.params, **params}
        if fresh != found.params:
            found.params = fresh
            found.revision += 1
        self._note("update", found)
        return found.shown()

    def _attach(self, id: str, part: str, value: Json) -> Json:
        found = self._visible(id)
        if found.pending:
            raise CloudError("InvalidCall", f"{id} does not run yet")
        # A cloud never shows a password again.
        found.parts[part] = sha256(value.encode()).hexdigest() if part == "password" else value
        return found.shown()

    def _serve(self, id: str, serving: bool) -> Json:
        found = self._visible(id)
        found.serving = serving
        self._note("enter" if serving else "exit", found)
        return found.shown()

    def _delete(self, id: str) -> Json:
        found = self._visible(id)
        del self._objects[id]
        self._note("delete", found)
        return {}

    def _account(self) -> Json:
        return {"account": "000000000042", "region": "nowhere-1"}

    # ---

    def _visible(self, object_id: str) -> CloudObject:
        found = self._objects.get(object_id)
        if found is None:
            raise CloudError("NotFound", object_id)
        if found.hidden:
            found.hidden -= 1
            raise CloudError("NotFound", object_id)
        return found

    def _new_id(self, kind: str, seed: str) -> str:
        # From the request and not from a counter: worlds that differ only in what went before look the same.
        base = f"{kind}-{sha256(seed.encode()).hexdigest()[:12]}"
        self._ids[base] += 1
        return base if self._ids[base] == 1 else f"{base}-{self._ids[base]}"

    def _note(self, operation: str, found: CloudObject) -> None:
        self.history.append((operation, found.tags.get("llmdeploy:address", found.id)))

    # --- what tests look at ---

    def objects(self) -> list[CloudObject]:
        """Return every live object, visible or not, by id."""
        with self._guard:
            return [self._objects[object_id].copy() for object_id in sorted(self._objects)]

    def await_calls(self, count: int, timeout_s: float) -> bool:
        """Wait until so many calls have come; tell whether they have."""
        with self._called:
            return self._called.wait_for(lambda: self.calls >= count, timeout_s)

    def audit(self) -> Json:
        """Return what is there, and what was done."""
        return {
            "objects": [vars(one) for one in self.objects()],
            "creates": dict(self.creates),
            "history": list(self.history),
            "calls": self.calls,
        }

    def world(self) -> Json:
        """Return all that a later call can notice, and how often each thing was made: equal worlds behave alike."""
        with self._guard:
            return {
                "objects": [vars(one) for one in self.objects()],
                "tokens": {token: (made.request, made.object_id) for token, made in sorted(self._tokens.items())},
                "ids": dict(sorted(self._ids.items())),
                "creates": dict(sorted(self.creates.items())),
            }

    def fork(self, faults: tuple[Fault, ...] = ()) -> FakeCloud:
        """Return the same world once more, with its own future and its calls counted from 0."""
        with self._guard:
            other = FakeCloud(self.habits, faults=faults)
            other.creates = self.creates.copy()
            other._objects = {object_id: one.copy() for object_id, one in self._objects.items()}
            other._tokens = dict(self._tokens)
            other._ids = self._ids.copy()
            if self.habits.fault_rate:
                other._random.setstate(self._random.getstate())
            return other


class LocalCloud:
    """A client in the same process. A call that changes something passes three points of `effects`: before it is sent, when it is
    done and not yet answered, and when it was answered; a call that reads passes none."""

    _READS = ("get", "list", "account")

    def __init__(self, cloud: FakeCloud, effects: Effects | None = None) -> None:
        self._cloud = cloud
        self._effects = effects or Effects()

    def call(self, name: str, /, **arguments: Json) -> Json:
        """Call one operation. Raises CloudError."""
        if name in self._READS:
            return self._cloud.call(name, **arguments)
        self._effects.at(f"cloud: {name}, before it is sent")
        answer = self._cloud.call(name, **arguments)
        self._effects.at(f"cloud: {name}, done and not answered")
        self._effects.at(f"cloud: {name}, answered")
        return answer


def habits_of(document: Mapping[str, Json]) -> Habits:
    """Return habits from their JSON form. Raises ValueError for a name that is none of theirs."""
    known = {one.name for one in fields(Habits)}
    if unknown := sorted(document.keys() - known):
        raise ValueError(f"no habits of the cloud: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    values = dict(document)
    if "unique" in values:
        values["unique"] = tuple(values["unique"])
    return Habits(**values)
