"""What a stack file asks for, from its text up to the graph. Knows nothing of a state, and touches nothing."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from . import __version__, blueprint, compliance, sizing, sources
from . import pins as lockfile
from .diagnostics import Diagnostic, Diagnostics
from .errors import LlmdeployError, StackError
from .graph import Graph
from .pins import PinnedEngine, Pins
from .policy import Policy
from .registry import Registry
from .resource import Tree
from .sdk import Provider
from .serving import engine as serving_engine
from .sources import ResolvedModel
from .stack import load as stack_load
from .stack.load import Loaded


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
        LlmdeployError: there is no such file or folder.
    """
    if not stack.exists() and stack.suffix not in (".yaml", ".yml"):
        raise LlmdeployError(f"there is no file or folder {stack}", hint="`llmdeploy init` writes a stack file")
    return Inputs(stack, variables or {}, tuple(var_files))


@dataclass(frozen=True)
class Desired:
    """What a stack file asks for: the file itself, its pins, policy, graph, outputs, and sentences for the plan."""

    loaded: Loaded
    pins: Pins | None
    policy: Policy
    graph: Graph
    outputs: Mapping[str, Tree]
    provider: Provider
    summary: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]


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


def desire(inputs: Inputs, registry: Registry) -> Desired:
    """Read the stack file and its pins, and lay the stack out up to the graph. Touches nothing.

    Raises:
        StackError: the file is wrong, or asks for pairs that cannot be.
        NotBuilt: it asks for something valid that this version cannot build.
    """
    loaded = load(inputs, registry)
    stack = loaded.stack
    blueprint.refuse_unbuilt(loaded)
    pins = lockfile.read(loaded.folder / lockfile.FILE_NAME)
    policy = compliance.resolve(stack.compliance.profiles)
    provider = registry.provider(stack.provider.name)
    with _placed(loaded, "model.id"):
        model = resolve_model(loaded, pins, inputs.environ)
    # What llmdeploy writes itself is the same from the same version.
    pinned = model.manifest.kind == "generated" or (pins is not None and pins.model == model.pin)
    engine = serving_engine(stack.engine.name)
    with _placed(loaded):
        size = sizing.choose(
            context=blueprint.context_of(stack.model.context, model.config),
            concurrency=stack.model.concurrency,
            replicas=stack.replicas,
            config=model.config,
            manifest=model.manifest,
            gpu=None if stack.hardware.gpu in ("auto", "none") else stack.hardware.gpu,
            quant=stack.model.quant,
            engine=engine,
        )
        request = blueprint.layout_request(loaded, policy, model, size, engine, pinned=pinned)
        types = registry.types([provider.name])
        built = blueprint.build(request, provider, types, shared_state=stack.state.s3 is not None)
    return Desired(
        loaded=loaded,
        pins=pins,
        policy=policy,
        graph=blueprint.protected(built.graph, loaded),
        outputs=built.outputs,
        provider=provider,
        summary={
            "Sizing": tuple(size.explanation),
            "Compliance": _compliance_lines(policy, loaded),
        },
        warnings=(*(str(w) for w in loaded.warnings), *model.notes, *_pin_warnings(pinned), *_key_warnings(loaded)),
    )


def resolve_model(loaded: Loaded, pins: Pins | None, environ: Mapping[str, str]) -> ResolvedModel:
    """Return the model's files: from the lock file when it pins this model, else from where the model comes from."""
    model = loaded.stack.model
    return sources.resolve_model(
        model.id,
        revision=model.revision,
        variant=model.variant,
        environ=environ,
        folder=loaded.folder,
        safetensors_only=bool(compliance.resolve(loaded.stack.compliance.profiles).profiles),
        pinned=pins.model if pins else None,
    )


@contextmanager
def _placed(loaded: Loaded, default: str = "") -> Generator[None]:
    """Give findings that only name a part of the stack file their place in it; a bare sentence gets that of `default`."""
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


def _pin_warnings(pinned: bool) -> tuple[str, ...]:
    if pinned:
        return ()
    return (f"the model's files are not pinned ({lockfile.FILE_NAME} is missing or older): run `llmdeploy lock` and commit it",)


def _key_warnings(loaded: Loaded) -> tuple[str, ...]:
    return () if loaded.stack.keys else ("no `keys:` in the stack file: nobody will be able to call the endpoint",)


def _compliance_lines(policy: Policy, loaded: Loaded) -> tuple[str, ...]:
    if not policy.profiles:
        return ("no profile",)
    demands = [f"{demand.control} ({demand.profile}): {demand.sentence}" for demand in policy.demands]
    residency = loaded.stack.compliance.residency
    return ("profiles: " + ", ".join(policy.profiles), *demands, *([f"residency: {residency}"] if residency else []))


def pinned(inputs: Inputs, registry: Registry) -> tuple[Path, Pins]:
    """Resolve everything anew and return what `llmdeploy lock` writes, and where."""
    loaded = load(inputs, registry)
    model = resolve_model(loaded, None, inputs.environ)
    engine = serving_engine(loaded.stack.engine.name)
    version = loaded.stack.engine.version or engine.default_version
    digest = sha256(engine.requirements(version, "cpu").encode()).hexdigest()
    engine_pin = PinnedEngine(name=engine.name, version=version, runtime="venv", requirements_sha256=digest)
    written_by = f"llmdeploy {__version__}"
    return loaded.folder / lockfile.FILE_NAME, Pins(written_by=written_by, engine=engine_pin, model=model.pin)
