"""The contract of a provider: the only module of llmdeploy that a provider author imports.

A provider says which resources a stack needs (`layout`), reads many of them at once (`refresh`) and owns resource types that
plan, make, change and remove one kind of thing each. Types hold no state; everything arrives as arguments, and several threads
may call the same type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel

from .change import Action, Change, Drift, FieldChange, compare
from .diagnostics import Diagnostics, nearest
from .errors import (
    CommandFailed,
    Interrupted,
    LlmdeployError,
    NotBuilt,
    NotOwned,
    PreflightFailed,
    ProviderError,
    SecretError,
    StackError,
    TokenSpent,
)
from .evidence import EVIDENCE, Observation, observed
from .identity import Identity
from .layout import FallbackRequest, Fragment, GatewayRequest, KeyRequest, LayoutRequest, Machine, ServingRequest, StorageRequest
from .machine import Gpu, MachineType, Placement, Quotes, Slot
from .manifest import Manifest, WeightFile
from .operation import Context, Operation, OperationResult, PlannedChange, Prior, Problem, Run, Timeouts
from .policy import Demand, Endpoint, Finding, Forced, Policy
from .prices import HOURS_PER_MONTH, CostLine, Price, Tariff, Usage
from .process import Health, ProcessSpec, Stop
from .resource import (
    UNKNOWN,
    Group,
    Input,
    NotDiffed,
    Outputs,
    Ref,
    Replace,
    ReplaceWith,
    Resource,
    Spec,
    Tree,
    Unknown,
    has_unknown,
    markers,
)
from .secret import Custody, Secret, SecretRef, write_private
from .traits import DataFlow, EngineProcess, Software, Traits

__all__ = [
    "EVIDENCE",
    "HOURS_PER_MONTH",
    "UNKNOWN",
    "Action",
    "Change",
    "CommandFailed",
    "Context",
    "CostLine",
    "Custody",
    "DataFlow",
    "Demand",
    "Diagnostics",
    "Drift",
    "Endpoint",
    "EngineProcess",
    "FallbackRequest",
    "Finding",
    "Forced",
    "Found",
    "Fragment",
    "GatewayRequest",
    "Gpu",
    "Group",
    "HasAccount",
    "HasInventory",
    "HasQuotes",
    "Health",
    "Identity",
    "Input",
    "Interrupted",
    "KeyRequest",
    "LayoutRequest",
    "LlmdeployError",
    "Machine",
    "MachineType",
    "ManagedType",
    "Manifest",
    "NotBuilt",
    "NotDiffed",
    "NotOwned",
    "Observation",
    "Operation",
    "OperationResult",
    "Outputs",
    "Placement",
    "PlannedChange",
    "PlansOnly",
    "Policy",
    "PreflightFailed",
    "Price",
    "Prior",
    "Problem",
    "ProcessSpec",
    "Provider",
    "ProviderError",
    "Quotes",
    "ReadRequest",
    "ReadResult",
    "Ref",
    "Renames",
    "Replace",
    "ReplaceWith",
    "Resource",
    "ResourceType",
    "Run",
    "Secret",
    "SecretError",
    "SecretRef",
    "ServingRequest",
    "Slot",
    "Software",
    "Spec",
    "StackError",
    "Stop",
    "StorageRequest",
    "Sweeper",
    "Tariff",
    "Timeouts",
    "TokenSpent",
    "Traits",
    "Tree",
    "Unknown",
    "Usage",
    "WeightFile",
    "has_unknown",
    "nearest",
    "observed",
    "read_each",
    "write_private",
]

S = TypeVar("S", bound=Spec)
O = TypeVar("O", bound=Outputs)  # noqa: E741 - S and O stand for Spec and Outputs throughout the contract


# --- resource types ---------------------------------------------------------------------------------------------------------


class ResourceType(ABC, Generic[S, O]):
    """One kind of thing that can be planned.

    name: first part of every address of this type. spec and outputs: its models. version: of its state entries; `upgrade` turns
    an older one into the next.
    """

    name: ClassVar[str]
    spec: type[S]
    outputs: type[O]
    version: ClassVar[int] = 1
    timeouts: ClassVar[Timeouts] = Timeouts()
    operations: Mapping[str, Operation] = {}
    changing_outputs: ClassVar[frozenset[str]] = frozenset()
    """Outputs that an update in place may change; all others stay as they are or are predicted."""
    holds_data: ClassVar[bool] = False
    """It holds what is costly to bring again: destroy can be asked to keep it, with all that it stands on."""

    def plan(self, prior: Prior | None, values: Mapping[str, Tree]) -> PlannedChange:
        """Decide what turns `prior` into `values` (resolved as far as known). Pure; the default follows the field markers."""
        if prior is None:
            return PlannedChange("create")
        if not prior.exists:
            return PlannedChange("create", "it is gone")
        changes = compare(self._diffed(prior.spec), self._diffed(values))
        fields = tuple(self._mark(change) for change in changes)
        reason = next((reason for change in fields if change.replaces and (reason := self._replace_reason(change))), "")
        if reason:
            return PlannedChange("replace", reason, fields)
        if prior.status == "tainted":
            return PlannedChange("replace", "an earlier operation failed half-way", fields)
        if prior.status == "creating":
            return PlannedChange("create", "goes on where it was interrupted", fields)
        if prior.status == "updating":
            return PlannedChange("update", "an earlier update did not end", fields)
        if prior.drift:
            return PlannedChange("update", "; ".join(drift.sentence for drift in prior.drift), fields)
        return PlannedChange("update" if fields else "no-op", "", fields)

    def _diffed(self, values: Mapping[str, Tree]) -> dict[str, Tree]:
        marks = markers(self.spec)
        return {k: v for k, v in values.items() if not any(isinstance(mark, NotDiffed) for mark in marks.get(k, ()))}

    def _mark(self, change: FieldChange) -> FieldChange:
        return FieldChange(change.path, change.before, change.after, bool(self._replace_reason(change)))

    def _replace_reason(self, change: FieldChange) -> str:
        marks = markers(self.spec).get(change.path.split(".", 1)[0], ())
        return next((mark.reason for mark in marks if isinstance(mark, Replace)), "")

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """Return the outputs that are known before the object is made or changed. Never one that could come out differently."""
        del values, identity
        return {}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Return what compliance judges. `values` may hold `UNKNOWN`."""
        del values
        return Traits()

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return the lines of the bill while this resource exists; empty when it costs nothing of its own.

        `values` may hold `UNKNOWN`. A line that has no price is still a line: its cost is unknown, never zero. Pure.
        """
        del values, tariff
        return ()

    def upgrade(self, version: int, entry: dict[str, Tree]) -> dict[str, Tree]:
        """Turn a state entry's `{"spec": ..., "outputs": ...}` of schema `version` into that of `version + 1`. Pure."""
        del entry
        raise LlmdeployError(
            f"{self.name}: no upgrade from schema version {version}", hint="use the version that wrote this state"
        )


