"""What traits need to know of policy documents: who else gets in, and whether what must be refused surely is.

Each answer comes from asking the evaluator about calls that must not succeed, with strangers that no policy of a stack can mean.
What cannot be told counts against the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from llmdeploy.sdk import Ref, Tree, Unknown

from ._names import dns_suffix, partition
from ._policies import NO_RESOURCES
from ._policy_evaluator import HOLDER, Call, decide, listed, mapped, statements

_NOBODYS = "000000000000"
"""An account that does not exist."""
_READ: Final = "secretsmanager:GetSecretValue"
_CHANGE_SECRET: Final = tuple(
    f"secretsmanager:{name}" for name in ("DescribeSecret", "PutResourcePolicy", "PutSecretValue", "DeleteSecret")
)
_USE_KEY: Final = tuple(
    f"kms:{name}" for name in ("Decrypt", "GenerateDataKey", "CreateGrant", "PutKeyPolicy", "ScheduleKeyDeletion")
)
_VIA, _LOG_ARN, _STACK = "kms:ViaService", "kms:EncryptionContext:aws:logs:arn", "kms:EncryptionContext:llmdeploy:stack"
_BUCKET, _OBJECT, _KEY_HEADER = "{bucket_arn}", "{bucket_arn}/x", "s3:x-amz-server-side-encryption-aws-kms-key-id"
_S3: Final = (("s3:GetObject", _OBJECT), ("s3:PutObject", _OBJECT), ("s3:ListBucket", _BUCKET), ("s3:PutBucketPolicy", _BUCKET))
_NEVER_FOR_MACHINES: Final = (
    (_READ, "secretsmanager", "secret:x", "may read API keys"),
    ("s3:GetObject", "s3", "x/x", "may read other buckets"),
    ("s3:ListBucket", "s3", "x", "may list other buckets"),
    ("logs:PutLogEvents", "logs", "log-group:x:log-stream:x", "may write other logs"),
    ("logs:GetLogEvents", "logs", "log-group:x:log-stream:x", "may read logs"),
    ("kms:Decrypt", "kms", "key/x", "may use other keys"),
    ("iam:PassRole", "iam", "role/x", "may pass on roles"),
    ("sts:AssumeRole", "iam", "role/x", "may take other roles"),
    ("ec2:RunInstances", "ec2", "instance/x", "may start machines"),
)


def secret_readers(policy: Tree, principal: str) -> Literal["principal", "others"] | None:
    """Return who can read an API key: only its principal, others too, or (None) not even that one for certain."""
    prefix, name = principal.rsplit(":", 1)[0], principal.rsplit("/", 1)[-1]
    account = {f"{prefix}:root", f"{prefix}:role/administrator-{name}", f"{prefix}:user/{name}-x", f"{principal}-x"}
    account |= {one for one in (*_named(policy, "AWS"), *_exempt(policy)) if one != principal}
    inside = any(not decide(policy, Call(one, _READ)).surely_denies for one in sorted(account))
    if inside or any(decide(policy, Call(one, _READ)).may_allow for one in _strangers(principal.split(":")[1])):
        return "others"
    return "principal" if decide(policy, Call(principal, _READ)).surely_allows else None


def _exempt(policy: Tree) -> Iterator[str]:
    """Yield whom conditions name."""
    for one in statements(policy):
        for tests in (mapped(one.get("Condition")) or {}).values():
            values = (value for named in (mapped(tests) or {}).values() for value in listed(named))
            yield from (value for value in values if isinstance(value, str) and value.startswith("arn:"))


def secret_grants(policy: Tree, principal: str) -> tuple[str, ...]:
    """Return what the policy of an API key gives beyond reading it, as sentences."""
    found = [f"{principal} may call {action}" for action in _CHANGE_SECRET[1:] if _allows(policy, principal, action)]
    for one in _strangers(principal.split(":")[1]):
        found += [f"any other account may call {action}" for action in _CHANGE_SECRET if _allows(policy, one, action)]
    return tuple(dict.fromkeys(found))


def key_grants(policy: Tree, region: str) -> tuple[str, ...]:
    """Return what the policy of a key gives beyond its account, its log, and the principals of API keys, as sentences."""
    return tuple(dict.fromkeys(_key_grants(policy, region)))


def _key_grants(policy: Tree, region: str) -> Iterator[str]:
    suffix, logs = dns_suffix(region), f"logs.{region}.{dns_suffix(region)}"
    own, others = f"secretsmanager.{region}.{suffix}", (None, f"s3.{region}.{suffix}", f"ec2.{region}.{suffix}")
    direct, patterns = {_VIA: None, _LOG_ARN: None}, _log_groups(policy)
    for stranger in _strangers(partition(region)):
        for context in ({_VIA: via, _LOG_ARN: None} for via in (own, *others)):
            yield from _may(policy, "any other account", stranger, _USE_KEY, context)
        for pattern in patterns:
            yield from _may(policy, "any other account", stranger, _USE_KEY, direct | {_LOG_ARN: pattern})
    named_only = _without_accounts(policy)
    for named in _named(policy, "AWS"):
        yield from _may(named_only, named, named, _USE_KEY[1:], direct | {_VIA: own})
        for via in others:
            yield from _may(named_only, f"{named}, not only through Secrets Manager,", named, _USE_KEY, direct | {_VIA: via})
    for service in _named(policy, "Service"):
        strange = f"arn:{partition(region)}:logs:{region}:{_NOBODYS}:log-group:x"
        yield from _may(policy, f"{service}, for any log group,", service, _USE_KEY, direct | {_LOG_ARN: strange})
        yield from _may(policy, f"{service}, for anybody,", service, _USE_KEY, direct)
        yield from (f"{service} may use it" for _ in range(service != logs))
    for pattern in patterns:
        yield from _may(policy, logs, logs, _USE_KEY[2:], direct | {_LOG_ARN: pattern})


def _without_accounts(policy: Tree) -> Tree:
    """Return the policy without statements for whole accounts: these let in whom the account's own policies let in."""
    kept = [one for one in statements(policy) if one.get("Effect") == "Deny" or not _is_accounts(one.get("Principal"))]
    return {"Statement": kept}


