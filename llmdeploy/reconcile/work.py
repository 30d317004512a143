"""One operation on one resource, in a worker thread: rollout steps around it, retries, and what becomes durable on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

from ..change import Action, Change
from ..errors import LlmdeployError, PromiseBroken, ProviderError, TokenSpent
from ..event import Emit, Progress
from ..resource import Resource, Tree
from ..sdk import Context, ManagedType, Outputs, ResourceType, Run
from ..state.journal import Record
from ..state.model import Entry
from .recover import as_entry
from .refresh import prior_of
from .retry import Retry
from .schedule import Node

_GENERATIONS = 3
"""How many generations one create may try: more only when each object is removed while it is made."""

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """What a worker does: `action` on `entry`; `values` are the wish; started: monotonic time.

    sent: the generations with which its create was called, one for each try.
    """

    node: Node
    change: Change
    kind: ResourceType[Any, Any]
    resource: Resource | None
    action: Action
    entry: Entry
    values: Mapping[str, Tree]
    started: float
    sent: list[int] = field(default_factory=list[int])

    @property
    def unsure(self) -> bool:
        """Whether an object may be there although the last try of its create was refused: an earlier one was sent."""
        return self.change.resume or len(self.sent) > 1

    @property
    def leaves_service(self) -> bool:
        """Whether a member of a rollout group is to leave service before this; one that was never whole is in none."""
        whole = self.entry.status != "creating" or not self.takes_present
        return self.change.rollout is not None and self.action in ("update", "delete") and whole

    @property
    def victims(self) -> tuple[Entry, ...]:
        """What a delete removes; the present object, if it goes, goes last."""
        old = tuple(as_entry(self.entry, one) for one in self.entry.deposed)
        return (*old, self.entry) if self.takes_present else old

    @property
    def takes_present(self) -> bool:
        """Whether a delete removes the object at the address, not only those that it replaced."""
        return self.change.action == "delete" or (self.change.action == "replace" and not self.change.create_first)


class Worker:
    """Carries out jobs. Several threads use one worker; only the thread that works on an address changes its entry."""

    def __init__(self, run: Run, retry: Retry, emit: Emit, record: Callable[[str, Record], Entry]) -> None:
        """record: make a record durable at once, and return the entry of the address after it."""
        self._run = run
        self._retry = retry
        self._emit = emit
        self._record = record

    def operate(self, job: Job) -> Entry | None:
        """Do it. Return the entry of what exists now, None after a delete."""
        if not isinstance(job.kind, ManagedType):
            raise LlmdeployError(
                f"{job.node.address} can be planned by this version, not built", hint="remove it from the stack file"
            )
        kind: ManagedType[Any, Any] = job.kind
        if job.leaves_service:
            self._rollout(job, kind, "exit", job.victims[-1] if job.action == "delete" else job.entry)
        if job.action == "delete":
            self._delete(job, kind)
            return None
        entry = self._update(job, kind, job.entry) if job.action == "update" else self._create(job, kind)
        if job.change.rollout is not None:
            entry = self._back_in_service(job, kind, entry)
        return entry

    # --- create, update, delete -------------------------------------------------------------------------------------------

    def _create(self, job: Job, kind: ManagedType[Any, Any]) -> Entry:
        """Make it. An interrupted creation is finished as it was begun; what is wanted otherwise since is an update of it."""
        exact = job.change.resume and not kind.converges
        spec = kind.spec.model_validate(job.entry.spec if exact else job.values)
        entry = self._made(job, kind, self._try_generations(job, kind, spec), spec.model_dump(mode="json", by_alias=True))
        if not exact:
            return entry
        planned = kind.plan(prior_of(entry), job.values)
        if planned.action == "no-op":
            return entry
        # It was made from what was wanted then, and stands on that until it is changed.
        entry = entry.model_copy(update={"dependencies": job.entry.dependencies})
        if planned.action != "update":
            raise PromiseBroken(f"{entry.address}: it was made, and now it would be {planned.action}d: {planned.reason}")
        entry = self._record(entry.address, _done(entry.model_copy(update={"status": "updating"})))
        return self._update(job, kind, entry)

    def _try_generations(self, job: Job, kind: ManagedType[Any, Any], spec: Any) -> tuple[Entry, Outputs]:
        entry = job.entry
        for left in reversed(range(_GENERATIONS)):
            ctx = self._context(job, entry, kind.timeouts.create_s, entry.steps)

            def create(ctx: Context = ctx) -> Outputs:
                job.sent.append(ctx.generation)
                return kind.create(ctx, spec)

            try:
                outputs = self._patient(ctx, create)
            except TokenSpent:
                if not left:
                    raise
                # What the token stood for is gone for good; only another generation can make it anew.
                fresh = entry.model_copy(update={"generation": entry.generation + 1, "id": "", "steps": ()})
                entry = self._record(entry.address, intent("create", fresh))
                continue
            return entry.model_copy(update={"id": ctx.object_id or entry.address}), outputs
        raise AssertionError("unreachable")

    def _update(self, job: Job, kind: ManagedType[Any, Any], entry: Entry) -> Entry:
        spec = kind.spec.model_validate(job.values)
        prior = replace(prior_of(entry), drift=job.change.drift)
        ctx = self._context(job, entry, kind.timeouts.update_s)
        outputs = self._patient(ctx, lambda: kind.update(ctx, prior, spec))
        return self._made(job, kind, (entry, outputs), spec.model_dump(mode="json", by_alias=True))

    def _made(self, job: Job, kind: ManagedType[Any, Any], made: tuple[Entry, Outputs], spec: Mapping[str, Tree]) -> Entry:
        entry, outputs = made
        return entry.model_copy(
            update={
                "version": kind.version,
                "status": "ok",
                "spec": spec,
                "outputs": outputs.tree(),
                "dependencies": job.change.dependencies,
                "prevent_destroy": job.resource is not None and job.resource.prevent_destroy,
                "steps": (),
            }
        )

    def _delete(self, job: Job, kind: ManagedType[Any, Any]) -> None:
        *others, last = job.victims
        for victim in (*others, last):
            ctx = self._context(job, victim, kind.timeouts.delete_s)
            prior = replace(prior_of(victim), drift=job.change.drift)
            self._patient(ctx, lambda ctx=ctx, prior=prior: kind.delete(ctx, prior))
            if victim is not last:
                self._record(victim.address, gone(victim))

    # --- rollouts ---------------------------------------------------------------------------------------------------------

    def _back_in_service(self, job: Job, kind: ManagedType[Any, Any], entry: Entry) -> Entry:
        """Let a changed member of a rollout group enter service, and ask whether the next one may follow.

        Until then it counts as being updated, so that a run that is killed here is gone on with.
        """
        entry = self._record(entry.address, _done(entry.model_copy(update={"status": "updating"})))
        self._rollout(job, kind, "enter", entry)
        self._rollout(job, kind, "gate", entry)
        return entry.model_copy(update={"status": "ok"})

    def _rollout(self, job: Job, kind: ManagedType[Any, Any], hook: str, entry: Entry) -> None:
        name: str | None = getattr(job.change.rollout, hook)
        if name is None:
            return
        ctx = self._context(job, entry, kind.timeouts.update_s)
        ctx.progress(name)
        try:
            result = self._patient(ctx, lambda: kind.operations[name](ctx, prior_of(entry), {}))
        except ProviderError as error:
            raise ProviderError(f"{name} failed, so its group goes no further: {error.message}", hint=error.hint) from error
        if hook == "gate" and result.data is False:
            raise ProviderError(f"{name} says no, so its group goes no further", hint="look at its logs, then apply again")

    # --- what every operation gets ----------------------------------------------------------------------------------------

    def _context(self, job: Job, entry: Entry, timeout_s: float, steps: tuple[str, ...] = ()) -> Context:
        address = job.node.address
        making = job.action == "create"
        return Context(
            self._run,
            address,
            generation=entry.generation,
            token=token(self._run.identity.lineage or "", address, entry.generation),
            object_id=entry.id,
            timeout_s=timeout_s,
            done_steps=steps,
            on_acked=(lambda id_: self._keep(address, {"kind": "acked", "address": address, "id": id_})) if making else _ignore,
            on_step=(lambda name: self._keep(address, {"kind": "step", "address": address, "name": name})) if making else _ignore,
            on_progress=lambda text: self._emit(Progress(address, text, time.monotonic() - job.started, now())),
        )

    def _keep(self, address: str, record: Record) -> None:
        self._record(address, record)

    def _patient(self, ctx: Context, call: Callable[[], T]) -> T:
        return self._retry.call(call, abort=self._run.abort, deadline=ctx.deadline, tell=ctx.progress)


def _ignore(_text: str) -> None:
    """Only a creation is gone on with at its steps."""


def intent(action: Action, entry: Entry) -> Record:
    """Return the record that `action` on `entry` is about to begin."""
    return {"kind": "intent", "action": action, "entry": entry.model_dump(mode="json")}


def gone(entry: Entry) -> Record:
    """Return the record that an object does not exist any more."""
    return {"kind": "gone", "address": entry.address, "id": entry.id, "generation": entry.generation}


def _done(entry: Entry) -> Record:
    return {"kind": "done", "entry": entry.model_dump(mode="json")}


def token(lineage: str, address: str, generation: int) -> str:
    """Return the idempotency token of one object: the same for every try, another for the next object at this address."""
    return sha256(f"{lineage}|{address}|{generation}".encode()).hexdigest()


def now() -> str:
    """Return the time as events carry it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
