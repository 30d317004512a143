"""`aws_subnet`: the part of a network in one zone.

EC2: CreateSubnet; DescribeSubnets; ModifySubnetAttribute, CreateTags; DeleteSubnet. Zones are named by id (`euc1-az1`): a name
(`eu-central-1a`) means another zone in every account.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from llmdeploy.sdk import Input, Outputs, Replace, Traits, Tree

from ._spec import AwsType, TaggedSpec
from .aws_vpc import Cidr


class SubnetSpec(TaggedSpec):
    """Its zone and its addresses. Nothing in it gets a public address by itself."""

    vpc_id: Annotated[Input[str], Replace("a subnet cannot move to another network")]
    availability_zone_id: Annotated[
        str, Field(pattern=r"^[a-z]+[0-9]+-az[1-9]$"), Replace("a subnet cannot move to another zone")
    ]
    cidr_block: Annotated[Cidr, Replace("the addresses of a subnet cannot change")]
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

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Public when it gives public addresses to whatever is put into it."""
        return self._told(values, exposure="public" if values["map_public_ip_on_launch"] else "private")


RESOURCE = AwsSubnet()
