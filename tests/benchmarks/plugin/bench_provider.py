"""A provider that makes nothing, with what the benchmarks need: one edited thing, and things that take a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from llmdeploy.sdk import (
    Context,
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
    Tree,
)


class Config(BaseModel):
    """How many things in how many layers, each referring to one of the layer below.

    edited: the last one differs from what it was. marks: a folder in which each thing leaves a file when it is whole, `seconds`
    after its creation began; empty: things are made at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=0)
    layers: int = Field(default=10, ge=1)
    edited: bool = False
    marks: str = ""
    seconds: float = Field(default=0.4, gt=0)


class ThingSpec(Spec):
    """A named thing, with as many fields as its counterpart in Terraform."""

    name: Annotated[str, Replace("a thing cannot be renamed")]
    revision: str
    size: int
    parent: Input[str]
    mark: str = ""
    seconds: float = 0.0


class ThingOutputs(Outputs):
    """What a thing tells others."""

    name: str


class Thing(ManagedType[ThingSpec, ThingOutputs]):
    """Nothing, made through the whole contract."""

    name = "thing"
    spec = ThingSpec
    outputs = ThingOutputs

    def create(self, ctx: Context, spec: ThingSpec) -> ThingOutputs:
        """Return at once, or after the step that leaves the mark."""
        if spec.mark:
            ctx.acked(spec.name)
            ctx.step("mark", lambda: _leave(spec.mark, spec.seconds))
        return ThingOutputs(name=spec.name)

    def update(self, ctx: Context, prior: Prior, spec: ThingSpec) -> ThingOutputs:
        """Return at once."""
        del ctx, prior
        return ThingOutputs(name=spec.name)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Return at once."""
        del ctx, prior


def _leave(mark: str, seconds: float) -> None:
    """Leave the mark as Terraform's `local-exec` does: a shell of its own, which a kill of the process group ends too."""
    import subprocess  # not at the start, which is measured

    subprocess.run(["sh", "-c", 'sleep "$1" && : > "$2"', "sh", str(seconds), mark], check=True)


class Bench:
    """Lays out `count` things; there is no machine, so that the core adds nothing."""

    name = "bench"
    Config = Config
    types: Mapping[str, ResourceType[Any, Any]] = {"thing": Thing()}

    def layout(self, request: LayoutRequest) -> Fragment:
        """Return the things."""
        config = Config.model_validate(request.config.model_dump())
        per_layer = max(1, -(-config.count // config.layers))
        things = [
            Resource(f"thing.r{index:05d}", "thing", self.name, self._values(config, index, per_layer))
            for index in range(config.count)
        ]
        return Fragment(tuple(things), serves=True, outputs={"endpoint": "https://bench.invalid"})

    def _values(self, config: Config, index: int, per_layer: int) -> dict[str, Tree]:
        return {
            "name": f"host-{index:05d}",
            "revision": "edited" if config.edited and index == config.count - 1 else "v1",
            "size": index % 7,
            "parent": Ref(f"thing.r{index - per_layer:05d}", "name") if index >= per_layer else "root",
            **({"mark": f"{config.marks}/{index}", "seconds": config.seconds} if config.marks else {}),
        }

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Find everything as it was left."""
        del run
        return [ReadResult(request.prior.address) for request in requests]


bench = Bench()
