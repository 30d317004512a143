"""What a stack file asks for, from its text up to the graph. Knows nothing of a state, and touches nothing."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from .. import __version__, blueprint, compliance, cost, sizing, sources
from .. import pins as lockfile
from ..catalog import Catalog
from ..diagnostics import Diagnostic, Diagnostics, nearest
from ..errors import LlmdeployError, StackError
from ..graph import Graph
from ..machine import MachineType
from ..manifest import ModelFacts
from ..pins import Pins
from ..policy import Finding, Policy
from ..prices import CostLine, Price, Tariff
from ..registry import Registry
from ..resource import Tree
from ..sdk import Fragment, HasInventory, Provider, ResourceType
from ..serving import Engine
from ..serving import engine as serving_engine
from ..sizing import Sizing, SizingRequest
from ..stack import load as stack_load
from ..stack.load import Loaded
from ..stack.words import KNOWN_PROVIDERS
from .model import Checkpoint, ModelSource, Network

__all__ = ["Case", "Desired", "Inputs", "Network", "desire", "inputs_of", "load", "pinned", "policy_of", "sizing_request"]


@dataclass(frozen=True)
class Inputs:
    """What the user gave: the stack file or its folder, variables, and the environment."""

    path: Path
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    var_files: tuple[Path, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def folder(self) -> Path:
        """The folder of the stack file: state and references start there."""
        return self.path if self.path.is_dir() else self.path.parent


def inputs_of(stack: Path, variables: Mapping[str, str] | None = None, var_files: Sequence[Path] = ()) -> Inputs:
    """Return what the user gave, with this process's environment. Reads nothing yet.

    Raises:
        LlmdeployError: there is no such file or folder, or its path cannot be written into a state.
    """
    try:
        str(stack.absolute()).encode()
    except UnicodeEncodeError:
        hint = "rename the folder, or work in another one"
        raise LlmdeployError("the path of the stack file is no UTF-8, which state and plans are written in", hint=hint) from None
    if not stack.exists() and stack.suffix not in (".yaml", ".yml"):
        raise LlmdeployError(f"there is no file or folder {stack}", hint="`llmdeploy init` writes a stack file")
    return Inputs(stack, variables or {}, tuple(var_files))


@dataclass(frozen=True)
class Desired:
    """What a stack file asks for: the file itself, its pins, policy, graph, outputs, and sentences for the plan.

    facts and sizing: of the model. tariff: prices and expected usage; bill: what the graph costs; economics: see docs/json.md;
    basis: what these are reckoned from.
    settled: every file that can be pinned was looked for; else what only `llmdeploy lock` can settle is told, not refused.
    """

    loaded: Loaded
    pins: Pins | None
    policy: Policy
    graph: Graph
    outputs: Mapping[str, Tree]
    provider: Provider
    facts: ModelFacts
    sizing: Sizing
    tariff: Tariff
    bill: tuple[CostLine, ...]
    economics: Mapping[str, Tree]
    basis: cost.Basis
    summary: Mapping[str, tuple[str, ...]]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    settled: bool = True


def load(inputs: Inputs, registry: Registry) -> Loaded:
    """Read the stack file. Raises StackError with every finding and its place."""
    return stack_load.load(
        inputs.path,
        providers=registry.configs(),
        variables=inputs.variables,
        var_files=inputs.var_files,
        environ=inputs.environ,
        version=__version__,
    )


def desire(inputs: Inputs, registry: Registry, network: Network = "on", today: date | None = None) -> Desired:
    """Read the stack file and its pins, and lay the stack out up to the graph and its price. Touches nothing.

    network: how far a model's hub may be asked. today: against which the age of the catalogue counts.

    Raises:
        StackError: the file is wrong, or asks for pairs that cannot be.
        NotBuilt: it asks for something valid that this version cannot build.
    """
    case = Case.open(inputs, registry, network)
    checkpoint, size = case.sized()
    laid = _lay_out(case, registry, checkpoint, size)
    stale = case.catalog.stale(today or date.today(), case.provider.name, case.loaded.stack.region)
    basis = _basis(case, laid, size, stale)
    reckoned = cost.reckon(basis)
    return Desired(
        loaded=case.loaded,
        pins=case.pins,
        policy=case.policy,
        graph=blueprint.protected(laid.blueprint.graph, case.loaded),
        outputs=laid.blueprint.outputs,
        provider=case.provider,
        facts=checkpoint.facts,
        sizing=size,
        tariff=reckoned.tariff,
        bill=reckoned.lines,
        economics=reckoned.economics if reckoned.lines else {},
        basis=basis,
        summary={"Sizing": tuple(size.explanation), "Compliance": _licence_lines(checkpoint.facts)},
        findings=compliance.licence_findings(checkpoint.facts),
        warnings=(
            *(str(w) for w in case.loaded.warnings),
            *checkpoint.notes,
            *size.warnings,
            *laid.fragment.notes,
            *_gate_warnings(checkpoint, laid.files),
            *_pin_warnings(laid.files.pinned),
            *_key_warnings(case.loaded),
            *(stale if reckoned.lines else ()),
        ),
        settled=network == "on",
    )


@dataclass(frozen=True)
class _Laid:
    """A stack that was laid out: the model's files, the provider's part, the types of all resources, and the whole."""

    files: blueprint.Files
    fragment: Fragment
    types: Mapping[str, ResourceType[Any, Any]]
    blueprint: blueprint.Blueprint


def _lay_out(case: Case, registry: Registry, checkpoint: Checkpoint, size: Sizing) -> _Laid:
    with case.placed():
        files = case.source.files(checkpoint, size.file_bytes)
        engine = case.pins.engine if case.pins else None
        request = blueprint.layout_request(case.loaded, case.policy, files, size, case.engine, engine)
        fragment = case.provider.layout(request)
        types = registry.types([case.provider.name, *([fragment.hosts] if fragment.hosts else [])])
        shared = case.loaded.stack.state.s3 is not None
        built = blueprint.build(request, case.provider.name, fragment, types, shared_state=shared)
    return _Laid(files, fragment, types, built)


def _basis(case: Case, laid: _Laid, size: Sizing, stale: tuple[str, ...]) -> cost.Basis:
    machines = {one.key for one in laid.fragment.machines}
    ledger = cost.Ledger.of(laid.blueprint.graph, machines, laid.types, case.prices(), laid.files.size_bytes)
    hosted = case.catalog.hosted
    return cost.Basis(ledger, cost.Fleet.of(size), hosted, cost.usual(case.loaded.stack.model.id, hosted), stale)


@dataclass(frozen=True)
class Case:
    """A stack file with everything that sizing needs."""

    loaded: Loaded
    pins: Pins | None
    policy: Policy
    provider: Provider
    catalog: Catalog
    engine: Engine
    source: ModelSource

    @classmethod
    def open(cls, inputs: Inputs, registry: Registry, network: Network, *, pinned: bool = True) -> Case:
        """Read the stack file, its pins (unless they are made anew) and the catalogue.

        Raises:
            StackError: one of them is wrong, or the stack file asks for what is not built.
        """
        loaded = load(inputs, registry)
        stack = loaded.stack
        provider = registry.provider(stack.provider.name)
        policy = policy_of(loaded)
        blueprint.refuse_unbuilt(loaded, provider)
        pins = lockfile.read(loaded.folder / lockfile.FILE_NAME) if pinned else None
        catalog = Catalog.load(loaded.folder)
        _check_price_names(loaded, catalog)
        return cls(
            loaded=loaded,
            pins=pins,
            policy=policy,
            provider=provider,
            catalog=catalog,
            engine=serving_engine(stack.engine.name),
            source=ModelSource(loaded, pins, catalog, inputs.environ, network, safetensors_only=bool(policy.profiles)),
        )

    def sized(self) -> tuple[Checkpoint, Sizing]:
        """Return the checkpoint and what it runs on.

        The number format decides which repository is fetched; once its files are known, they are sized to the byte.
        """
        with self.placed("model.id"):
            before = self.source.known()
        with self.placed():
            size = sizing.choose(self.request(before), self.engine)
        with self.placed("model.id"):
            checkpoint = self.source.chosen(before, size.quantization)
        if checkpoint.facts is before.facts:
            return checkpoint, size
        with self.placed():
            return checkpoint, sizing.choose(self.request(checkpoint), self.engine)

    def request(self, checkpoint: Checkpoint) -> SizingRequest:
        """Return what sizing is asked."""
        stack = self.loaded.stack
        return SizingRequest(
            facts=checkpoint.facts,
            context=blueprint.context_of(stack.model.context, checkpoint.facts.config),
            concurrency=stack.model.concurrency,
            replicas=stack.replicas,
            quant=checkpoint.quant,
            gpu=stack.hardware.gpu,
            count=stack.hardware.count,
            instance_type=stack.hardware.instance_type,
            machines=self.machines(),
            gpus=self.catalog.gpus,
            elsewhere=self.catalog.elsewhere(self.provider.name, stack.region),
            manifest=checkpoint.resolved.manifest if checkpoint.resolved else None,
            repository=checkpoint.repository,
            region=stack.region,
            args=stack.engine.args,
        )

    def machines(self) -> tuple[MachineType, ...]:
        """Return the machines that the provider offers or the stack file names."""
        stack = self.loaded.stack
        offered = self.catalog.machines(self.provider.name, stack.region, stack.hardware.market, stack.prices)
        if not isinstance(self.provider, HasInventory):
            return offered
        return (*offered, *self.provider.inventory(stack.provider.config, stack.region, self.catalog.gpus))

    def prices(self) -> Mapping[str, Price]:
        """Return the prices in the stack's region, with the stack file's own over them."""
        stack = self.loaded.stack
        return self.catalog.prices(self.provider.name, stack.region, stack.prices)

    @contextmanager
    def placed(self, default: str = "") -> Generator[None]:
        """Give findings that only name a part of the stack file their place in it; a bare sentence gets that of `default`."""
        with _placed(self.loaded, default):
            yield


@contextmanager
def _placed(loaded: Loaded, default: str = "") -> Generator[None]:
    try:
        yield
    except StackError as error:
        findings = [found for found in error.diagnostics if isinstance(found, Diagnostic)]
        if not error.diagnostics and default:
            findings = [Diagnostic("error", error.message, None, default, error.hint)]
        if not any(found.path and found.place is None for found in findings):
            raise
        Diagnostics(
            [replace(found, place=found.place or loaded.source.place(found.path)) for found in findings]
        ).raise_if_errors()
        raise


def policy_of(loaded: Loaded) -> Policy:
    """Return what the stack's profiles force. Raises StackError, with its place, when they contradict each other."""
    with _placed(loaded):
        return compliance.resolve(loaded.stack)


