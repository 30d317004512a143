"""The composition root: the one place where the stages meet.

A `Project` is a folder with a state: destroy, show, status, logs and keys need no more. `make_plan` brings it together with what
a stack file asks for (`desired.Desired`), `apply_plan` carries the plan out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from . import compliance, cost, sizing, sources
from . import pins as lockfile
from .backend import Backend, Site, note
from .change import Change
from .desired import Desired
from .errors import LlmdeployError, NotBuilt, PreflightFailed, StateError
from .graph import Graph
from .identity import Identity
from .plan import Mode, Plan, PlanRefused
from .policy import alike, told
from .prices import CostLine
from .reconcile.diff import diff, drift_only, mark_found, narrow
from .reconcile.recover import standing_on, unknown_to, with_found
from .reconcile.refresh import prior_of, refresh, sweep
from .reconcile.schedule import Schedule
from .registry import Registry, restored_config, stored_config
from .resource import Tree, resolve
from .sdk import Context, Found, HasAccount, ManagedType, OperationResult, Problem, ReadResult, Renames, ResourceType, Run
from .state.local import STATE_FOLDER, LocalStore
from .state.model import Entry, State
from .state.store import Store
from .state.upgrade import upgrade

if TYPE_CHECKING:  # what only an apply needs is imported by the two functions that it calls
    from .event import Emit
    from .reconcile.apply import Outcome


class Project:
    """A folder with a state, and the providers that own what is in it.

    locate: says where the state lies; asked when it is first needed. warn: gets a sentence for the user.
    """

    def __init__(
        self,
        folder: Path,
        registry: Registry,
        environ: Mapping[str, str],
        *,
        locate: Callable[[], Backend] = Backend,
        warn: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self.folder = folder
        self.registry = registry
        self.environ = environ
        self._locate = locate
        self._warn = warn

    @cached_property
    def _backend(self) -> Backend:
        return self._locate()

    @cached_property
    def store(self) -> Store:
        """The store of the state."""
        return self._backend.store(Site(self.folder, self.environ, self._warn))

    @property
    def where(self) -> str:
        """Where the state lies, for people."""
        return self._backend.where if self._backend.bucket else str(self.folder / STATE_FOLDER)

    @property
    def remote(self) -> bool:
        """Whether nobody can read the state without a network."""
        return self._backend.remote

    @property
    def has_state(self) -> bool:
        """Whether there may be a state: something was applied from this folder, or it lies elsewhere."""
        return not isinstance(self.store, LocalStore) or (self.folder / STATE_FOLDER).is_dir()

    @contextmanager
    def lock(self, operation: str, timeout_s: float = 0.0) -> Generator[None]:
        """Hold the stack's lock. See `Store.lock`."""
        with self.store.lock(operation, timeout_s):
            try:
                note(self.folder, self._backend)
            except StateError as error:  # a plan may run where nothing can be written
                self._warn(f"{error.message}: where the state lies is not noted")
            yield

    def state(self) -> State | None:
        """Return the state with every entry at its type's present version, or None when nothing was ever applied."""
        state = self.store.read()
        return upgrade(state, self.types(state), self._renames(state)) if state else None

    def need_state(self) -> State:
        """Return the state. Raises StateError when nothing was ever applied."""
        state = self.state()
        if state is None:
            raise StateError(f"nothing was applied from {self.folder} yet", hint="llmdeploy apply")
        return state

    def types(self, state: State | None, *more: str) -> dict[str, ResourceType[Any, Any]]:
        """Return the types of every provider that the state knows, and of `more`."""
        names = {entry.provider for entry in state.entries.values()} if state else set[str]()
        return self.registry.types({*names, *more})

    def _renames(self, state: State) -> dict[str, Mapping[str, str]]:
        names = {entry.provider for entry in state.entries.values()}
        providers = {name: self.registry.provider(name) for name in sorted(names)}
        return {name: provider.renamed for name, provider in providers.items() if isinstance(provider, Renames)}

    @contextmanager
    def run(self, identity: Identity) -> Generator[Run]:
        """Open a run and close what it shares."""
        run = Run(identity, self.folder, self.environ, sources.generated_files)
        try:
            yield run
        finally:
            run.close()

    def refresh(self, state: State, run: Run) -> dict[str, ReadResult]:
        """Look at everything that the state knows."""
        names = {entry.provider for entry in state.entries.values()}
        return refresh(state, {name: self.registry.provider(name) for name in sorted(names)}, run)


