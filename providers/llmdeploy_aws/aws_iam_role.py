"""`aws_iam_role`: what the machines may do in the account, and nothing else.

IAM: CreateRole, PutRolePolicy; GetRole, GetRolePolicy; UpdateAssumeRolePolicy, UpdateRole, TagRole; DeleteRolePolicy, DeleteRole.
IAM is one service for all regions of a partition: the region is only part of the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from llmdeploy.sdk import Identity, Outputs, Replace, Traits, Tree

from ._spec import AwsType, Policy, TaggedSpec


class IamRoleSpec(TaggedSpec):
    """assume_role_policy_document: who may take the role; policy_document: its one inline policy."""

    role_name: Annotated[str, Field(max_length=64), Replace("a role cannot be renamed")]
    path: Annotated[str, Replace("the path of a role cannot change")] = "/llmdeploy/"
    description: str
    assume_role_policy_document: Policy
    policy_name: str
    policy_document: Policy


class IamRoleOutputs(Outputs):
    """Its name and ARN."""

    role_name: str
    arn: str


class AwsIamRole(AwsType[IamRoleSpec, IamRoleOutputs]):
    """A role."""

    name = "aws_iam_role"
    spec = IamRoleSpec
    outputs = IamRoleOutputs

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The name is the one asked for."""
        del identity
        return {"role_name": values["role_name"]}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Roles lie in no region."""
        del values
        return Traits()


RESOURCE = AwsIamRole()
