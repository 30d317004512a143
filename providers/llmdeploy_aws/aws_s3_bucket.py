"""`aws_s3_bucket`: the stack's copy of the model's files.

S3: CreateBucket, PutBucketOwnershipControls, PutPublicAccessBlock, PutBucketEncryption, PutBucketVersioning, PutBucketPolicy,
PutBucketLifecycleConfiguration, PutBucketTagging; HeadBucket and the Get calls of these; DeleteObjects of every version,
AbortMultipartUpload, DeleteBucket.

Bucket names are unique in the whole world, so the name ends in the stack's lineage. `{bucket_arn}` in the policy is its own ARN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llmdeploy.sdk import CostLine, Identity, Input, Outputs, Replace, Tariff, Traits, Tree

from ._names import partition
from ._policy_facts import bucket_grants, bucket_refuses_other_keys, bucket_refuses_plain
from ._spec import AwsType, Custody, Part, Policy, TaggedSpec, custody
from ._usage import weights_gb

_LINEAGE_CHARACTERS = 8


class Encryption(Part):
    """The default encryption of every object. bucket_key_enabled: one call to KMS for many objects."""

    sse_algorithm: Literal["aws:kms"] = "aws:kms"
    kms_master_key_id: Input[str]
    bucket_key_enabled: bool = True


class PublicAccessBlock(Part):
    """No access list and no policy can make the bucket public."""

    block_public_acls: bool = True
    ignore_public_acls: bool = True
    block_public_policy: bool = True
    restrict_public_buckets: bool = True


class Lifecycle(Part):
    """Days after which what nobody needs is removed: parts of uploads that were given up, and replaced versions."""

    days_after_initiation: Annotated[int, Field(ge=1)] = 1
    noncurrent_days: Annotated[int, Field(ge=1)] = 7


class BucketSpec(TaggedSpec):
    """bucket_prefix: of the name, no parameter of a call."""

    bucket_prefix: Annotated[str, Replace("a bucket cannot be renamed")]
    object_ownership: Literal["BucketOwnerEnforced"] = "BucketOwnerEnforced"
    server_side_encryption: Encryption
    public_access_block: PublicAccessBlock = PublicAccessBlock()
    versioning: Literal["Enabled"] = "Enabled"
    lifecycle: Lifecycle = Lifecycle()
    policy: Policy


class BucketOutputs(Outputs):
    """arn: of the bucket; objects_arn: of every object in it."""

    bucket: str
    arn: str
    objects_arn: str


class AwsS3Bucket(AwsType[BucketSpec, BucketOutputs]):
    """A bucket that nobody outside can read, over TLS only."""

    name: ClassVar[str] = "aws_s3_bucket"
    service: ClassVar[str] = "s3"
    spec = BucketSpec
    outputs = BucketOutputs
    holds_data: ClassVar[bool] = True

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The name is known as soon as the stack has a lineage."""
        if identity.lineage is None:
            return {}
        bucket = f"{values['bucket_prefix']}{identity.lineage[:_LINEAGE_CHARACTERS]}"
        arn = f"arn:{partition(values['region'])}:s3:::{bucket}"
        return {"bucket": bucket, "arn": arn, "objects_arn": f"{arn}/*"}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """S3 encrypts always; with whose key, default encryption and policy decide. The policy refuses calls without TLS."""
        region, policy = values["region"], values["policy"]
        return self._told(
            values,
            at_rest="encrypted",
            custody=_custody(values),
            in_transit="encrypted" if bucket_refuses_plain(policy, region) else "plain",
            exposure="private" if all(values["public_access_block"].values()) else "public",
            leaves_region=False,
            erased=True,
            wide_grants=(*bucket_grants(policy, region), *_lists(values["object_ownership"])),
        )

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return one copy of the model's files."""
        del values
        note = "one copy of the model's files"
        return (tariff.line("model files in the bucket", weights_gb(tariff.usage), "s3.gb_month", "month", note=note),)


def _custody(values: Mapping[str, Tree]) -> Custody:
    """Return where the key of the objects lies: the stack's in KMS only when no object can name another."""
    default = values["server_side_encryption"]
    key = default["kms_master_key_id"] if str(default["sse_algorithm"]).startswith("aws:kms") else None
    only = bucket_refuses_other_keys(values["policy"], values["region"], key)
    return custody(key if only else None)


def _lists(ownership: str) -> tuple[str, ...]:
    return () if ownership == "BucketOwnerEnforced" else ("access lists of single objects count beside the policy",)


RESOURCE = AwsS3Bucket()