def identity_of(state: State | None, desired: Desired | None = None) -> Identity:
    """Return whom a run works for. An empty state lets its stack be renamed.

    Raises:
        StateError: what exists in this folder belongs to a stack of another name.
    """
    wanted = desired.loaded.stack.name if desired else ""
    if state is None:
        return Identity(wanted, None)
    if wanted and wanted != state.stack and state.entries:
        raise StateError(
            f'this folder holds the state of the stack "{state.stack}"; the stack file is named "{wanted}"',
            hint="a stack cannot be renamed: give back its name, or destroy it first; a second stack needs a folder of its own",
        )
    return Identity(wanted or state.stack, state.lineage)


def make_plan(
    project: Project,
    desired: Desired | None,
    run: Run,
    state: State | None,
    *,
    keep_data: bool = False,
    force_replace: Collection[str] = (),
    targets: Collection[str] = (),
    refresh_only: bool = False,
    offline: bool = False,
) -> Plan:
    """Compare what is desired (None: nothing, to destroy) with what exists.

    targets: change only these addresses and what they need. refresh_only: only tell what differs from what was made. offline:
    nobody is asked what exists; what the state says is believed.

    Raises:
        PlanRefused: a compliance profile refuses the plan.
        LlmdeployError: it would destroy what is marked `prevent_destroy`, or something could not be read.
    """
    old = state or State(lineage="", stack=run.identity.name)
    configs = _configs(old, desired)
    reads = {} if offline else project.refresh(old, run)
    owners = {name: project.registry.provider(name) for name in configs}
    found = () if offline else unknown_to(old, sweep(configs, owners, run))
    known = with_found(old, found)
    types = project.types(known, *configs, *({one.provider for one in desired.graph} if desired else ()))
    base = _Base(run, old, configs, {} if offline else account_of(project, configs, run), found, types)
    if refresh_only:
        return base.plan("refresh-only", drift_only(old, reads, types))
    if desired is None:
        kept = keep_addresses(known, types) if keep_data else frozenset[str]()
        entries = {address: entry for address, entry in known.entries.items() if address not in kept}
        changes = diff(Graph([]), replace(known, entries=entries), reads, types, run.identity)
        _check_order(changes, known)
        return base.plan("destroy", mark_found(changes, found, old), kept=tuple(sorted(kept)))
    if not len(desired.graph):
        raise LlmdeployError("the stack file asks for nothing at all", hint="`llmdeploy destroy` removes what exists")
    changes = diff(desired.graph, known, reads, types, run.identity, force_replace=force_replace)
    changes = mark_found(changes, found, old)
    plan = _judged(base.plan("apply", changes, desired), desired)
    plan = replace(plan, changes=tuple(narrow(changes, targets, known)), **_part(old, targets)) if targets else plan
    _check_order(plan.changes, known)
    return plan


def _check_order(changes: Sequence[Change], known: State) -> None:
    """Refuse a plan that no order can carry out. Raises GraphError."""
    if any(change.action == "replace" or change.deposed or change.rollout for change in changes):
        Schedule(changes, {address: standing_on(entry) for address, entry in known.entries.items()})


def _configs(state: State, desired: Desired | None) -> dict[str, dict[str, Tree]]:
    """Return the configuration of every provider that matters: as the stack file has it, else as the state kept it."""
    configs = {entry.provider: dict[str, Tree]() for entry in state.entries.values()}
    configs |= {entry.provider: dict(entry.provider_config) for entry in state.entries.values() if entry.provider_config}
    if desired is not None:
        choice = desired.loaded.stack.provider
        configs[choice.name] = stored_config(choice.config)
    return configs


def account_of(project: Project, configs: Mapping[str, Mapping[str, Tree]], run: Run) -> dict[str, str]:
    """Return where the providers' calls go, as far as they tell: `provider.account`, `provider.region`, and so on."""
    account: dict[str, str] = {}
    for name, config in sorted(configs.items()):
        provider = project.registry.provider(name)
        if isinstance(provider, HasAccount):
            told = provider.account(run, restored_config(provider, config))
            account |= {f"{name}.{key}": value for key, value in sorted(told.items())}
    return account


def _judged(plan: Plan, desired: Desired) -> Plan:
    """Return the plan with what must be said about it. Raises PlanRefused."""
    kept = [change for change in plan.changes if change.action != "delete"]
    notes = [f"{change.address}: {note}" for change in kept for note in change.traits.notes]
    subject = compliance.Subject(desired.loaded.stack, desired.policy, {change.address: change.traits for change in kept})
    found = (*compliance.check(kept, subject, settled=desired.settled), *desired.findings)
    findings = tuple(replace(one, place=str(desired.loaded.source.place(one.path))) if one.path else one for one in found)
    judged = replace(
        plan,
        findings=findings,
        warnings=(*desired.warnings, *notes),
        compliance=compliance.document(subject, findings),
    )
    if any(finding.refuses for finding in findings):
        raise PlanRefused(_refusal(judged, desired), judged)
    return judged


