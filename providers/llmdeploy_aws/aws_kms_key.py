"""`aws_kms_key`: the stack's own key, which encrypts disks, bucket, secrets and logs.

KMS: CreateKey, CreateAlias, EnableKeyRotation; DescribeKey, GetKeyPolicy, GetKeyRotationStatus; PutKeyPolicy, UpdateAlias,
UpdateKeyDescription, TagResource; DeleteAlias, ScheduleKeyDeletion. A key is never deleted at once: it waits for
`pending_window_in_days`, and until then CancelKeyDeletion and EnableKey bring it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llmdeploy.sdk import CostLine, Outputs, Replace, Tariff, Traits, Tree

from ._policy_facts import key_grants
from ._spec import AwsType, Policy, TaggedSpec

_REQUESTS_PER_MONTH = 1_000


class KmsKeySpec(TaggedSpec):
    """A symmetric key of one region. rotation_period_in_days: new key material that often; the key and its ARN stay."""

    alias_name: str
    description: str
    key_spec: Annotated[Literal["SYMMETRIC_DEFAULT"], Replace("the kind of a key cannot change")] = "SYMMETRIC_DEFAULT"
    key_usage: Annotated[Literal["ENCRYPT_DECRYPT"], Replace("the use of a key cannot change")] = "ENCRYPT_DECRYPT"
    multi_region: Annotated[bool, Replace("a key of one region cannot become one of several")] = False
    policy: Policy
    rotation_period_in_days: Annotated[int, Field(ge=90, le=2560)] = 365
    pending_window_in_days: Annotated[int, Field(ge=7, le=30)]


class KmsKeyOutputs(Outputs):
    """The key's id and ARN."""

    key_id: str
    arn: str


class AwsKmsKey(AwsType[KmsKeySpec, KmsKeyOutputs]):
    """A key. What it encrypted is lost with it: destroy schedules its deletion, and can be told to keep it."""

    name: ClassVar[str] = "aws_kms_key"
    service: ClassVar[str] = "kms"
    spec = KmsKeySpec
    outputs = KmsKeyOutputs
    holds_data: ClassVar[bool] = True

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """The key lies in AWS's key service. Its policy says who uses it; whoever it lets in besides is told."""
        days = values["pending_window_in_days"]
        note = f"destroy schedules the deletion of this key in {days} days; after that nobody can read what it encrypted"
        return self._told(
            values,
            custody="kms",
            key_rotation_days=values["rotation_period_in_days"] or 0,
            leaves_region=bool(values["multi_region"]),
            wide_grants=key_grants(values["policy"], values["region"]),
            erased=True,
            notes=(note,),
        )

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return the key by the month, and its use."""
        del values
        month = tariff.line("KMS key", 1, "kms.key_month", "month", note="one more for each of its first two rotations")
        return (month, requests_line(tariff))


def requests_line(tariff: Tariff) -> CostLine:
    """Return what the use of a key costs."""
    note = f"assumed: {_REQUESTS_PER_MONTH:,} requests for volumes, bucket key and log group"
    return tariff.line("requests to the KMS key", _REQUESTS_PER_MONTH / 10_000, "kms.10k_requests", "month", note=note)


RESOURCE = AwsKmsKey()
