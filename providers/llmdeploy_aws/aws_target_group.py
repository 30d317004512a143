"""`aws_target_group`: the gateways behind the load balancer, and how it tells which of them are well.

Elastic Load Balancing v2: CreateTargetGroup, ModifyTargetGroupAttributes; DescribeTargetGroups; ModifyTargetGroup, AddTags;
DeleteTargetGroup, once no listener refers to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llmdeploy.sdk import Input, Outputs, Replace, Traits, Tree

from ._spec import AwsType, Part, Port, TaggedSpec, passed_on


class Matcher(Part):
    """The status of an answer that is well."""

    http_code: str = "200"


class TargetGroupSpec(TaggedSpec):
    """Machines at one port. health_check_*: a request over TLS that needs no API key and says no more than that it is well."""

    name: Annotated[str, Field(max_length=32), Replace("a target group cannot be renamed")]
    protocol: Annotated[Literal["TCP"], Replace("the protocol of a target group cannot change")] = "TCP"
    port: Annotated[Port, Replace("the port of a target group cannot change")]
    vpc_id: Annotated[Input[str], Replace("a target group cannot move to another network")]
    target_type: Annotated[Literal["instance"], Replace("the kind of targets cannot change")] = "instance"
    health_check_protocol: Literal["HTTPS"] = "HTTPS"
    health_check_port: Literal["traffic-port"] = "traffic-port"
    health_check_path: str
    health_check_interval_seconds: Annotated[int, Field(ge=5, le=300)] = 10
    health_check_timeout_seconds: Annotated[int, Field(ge=2, le=120)] = 6
    healthy_threshold_count: Annotated[int, Field(ge=2, le=10)] = 2
    unhealthy_threshold_count: Annotated[int, Field(ge=2, le=10)] = 2
    matcher: Matcher = Matcher()
    attributes: Mapping[str, str]


class TargetGroupOutputs(Outputs):
    """Its ARN."""

    target_group_arn: str


class AwsTargetGroup(AwsType[TargetGroupSpec, TargetGroupOutputs]):
    """A target group."""

    name: ClassVar[str] = "aws_target_group"
    service: ClassVar[str] = "elasticloadbalancing"
    spec = TargetGroupSpec
    outputs = TargetGroupOutputs

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """The gateways end TLS themselves."""
        return self._told(values, in_transit=passed_on(values["protocol"]))


RESOURCE = AwsTargetGroup()
