"""`aws_instance_profile`: the form in which machines get a role.

IAM: CreateInstanceProfile, AddRoleToInstanceProfile; GetInstanceProfile; TagInstanceProfile; RemoveRoleFromInstanceProfile,
DeleteInstanceProfile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from llmdeploy.sdk import Identity, Input, Outputs, Replace, Traits, Tree

from ._spec import AwsType, TaggedSpec


class InstanceProfileSpec(TaggedSpec):
    """role_name: the role in it; there can be one."""

    instance_profile_name: Annotated[str, Field(max_length=128), Replace("an instance profile cannot be renamed")]
    path: Annotated[str, Replace("the path of an instance profile cannot change")] = "/llmdeploy/"
    role_name: Input[str]


class InstanceProfileOutputs(Outputs):
    """Its name and ARN."""

    instance_profile_name: str
    arn: str


class AwsInstanceProfile(AwsType[InstanceProfileSpec, InstanceProfileOutputs]):
    """An instance profile."""

    name: ClassVar[str] = "aws_instance_profile"
    service: ClassVar[str] = "iam"
    spec = InstanceProfileSpec
    outputs = InstanceProfileOutputs

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The name is the one asked for."""
        del identity
        return {"instance_profile_name": values["instance_profile_name"]}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Instance profiles lie in no region."""
        del values
        return self._global()


RESOURCE = AwsInstanceProfile()
