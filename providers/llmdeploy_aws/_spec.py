"""What the specs of AWS resources share: region, tags, and the traits that follow from them.

Fields have the names of the API's parameters in snake case, and its units: `volume_size` is in GiB, `throughput` in MiB/s. What
is no parameter of a call says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from llmdeploy.sdk import Outputs, Replace, ResourceType, Spec, Traits, Tree

Policy = dict[str, Any]
"""A policy document as a tree. ARNs in it may be references."""

Port = Annotated[int, Field(ge=1, le=65_535)]
PROCESSOR: Final = "aws"
Custody = Literal["kms", "none"]


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
    """One kind of resource in AWS. service: of AWS, as its API names it; parts of a network are EC2's."""

    service: ClassVar[str] = "ec2"

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """It lies in its region and stores nothing that matters."""
        return self._told(values)

    def _told(self, values: Mapping[str, Tree], **facts: Any) -> Traits:
        """Return `facts` with those of everything that lies in a region of AWS."""
        return Traits(region=values["region"], processor=PROCESSOR, service=self.service, **facts)

    def _global(self) -> Traits:
        """Return the facts of what lies in no region: AWS keeps it for all regions of a partition."""
        return Traits(processor=PROCESSOR, service=self.service)


def custody(key: Tree) -> Custody:
    """Return where the key lies that something is encrypted with: in KMS when one is named, else AWS holds its own for all."""
    return "kms" if key else "none"


def passed_on(protocol: str) -> Literal["encrypted", "plain"]:
    """Return how data moves through a load balancer: TCP is the gateways' own TLS; anything else it opens itself."""
    return "encrypted" if protocol == "TCP" else "plain"