def _is_accounts(principal: Tree) -> bool:
    named = mapped(principal) or {}
    values = listed(named.get("AWS")) if set(named) == {"AWS"} else [""]
    return all(isinstance(one, Ref | Unknown) or (isinstance(one, str) and one.endswith(":root")) for one in values)


def _may(policy: Tree, who: str, principal: str, actions: Iterable[str], context: Mapping[str, Tree]) -> Iterator[str]:
    yield from (f"{who} may call {action}" for action in actions if _allows(policy, principal, action, context=context))


def _log_groups(policy: Tree) -> list[Tree]:
    tests = [one.get("Condition", {}).get("ArnLike", {}) for one in statements(policy) if one.get("Condition")]
    return [test[_LOG_ARN] for test in tests if _LOG_ARN in test]


def bucket_refuses_plain(policy: Tree, region: str) -> bool:
    """Tell whether every call without TLS is refused, whoever makes it."""
    callers = (*_strangers(partition(region)), "x.amazonaws.com")
    calls = (Call(who, action, where, {"aws:SecureTransport": "false"}) for who in callers for action, where in _S3)
    return all(decide(policy, call).surely_denies for call in calls)


def bucket_refuses_other_keys(policy: Tree, region: str, key: Tree) -> bool:
    """Tell whether objects that name another key are refused, and those with the bucket's own key are not."""
    who, other = next(_strangers(partition(region))), f"arn:{partition(region)}:kms:{region}:{_NOBODYS}:key/x"
    puts = [decide(policy, Call(who, "s3:PutObject", _OBJECT, {_KEY_HEADER: named})) for named in (other, key)]
    return puts[0].surely_denies and not puts[1].surely_denies


def bucket_grants(policy: Tree, region: str) -> tuple[str, ...]:
    """Return what the policy of a bucket gives others, as sentences."""
    context: Mapping[str, Tree] = {_KEY_HEADER: None}
    callers = tuple(_strangers(partition(region)))
    found = (action for action, where in _S3 for who in callers if _allows(policy, who, action, where, context))
    return tuple(f"any other account may call {action}" for action in dict.fromkeys(found))


