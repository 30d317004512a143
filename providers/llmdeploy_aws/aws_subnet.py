"""`aws_subnet`: the part of a network in one zone.

EC2: CreateSubnet; DescribeSubnets; ModifySubnetAttribute, CreateTags; DeleteSubnet. Zones are named by id (`euc1-az1`): a name
(`eu-central-1a`) means another zone in every account.
"""

from __future__ import annotations

from typing import Annotated

from llmdeploy.sdk import Input, Outputs, Replace

from ._spec import AwsType, TaggedSpec


class SubnetSpec(TaggedSpec):
    """Its zone and its addresses. Nothing in it gets a public address by itself."""

    vpc_id: Annotated[Input[str], Replace("a subnet cannot move to another network")]
    availability_zone_id: Annotated[str, Replace("a subnet cannot move to another zone")]
    cidr_block: Annotated[str, Replace("the addresses of a subnet cannot change")]
    map_public_ip_on_launch: bool = False


class SubnetOutputs(Outputs):
    """availability_zone: the zone's name in this account."""

    subnet_id: str
    availability_zone: str


class AwsSubnet(AwsType[SubnetSpec, SubnetOutputs]):
    """A subnet."""

    name = "aws_subnet"
    spec = SubnetSpec
    outputs = SubnetOutputs


RESOURCE = AwsSubnet()
