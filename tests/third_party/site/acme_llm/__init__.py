"""A provider as somebody else would write it: its own package and entry point, its own serving resources, one file per object.

Its cloud is a folder: an object is a JSON file in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from llmdeploy.sdk import (
    UNKNOWN,
    Context,
    Drift,
    Fragment,
    Input,
    LayoutRequest,
    ManagedType,
    Outputs,
    Prior,
    ReadRequest,
    ReadResult,
    Ref,
    Replace,
    Resource,
    ResourceType,
    Run,
    Spec,
    Traits,
    read_each,
)


class Config(BaseModel):
    """Where the cloud is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cloud: str
    zone: str = "a"


class ObjectSpec(Spec):
    """One object: the file it is, and what it holds."""

    cloud: Annotated[str, Replace("objects cannot move to another cloud")]
    name: Annotated[str, Replace("objects cannot be renamed")]
    content: Input[str]
    zone: Annotated[str, Replace("objects cannot move between zones")] = "a"


class ObjectOutputs(Outputs):
    """Where it is."""

    url: str


class ObjectType(ManagedType[ObjectSpec, ObjectOutputs]):
    """A JSON file."""

    name = "acme_object"
    spec = ObjectSpec
    outputs = ObjectOutputs

    def create(self, ctx: Context, spec: ObjectSpec) -> ObjectOutputs:
        """Write the file."""
        path = Path(spec.cloud) / f"{spec.name}.json"
        ctx.acked(str(path))
        path.write_text(json.dumps({"content": spec.content, "token": ctx.token}))
        return ObjectOutputs(url=f"acme://{spec.zone}/{spec.name}")

    def update(self, ctx: Context, prior: Prior, spec: ObjectSpec) -> ObjectOutputs:
        """Write it again."""
        return self.create(ctx, spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove it."""
        _path(prior).unlink(missing_ok=True)

    def read(self, run: Run, prior: Prior) -> ReadResult:
        """Compare the file with what was written."""
        try:
            found = json.loads(_path(prior).read_text())["content"]
        except FileNotFoundError:
            return ReadResult(prior.address, exists=False)
        same = found == prior.spec["content"]
        return ReadResult(prior.address, drift=() if same else (Drift("content", f"somebody wrote {found!r} into it"),))

    def traits(self, values: Mapping[str, Any]) -> Traits:
        """Plain files."""
        return Traits(at_rest="plain", exposure="host")


def _path(prior: Prior) -> Path:
    """Return where the object lies, also when its creation was never acknowledged."""
    return Path(prior.spec["cloud"]) / f"{prior.spec['name']}.json"


class Acme:
    """Serves a model with two objects, the second of which needs the first."""

    name = "acme"
    Config = Config

    def __init__(self) -> None:
        self.types: Mapping[str, ResourceType[Any, Any]] = {"acme_object": ObjectType()}

    def layout(self, request: LayoutRequest) -> Fragment:
        """Return the two objects and what a client needs."""
        config = Config.model_validate(request.config.model_dump())

        def make(key: str, content: object) -> Resource:
            values = {"cloud": config.cloud, "zone": config.zone, "name": f"{request.stack}-{key}", "content": content}
            return Resource(f"acme_object.{key}", "acme_object", self.name, values, group="acme", path="provider")

        manifest = request.serving.manifest  # None in a plan that asked nobody
        weights = make("weights", UNKNOWN if manifest is None else manifest.digest)
        front = make("front", Ref("acme_object.weights", "url"))
        outputs = {"endpoint": Ref("acme_object.front", "url"), "model": request.serving.served_name}
        return Fragment((weights, front), serves=True, outputs=outputs)

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Look at each file."""
        return read_each(self.types, run, requests)


provider = Acme()