def _part(state: State, targets: Collection[str]) -> dict[str, Any]:
    """Return what sets the plan of a part apart: the stack's outputs stay, because not everything they name is looked at."""
    return {"targets": tuple(sorted(targets)), "outputs": state.outputs, "outputs_changed": False}


@dataclass(frozen=True)
class _Base:
    """What every plan of one run is made from."""

    run: Run
    state: State
    configs: Mapping[str, Mapping[str, Tree]]
    account: Mapping[str, str]
    found: tuple[Found, ...]
    types: Mapping[str, ResourceType[Any, Any]]

    def plan(self, mode: Mode, changes: Sequence[Change], desired: Desired | None = None, *, kept: tuple[str, ...] = ()) -> Plan:
        lock = desired.loaded.folder / lockfile.FILE_NAME if desired else None
        settled = not any(change.effective for change in changes)
        prior = self._prior_cost(desired) if desired else ()
        return Plan(
            stack=self.run.identity.name,
            mode=mode,
            identity=self.run.identity,
            serial=self.state.serial,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            stack_sha256=desired.loaded.sha256 if desired else "",
            lock_sha256=sha256(lock.read_bytes()).hexdigest() if lock and lock.exists() else "",
            changes=tuple(changes),
            resources=tuple(desired.graph) if desired else (),
            provider_configs=self.configs,
            outputs=desired.outputs if desired else {},
            summary=desired.summary if desired else {},
            kept=kept,
            outputs_changed=settled and desired is not None and _resolved(desired.outputs, self.state) != self.state.outputs,
            variables=desired.loaded.stack.variables if desired else {},
            found=self.found,
            account=self.account,
            prior_outputs=self.state.outputs,
            cost=desired.bill if desired else (),
            prior_cost=prior,
            sizing=sizing.document(desired.sizing) if desired else {},
            economics=self._economics(desired, prior) if desired else {},
        )

    def _economics(self, desired: Desired, prior: tuple[CostLine, ...]) -> Mapping[str, Tree]:
        return cost.with_prior(desired.economics, prior if self.state.entries else None) if desired.economics else {}

    def _prior_cost(self, desired: Desired) -> tuple[CostLine, ...]:
        """Return the bill of what exists, at today's prices and with the usage that is expected of the stack as it shall be."""
        return cost.bill(((entry.type, entry.spec) for entry in self.state.entries.values()), self.types, desired.tariff)


def _resolved(outputs: Mapping[str, Tree], state: State) -> Tree:
    """Return the stack's outputs as far as `state` knows them."""
    return resolve(outputs, {address: entry.outputs for address, entry in state.entries.items()})


def _refusal(plan: Plan, desired: Desired) -> str:
    lines = [
        f"{one.place or desired.loaded.path}: error: {one.control}{f' ({one.citation})' if one.citation else ''}: "
        f"{told(one, addresses)} ({one.way_out})"
        for one, addresses in alike(plan.findings)
        if one.refuses
    ]
    by = f"the compliance profiles {', '.join(desired.policy.profiles)}" if desired.policy.profiles else "compliance.residency"
    return "\n".join([*lines, f"refused by {by}"])


def keep_addresses(state: State, types: Mapping[str, ResourceType[Any, Any]]) -> frozenset[str]:
    """Return the addresses that hold data, and everything they stand on."""
    waiting = [address for address, entry in state.entries.items() if types[entry.type].holds_data]
    kept: set[str] = set()
    while waiting:
        address = waiting.pop()
        if address in state.entries and address not in kept:
            kept.add(address)
            waiting += standing_on(state.entries[address])
    return frozenset(kept)


def preflight(plan: Plan, types: Mapping[str, ResourceType[Any, Any]], run: Run, state: State) -> None:
    """Ask every type what is missing for its changes, before the first effect.

    Raises:
        PreflightFailed: with every problem found.
    """
    from concurrent.futures import ThreadPoolExecutor

    wanted = [change for change in plan.changes if change.action in ("create", "adopt", "update", "replace")]

    def ask(change: Change) -> list[str]:
        kind = types[change.type]
        if not isinstance(kind, ManagedType):
            raise NotBuilt(f"{change.address} can be planned by this version, not built")
        entry = state.entries.get(change.address)
        try:
            problems = kind.preflight(run, change.after or {}, prior_of(entry) if entry else None)
        except LlmdeployError as error:
            problems = [Problem(error.message, error.hint)]
        return [f"{change.address}: {p.sentence}" + (f" ({p.hint})" if p.hint else "") for p in problems]

    with ThreadPoolExecutor(max_workers=8) as pool:
        problems = [line for lines in pool.map(ask, wanted) for line in lines]
    if problems:
        raise PreflightFailed("nothing was touched, because something is missing:\n" + "\n".join(problems))


