"""`aws_eip`: a public address.

EC2: AllocateAddress; DescribeAddresses; CreateTags; ReleaseAddress, once what uses it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from llmdeploy.sdk import CostLine, Outputs, Replace, Tariff, Tree

from ._spec import AwsType, TaggedSpec


class EipSpec(TaggedSpec):
    """An address for use in a network."""

    domain: Annotated[Literal["vpc"], Replace("the kind of an address cannot change")] = "vpc"


class EipOutputs(Outputs):
    """The address and its id."""

    allocation_id: str
    public_ip: str


class AwsEip(AwsType[EipSpec, EipOutputs]):
    """A public address. It costs the same whether it is used or not."""

    name = "aws_eip"
    spec = EipSpec
    outputs = EipOutputs

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return the address by the hour."""
        del values
        return (tariff.line("public IPv4 address of the NAT gateway", 1, "public_ipv4.hour"),)


RESOURCE = AwsEip()
