"""The null provider: resources that exist in state only. It goes through the whole contract and costs nothing.

Benchmarks measure the engine with it; it is no entry point, so no stack file of a user can name it by accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..resource import Input, Outputs, Ref, Replace, Resource, Spec
from ..sdk import Context, Fragment, LayoutRequest, ManagedType, Prior, Provider, ReadRequest, ReadResult, ResourceType, Run


class NullConfig(BaseModel):
    """How many resources, and in how many layers each refers to the one below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=3, ge=0)
    layers: int = Field(default=1, ge=1)
    revision: str = "1"
    shape: Literal["layers"] = "layers"


class NullSpec(Spec):
    """A named thing."""

    name: Annotated[str, Replace("a thing cannot be renamed")]
    revision: str
    size: int
    parent: Input[str] | None = None


class NullOutputs(Outputs):
    """What a thing tells others."""

    name: str


class NullThing(ManagedType[NullSpec, NullOutputs]):
    """Nothing, made through the whole contract."""

    name = "null_thing"
    spec = NullSpec
    outputs = NullOutputs

    def create(self, ctx: Context, spec: NullSpec) -> NullOutputs:
        """Return at once."""
        del ctx
        return NullOutputs(name=spec.name)

    def update(self, ctx: Context, prior: Prior, spec: NullSpec) -> NullOutputs:
        """Return at once."""
        del ctx, prior
        return NullOutputs(name=spec.name)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Return at once."""
        del ctx, prior


class NullProvider:
    """Lays out `count` things; brings its own serving resources, that is none."""

    name = "null"
    Config = NullConfig

    def __init__(self) -> None:
        self.types: Mapping[str, ResourceType[Any, Any]] = {"null_thing": NullThing()}

    def layout(self, request: LayoutRequest) -> Fragment:
        """Return the things, each of a layer referring to one of the layer below."""
        config = NullConfig.model_validate(request.config.model_dump())
        return Fragment(null_things(config), serves=True, outputs={"endpoint": "https://null.invalid"})

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Find everything as it was left."""
        del run
        return [ReadResult(request.prior.address) for request in requests]


def null_things(config: NullConfig, provider: str = "null") -> tuple[Resource, ...]:
    """Return the resources of `config`."""
    per_layer = max(1, -(-config.count // config.layers))
    return tuple(
        Resource(
            f"null_thing.r{index:05d}",
            "null_thing",
            provider,
            {
                "name": f"host-{index:05d}",
                "revision": config.revision,
                "size": index % 7,
                "parent": Ref(f"null_thing.r{index - per_layer:05d}", "name") if index >= per_layer else None,
            },
        )
        for index in range(config.count)
    )


null: Provider = NullProvider()
