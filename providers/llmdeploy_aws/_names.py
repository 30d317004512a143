"""Names, tags and ARNs."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import IPv4Network

_PARTITIONS = {"cn": "aws-cn", "us-gov": "aws-us-gov", "eusc": "aws-eusc"}
_SUFFIXES = {"aws-cn": "amazonaws.com.cn", "aws-eusc": "amazonaws.eu"}
_DIGEST_CHARACTERS = 6
_OWN_PREFIX = 8


def fitted(name: str, limit: int) -> str:
    """Return `name`, or when it is too long its beginning with a digest of the whole, at most `limit` characters."""
    if len(name) <= limit:
        return name
    digest = sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{name[: limit - _DIGEST_CHARACTERS - 1].rstrip('-')}-{digest}"


def partition(region: str) -> str:
    """Return the partition of a region: the part of AWS that has accounts of its own."""
    return next((name for prefix, name in _PARTITIONS.items() if region.startswith(f"{prefix}-")), "aws")


def dns_suffix(region: str) -> str:
    """Return the domain of the services of a region."""
    return _SUFFIXES.get(partition(region), "amazonaws.com")


def is_everywhere(cidr: str) -> bool:
    """Tell whether addresses reach beyond anybody's own: all of the internet, or a large part of it."""
    return IPv4Network(cidr).prefixlen < _OWN_PREFIX


def tags(stack: str, address: str) -> dict[str, str]:
    """Return the tag that AWS's console shows as the name of a resource."""
    key = address.split(".", 1)[1]
    return {"Name": f"llmdeploy-{stack}-{key}"}


def log_group_name(stack: str) -> str:
    """Return the name of the log group of a stack."""
    return f"/llmdeploy/{stack}/gateway"


def account_arns(region: str, account: str) -> dict[str, str]:
    """Return the outputs of `aws_account` for an account number."""
    own = partition(region)
    return {
        "account": account,
        "root_arn": f"arn:{own}:iam::{account}:root",
        "log_groups_arn": f"arn:{own}:logs:{region}:{account}:log-group:/llmdeploy/*",
    }