class ManagedType(ResourceType[S, O]):
    """One kind of thing that can be made.

    Every operation must be safe to repeat: after a crash the same call comes again with the same token and the finished steps.
    """

    resumable: ClassVar[bool] = True
    """A failed or interrupted create goes on with the next apply; False: it is removed and made anew."""
    converges: ClassVar[bool] = False
    """A create that was interrupted may go on with other values than it began with: scripts that bring a machine to a wish. Else
    it is repeated with exactly the values it was sent with, as idempotency tokens demand, or removed when they changed since."""
    create_first: ClassVar[bool] = False
    """A replacement is made before the old object is removed. Not for what has a unique name or needs its capacity twice."""

    @abstractmethod
    def create(self, ctx: Context, spec: S) -> O:
        """Make it. Call `ctx.acked(id)` as soon as something exists, and split long work into `ctx.step`s."""

    @abstractmethod
    def update(self, ctx: Context, prior: Prior, spec: S) -> O:
        """Change it in place, or repair what `prior.drift` names."""

    @abstractmethod
    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove it; succeeds when it is already gone or only half there.

        prior.id is empty when its creation was sent and never acknowledged: find it by its ownership tags or its name.
        """

    def read(self, run: Run, prior: Prior) -> ReadResult:
        """Look at one live object. Only called through `read_each`; types of a provider with a batched refresh leave it out."""
        del run
        return ReadResult(prior.address)

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """Return what is missing for a create or update, without any effect. `values` may hold `UNKNOWN`."""
        del run, values, prior
        return ()


# --- refresh ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadRequest:
    """Look at this object."""

    type: str
    prior: Prior


@dataclass(frozen=True)
class ReadResult:
    """What was seen. exists: it is there at all; outputs: fresh ones (None: as stored); drift: what differs from what was made.

    error: it could not be told, and why; then nothing else counts, and no change is planned from it.
    """

    address: str
    exists: bool = True
    outputs: Mapping[str, Tree] | None = None
    drift: tuple[Drift, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Found:
    """A live object that carries the ownership tags of a stack: whose it is, its id, and its spec and outputs read back."""

    address: str
    type: str
    provider: str
    id: str
    generation: int
    spec: Mapping[str, Tree]
    outputs: Mapping[str, Tree]


def read_each(types: Mapping[str, ResourceType[Any, Any]], run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
    """Refresh by calling each type's `read`: enough for a provider whose API has no batch."""
    for request in requests:
        kind = types[request.type]
        yield kind.read(run, request.prior) if isinstance(kind, ManagedType) else ReadResult(request.prior.address)


