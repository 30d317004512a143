"""`aws_security_group`: a name for network interfaces that rules are about.

EC2: CreateSecurityGroup; DescribeSecurityGroups; CreateTags; DeleteSecurityGroup, once no rule and no interface refers to it. The
rule that AWS gives every new group, which lets everything out, is revoked at once: only `aws_security_group_rule`s count.
"""

from __future__ import annotations

from typing import Annotated

from llmdeploy.sdk import Input, Outputs, Replace

from ._spec import AwsType, TaggedSpec


class SecurityGroupSpec(TaggedSpec):
    """A group without rules lets nothing in and nothing out."""

    group_name: Annotated[str, Replace("a security group cannot be renamed")]
    description: Annotated[str, Replace("the description of a security group cannot change")]
    vpc_id: Annotated[Input[str], Replace("a security group cannot move to another network")]


class SecurityGroupOutputs(Outputs):
    """Its id."""

    group_id: str


class AwsSecurityGroup(AwsType[SecurityGroupSpec, SecurityGroupOutputs]):
    """A security group."""

    name = "aws_security_group"
    spec = SecurityGroupSpec
    outputs = SecurityGroupOutputs


RESOURCE = AwsSecurityGroup()
