"""What the specs of AWS resources share: region, tags, and the traits that follow from them.

Fields have the names of the API's parameters in snake case, and its units: `volume_size` is in GiB, `throughput` in MiB/s. What
is no parameter of a call says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict

from llmdeploy.sdk import Outputs, Replace, ResourceType, Spec, Traits, Tree

Policy = dict[str, Any]
"""A policy document as a tree. ARNs in it may be references."""


class Part(BaseModel):
    """A structure inside a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AwsSpec(Spec):
    """Base of every spec: the region whose endpoint is called."""

    region: Annotated[str, Replace("a resource cannot move to another region")]


class TaggedSpec(AwsSpec):
    """A resource that can be tagged. The tags of ownership (stack, address, lineage) are added in the call that makes it."""

    tags: Mapping[str, str]


S = TypeVar("S", bound=AwsSpec)
O = TypeVar("O", bound=Outputs)  # noqa: E741 - as in the sdk


class AwsType(ResourceType[S, O]):
    """One kind of resource in AWS."""

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """It lies in its region and stores nothing that matters."""
        return Traits(region=values["region"])
