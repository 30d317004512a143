"""`aws_route_table`: where packets of some subnets go that are not for the network itself.

EC2: CreateRouteTable, CreateRoute, AssociateRouteTable; DescribeRouteTables; ReplaceRoute, DeleteRoute, DisassociateRouteTable,
CreateTags; DeleteRouteTable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from llmdeploy.sdk import Input, Outputs, Replace, Traits, Tree

from ._names import is_everywhere
from ._spec import AwsType, Part, TaggedSpec


class Route(Part):
    """Packets to these addresses go to this gateway: exactly one of the two."""

    destination_cidr_block: str
    gateway_id: Input[str] | None = None
    nat_gateway_id: Input[str] | None = None

    @model_validator(mode="after")
    def _one(self) -> Route:
        if (self.gateway_id is None) == (self.nat_gateway_id is None):
            raise ValueError("needs exactly one of gateway_id and nat_gateway_id")
        return self


class RouteTableSpec(TaggedSpec):
    """Routes besides the one inside the network; subnet_ids: whose packets."""

    vpc_id: Annotated[Input[str], Replace("a route table cannot move to another network")]
    routes: tuple[Route, ...] = ()
    subnet_ids: Annotated[tuple[Input[str], ...], Field(min_length=1)]


class RouteTableOutputs(Outputs):
    """Its id."""

    route_table_id: str


class AwsRouteTable(AwsType[RouteTableSpec, RouteTableOutputs]):
    """A route table."""

    name = "aws_route_table"
    spec = RouteTableSpec
    outputs = RouteTableOutputs

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Through a NAT gateway machines reach the whole internet; through a door only what has a public address does."""
        out = any(route["nat_gateway_id"] and is_everywhere(route["destination_cidr_block"]) for route in values["routes"])
        return self._told(values, egress="open" if out else None)


RESOURCE = AwsRouteTable()
