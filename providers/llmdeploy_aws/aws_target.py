"""`aws_target`: one machine in a target group.

Elastic Load Balancing v2: RegisterTargets; DescribeTargetHealth until `healthy`; DeregisterTargets, and wait until its open
connections have ended.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from llmdeploy.sdk import Input, Outputs, Replace

from ._spec import AwsSpec, AwsType, Port


class TargetSpec(AwsSpec):
    """target_id: the machine; port: of its gateway."""

    target_group_arn: Annotated[Input[str], Replace("a target is in one target group")]
    target_id: Annotated[Input[str], Replace("another machine is another target")]
    port: Annotated[Port, Replace("another port is another target")]


class AwsTarget(AwsType[TargetSpec, Outputs]):
    """A machine that gets requests."""

    name: ClassVar[str] = "aws_target"
    service: ClassVar[str] = "elasticloadbalancing"
    spec = TargetSpec
    outputs = Outputs


RESOURCE = AwsTarget()