def sizing_request(inputs: Inputs, registry: Registry, network: Network = "sparing") -> tuple[SizingRequest, Case]:
    """Return what sizing is asked for a stack, without laying it out, and the stack. Raises as `desire` does."""
    case = Case.open(inputs, registry, network)
    with case.placed("model.id"):
        return case.request(case.source.known()), case


def _check_price_names(loaded: Loaded, catalog: Catalog) -> None:
    """Refuse own prices that nothing would ask for; providers of others may have names of their own. Raises StackError."""
    stack, found = loaded.stack, Diagnostics()
    if stack.provider.name not in KNOWN_PROVIDERS:
        return
    names = catalog.price_names(stack.provider.name)
    for name in stack.prices:
        if name not in names:
            path = f"prices.{name}"
            hint = nearest(name, names) or "`llmdeploy catalog list prices` and `instances` have the names"
            place = loaded.source.key_place(("prices", name))
            found.error(f"nothing of {stack.provider.name} has a price of this name", place, path=path, hint=hint)
    found.raise_if_errors()


def _pin_warnings(pinned: bool) -> tuple[str, ...]:
    if pinned:
        return ()
    return (f"the model's files are not pinned ({lockfile.FILE_NAME} is missing or older): run `llmdeploy lock` and commit it",)


def _gate_warnings(checkpoint: Checkpoint, files: blueprint.Files) -> tuple[str, ...]:
    if files.pinned or not checkpoint.facts.gated:
        return ()
    return (f"{checkpoint.repository} is gated: accept its licence on its page, and export HF_TOKEN, before `llmdeploy lock`",)


