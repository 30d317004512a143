"""`aws_existing_key`: a KMS key that somebody else owns. It is used, and never changed or deleted.

KMS: DescribeKey. Its policy is its owner's: it must let CloudWatch Logs, the machines' role and the principals of the API keys
use the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from llmdeploy.sdk import CostLine, Identity, Outputs, Replace, Tariff, Traits, Tree

from ._spec import AwsSpec, AwsType, custody
from .aws_kms_key import requests_line


class ExistingKeySpec(AwsSpec):
    """key_id: the ARN of the key."""

    key_id: Annotated[str, Replace("what is encrypted stays with the key that encrypted it")]


class ExistingKeyOutputs(Outputs):
    """The key's ARN."""

    arn: str


class AwsExistingKey(AwsType[ExistingKeySpec, ExistingKeyOutputs]):
    """A key, as it is found."""

    name: ClassVar[str] = "aws_existing_key"
    service: ClassVar[str] = "kms"
    spec = ExistingKeySpec
    outputs = ExistingKeyOutputs

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The ARN is the one asked for."""
        del identity
        return {"arn": values["key_id"]}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """The key lies in AWS's key service. Whether it is rotated is its owner's matter."""
        note = (
            "this KMS key is somebody else's: its policy must let CloudWatch Logs, the machines and the keys' principals use it"
        )
        return self._told(values, custody=custody(values["key_id"]), leaves_region=_has_copies(values["key_id"]), notes=(note,))

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return its use; its owner pays for the key."""
        del values
        return (requests_line(tariff),)


def _has_copies(arn: Tree) -> bool | None:
    """Tell whether a key can have copies in other regions, which the ids of such keys say; an alias says nothing."""
    _, key, identifier = str(arn).partition(":key/")
    return identifier.startswith("mrk-") if key else None


RESOURCE = AwsExistingKey()
