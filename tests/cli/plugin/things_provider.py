"""A provider for the tests of the command line: its world is a folder of small files beside the stack file.

Things can wait for a file (`gate`), fail, drift, be inspected and have logs; a badge is a key, a door stands on all badges.
Tagged things carry ownership tags in files beside the world, and are found by them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from llmdeploy.sdk import (
    EVIDENCE,
    CommandFailed,
    Context,
    Drift,
    Found,
    Fragment,
    Input,
    Interrupted,
    LayoutRequest,
    LlmdeployError,
    ManagedType,
    OperationResult,
    Outputs,
    Prior,
    Problem,
    ReadRequest,
    ReadResult,
    Ref,
    Replace,
    Resource,
    ResourceType,
    Run,
    Spec,
    Traits,
    Tree,
)


class Config(BaseModel):
    """names: the things; fail: those that fail; gate: a file that each thing waits for; missing: what preflight finds missing.

    mute: a thing waits at the gate before it tells that it exists; tagged: it carries ownership tags. probed: what has a probe,
    and the traits that are planned of each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = ("one", "two")
    text: str = "hello"
    fail: tuple[str, ...] = ()
    crash: tuple[str, ...] = ()
    gate: str = ""
    stubborn: bool = False
    mute: bool = False
    tagged: bool = False
    missing: str = ""
    note: str = ""
    probed: Mapping[str, Mapping[str, Any]] = {}


class ThingSpec(Spec):
    """A file with a text."""

    name: Annotated[str, Replace("a thing cannot be renamed")]
    text: str
    fail: bool = False
    crash: bool = False
    gate: str = ""
    stubborn: bool = False
    mute: bool = False
    tagged: bool = False
    missing: str = ""
    note: str = ""
    after: Input[str] | None = None


class ThingOutputs(Outputs):
    """Where it lies."""

    path: str


def world(run: Run, name: str) -> Path:
    """Return the file of a thing."""
    return run.folder.absolute() / "world" / name


class Thing(ManagedType[ThingSpec, ThingOutputs]):
    """A file."""

    name = "thing"
    spec = ThingSpec
    outputs = ThingOutputs
    converges = True

    def __init__(self) -> None:
        self.operations = {"inspect": _inspect, "logs": _logs}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        note = values.get("note")
        return Traits(at_rest="plain", notes=(note,) if note else ())

    def create(self, ctx: Context, spec: ThingSpec) -> ThingOutputs:
        path = world(ctx.run, spec.name)
        path.parent.mkdir(exist_ok=True)
        if spec.tagged:
            _tags(ctx.run, spec.name).parent.mkdir(exist_ok=True)
            _tags(ctx.run, spec.name).write_text(json.dumps([dict(ctx.tags), spec.tree()]), encoding="utf-8")
        if spec.mute:
            ctx.progress(f"sent {spec.name}")
            _wait(ctx, spec)
        ctx.acked(spec.name)
        ctx.progress(f"writing {spec.name}")
        if spec.fail:
            raise CommandFailed(f"cannot make {spec.name}", status=3, tail="first line\nlast line", hint="make it possible")
        if spec.crash:
            raise ZeroDivisionError("a bug")
        path.write_text(spec.text, encoding="utf-8")
        _wait(ctx, spec)
        return ThingOutputs(path=str(path))

    def update(self, ctx: Context, prior: Prior, spec: ThingSpec) -> ThingOutputs:
        world(ctx.run, spec.name).write_text(spec.text, encoding="utf-8")
        return ThingOutputs(path=prior.outputs["path"])

    def delete(self, ctx: Context, prior: Prior) -> None:
        world(ctx.run, prior.spec["name"]).unlink(missing_ok=True)
        _tags(ctx.run, prior.spec["name"]).unlink(missing_ok=True)

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        return [Problem(f"there is no {values['missing']}", "bring it")] if values["missing"] else []

    def read(self, run: Run, prior: Prior) -> ReadResult:
        path = world(run, prior.spec["name"])
        if not path.exists():
            return ReadResult(prior.address, exists=False)
        drifted = path.read_text(encoding="utf-8") != prior.spec["text"]
        return ReadResult(prior.address, drift=(Drift("text", f"{path.name}: somebody wrote into it"),) if drifted else ())


