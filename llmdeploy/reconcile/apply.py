"""Carries out a plan: bounded parallel walk, durable intents, one fsync per batch, and an honest end.

The main thread owns state and journal; worker threads only run one operation of one type each and report through a queue.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from threading import Event as Flag
from typing import Any

from ..change import Action, Change
from ..errors import CommandFailed, Interrupted, LlmdeployError, PromiseBroken, ProviderError
from ..event import Done, Emit, Event, Failed, Progress, Skipped, Started
from ..plan import Plan
from ..resource import Resource, Tree, has_unknown, resolve
from ..sdk import ManagedType, ResourceType, Run
from ..state.fold import forget
from ..state.journal import Record
from ..state.model import Entry, State
from ..state.store import Store
from .diff import wished
from .promise import fits
from .recover import as_entry, depose, standing_on, with_found
from .refresh import prior_of
from .retry import Retry
from .schedule import Node, Schedule
from .work import Job, Worker, gone, intent, now

HEARTBEAT_S = 10.0


@dataclass
class Outcome:
    """How a run ended: the new state, failed address -> sentence, skipped address -> the failed one, and what was not started."""

    state: State
    failed: dict[str, str] = field(default_factory=dict[str, str])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    stopped: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Result:
    job: Job
    entry: Entry | None = None
    error: BaseException | None = None


class _Outputs(Mapping[str, Mapping[str, Tree]]):
    """The outputs of entries as they are at the moment of asking."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    def __getitem__(self, address: str) -> Mapping[str, Tree]:
        return self._entries[address].outputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _with_found(plan: Plan, state: State) -> State:
    """Return the state with what the plan found in it, under the configuration that it was found with."""
    known = with_found(state, plan.found)
    entries = dict(known.entries)
    for address in {one.address for one in plan.found}:
        entry = entries[address]
        config = dict(plan.provider_configs.get(entry.provider, {}))
        entries[address] = entry if entry.provider_config else entry.model_copy(update={"provider_config": config})
    return replace(known, entries=entries)


def _out(plan: Plan, known: State) -> set[str]:
    """Return the addresses that have an object which may be out of service: half changed, half made, or gone."""
    gone = {change.address for change in plan.changes if change.action == "create"}
    return {address for address, entry in known.entries.items() if entry.status != "ok" or address in gone}