def _key_warnings(loaded: Loaded) -> tuple[str, ...]:
    return () if loaded.stack.keys else ("no `keys:` in the stack file: nobody will be able to call the endpoint",)


def _licence_lines(facts: ModelFacts) -> tuple[str, ...]:
    return (f"licence of the model: {facts.license}{', gated' if facts.gated else ''}",) if facts.license else ()


def pinned(inputs: Inputs, registry: Registry) -> tuple[Path, Pins]:
    """Resolve everything anew and return what `llmdeploy lock` writes, and where.

    Raises:
        StackError: the stack file is wrong.
        LlmdeployError: the model's hub or the registry of the engine's image cannot be asked.
    """
    case = Case.open(inputs, registry, "on", pinned=False)
    checkpoint, size = case.sized()
    if checkpoint.resolved is None:
        raise LlmdeployError(f"the files of {checkpoint.facts.id} could not be looked for")
    with case.placed():
        engine = blueprint.engine_pin(case.loaded, size, case.engine)
    if engine.image is not None:
        engine = engine.model_copy(update={"image_digest": sources.image_digest(engine.image)})
    written_by = f"llmdeploy {__version__}"
    return case.loaded.folder / lockfile.FILE_NAME, Pins(written_by=written_by, engine=engine, model=checkpoint.resolved.pin)