def role_grants(policy: Tree, region: str) -> tuple[str, ...]:
    """Return what the policy of the machines' role gives beyond their own files, key and log, as sentences."""
    found = [sentence for one in statements(policy) if one.get("Effect") != "Deny" for sentence in _stars(one)]
    for action, service, thing, sentence in _NEVER_FOR_MACHINES:
        where = f"arn:{partition(region)}:{service}:{region}:{_NOBODYS}:{thing}" if service != "s3" else f"arn:aws:s3:::{thing}"
        found += [sentence] if _allows(policy, HOLDER, action, where, {_VIA: None, _STACK: None}) else []
    services = (None, *(f"{name}.{region}.{dns_suffix(region)}" for name in ("ec2", "secretsmanager")))
    calls = ((resource, {_VIA: via, _STACK: None}) for resource in _decrypted(policy) for via in services)
    if any(_allows(policy, HOLDER, "kms:Decrypt", resource, context) for resource, context in calls):
        found.append("may decrypt with the stack's key what is neither a model file nor its own volume")
    return tuple(dict.fromkeys(found))


def _stars(statement: Mapping[str, Tree]) -> Iterator[str]:
    actions = listed(statement.get("Action"))
    yield from (f"may call {one}" for one in actions if not isinstance(one, str) or "*" in one or "?" in one)
    narrow = [one for one in actions if one not in NO_RESOURCES]
    if narrow and any(one == "*" or not one for one in listed(statement.get("Resource"))):
        yield f"may call {narrow[0]} for everything"


def _decrypted(policy: Tree) -> list[Tree]:
    found = (one for one in statements(policy) if "kms:Decrypt" in listed(one.get("Action")))
    return [resource for one in found for resource in listed(one.get("Resource"))]


def trust_grants(policy: Tree, region: str) -> tuple[str, ...]:
    """Return who besides EC2 may take the machines' role, as sentences."""
    own = f"ec2.{dns_suffix(region)}" if partition(region) == "aws-cn" else "ec2.amazonaws.com"
    callers = {one: "any other account" for one in _strangers(partition(region))} | {one: one for one in _named(policy, "AWS")}
    callers |= {one: one for one in (*_named(policy, "Service"), "lambda.amazonaws.com") if one != own}
    found = (name for who, name in callers.items() if _allows(policy, who, "sts:AssumeRole"))
    return tuple(f"{name} may take it" for name in dict.fromkeys(found))


def endpoint_is_closed(policy: Tree, region: str) -> bool:
    """Tell whether the policy of an S3 endpoint lets nobody reach the buckets of others through it."""
    if policy is None:
        return False
    places = (("s3:GetObject", "arn:aws:s3:::x/x"), ("s3:PutObject", "arn:aws:s3:::x/x"), ("s3:ListBucket", "arn:aws:s3:::x"))
    callers = tuple(_strangers(partition(region)))
    return not any(_allows(policy, who, action, where) for who in callers for action, where in places)


def _strangers(own: str) -> Iterator[str]:
    yield f"arn:{own}:iam::{_NOBODYS}:role/x"
    yield f"arn:{own}:iam::{_NOBODYS}:root"


def _named(policy: Tree, kind: str) -> Iterator[str]:
    """Yield whom allowing statements name: all services, and one role or user of each statement, as the others are treated alike.

    An account stands for those whom its own policies let in, and is nobody in particular.
    """
    for one in statements(policy):
        principal = mapped(one.get("Principal")) if one.get("Effect") != "Deny" else None
        found = [
            value
            for value in listed((principal or {}).get(kind, ()))
            if isinstance(value, str) and value != "*" and not value.endswith(":root")
        ]
        yield from found[:1] if kind == "AWS" else found


def _allows(
    policy: Tree, principal: str, action: str, resource: Tree = "itself", context: Mapping[str, Tree] | None = None
) -> bool:
    return decide(policy, Call(principal, action, resource, context or {})).may_allow
