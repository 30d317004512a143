"""The programs of an inference engine on a machine: a private Python environment, shared by the stacks that want the same one.

A container image can be planned, and not pulled yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import model_validator

from llmdeploy.sdk import (
    EVIDENCE,
    UNKNOWN,
    Context,
    DataFlow,
    Drift,
    Identity,
    NotBuilt,
    OperationResult,
    Outputs,
    PlannedChange,
    Prior,
    Problem,
    ReadResult,
    Replace,
    Run,
    Software,
    Timeouts,
    Traits,
    Tree,
    observed,
)

from ._connection import HostSpec, Paths
from ._evidence import Question, ask, flag, from_json
from ._host_type import HostType
from ._scripts import render
from ._servers import PACKAGE_INDEX, registry_of
from ._session import session

FREE_BYTES: Final = 3 * 2**30
"""Free disk that a build needs: 1.8 GB of installed packages and, while they are unpacked, 0.6 GB of archives (measured)."""

RUNTIMES: Final = f"{Paths.ROOTS[0]}/shared/runtimes"
"""Folder of all runtimes on a machine."""

_CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"
_PINNED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.+!_-]*)\Z")
_NOT_BUILT: Final = "engines in containers can be planned and not run by this version"
_INSTEAD: Final = "set engine: {runtime: venv}"
_ANOTHER: Final = "another set of packages gets a folder of its own"


class RuntimeSpec(HostSpec):
    """engine: also the module that is imported to try it.

    A `venv` has requirements: every package pinned, one `name==version` per line. A `container` has an image: by its tag, or
    pinned by its digest (`name@sha256:...`).
    """

    engine: Annotated[str, Replace("another engine gets a folder of its own")]
    version: Annotated[str, Replace("another version gets a folder of its own")]
    requirements: Annotated[str, Replace(_ANOTHER)] = ""
    kind: Annotated[Literal["venv", "container"], Replace("another kind of runtime gets a folder of its own")] = "venv"
    image: Annotated[str | None, Replace("another image is pulled beside this one")] = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.image) != (self.kind == "container") or bool(self.requirements) == (self.kind == "container"):
            raise ValueError("a venv is made of requirements, a container of an image")
        return self


class RuntimeOutputs(Outputs):
    """python: its interpreter, in folder. image: what containers are made of. digest: SHA-256 (hex) of what was asked for."""

    python: str
    folder: str
    digest: str
    image: str = ""


class HostEngineRuntime(HostType[RuntimeSpec, RuntimeOutputs]):
    """A virtual environment below the shared folder, or an image, with an owner file per stack; it goes with its last owner."""

    name: ClassVar[str] = "host_engine_runtime"
    spec = RuntimeSpec
    outputs = RuntimeOutputs
    timeouts: ClassVar[Timeouts] = Timeouts(create_s=3600, update_s=3600, delete_s=600)

    def __init__(self) -> None:
        self.operations = {EVIDENCE: _look}

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """All outputs follow from the wish."""
        del identity
        wish = [values.get(name) or "" for name in ("engine", "version", "requirements", "kind", "image")]
        return _outputs(*wish).tree() if all(isinstance(part, str) for part in wish) else {}

    def plan(self, prior: Prior | None, values: Mapping[str, Tree]) -> PlannedChange:
        """Decide as every type does, and say what is pulled."""
        planned = super().plan(prior, values)
        if planned.action == "no-op" or values.get("kind") != "container":
            return planned
        return replace(planned, details=(_pull(str(values.get("image"))),))

    def create(self, ctx: Context, spec: RuntimeSpec) -> RuntimeOutputs:
        """Build it, or join the stacks that use it already."""
        _check_built(spec)
        outputs = outputs_of(spec)
        ctx.acked(outputs.folder)
        self.script(ctx, spec, build_script(Paths(ctx.run.slug), spec))
        return outputs

    def update(self, ctx: Context, prior: Prior, spec: RuntimeSpec) -> RuntimeOutputs:
        """Build what is missing of it."""
        del prior
        return self.create(ctx, spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Leave it; remove it when nobody else uses it."""
        spec = prior.spec_as(RuntimeSpec)
        _check_built(spec)
        self.script(ctx, spec, remove_script(Paths(ctx.run.slug), spec))

    def probe(self, paths: Paths, prior: Prior) -> str:
        """See HostType."""
        spec = prior.spec_as(RuntimeSpec)
        folder = outputs_of(spec).folder
        return render("engine_runtime_probe.sh.j2", folder=folder, owner=paths.slug)

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """See HostType."""
        wanted = outputs_of(prior.spec_as(RuntimeSpec))
        if facts.get("exists") != "yes":
            return ReadResult(prior.address, exists=False)
        found = (
            (facts.get("complete") == wanted.digest, "complete", "the engine's packages are not complete"),
            (facts.get("python") == "runs", "python", f"{wanted.python} does not run"),
            (facts.get("owner") == "yes", "owner", "this stack is not among the owners of the engine's folder"),
        )
        return ReadResult(prior.address, drift=tuple(Drift(field, sentence) for good, field, sentence in found if not good))

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """Python, free disk and, where pip is there already, that the package index has what is not on PyPI."""
        if values.get("host") is UNKNOWN or (prior is not None and prior.exists and prior.status == "ok" and not prior.drift):
            return ()
        spec = RuntimeSpec.model_validate(values)
        if spec.kind == "container":
            return (Problem(_NOT_BUILT, _INSTEAD),)
        return preflight_problems(session(run, spec.host).run(preflight_script(spec)), spec)

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Every package is named by its exact version; an image is pinned by its digest only, because a tag can move.

        Both come from servers that learn who asks: the registry in the image's name, or the index that the machine's pip is set
        up to use.
        """
        software = (Software(name=values["engine"], version=values["version"]),)
        if values.get("kind") != "container":
            flow = DataFlow(what="requests for the engine's packages", to=PACKAGE_INDEX)
            return Traits(pinned=True, software=software, data_flows=(flow,))
        image = str(values.get("image"))
        flow = DataFlow(what="requests for the engine's image", to=registry_of(image))
        return Traits(pinned="@sha256:" in image, software=software, data_flows=(flow,))


@cache
def _outputs(engine: str, version: str, requirements: str, kind: str, image: str) -> RuntimeOutputs:
    if kind == "container":
        return RuntimeOutputs(python="", folder="", digest=sha256(image.encode()).hexdigest(), image=image)
    digest = sha256("\0".join((engine, version, requirements, kind)).encode()).hexdigest()
    folder = f"{RUNTIMES}/{engine}-{version}-{digest[:12]}"
    return RuntimeOutputs(python=f"{folder}/venv/bin/python", folder=folder, digest=digest)


def outputs_of(spec: RuntimeSpec) -> RuntimeOutputs:
    """Return where the environment lies; it depends on nothing but the wish."""
    return _outputs(spec.engine, spec.version, spec.requirements, spec.kind, spec.image or "")


def _check_built(spec: RuntimeSpec) -> None:
    if spec.kind == "container":
        raise NotBuilt(_NOT_BUILT, hint=_INSTEAD)


def _pull(image: str) -> str:
    name, _, digest = image.partition("@")
    pinned = f"by its digest {digest[:19]}..." if digest else "by a tag, which can move"
    return f"pulls {name} {pinned}, from where the machine's container engine is set up to pull it"


def build_script(paths: Paths, spec: RuntimeSpec) -> str:
    """Return the script that builds the environment, or only registers the stack where it is complete."""
    outputs = outputs_of(spec)
    special = _special(spec)
    return render(
        "engine_runtime.sh.j2",
        runtimes=RUNTIMES,
        name=outputs.folder.rsplit("/", 1)[1],
        owner=paths.slug,
        digest=outputs.digest,
        special=special,
        missing={package: missing_sentence(package, version) for package, version in special},
        requirements=spec.requirements,
        count=len(_packages(spec)),
        module=_module(spec),
    )


def remove_script(paths: Paths, spec: RuntimeSpec) -> str:
    """Return the script that takes the stack off the owners, and removes the environment with its last owner."""
    name = outputs_of(spec).folder.rsplit("/", 1)[1]
    return render("engine_runtime_remove.sh.j2", runtimes=RUNTIMES, name=name, owner=paths.slug)


def preflight_script(spec: RuntimeSpec) -> str:
    """Return the script that looks for Python, disk and packages, without any effect."""
    return render("engine_runtime_preflight.sh.j2", runtimes=RUNTIMES, special=_special(spec))


def preflight_problems(output: str, spec: RuntimeSpec) -> tuple[Problem, ...]:
    """Judge what `preflight_script` printed."""
    facts = dict(line.split("\t", 1) for line in output.splitlines() if "\t" in line)
    free = int(facts.get("free_bytes") or 0)
    gone = [(package, version) for package, version in _special(spec) if facts.get(f"index.{package}") == "no"]
    found = (
        (not facts.get("python"), "no Python 3.11 or newer that every user of the machine can run", "apt-get install python3"),
        (free < FREE_BYTES, f"{free / 2**30:.1f} GiB free below {RUNTIMES}", f"{FREE_BYTES / 2**30:.0f} GiB are needed"),
        *((True, missing_sentence(package, version), "") for package, version in gone),
    )
    return tuple(Problem(sentence, hint) for bad, sentence, hint in found if bad)


def packages_question(spec: RuntimeSpec) -> Question:
    """Return the question whether exactly the pinned packages are installed, and which version of the engine."""
    folder = outputs_of(spec).folder
    return Question(
        command=f"{folder}/venv/bin/python -I -m pip list --format=freeze",
        script=render(
            "evidence_runtime.sh.j2",
            folder=folder,
            engine=spec.engine,
            pins=[f"{name}=={version}" for name, version in _packages(spec)],
            program=render("evidence_runtime.py"),
        ),
        facts={"pinned": flag, "software": from_json},
    )


def _look(ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
    """See which packages are installed, by their own records; nothing of them is run, and no server is asked."""
    del args
    spec = prior.spec_as(RuntimeSpec)
    _check_built(spec)
    return observed(ask(ctx, spec.host, (packages_question(spec),)))


def missing_sentence(package: str, version: str) -> str:
    """Return the one sentence about a build that PyPI does not have, with pip's own setting that brings it."""
    return (
        f"pip finds no {package} {version}: set PIP_EXTRA_INDEX_URL={_CPU_INDEX} (or extra-index-url in pip.conf) and try again"
    )


def _packages(spec: RuntimeSpec) -> tuple[tuple[str, str], ...]:
    lines = (line.strip() for line in spec.requirements.splitlines())
    found = [_PINNED.match(line) for line in lines if line and not line.startswith("#")]
    if not all(found):
        raise ValueError(f"{spec.engine}: every line of the requirements must be name==version")
    return tuple((match[1], match[2]) for match in found if match)


def _special(spec: RuntimeSpec) -> tuple[tuple[str, str], ...]:
    """Builds with a local version (`+cpu`): they are on an index of their own and are fetched first, being the largest."""
    return tuple((package, version) for package, version in _packages(spec) if "+" in version)


def _module(spec: RuntimeSpec) -> str:
    if not spec.engine.isidentifier():
        raise ValueError(f"{spec.engine}: not the name of a module")
    return spec.engine


RESOURCE = HostEngineRuntime()
