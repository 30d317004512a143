"""`aws_iam_role`: what the machines may do in the account, and nothing else.

IAM: CreateRole, PutRolePolicy; GetRole, GetRolePolicy; UpdateAssumeRolePolicy, UpdateRole, TagRole; DeleteRolePolicy, DeleteRole.
IAM is one service for all regions of a partition: the region is only part of the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from llmdeploy.sdk import Identity, Outputs, Replace, Traits, Tree

from ._policy_facts import role_grants, trust_grants
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

    name: ClassVar[str] = "aws_iam_role"
    service: ClassVar[str] = "iam"
    spec = IamRoleSpec
    outputs = IamRoleOutputs

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The name is the one asked for."""
        del identity
        return {"role_name": values["role_name"]}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Roles lie in no region. What this one gives is judged by its two documents."""
        region = values["region"]
        wide = (
            *role_grants(values["policy_document"], region),
            *trust_grants(values["assume_role_policy_document"], region),
        )
        return self._global().model_copy(update={"wide_grants": wide})


RESOURCE = AwsIamRole()
