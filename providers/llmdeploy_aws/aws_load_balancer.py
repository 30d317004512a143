"""`aws_load_balancer`: the network load balancer before the gateways. It passes TCP on; TLS ends in the gateways.

Elastic Load Balancing v2: CreateLoadBalancer, ModifyLoadBalancerAttributes; DescribeLoadBalancers until `active`; SetSubnets,
SetSecurityGroups, AddTags; DeleteLoadBalancer, whose network interfaces stay for minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llmdeploy.sdk import CostLine, Input, Outputs, Replace, Tariff, Traits, Tree

from ._spec import AwsType, TaggedSpec
from ._usage import TRAFFIC, answers_gb, traffic_gb

_CONNECTIONS_PER_LCU_HOUR = 800 * 3600


class LoadBalancerSpec(TaggedSpec):
    """scheme: `internal` has addresses of the network only. attributes: as the API names them. vpc_id: no parameter of a call."""

    name: Annotated[str, Field(max_length=32), Replace("a load balancer cannot be renamed")]
    type: Annotated[Literal["network"], Replace("the kind of a load balancer cannot change")] = "network"
    scheme: Annotated[Literal["internal", "internet-facing"], Replace("a load balancer cannot become public or private")]
    ip_address_type: Literal["ipv4"] = "ipv4"
    vpc_id: Annotated[Input[str], Replace("a load balancer cannot move to another network")]
    subnets: Annotated[tuple[Input[str], ...], Field(min_length=1)]
    security_groups: Annotated[tuple[Input[str], ...], Field(min_length=1)]
    attributes: Mapping[str, str]


class LoadBalancerOutputs(Outputs):
    """dns_name: what clients call. canonical_hosted_zone_id: for an alias in Route 53."""

    load_balancer_arn: str
    dns_name: str
    canonical_hosted_zone_id: str


class AwsLoadBalancer(AwsType[LoadBalancerSpec, LoadBalancerOutputs]):
    """A load balancer."""

    name: ClassVar[str] = "aws_load_balancer"
    service: ClassVar[str] = "elasticloadbalancing"
    spec = LoadBalancerSpec
    outputs = LoadBalancerOutputs

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """It passes TCP on, where its listeners say; whoever it leads on must show the gateways an API key."""
        exposure = "public" if values["scheme"] == "internet-facing" else "private"
        return self._told(values, in_transit="encrypted", exposure=exposure, authenticated=True)

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return the load balancer by the hour, its capacity units, its public addresses, and the traffic that is paid."""
        usage, zones, public = tariff.usage, len(values["subnets"]), values["scheme"] == "internet-facing"
        units = max(traffic_gb(usage), usage.requests / _CONNECTIONS_PER_LCU_HOUR)
        found = [
            tariff.line("load balancer", 1, "nlb.hour"),
            tariff.line("capacity units of the load balancer", units, "nlb.lcu_hour", "month", note=f"1 for each GB; {TRAFFIC}"),
        ]
        if public:
            found.append(tariff.line("public IPv4 addresses of the load balancer", zones, "public_ipv4.hour"))
            note = f"AWS's first free GB not taken off; {TRAFFIC}"
            found.append(tariff.line("answers to the internet", answers_gb(usage), "transfer.out_gb", "month", note=note))
        if zones > 1:
            found.append(_between_zones(zones, tariff))
        return tuple(found)


def _between_zones(zones: int, tariff: Tariff) -> CostLine:
    """Return the traffic that changes zones twice: to any gateway, and from there to the replica that the session belongs to.

    Each time the other side is in another zone for all but one of `zones`.
    """
    gigabytes = traffic_gb(tariff.usage) * 2 * (zones - 1) / zones
    note = f"two hops, {zones - 1} of {zones} times into another zone; {TRAFFIC}"
    return tariff.line("traffic between zones", gigabytes, "transfer.cross_az_gb", "month", note=note)


RESOURCE = AwsLoadBalancer()
