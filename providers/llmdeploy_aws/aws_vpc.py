"""`aws_vpc`: the stack's own network.

EC2: CreateVpc; DescribeVpcs, DescribeVpcAttribute; ModifyVpcAttribute (one attribute a call), CreateTags; DeleteVpc.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated

from pydantic import AfterValidator

from llmdeploy.sdk import Outputs, Replace

from ._spec import AwsType, TaggedSpec

_SMALLEST_PREFIX, _LARGEST_PREFIX = 16, 28


def _cidr(value: str) -> str:
    if not _SMALLEST_PREFIX <= IPv4Network(value).prefixlen <= _LARGEST_PREFIX:
        raise ValueError(f"must have a prefix from /{_SMALLEST_PREFIX} to /{_LARGEST_PREFIX}")
    return value


Cidr = Annotated[str, AfterValidator(_cidr)]
"""IPv4 addresses of a network or of a subnet, as EC2 takes them."""


class VpcSpec(TaggedSpec):
    """Its addresses, and whether names are resolved in it, which private endpoints need."""

    cidr_block: Annotated[Cidr, Replace("the first addresses of a network cannot change")]
    enable_dns_support: bool = True
    enable_dns_hostnames: bool = True


class VpcOutputs(Outputs):
    """Its id."""

    vpc_id: str


class AwsVpc(AwsType[VpcSpec, VpcOutputs]):
    """A network."""

    name = "aws_vpc"
    spec = VpcSpec
    outputs = VpcOutputs


RESOURCE = AwsVpc()
