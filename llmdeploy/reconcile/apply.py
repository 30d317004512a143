"""Carries out a plan: bounded parallel walk, durable intents, one fsync per batch, and an honest end.

The main thread owns state and journal; worker threads only run one operation of one type each and report through a queue.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from queue import Empty, SimpleQueue
from random import uniform
from threading import Event as Flag
from typing import Any

from ..change import Action, Change
from ..errors import CommandFailed, Interrupted, LlmdeployError, PromiseBroken, ProviderError
from ..event import Done, Emit, Failed, Progress, Skipped, Started
from ..plan import Plan
from ..resource import Resource, Tree, Unknown, as_mapping, as_sequence, has_unknown, resolve
from ..sdk import Context, ManagedType, ResourceType, Run
from ..state.journal import Record
from ..state.model import Entry, State
from ..state.store import Store
from .refresh import prior_of
from .schedule import Node, Schedule

HEARTBEAT_S = 10.0
_TRIES = 5


@dataclass
class Outcome:
    """How a run ended: the new state, failed address -> sentence, skipped address -> the failed one, and what was not started."""

    state: State
    failed: dict[str, str] = field(default_factory=dict[str, str])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    stopped: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    node: Node
    change: Change
    kind: ResourceType[Any, Any]
    action: Action
    entry: Entry
    values: Mapping[str, Tree]
    started: float


@dataclass(frozen=True)
class _Result:
    job: _Job
    entry: Entry | None = None
    error: BaseException | None = None


class Apply:
    """One apply of one plan. Call `run` once."""

    def __init__(
        self,
        plan: Plan,
        state: State,
        store: Store,
        types: Mapping[str, ResourceType[Any, Any]],
        run: Run,
        emit: Emit,
        *,
        parallelism: int = 10,
        stop: Flag | None = None,
    ) -> None:
        self._plan = plan
        self._resources: Mapping[str, Resource] = {resource.address: resource for resource in plan.resources}
        self._entries = dict(state.entries)
        self._state = state
        self._store = store
        self._types = types
        self._run = run
        self._emit = emit
        self._parallelism = parallelism
        self._stop = stop or Flag()
        self._schedule = Schedule(plan.changes, {address: entry.dependencies for address, entry in state.entries.items()})
        self._results: SimpleQueue[_Result] = SimpleQueue()
        self._flying: dict[Node, _Job] = {}
        self._records: list[Record] = []
        self._outcome = Outcome(state)

    def run(self) -> Outcome:
        """Walk the plan to its end and write the state, whatever happens."""
        self._store.begin(self._state)
        with ThreadPoolExecutor(self._parallelism, thread_name_prefix="apply") as pool:
            waiting: list[Node] = []
            while True:
                waiting += self._schedule.ready()
                waiting = self._start(waiting, pool)
                if not self._flying and not self._records:
                    break
                self._collect()
        self._outcome.stopped = tuple(dict.fromkeys(node.address for node in self._schedule.rest()))
        return self._end()

    def _start(self, waiting: list[Node], pool: ThreadPoolExecutor) -> list[Node]:
        """Start what is ready as far as there is room: first make every intent durable, with one fsync, then begin."""
        jobs: list[_Job] = []
        while waiting and not self._stop.is_set() and len(self._flying) + len(jobs) < self._parallelism:
            node = waiting.pop(0)
            change = self._schedule.changes[node.address]
            if node.phase == "make" and change.action == "no-op":
                self._settle(node, change)
                waiting += self._schedule.ready()
                continue
            try:
                job = self._prepare(node, change)
            except (LlmdeployError, ValueError, KeyError) as error:
                self._fail(node, change.action, error, 0.0)
                continue
            if job is None:
                self._settle(node, change)
                waiting += self._schedule.ready()
            else:
                jobs.append(job)
        records = [*self._records, *(self._intent(job) for job in jobs)]
        self._records = []
        if records:
            self._store.append(records)
        for job in jobs:
            self._flying[job.node] = job
            self._emit(Started(job.node.address, job.action, _now()))
            pool.submit(self._work, job)
        return waiting

    def _prepare(self, node: Node, change: Change) -> _Job | None:
        """Return what to do now that everything below is known; None when the known values make the update unnecessary."""
        kind = self._types[change.type]
        entry = self._entries.get(node.address)
        if node.phase == "delete":
            if entry is None:
                raise LlmdeployError(f"{node.address} is not in the state")
            return _Job(node, change, kind, "delete", entry, entry.spec, time.monotonic())
        values = resolve(self._resources[node.address].values, self._outputs())
        fits(change.after, values, node.address)
        if change.action == "update" and entry is not None:
            planned = kind.plan(replace(prior_of(entry), drift=change.drift), values)
            if planned.action == "no-op":
                return None
            if planned.action != "update":
                raise PromiseBroken(f"{node.address}: the plan said update, now it would be {planned.action}: {planned.reason}")
            return _Job(node, change, kind, "update", entry, values, time.monotonic())
        entry = self._wanted(change, entry, values)
        self._entries[node.address] = entry
        return _Job(node, change, kind, "create", entry, values, time.monotonic())

    def _wanted(self, change: Change, entry: Entry | None, values: Mapping[str, Tree]) -> Entry:
        """Return the entry that a create begins with; a resumed one keeps its id and its finished steps."""
        resource = self._resources[change.address]
        base = entry if entry and change.resume else Entry(address=change.address, type=change.type, provider=change.provider)
        return base.model_copy(
            update={
                "provider_config": dict(self._plan.provider_configs.get(change.provider, {})),
                "version": self._types[change.type].version,
                "generation": change.generation,
                "status": "creating",
                "spec": dict(values),
                "dependencies": change.dependencies,
                "prevent_destroy": resource.prevent_destroy,
            }
        )

    def _outputs(self) -> dict[str, Mapping[str, Tree]]:
        return {address: entry.outputs for address, entry in self._entries.items()}

    def _intent(self, job: _Job) -> Record:
        return {"kind": "intent", "action": job.action, "entry": job.entry.model_dump(mode="json")}

    # --- in worker threads ---

    def _work(self, job: _Job) -> None:
        try:
            self._results.put(_Result(job, self._operate(job)))
        except BaseException as error:  # noqa: BLE001, RUF100 - handed to the main thread, which tells it or raises it
            self._results.put(_Result(job, error=error))

    def _operate(self, job: _Job) -> Entry | None:
        if not isinstance(job.kind, ManagedType):
            raise LlmdeployError(
                f"{job.node.address} can be planned by this version, not built", hint="remove it from the stack file"
            )
        kind: ManagedType[Any, Any] = job.kind
        address = job.node.address
        timeouts = kind.timeouts
        timeout_s = {"create": timeouts.create_s, "delete": timeouts.delete_s}.get(job.action, timeouts.update_s)
        ctx = Context(
            self._run,
            address,
            generation=job.entry.generation,
            token=token(self._state.lineage, address, job.entry.generation),
            timeout_s=timeout_s,
            done_steps=job.entry.steps if job.action == "create" else (),
            on_acked=lambda object_id: self._record_now(address, {"kind": "acked", "address": address, "id": object_id}),
            on_step=lambda name: self._on_step(job, name),
            on_progress=lambda text: self._emit(Progress(address, text, time.monotonic() - job.started, _now())),
        )
        return _retrying(lambda: self._call(kind, ctx, job), ctx, self._run)

    def _call(self, kind: ManagedType[Any, Any], ctx: Context, job: _Job) -> Entry | None:
        prior = replace(prior_of(job.entry), drift=job.change.drift)
        if job.action == "delete":
            kind.delete(ctx, prior)
            return None
        spec = kind.spec.model_validate(job.values)
        outputs = kind.create(ctx, spec) if job.action == "create" else kind.update(ctx, prior, spec)
        made = self._entries[job.node.address] if job.action == "create" else job.entry
        return made.model_copy(
            update={
                "id": made.id or job.node.address,
                "version": kind.version,
                "status": "ok",
                "spec": spec.model_dump(mode="json", by_alias=True),
                "outputs": outputs.tree(),
                "dependencies": job.change.dependencies,
                "prevent_destroy": self._resources[job.node.address].prevent_destroy,
                "steps": (),
            }
        )

    def _on_step(self, job: _Job, name: str) -> None:
        if job.action == "create":
            self._record_now(job.node.address, {"kind": "step", "address": job.node.address, "name": name})

    def _record_now(self, address: str, record: Record) -> None:
        """Make an acknowledgement or a step durable at once. Only the thread that works on `address` changes its entry."""
        entry = self._entries.get(address)
        if entry is not None:
            update = {"id": record["id"]} if record["kind"] == "acked" else {"steps": (*entry.steps, record["name"])}
            self._entries[address] = entry.model_copy(update=update)
        self._store.append([record])

    # --- in the main thread again ---

    def _collect(self) -> None:
        """Wait for at least one result, then take all that are there."""
        if not self._flying:
            return
        try:
            results = [self._results.get(timeout=HEARTBEAT_S)]
        except Empty:
            for job in self._flying.values():
                self._emit(Progress(job.node.address, "", time.monotonic() - job.started, _now()))
            return
        while not self._results.empty():
            results.append(self._results.get())
        for result in results:
            self._finish(result)

    def _finish(self, result: _Result) -> None:
        job = result.job
        del self._flying[job.node]
        elapsed_s = time.monotonic() - job.started
        if result.error is None:
            try:
                self._keep(job, result.entry)
            except PromiseBroken as error:
                self._fail(job.node, job.action, error, elapsed_s)
                return
            self._schedule.done(job.node)
            self._emit(Done(job.node.address, job.action, elapsed_s, _now()))
            return
        if not isinstance(result.error, LlmdeployError):
            self._stop.set()
        if job.action != "delete":
            self._keep_half(job)
        self._fail(job.node, job.action, result.error, elapsed_s)

    def _keep(self, job: _Job, entry: Entry | None) -> None:
        if entry is None:
            self._entries.pop(job.node.address, None)
            self._records.append({"kind": "gone", "address": job.node.address})
            return
        self._entries[entry.address] = entry
        self._records.append({"kind": "done", "entry": entry.model_dump(mode="json")})
        fits(job.change.outputs, entry.outputs, f"outputs of {entry.address}")

    def _keep_half(self, job: _Job) -> None:
        entry = self._entries.get(job.node.address, job.entry)
        resumable = isinstance(job.kind, ManagedType) and job.kind.resumable
        half = "updating" if job.action == "update" else "creating" if resumable or not entry.id else "tainted"
        entry = entry.model_copy(update={"status": half})
        self._entries[entry.address] = entry
        self._records.append({"kind": "failed", "entry": entry.model_dump(mode="json")})

    def _settle(self, node: Node, change: Change) -> None:
        """A node without an operation: only what is no part of a diff is brought up to date.

        An update that turned out to be unnecessary may have unknown outputs in the plan: those stay as they are.
        """
        entry = self._entries[node.address]
        seen = {name: value for name, value in change.outputs.items() if not has_unknown(value)}
        fresh = entry.model_copy(
            update={
                "spec": resolve(self._resources[node.address].values, self._outputs()),
                "outputs": {**entry.outputs, **seen},
                "dependencies": change.dependencies,
                "prevent_destroy": self._resources[node.address].prevent_destroy,
            }
        )
        if fresh != entry:
            self._entries[node.address] = fresh
            self._records.append({"kind": "done", "entry": fresh.model_dump(mode="json")})
        self._schedule.done(node)

    def _fail(self, node: Node, action: Action, error: BaseException, elapsed_s: float) -> None:
        if isinstance(error, Interrupted):
            self._outcome.in_doubt = (*self._outcome.in_doubt, node.address)
        tail = error.tail if isinstance(error, CommandFailed) else ""
        if isinstance(error, LlmdeployError):
            message, hint = error.message, error.hint
        else:
            message = f"internal error: {type(error).__name__}: {error}"
            hint, tail = "a bug of llmdeploy or of a provider: please report it", "".join(traceback.format_exception(error))
        self._outcome.failed[node.address] = message
        self._emit(Failed(node.address, action, message, hint, tail, elapsed_s, _now()))
        for skipped in self._schedule.failed(node):
            self._outcome.skipped[skipped.address] = node.address
            self._emit(Skipped(skipped.address, self._schedule.changes[skipped.address].action, node.address, _now()))

    def _end(self) -> Outcome:
        whole = not (self._outcome.failed or self._outcome.stopped)
        outputs = resolve(self._plan.outputs, self._outputs()) if whole else self._state.outputs
        changed = self._entries != self._state.entries or outputs != self._state.outputs
        if has_unknown(outputs):
            raise PromiseBroken("an output of the stack is still unknown after everything was applied")
        state = replace(self._state, serial=self._state.serial + changed, entries=self._entries, outputs=outputs)
        self._store.write(state)
        self._outcome.state = state
        return self._outcome


def _retrying(call: Callable[[], Entry | None], ctx: Context, run: Run) -> Entry | None:
    """Call; when the error says that waiting may help, wait (exponential, with jitter) and call again."""
    for attempt in range(_TRIES):
        try:
            return call()
        except ProviderError as error:
            wait_s = uniform(0.5, 1.0) * 2**attempt  # noqa: S311 - jitter, not a secret
            if not error.retryable or attempt == _TRIES - 1 or time.monotonic() + wait_s > ctx.deadline:
                raise
            ctx.progress(f"{error.message}; trying again in {wait_s:.0f} s")
            if run.abort.wait(wait_s):
                raise Interrupted(f"{ctx.address}: stopped while waiting to try again") from None
    raise AssertionError("unreachable")


def fits(planned: Tree, actual: Tree, where: str) -> None:
    """Check that `actual` only fills in what was `UNKNOWN` in `planned`.

    Raises:
        PromiseBroken: a value that the plan showed is another one now.
    """
    if isinstance(planned, Unknown):
        return
    left, right = as_mapping(planned), as_mapping(actual)
    if left is not None and right is not None:
        for key, value in left.items():
            fits(value, right.get(key), f"{where}.{key}")
        return
    left_items, right_items = as_sequence(planned), as_sequence(actual)
    if left_items is not None and right_items is not None and len(left_items) == len(right_items):
        for index, value in enumerate(left_items):
            fits(value, right_items[index], f"{where}[{index}]")
        return
    if planned != actual:
        raise PromiseBroken(
            f"{where}: the plan said {planned!r}, now it would be {actual!r}", hint="run plan again and look at it"
        )


def token(lineage: str, address: str, generation: int) -> str:
    """Return the idempotency token of one object: the same for every try, another for the next object at this address."""
    return sha256(f"{lineage}|{address}|{generation}".encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
