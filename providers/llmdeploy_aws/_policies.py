"""Policy documents: who may do what, and nothing more. References stand where an ARN is known after apply only.

In the policies of a key, a secret and an endpoint `Resource: "*"` means the thing itself. Elsewhere a star stands only where the
service knows no resources: the channels of Session Manager.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmdeploy.sdk import Tree

from ._names import dns_suffix, partition
from ._spec import Policy

_VERSION = "2012-10-17"
_SESSION_ACTIONS = (
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
NO_RESOURCES: Final = frozenset(_SESSION_ACTIONS)
"""Actions of services that know no resources: only for these a star may stand as the resource of a role's statement."""


def key_policy(region: str, root_arn: Tree, log_groups_arn: Tree, principals: Sequence[str]) -> Policy:
    """Return the policy of the stack's key: the account administers it, logs use it, principals decrypt their API keys.

    The first statement is what lets IAM policies of the account grant anything; without it a key can lock its owner out.
    """
    statements: list[Policy] = [
        {"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": root_arn}, "Action": "kms:*", "Resource": "*"},
        {
            "Sid": "Logs",
            "Effect": "Allow",
            "Principal": {"Service": f"logs.{region}.{dns_suffix(region)}"},
            "Action": ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
            "Resource": "*",
            "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": log_groups_arn}},
        },
    ]
    if principals:
        statements.append(
            {
                "Sid": "ReadApiKeys",
                "Effect": "Allow",
                "Principal": {"AWS": sorted(set(principals))},
                "Action": "kms:Decrypt",
                "Resource": "*",
                "Condition": {"StringEquals": {"kms:ViaService": f"secretsmanager.{region}.{dns_suffix(region)}"}},
            }
        )
    return _document(*statements)


def bucket_policy(key_arn: Tree) -> Policy:
    """Return the policy of the bucket: nothing in clear, and no other key. `{bucket_arn}` is the bucket's own ARN."""
    return _document(
        {
            "Sid": "OnlyTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": ["{bucket_arn}", "{bucket_arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
        {
            "Sid": "OnlyThisKey",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": "{bucket_arn}/*",
            "Condition": {"StringNotEqualsIfExists": {"s3:x-amz-server-side-encryption-aws-kms-key-id": key_arn}},
        },
    )


def secret_policy(principal: str) -> Policy:
    """Return the policy of one API key: its principal may read it, and nobody else, whatever their own policies say."""
    return _document(
        {
            "Sid": "PrincipalReads",
            "Effect": "Allow",
            "Principal": {"AWS": principal},
            "Action": ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
            "Resource": "*",
        },
        {
            "Sid": "NobodyElseReads",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": "*",
            "Condition": {"StringNotEquals": {"aws:PrincipalArn": principal}},
        },
    )


def trust_policy(region: str) -> Policy:
    """Return who may take the machines' role: EC2, for machines."""
    service = f"ec2.{dns_suffix(region)}" if partition(region) == "aws-cn" else "ec2.amazonaws.com"
    return _document({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"})


def node_policy(
    region: str, stack: str, *, bucket_arn: Tree, objects_arn: Tree, key_arn: Tree, log_arn: Tree, streams_arn: Tree
) -> Policy:
    """Return what a machine may do: read the model's files, open its own volume, write its log, be reached by its operator.

    It may read no API key: gateways know hashes only.
    """
    return _document(
        {"Sid": "ListModelFiles", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket_arn},
        {"Sid": "ReadModelFiles", "Effect": "Allow", "Action": "s3:GetObject", "Resource": objects_arn},
        {
            "Sid": "DecryptModelFiles",
            "Effect": "Allow",
            "Action": "kms:Decrypt",
            "Resource": key_arn,
            "Condition": {"StringEquals": {"kms:ViaService": f"s3.{region}.{dns_suffix(region)}"}},
        },
        {
            "Sid": "OpenVolume",
            "Effect": "Allow",
            "Action": "kms:Decrypt",
            "Resource": key_arn,
            "Condition": {"StringEquals": {"kms:EncryptionContext:llmdeploy:stack": stack}},
        },
        {
            "Sid": "WriteLog",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": [log_arn, streams_arn],
        },
        {
            "Sid": "Register",
            "Effect": "Allow",
            "Action": "ssm:UpdateInstanceInformation",
            "Resource": f"arn:{partition(region)}:ec2:{region}:*:instance/*",
        },
        {"Sid": "SessionManager", "Effect": "Allow", "Action": list(_SESSION_ACTIONS), "Resource": "*"},
    )


def storage_endpoint_policy(bucket_arn: Tree, objects_arn: Tree) -> Policy:
    """Return what the S3 endpoint lets through when it is the only way out: reading the stack's own bucket."""
    return _document(
        {
            "Sid": "OwnBucket",
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": [bucket_arn, objects_arn],
        }
    )


def _document(*statements: Policy) -> Policy:
    return {"Version": _VERSION, "Statement": list(statements)}
