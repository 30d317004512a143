"""`aws_vpc`: the stack's own network.

EC2: CreateVpc; DescribeVpcs, DescribeVpcAttribute; ModifyVpcAttribute (one attribute a call), CreateTags; DeleteVpc.
"""

from __future__ import annotations

from typing import Annotated

from llmdeploy.sdk import Outputs, Replace

from ._spec import AwsType, TaggedSpec


class VpcSpec(TaggedSpec):
    """Its addresses, and whether names are resolved in it, which private endpoints need."""

    cidr_block: Annotated[str, Replace("the first addresses of a network cannot change")]
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
