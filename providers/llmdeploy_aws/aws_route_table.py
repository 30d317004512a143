"""`aws_route_table`: where packets of some subnets go that are not for the network itself.

EC2: CreateRouteTable, CreateRoute, AssociateRouteTable; DescribeRouteTables; ReplaceRoute, DeleteRoute, DisassociateRouteTable,
CreateTags; DeleteRouteTable.
"""

from __future__ import annotations

from typing import Annotated

from llmdeploy.sdk import Input, Outputs, Replace

from ._spec import AwsType, Part, TaggedSpec


class Route(Part):
    """Packets to these addresses go to this gateway: exactly one of the two."""

    destination_cidr_block: str
    gateway_id: Input[str] | None = None
    nat_gateway_id: Input[str] | None = None


class RouteTableSpec(TaggedSpec):
    """Routes besides the one inside the network; subnet_ids: whose packets."""

    vpc_id: Annotated[Input[str], Replace("a route table cannot move to another network")]
    routes: tuple[Route, ...] = ()
    subnet_ids: tuple[Input[str], ...]


class RouteTableOutputs(Outputs):
    """Its id."""

    route_table_id: str


class AwsRouteTable(AwsType[RouteTableSpec, RouteTableOutputs]):
    """A route table."""

    name = "aws_route_table"
    spec = RouteTableSpec
    outputs = RouteTableOutputs


RESOURCE = AwsRouteTable()