# --- providers -----------------------------------------------------------------------------------------------------------------


class Provider(Protocol):
    """A door to machines. Registered as an entry point of the group `llmdeploy.providers`, under its `name`.

    Config validates the body of the provider's key in the stack file; it holds no secrets, only references.
    """

    @property
    def name(self) -> str:
        """The key under `provider:` in the stack file."""
        ...

    @property
    def Config(self) -> type[BaseModel]:
        """Model of the body of that key."""
        ...

    @property
    def types(self) -> Mapping[str, ResourceType[Any, Any]]:
        """The resource types that this provider owns, by name."""
        ...

    def layout(self, request: LayoutRequest) -> Fragment:
        """Say which resources the stack needs. Pure."""
        ...

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Look at many objects, with as few calls as there are kinds and machines. One result per request, in any order."""
        ...


@runtime_checkable
class Sweeper(Protocol):
    """A provider that can find what carries a stack's ownership tags, known to a state or not."""

    def sweep(self, run: Run, config: BaseModel) -> Iterable[Found]:
        """Return every live object whose `llmdeploy:lineage` tag is that of `run.identity`; one call per kind and page.

        config: the provider's own, from the stack file or as the state kept it.
        """
        ...


@runtime_checkable
class Renames(Protocol):
    """A provider some of whose types or addresses had other names in older versions. What exists is kept under the new name."""

    @property
    def renamed(self) -> Mapping[str, str]:
        """Old name -> present name: of a type (`disk`), or of an address or its beginning up to a dot (`disk.root`).

        A type that is renamed takes its addresses with it. Names of types that are in use must not come back for something else.
        """
        ...


@runtime_checkable
class HasAccount(Protocol):
    """A provider whose calls go to an account; a saved plan is applied to the same one only."""

    def account(self, run: Run, config: BaseModel) -> Mapping[str, str]:
        """Return what tells one account from another: account, region, caller, machine. Never a secret. Empty: not known now."""
        ...


@runtime_checkable
class PlansOnly(Protocol):
    """A provider whose stacks can be planned by this version, and not applied yet."""

    @property
    def plans_only(self) -> str:
        """One sentence that says so and what can be done instead."""
        ...


@runtime_checkable
class HasQuotes(Protocol):
    """A provider that can be asked what it offers and what it costs today."""

    def quotes(self, environ: Mapping[str, str], regions: Sequence[str], gpus: Mapping[str, Gpu]) -> Iterable[Quotes]:
        """Ask for each of `regions`, in their order. gpus: the catalogue's, by name; machines with others are left out.

        Raises:
            ProviderError: a region cannot be asked: no credentials, no permission, no answer. Says so in one sentence.
        """
        ...


@runtime_checkable
class HasInventory(Protocol):
    """A provider that knows its machines from the stack file, or adds to those that the catalogue has for it."""

    def inventory(self, config: BaseModel, region: str | None, gpus: Mapping[str, Gpu]) -> Sequence[MachineType]:
        """Return the kinds of machines that a stack may be put on. Pure: nothing is asked over a network.

        gpus: the catalogue's GPUs by name. Raises StackError when the configuration names one that is unknown.
        """
        ...