def apply_plan(
    project: Project,
    plan: Plan,
    state: State | None,
    run: Run,
    emit: Emit,
    *,
    parallelism: int = 10,
    stop: Flag | None = None,
) -> Outcome:
    """Carry the plan out, under the lock that the plan was made under. The first apply makes the lineage."""
    from .reconcile.apply import Apply

    old = replace(state, stack=plan.stack) if state else State.fresh(plan.stack)
    run.identity = Identity(old.stack, old.lineage)
    provider_names = {*plan.provider_configs, *(change.provider for change in plan.changes)}
    types = project.types(old, *provider_names)
    return Apply(plan, old, project.store, types, run, emit, parallelism=parallelism, stop=stop).run()


# --- operations on what exists ----------------------------------------------------------------------------------------------


def operate(
    project: Project,
    state: State,
    run: Run,
    entry: Entry,
    operation: str,
    arguments: Mapping[str, Tree],
    *,
    on_progress: Callable[[str], None] = lambda _text: None,
) -> OperationResult:
    """Call an operation of one resource; new outputs are stored. Only under the lock when it changes something.

    Raises:
        LlmdeployError: the type does not have this operation.
    """
    kind = project.types(state)[entry.type]
    action = kind.operations.get(operation)
    if action is None:
        raise LlmdeployError(f"{entry.address} has no operation {operation}")
    result = action(Context(run, entry.address, generation=entry.generation, on_progress=on_progress), prior_of(entry), arguments)
    if result.outputs is not None:
        fresh = state.with_entry(entry.model_copy(update={"outputs": dict(result.outputs)}))
        project.store.write(replace(fresh, serial=state.serial + 1))
    return result


def entries_with(project: Project, state: State, operation: str) -> list[Entry]:
    """Return the entries whose type has `operation`, by address."""
    types = project.types(state)
    return [
        state.entries[address] for address in sorted(state.entries) if operation in types[state.entries[address].type].operations
    ]


@dataclass(frozen=True)
class KeyChange:
    """A key that was changed: what its operation told, and the plan that carries it to what stands on the key."""

    data: Tree
    plan: Plan
    state: State
    run: Run


@contextmanager
def change_key(
    project: Project, desired: Desired, state: State, entry: Entry, operation: str, arguments: Mapping[str, Tree]
) -> Generator[KeyChange]:
    """Call `rotate` or `revoke` of a key and plan only what follows from it. Under the lock.

    Other changes that wait for an apply are left alone. Where they touch what stands on the key, the two cannot be told apart: a
    rotation is then refused; a revocation is written down all the same, because it must not be forgotten.

    Raises:
        LlmdeployError: changes wait that touch what stands on the key; apply brings both.
    """
    with project.run(identity_of(state, desired)) as run:
        before = make_plan(project, desired, run, state)
        waiting = {change.address for change in before.effective}
        blocked = ", ".join(sorted(waiting & _standing_on(entry.address, before)))
        if blocked and operation == "rotate":
            raise LlmdeployError(f"changes wait that touch what this key needs: {blocked}", hint="run `llmdeploy apply` first")
        data = operate(project, state, run, entry, operation, arguments).data
        if blocked:
            raise LlmdeployError(
                f"the key is marked as revoked, but still works, because changes wait: {blocked}",
                hint="run `llmdeploy apply` now",
            )
        changed = project.need_state()
        after = make_plan(project, desired, run, changed)
        follows = tuple(change for change in after.effective if change.address not in waiting)
        if any(change.action != "update" for change in follows):
            raise LlmdeployError("more than an update follows from this", hint="look at `llmdeploy plan`, then `llmdeploy apply`")
        yield KeyChange(data, replace(after, changes=follows, outputs=changed.outputs, outputs_changed=False), changed, run)


def _standing_on(address: str, plan: Plan) -> set[str]:
    """Return `address` and every address that needs it, directly or through others."""
    found = {address}
    for change in plan.changes:  # dependencies come first
        if not found.isdisjoint(change.dependencies):
            found.add(change.address)
    return found
