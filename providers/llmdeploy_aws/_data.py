"""What is kept and who may use it: the key, the log, the bucket, the API keys, and the machines' role."""

from __future__ import annotations

from llmdeploy.sdk import KeyRequest, Ref, Resource, Tree

from . import _policies as policies
from ._names import fitted, log_group_name
from ._site import Site
from .aws_log_group import retention

ACCOUNT, LOGS, BUCKET = "aws_account.current", "aws_log_group.gateway", "aws_s3_bucket.weights"
ROLE, PROFILE = "aws_iam_role.node", "aws_instance_profile.node"
_SECRET_RECOVERY_DAYS = 30
_MAX_ROLE, _MAX_BUCKET_PREFIX = 64, 55


def key_arn(site: Site) -> Ref:
    """Return the ARN of the key that encrypts everything."""
    return Ref("aws_existing_key.main" if site.config.kms_key else "aws_kms_key.main", "arn")


def secret_address(key: KeyRequest) -> str:
    """Return the address of an API key."""
    return f"aws_secret.{key.name}"


def data(site: Site) -> list[Resource]:
    """Return everything but machines and network."""
    account = site.resource(ACCOUNT, {"account": site.config.account_id}, group="account", path="provider.aws.account_id")
    secrets = [_secret(site, index, key) for index, key in enumerate(site.request.keys)]
    return [account, _key(site), _log_group(site), _bucket(site), *secrets, *_role(site)]


def _key(site: Site) -> Resource:
    if site.config.kms_key:
        values: dict[str, Tree] = {"key_id": site.config.kms_key}
        return site.resource("aws_existing_key.main", values, group="storage", path="provider.aws.kms_key")
    principals = [key.principal for key in site.request.keys]
    values = {
        "alias_name": f"alias/{site.name}",
        "description": f"disks, bucket, API keys and log of {site.name}",
        "policy": policies.key_policy(site.region, Ref(ACCOUNT, "root_arn"), Ref(ACCOUNT, "log_groups_arn"), principals),
        "pending_window_in_days": site.config.kms_deletion_days,
    }
    return site.resource("aws_kms_key.main", values, group="storage")


def _log_group(site: Site) -> Resource:
    wanted = site.request.gateway.log_retention_days
    values: dict[str, Tree] = {
        "log_group_name": log_group_name(site.stack),
        "kms_key_id": key_arn(site),
        "retention_in_days": retention(wanted),
        "wanted_retention_days": wanted,
    }
    return site.resource(LOGS, values, group="storage", path="logs.retention_days")


def _bucket(site: Site) -> Resource:
    values: dict[str, Tree] = {
        "bucket_prefix": f"{fitted(f'{site.name}-weights', _MAX_BUCKET_PREFIX - 1)}-",
        "server_side_encryption": {"kms_master_key_id": key_arn(site)},
        "policy": policies.bucket_policy(key_arn(site)),
    }
    return site.resource(BUCKET, values, group="storage", path="model.id")


def _secret(site: Site, index: int, key: KeyRequest) -> Resource:
    values: dict[str, Tree] = {
        "name": f"llmdeploy/{site.stack}/{key.name}",
        "description": f"API key {key.name} of {site.name}",
        "kms_key_id": key_arn(site),
        "principal": key.principal,
        "max_age_days": key.max_age_days,
        "resource_policy": policies.secret_policy(key.principal),
        "recovery_window_in_days": _SECRET_RECOVERY_DAYS,
    }
    return site.resource(secret_address(key), values, group="keys", path=f"keys[{index}]")


def _role(site: Site) -> list[Resource]:
    name = fitted(f"{site.name}-{site.region}-node", _MAX_ROLE)
    policy = policies.node_policy(
        site.region,
        site.stack,
        bucket_arn=Ref(BUCKET, "arn"),
        objects_arn=Ref(BUCKET, "objects_arn"),
        key_arn=key_arn(site),
        log_arn=Ref(LOGS, "arn"),
        streams_arn=Ref(LOGS, "streams_arn"),
    )
    role: dict[str, Tree] = {
        "role_name": name,
        "description": f"machines of {site.name}",
        "assume_role_policy_document": policies.trust_policy(site.region),
        "policy_name": "node",
        "policy_document": policy,
    }
    profile: dict[str, Tree] = {"instance_profile_name": name, "role_name": Ref(ROLE, "role_name")}
    return [site.resource(ROLE, role, group="account"), site.resource(PROFILE, profile, group="account")]