def _tags(run: Run, name: str) -> Path:
    return run.folder.absolute() / "tags" / name


def _wait(ctx: Context, spec: ThingSpec) -> None:
    """Wait for the gate; a stubborn thing does not stop before it, however often it is asked to."""
    while spec.gate and not (ctx.run.folder / spec.gate).exists():
        if ctx.run.abort.wait(0.02) and not spec.stubborn:
            raise Interrupted(f"{ctx.address}: stopped at the gate")


def _inspect(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    size = world(ctx.run, prior.spec["name"]).stat().st_size
    return OperationResult({"state": "running" if size else "down", "size_bytes": size})


def _logs(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    for number in range(int(arguments["lines"])):
        ctx.progress(f"line {number} of {prior.spec['name']}")
    while arguments["follow"]:
        ctx.progress("more")
        if ctx.run.abort.wait(0.01):
            raise Interrupted("stopped")
    return OperationResult()


class ProbedSpec(Spec):
    """Something with a probe."""

    name: str
    traits: dict[str, Any]


class ProbedOutputs(Outputs):
    """Where what the probe will see is written down."""

    path: str


class Probed(ManagedType[ProbedSpec, ProbedOutputs]):
    """What its file says is what its probe sees: at first all that was planned."""

    name = "probed"
    spec = ProbedSpec
    outputs = ProbedOutputs

    def __init__(self) -> None:
        self.operations = {EVIDENCE: _evidence}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        return Traits.model_validate(values["traits"])

    def create(self, ctx: Context, spec: ProbedSpec) -> ProbedOutputs:
        path = world(ctx.run, f"{spec.name}.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([{"fact": fact, "value": value} for fact, value in spec.traits.items()]))
        return ProbedOutputs(path=str(path))

    def update(self, ctx: Context, prior: Prior, spec: ProbedSpec) -> ProbedOutputs:
        return self.create(ctx, spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        Path(prior.outputs["path"]).unlink(missing_ok=True)


def _evidence(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Tell what the file says: observations; or how the probe fails."""
    told: Any = json.loads(Path(prior.outputs["path"]).read_text())
    if told == "bug":
        raise ZeroDivisionError("a bug")
    if told == "refused":
        raise CommandFailed("the machine refused", status=3, tail="permission denied", hint="ask as root")
    if told == "wait":
        ctx.progress("waiting")
        (ctx.run.folder / "waits").touch()
        while not ctx.run.abort.wait(0.01):
            pass
        raise Interrupted("stopped")
    if told == "strange":
        raise LlmdeployError("cannot read \udcff")
    if told == "nonsense":
        return OperationResult([{"fact": 3}])
    return OperationResult(told)


class BadgeSpec(Spec):
    """A key."""

    name: str
    principal: str


class BadgeOutputs(Outputs):
    """Its credentials, the current one first."""

    file: str
    credentials: tuple[dict[str, Any], ...]


class Badge(ManagedType[BadgeSpec, BadgeOutputs]):
    """A key whose ids count up."""

    name = "badge"
    spec = BadgeSpec
    outputs = BadgeOutputs

    def __init__(self) -> None:
        self.operations = {"rotate": _rotate, "revoke": _revoke}

    def create(self, ctx: Context, spec: BadgeSpec) -> BadgeOutputs:
        return BadgeOutputs(file=f"{spec.name}.key", credentials=(_credential(1),))

    def update(self, ctx: Context, prior: Prior, spec: BadgeSpec) -> BadgeOutputs:
        return BadgeOutputs.model_validate(prior.outputs)

    def delete(self, ctx: Context, prior: Prior) -> None:
        return None


def _credential(number: int) -> dict[str, Any]:
    times = {"not_before": 1_700_000_000, "not_after": 4_000_000_000}
    return {"key_id": f"id{number}", "sha256": "0" * 64, **times, "revoked": False}


def _rotate(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    old = list(prior.outputs["credentials"])
    new = _credential(len(old) + 1)
    data = {"key_id": new["key_id"], "file": prior.outputs["file"], "previous": old, "overlap": arguments["overlap_hours"]}
    return OperationResult(data, {**prior.outputs, "credentials": [new, *old]})


def _revoke(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    hit = [one["key_id"] for one in prior.outputs["credentials"] if arguments.get("key_id") in (None, one["key_id"])]
    credentials = [{**one, "revoked": one["revoked"] or one["key_id"] in hit} for one in prior.outputs["credentials"]]
    return OperationResult({"revoked": hit}, {**prior.outputs, "credentials": credentials})


class DoorSpec(Spec):
    """What opens to badges."""

    name: str
    color: str
    badges: tuple[Input[tuple[dict[str, Any], ...]], ...]


class DoorOutputs(Outputs):
    """Which credentials open it."""

    name: str


class Door(ManagedType[DoorSpec, DoorOutputs]):
    """A file that says who may pass."""

    name = "door"
    spec = DoorSpec
    outputs = DoorOutputs

    def create(self, ctx: Context, spec: DoorSpec) -> DoorOutputs:
        path = world(ctx.run, spec.name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([one["key_id"] for badge in spec.badges for one in badge if not one["revoked"]]))
        return DoorOutputs(name=spec.name)

    def update(self, ctx: Context, prior: Prior, spec: DoorSpec) -> DoorOutputs:
        return self.create(ctx, spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        world(ctx.run, prior.spec["name"]).unlink(missing_ok=True)


class Things:
    """The provider."""

    name = "things"
    Config = Config
    types: Mapping[str, ResourceType[Any, Any]] = {"thing": Thing(), "badge": Badge(), "door": Door(), "probed": Probed()}

    def layout(self, request: LayoutRequest) -> Fragment:
        """Return a chain of things, the badges, and a door when there are badges."""
        config = Config.model_validate(request.config.model_dump())
        resources = [
            Resource(f"thing.{name}", "thing", self.name, self._thing(config, index), group=name, path="provider")
            for index, name in enumerate(config.names)
        ]
        resources += [
            Resource(f"probed.{name}", "probed", self.name, {"name": name, "traits": dict(traits)}, path="provider")
            for name, traits in config.probed.items()
        ]
        badges = [
            Resource(f"badge.{key.name}", "badge", self.name, {"name": key.name, "principal": key.principal}, group="stack")
            for key in request.keys
        ]
        credentials = tuple(Ref(badge.address, "credentials") for badge in badges)
        values: dict[str, Tree] = {"name": "door", "color": config.text, "badges": credentials}
        door = [Resource("door.front", "door", self.name, values, group="stack")] if badges else []
        outputs: dict[str, Tree] = {
            "endpoint": "https://things.invalid",
            "keys": {key.name: {"file": Ref(f"badge.{key.name}", "file")} for key in request.keys},
        }
        return Fragment((*resources, *badges, *door), serves=True, outputs=outputs)

    def _thing(self, config: Config, index: int) -> dict[str, Tree]:
        name = config.names[index]
        return {
            "name": name,
            "text": config.text,
            "fail": name in config.fail,
            "crash": name in config.crash,
            "gate": config.gate,
            "stubborn": config.stubborn,
            "mute": config.mute,
            "tagged": config.tagged,
            "missing": config.missing,
            "note": config.note,
            "after": Ref(f"thing.{config.names[index - 1]}", "path") if index else None,
        }

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Look at each thing; badges and doors are as they were left."""
        thing = Thing()
        for request in requests:
            if request.type == "thing":
                yield thing.read(run, replace(request.prior, drift=()))
            else:
                yield ReadResult(request.prior.address)

    def sweep(self, run: Run, config: BaseModel) -> Iterable[Found]:
        """Return the things that carry tags of this stack."""
        for file in sorted((run.folder.absolute() / "tags").glob("*")):
            tags, spec = json.loads(file.read_text(encoding="utf-8"))
            if tags["llmdeploy:lineage"] == run.identity.lineage:
                generation, outputs = int(tags["llmdeploy:generation"]), {"path": str(world(run, file.name))}
                yield Found(tags["llmdeploy:address"], "thing", self.name, file.name, generation, spec, outputs)


things = Things()