def _must_be_known(address: str, values: Mapping[str, Tree]) -> None:
    unknown = ", ".join(sorted(name for name, value in values.items() if has_unknown(value)))
    if unknown:
        raise PromiseBroken(
            f"{address}: {unknown} is still unknown after everything it stands on was made", hint="report this to the provider"
        )


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
        retry: Retry | None = None,
    ) -> None:
        self._plan = plan
        self._resources: Mapping[str, Resource] = {resource.address: resource for resource in plan.resources}
        known = _with_found(plan, state)
        self._before = known.entries
        self._entries = dict(known.entries)
        self._outputs = _Outputs(self._entries)
        self._records: list[Record] = [
            {"kind": "failed", "entry": known.entries[address].model_dump(mode="json")}
            for address in dict.fromkeys(one.address for one in plan.found)
        ]
        self._state = state
        self._store = store
        self._types = types
        self._reader = emit
        self._reader_error: Exception | None = None
        self._parallelism = parallelism
        self._stop = stop or Flag()
        self._schedule = Schedule(
            plan.changes, {address: standing_on(entry) for address, entry in known.entries.items()}, _out(plan, known)
        )
        self._identity = run.identity
        self._worker = Worker(run, retry or Retry(), self._emit, self._record_now)
        self._results: SimpleQueue[_Result] = SimpleQueue()
        self._flying: dict[Node, Job] = {}
        self._told: dict[Node, float] = {}
        self._highest = 0
        self._outcome = Outcome(state)

    def run(self) -> Outcome:
        """Walk the plan to its end and write the state, whatever happens.

        Raises:
            Fenced: somebody took the lock over; what this run did is in the journal that the other one reads.
            StateError: what happens could not be made durable; nothing new was started after that.
        """
        self._store.begin(self._state)
        with ThreadPoolExecutor(self._parallelism, thread_name_prefix="apply") as pool:
            waiting: deque[Node] = deque()
            while True:
                waiting.extend(self._schedule.ready())
                self._start(waiting, pool)
                if not self._flying and not self._records:
                    break
                self._collect()
        rest = dict.fromkeys(node.address for node in self._schedule.rest())
        self._outcome.stopped = tuple(address for address in rest if self._schedule.changes[address].effective)
        outcome = self._end()
        if self._reader_error is not None:
            raise self._reader_error
        return outcome

    def _emit(self, event: Event) -> None:
        """Tell the reader of events. One that breaks ends the run as a first Ctrl-C does: what runs is brought to its end."""
        try:
            self._reader(event)
        except Exception as error:  # raised when the state is written
            self._reader_error = self._reader_error or error
            self._stop.set()

    # --- before an operation ----------------------------------------------------------------------------------------------

    def _start(self, waiting: deque[Node], pool: ThreadPoolExecutor) -> None:
        """Start what is ready as far as there is room: first make every intent durable, with one fsync, then begin."""
        jobs: list[Job] = []
        while waiting and not self._stop.is_set() and len(self._flying) < self._parallelism:
            node = waiting.popleft()
            if not self._schedule.open(node):
                continue
            change = self._schedule.changes[node.address]
            try:
                job = self._prepare(node, change)
            except Exception as error:  # a bug of one type must not lose what others do
                self._fail(node, change.action, error, 0.0)
                continue
            if job is None:
                self._settle(node, change)
                waiting.extend(self._schedule.ready())
            else:
                jobs.append(job)
                self._flying[node], self._told[node] = job, job.started
        records = [*self._records, *(record for job in jobs for record in self._intents(job))]
        self._records = []
        if records:
            self._store.append(records)
        for job in jobs:
            self._emit(Started(job.node.address, job.action, now()))
            pool.submit(self._work, job)

    def _prepare(self, node: Node, change: Change) -> Job | None:
        """Return what to do now that everything below is known; None when there is nothing to do."""
        kind = self._types[change.type]
        entry = self._entries.get(node.address)
        resource = self._resources.get(node.address)
        if node.phase == "delete":
            if entry is None:
                raise LlmdeployError(f"{node.address} is not in the state")
            return Job(node, change, kind, resource, "delete", entry, entry.spec, time.monotonic())
        if change.action == "no-op" or resource is None:
            return None
        keeps = change.action == "update"
        values = wished(resource, entry if keeps else None, self._outputs)
        fits(change.after, values, node.address)
        _must_be_known(node.address, values)
        if change.action == "update" and entry is not None:
            planned = kind.plan(replace(prior_of(entry), drift=change.drift), values)
            if planned.action == "no-op":
                return None
            if planned.action != "update":
                raise PromiseBroken(f"{node.address}: the plan said update, now it would be {planned.action}: {planned.reason}")
            entry = entry.model_copy(update={**self._owner(change), "outputs": self._seen(change, kind, entry, values)})
            return Job(node, change, kind, resource, "update", entry, values, time.monotonic())
        entry = self._wanted(change, entry, values)
        self._entries[node.address] = entry
        return Job(node, change, kind, resource, "create", entry, values, time.monotonic())

    def _wanted(self, change: Change, entry: Entry | None, values: Mapping[str, Tree]) -> Entry:
        """Return the entry that a create begins with. A resumed one keeps its id, its finished steps and its request."""
        kind = self._types[change.type]
        exact = change.resume and isinstance(kind, ManagedType) and not kind.converges
        if entry is None:
            entry = Entry(address=change.address, type=change.type, provider=change.provider)
        elif not change.resume:
            entry = depose(entry) if change.create_first else entry.model_copy(update={"id": "", "outputs": {}, "steps": ()})
        # Until it is whole, it may stand on what it was begun with as well.
        below = {*entry.dependencies, *change.dependencies} if change.resume else change.dependencies
        return entry.model_copy(
            update={
                **self._owner(change),
                "version": kind.version,
                "generation": change.generation,
                "status": "creating",
                "spec": entry.spec if exact else dict(values),
                "dependencies": tuple(sorted(below)),
                "prevent_destroy": self._resources[change.address].prevent_destroy,
            }
        )

    def _owner(self, change: Change) -> dict[str, Tree]:
        """Return what an entry says of its provider: as it is now, so that the object can be removed without a stack file."""
        config = self._plan.provider_configs.get(change.provider)
        return {"provider": change.provider, **({} if config is None else {"provider_config": dict(config)})}

    def _seen(self, change: Change, kind: ResourceType[Any, Any], entry: Entry, values: Mapping[str, Tree]) -> dict[str, Tree]:
        """Return the outputs before an update as the plan saw them; what it predicted is not there yet."""
        predicted = kind.predict(values, self._identity)
        seen = {name: value for name, value in change.outputs.items() if name not in predicted and not has_unknown(value)}
        return {**entry.outputs, **seen}

    def _intents(self, job: Job) -> list[Record]:
        records: list[Record] = []
        if job.action == "delete" and job.leaves_service and job.takes_present:
            # Killed while it leaves service, it must come back to it even when nobody wants it replaced any more.
            self._entries[job.node.address] = job.entry.model_copy(update={"status": "updating"})
            records.append({"kind": "leaving", "address": job.node.address})
        # A later object never gets the generation of an earlier one: new generations count from the serial.
        self._highest = max(self._highest, job.entry.generation)
        return [*records, intent(job.action, job.entry)]

    # --- in worker threads ------------------------------------------------------------------------------------------------

    def _work(self, job: Job) -> None:
        try:
            self._results.put(_Result(job, self._worker.operate(job)))
        except BaseException as error:  # noqa: BLE001, RUF100 - handed to the main thread, which tells it or raises it
            self._results.put(_Result(job, error=error))

    def _record_now(self, address: str, record: Record) -> Entry:
        """Make a record durable at once and return the entry after it. Only its own worker changes the entry of an address."""
        match record["kind"]:
            case "acked":
                self._entries[address] = self._entries[address].model_copy(update={"id": record["id"]})
            case "step":
                entry = self._entries[address]
                self._entries[address] = entry.model_copy(update={"steps": (*entry.steps, record["name"])})
            case "gone":
                forget(self._entries, address, record["id"], record["generation"])
            case _:
                self._entries[address] = Entry.model_validate(record["entry"])
                self._highest = max(self._highest, self._entries[address].generation)
        self._store.append([record])
        return self._entries[address]

    # --- after an operation -----------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Wait for at least one result, then take all that are there; tell now and then what still runs."""
        if not self._flying:
            return
        results: list[_Result] = []
        due = min(self._told[node] for node in self._flying) + HEARTBEAT_S
        try:
            results.append(self._results.get(timeout=max(0.0, due - time.monotonic())))
        except Empty:
            self._heartbeat()
        while not self._results.empty():
            results.append(self._results.get())
        for result in results:
            self._finish(result)

    def _heartbeat(self) -> None:
        present = time.monotonic()
        for node, job in self._flying.items():
            if present - self._told[node] >= HEARTBEAT_S:
                self._told[node] = present
                self._emit(Progress(node.address, "", present - job.started, now()))

    def _finish(self, result: _Result) -> None:
        job = result.job
        del self._flying[job.node], self._told[job.node]
        elapsed_s = time.monotonic() - job.started
        if result.error is None:
            try:
                self._keep(job, result.entry)
            except PromiseBroken as error:
                self._fail(job.node, job.action, error, elapsed_s)
                return
            self._schedule.done(job.node)
            self._emit(Done(job.node.address, job.action, elapsed_s, now()))
            return
        refused = job.action == "create" and self._refused(job, result.error)
        if refused and not job.unsure:
            self._take_back(job)
        elif job.action != "delete":
            self._keep_half(job, refused)
        self._fail(job.node, job.action, result.error, elapsed_s)

    def _keep(self, job: Job, entry: Entry | None) -> None:
        if entry is None:
            last = job.victims[-1]
            forget(self._entries, last.address, last.id, last.generation)
            self._records.append(gone(last))
            return
        self._entries[entry.address] = entry
        self._records.append({"kind": "done", "entry": entry.model_dump(mode="json")})
        fits(job.change.outputs, entry.outputs, f"outputs of {entry.address}")

    def _refused(self, job: Job, error: BaseException) -> bool:
        """Tell whether a create was refused with nothing acknowledged. What a script did half-way is there."""
        entry = self._entries[job.node.address]
        refused = isinstance(error, ProviderError) and not error.retryable
        converges = isinstance(job.kind, ManagedType) and job.kind.converges
        return refused and not converges and not entry.id and not entry.steps

    def _take_back(self, job: Job) -> None:
        """Forget a create that made nothing. The object that was to be replaced, if still there, is the present one again."""
        entry = self._entries[job.node.address]
        if entry.deposed:
            *older, old = entry.deposed
            before = self._before.get(entry.address)
            status = before.status if before and (before.id, before.generation) == (old.id, old.generation) else "ok"
            entry = as_entry(entry, old).model_copy(update={"status": status, "deposed": tuple(older)})
            self._entries[entry.address] = entry
            self._records.append({"kind": "failed", "entry": entry.model_dump(mode="json")})
        else:
            del self._entries[entry.address]
            self._records.append(gone(entry))

    def _keep_half(self, job: Job, refused: bool) -> None:
        entry = self._entries.get(job.node.address, job.entry)
        if job.action == "update" or entry.status == "updating":
            half = "updating"
        elif refused:
            half = "tainted"  # its request is refused and would be again; an earlier try may have made it all the same
        else:
            resumable = isinstance(job.kind, ManagedType) and job.kind.resumable
            half = "creating" if resumable or not entry.id else "tainted"
        entry = entry.model_copy(update={"status": half})
        self._entries[entry.address] = entry
        self._records.append({"kind": "failed", "entry": entry.model_dump(mode="json")})

    def _settle(self, node: Node, change: Change) -> None:
        """A node without an operation: only what is no part of a diff is brought up to date.

        An update that turned out to be unnecessary may have unknown outputs in the plan: those stay as they are.
        """
        resource = self._resources.get(node.address)
        if resource is not None:
            entry = self._entries[node.address]
            seen = {name: value for name, value in change.outputs.items() if not has_unknown(value)}
            fresh = entry.model_copy(
                update={
                    **self._owner(change),
                    "spec": wished(resource, entry, self._outputs),
                    "outputs": {**entry.outputs, **seen},
                    "dependencies": change.dependencies,
                    "prevent_destroy": resource.prevent_destroy,
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
            self._stop.set()
        self._outcome.failed[node.address] = message
        self._emit(Failed(node.address, action, message, hint, tail, elapsed_s, now()))
        for address in dict.fromkeys(skipped.address for skipped in self._schedule.failed(node, self._flying)):
            if address != node.address and self._schedule.changes[address].effective:
                self._outcome.skipped[address] = node.address
                self._emit(Skipped(address, self._schedule.changes[address].action, node.address, now()))

    def _end(self) -> Outcome:
        whole = not (self._outcome.failed or self._outcome.stopped)
        outputs = resolve(self._plan.outputs, self._outputs) if whole else self._state.outputs
        promised = not has_unknown(outputs)
        if not promised:
            outputs = self._state.outputs
        changed = self._entries != self._state.entries or outputs != self._state.outputs
        serial = max(self._state.serial + changed, self._highest)
        self._outcome.state = replace(self._state, serial=serial, entries=self._entries, outputs=outputs)
        self._store.write(self._outcome.state)
        if not promised:
            raise PromiseBroken("an output of the stack is still unknown after everything was applied")
        return self._outcome
