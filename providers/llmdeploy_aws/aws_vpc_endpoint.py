"""`aws_vpc_endpoint`: a service of AWS inside the network, without a way through the internet.

EC2: CreateVpcEndpoint; DescribeVpcEndpoints until `available`, DescribePrefixLists; ModifyVpcEndpoint, CreateTags;
DeleteVpcEndpoints, and wait until its network interfaces are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import model_validator

from llmdeploy.sdk import CostLine, Input, Outputs, Replace, Tariff, Traits, Tree

from ._policy_facts import endpoint_is_closed
from ._spec import AwsType, Policy, TaggedSpec
from ._usage import LOG_LINES, log_gb

_CONTROL_GB_PER_MONTH = 0.1


class VpcEndpointSpec(TaggedSpec):
    """A gateway endpoint lies in route tables and is free; an interface endpoint lies in subnets, behind security groups."""

    vpc_id: Annotated[Input[str], Replace("an endpoint cannot move to another network")]
    service_name: Annotated[str, Replace("an endpoint is for one service")]
    vpc_endpoint_type: Annotated[Literal["Gateway", "Interface"], Replace("the kind of an endpoint cannot change")]
    route_table_ids: tuple[Input[str], ...] = ()
    subnet_ids: tuple[Input[str], ...] = ()
    security_group_ids: tuple[Input[str], ...] = ()
    private_dns_enabled: bool = False
    policy_document: Policy | None = None

    @model_validator(mode="after")
    def _of_its_kind(self) -> VpcEndpointSpec:
        gateway = self.vpc_endpoint_type == "Gateway"
        if gateway != bool(self.route_table_ids) or gateway == bool(self.subnet_ids and self.security_group_ids):
            raise ValueError("Gateway needs route_table_ids, Interface needs subnet_ids and security_group_ids")
        if gateway and self.private_dns_enabled:
            raise ValueError("private_dns_enabled is for Interface")
        if f".{self.region}." not in self.service_name:
            raise ValueError(f"its service is not in {self.region}")
        return self


class VpcEndpointOutputs(Outputs):
    """prefix_list_id: of the addresses behind a gateway endpoint; None for an interface endpoint."""

    vpc_endpoint_id: str
    prefix_list_id: str | None = None


class AwsVpcEndpoint(AwsType[VpcEndpointSpec, VpcEndpointOutputs]):
    """An endpoint."""

    name = "aws_vpc_endpoint"
    spec = VpcEndpointSpec
    outputs = VpcEndpointOutputs

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Only the network reaches it. One for S3 that lets only some buckets through is there because nothing else is."""
        gateway = values["vpc_endpoint_type"] == "Gateway"
        alone = gateway and values["policy_document"] is not None
        note = "machines reach nothing outside AWS: engine, packages and the model's files must lie in the stack's bucket first"
        return self._told(
            values,
            in_transit="encrypted",
            exposure="private",
            egress="listed" if not gateway or endpoint_is_closed(values["policy_document"], values["region"]) else "open",
            notes=(note,) if alone else (),
        )

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return an interface endpoint by the hour in each zone, and what passes through it."""
        if values["vpc_endpoint_type"] == "Gateway":
            return ()
        service, zones = values["service_name"].rsplit(".", 1)[1], len(values["subnet_ids"])
        logs = service == "logs"
        through_gb = log_gb(tariff.usage) if logs else _CONTROL_GB_PER_MONTH
        note = LOG_LINES if logs else f"assumed: {_CONTROL_GB_PER_MONTH} GB a month"
        return (
            tariff.line(
                f"endpoint for {service}", zones, "endpoint.interface_hour", note=f"in {zones} zones" if zones > 1 else ""
            ),
            tariff.line(f"through the endpoint for {service}", through_gb, "endpoint.gb", "month", note=note),
        )


RESOURCE = AwsVpcEndpoint()
