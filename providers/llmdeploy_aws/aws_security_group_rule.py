"""`aws_security_group_rule`: one kind of traffic that is let in or out.

EC2: AuthorizeSecurityGroupIngress or AuthorizeSecurityGroupEgress with one permission; DescribeSecurityGroupRules;
ModifySecurityGroupRules, CreateTags; RevokeSecurityGroupIngress or RevokeSecurityGroupEgress. Rules are resources of their own
because groups refer to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import model_validator

from llmdeploy.sdk import DataFlow, Input, NotDiffed, Outputs, Replace, ReplaceWith, Traits, Tree

from ._names import is_everywhere
from ._spec import AwsType, Port, TaggedSpec

EVERYWHERE = "0.0.0.0/0"


class SecurityGroupRuleSpec(TaggedSpec):
    """The other side is exactly one of cidr_ipv4, prefix_list_id and referenced_group_id. Protocol -1 has no ports.

    key_port: the one port behind which gateways ask for an API key, where a rule leads clients there; no parameter of a call.
    """

    group_id: Annotated[Input[str], Replace("a rule belongs to one security group")]
    is_egress: Annotated[bool, Replace("the direction of a rule cannot change")]
    ip_protocol: Literal["tcp", "-1"] = "tcp"
    from_port: Port | None = None
    to_port: Port | None = None
    cidr_ipv4: str | None = None
    prefix_list_id: Input[str] | None = None
    referenced_group_id: Annotated[Input[str] | None, ReplaceWith("the group that it names is replaced")] = None
    description: str
    key_port: Annotated[Port | None, NotDiffed()] = None

    @model_validator(mode="after")
    def _one_other_side(self) -> SecurityGroupRuleSpec:
        given = [side for side in (self.cidr_ipv4, self.prefix_list_id, self.referenced_group_id) if side is not None]
        if len(given) != 1:
            raise ValueError("needs exactly one of cidr_ipv4, prefix_list_id and referenced_group_id")
        if (self.ip_protocol == "tcp") != (self.from_port is not None and self.to_port is not None):
            raise ValueError("tcp needs from_port and to_port, -1 has none")
        return self


class SecurityGroupRuleOutputs(Outputs):
    """Its id."""

    security_group_rule_id: str


class AwsSecurityGroupRule(AwsType[SecurityGroupRuleSpec, SecurityGroupRuleOutputs]):
    """A rule."""

    name = "aws_security_group_rule"
    spec = SecurityGroupRuleSpec
    outputs = SecurityGroupRuleOutputs

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """A rule that lets the whole internet in makes what it guards public; one that lets out to all of it lets data leave.

        Whether that is asked for an API key is known of the gateways' port only.
        """
        anywhere = bool(values["cidr_ipv4"]) and is_everywhere(values["cidr_ipv4"])
        if values["is_egress"]:
            flow = DataFlow(what=f"requests for {values['description']}", to="the internet")
            return self._told(values, egress="open" if anywhere else "listed", data_flows=(flow,) if anywhere else ())
        asked = values["from_port"] == values["to_port"] == values["key_port"] is not None
        return self._told(values, exposure="public" if anywhere else "private", authenticated=asked or None)


RESOURCE = AwsSecurityGroupRule()
