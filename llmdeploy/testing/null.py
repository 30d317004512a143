"""The null provider: resources that exist in state only. It goes through the whole contract and costs nothing.

Benchmarks measure the engine with it; it is no entry point, so no stack file of a user can name it by accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ..resource import Input, Outputs, Ref, Replace, Resource, Spec, Tree
from ..sdk import Context, Fragment, LayoutRequest, ManagedType, Prior, Provider, ReadRequest, ReadResult, ResourceType, Run


class NullConfig(BaseModel):
    """How many things in how many layers, each referring to one of the layer below.

    edited: the last one differs from what it was. marks: a folder in which each thing leaves a file when it is whole, `seconds`
    after its creation began; empty: things are made at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=3, ge=0)
    layers: int = Field(default=1, ge=1)
    edited: bool = False
    marks: str = ""
    seconds: float = Field(default=0.4, gt=0)


class NullSpec(Spec):
    """A named thing."""

    name: Annotated[str, Replace("a thing cannot be renamed")]
    revision: str
    size: int
    parent: Input[str] = "root"
    mark: str = ""
    seconds: float = 0.0


class NullOutputs(Outputs):
    """What a thing tells others."""

    name: str


class NullThing(ManagedType[NullSpec, NullOutputs]):
    """Nothing, made through the whole contract."""

    name = "null_thing"
    spec = NullSpec
    outputs = NullOutputs

    def create(self, ctx: Context, spec: NullSpec) -> NullOutputs:
        """Return at once, or after the step that leaves the mark."""
        if spec.mark:
            ctx.acked(spec.name)
            ctx.step("mark", lambda: _leave(spec.mark, spec.seconds))
        return NullOutputs(name=spec.name)

    def update(self, ctx: Context, prior: Prior, spec: NullSpec) -> NullOutputs:
        """Return at once."""
        del ctx, prior
        return NullOutputs(name=spec.name)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Return at once."""
        del ctx, prior


def _leave(mark: str, seconds: float) -> None:
    """Leave the mark with a shell of its own, which a kill of the process group ends too."""
    import subprocess  # not at the start, which is measured

    subprocess.run(["sh", "-c", 'sleep "$1" && : > "$2"', "sh", str(seconds), mark], check=True)


class NullProvider:
    """Lays out `count` things; brings its own serving resources, that is none."""

    name = "null"
    Config = NullConfig

    def __init__(self) -> None:
        self.types: Mapping[str, ResourceType[Any, Any]] = {"null_thing": NullThing()}

    def layout(self, request: LayoutRequest) -> Fragment:
        """Return the things, each of a layer referring to one of the layer below."""
        config = NullConfig.model_validate(request.config.model_dump())
        per_layer = max(1, -(-config.count // config.layers))
        things = [
            Resource(f"null_thing.r{index:05d}", "null_thing", self.name, _values(config, index, per_layer))
            for index in range(config.count)
        ]
        return Fragment(tuple(things), serves=True, outputs={"endpoint": "https://null.invalid"})

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Find everything as it was left."""
        del run
        return [ReadResult(request.prior.address) for request in requests]


def _values(config: NullConfig, index: int, per_layer: int) -> dict[str, Tree]:
    return {
        "name": f"host-{index:05d}",
        "revision": "edited" if config.edited and index == config.count - 1 else "v1",
        "size": index % 7,
        "parent": Ref(f"null_thing.r{index - per_layer:05d}", "name") if index >= per_layer else "root",
        **({"mark": f"{config.marks}/{index}", "seconds": config.seconds} if config.marks else {}),
    }


null: Provider = NullProvider()
