"""Whether a bucket can hold a state: it must refuse a write whose condition does not hold, or runs would overwrite each other."""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

from ..errors import StateError
from .boto import BotoBucket
from .bucket import Bucket, Conflict


def check_bucket(bucket: BotoBucket, prefix: str, where: str) -> list[str]:
    """Write, read and remove a small object under `prefix`, and return what is not as it should be, in sentences.

    Raises:
        StateError: the bucket cannot be reached or used, ignores conditions, or does not encrypt as it was asked to.
    """
    key = f"{prefix}/probe-{uuid4().hex}"
    try:
        etag = check_conditions(bucket, key, where)
        method, kms_key = bucket.encryption(key)
        bucket.delete(key, if_match=etag)
    except StateError:
        _remove(bucket, key)
        raise
    if bucket.kms_key is not None and (method != "aws:kms" or not _same_key(bucket.kms_key, kms_key)):
        raise StateError(
            f"{where}: an object is encrypted with {kms_key or method or 'nothing'}, not with {bucket.kms_key}",
            hint="this store does not do what state.s3.kms_key asks for; state.encryption encrypts before anything is sent",
        )
    warnings = [] if method else [f"s3://{bucket.name} says of no object that it is encrypted at rest: see state.encryption"]
    return [*_versioning(bucket), *warnings]


def check_conditions(bucket: Bucket, key: str, where: str) -> str:
    """Write a probe at `key`, see that writes over it are refused, and return its ETag.

    Raises:
        StateError: one of them was not refused.
    """
    etag = bucket.put(key, b"probe\n", if_match=None)
    held = bucket.get(key)
    if held is None or (held.content, held.etag) != (b"probe\n", etag):
        raise StateError(f"{where}: what was just written is not what is read", hint="use another store")
    for what, condition in (("If-None-Match", None), ("If-Match", '"00000000000000000000000000000000"')):
        try:
            bucket.put(key, b"probe that must be refused\n", if_match=condition)
        except Conflict:
            continue
        raise StateError(
            f"{where}: this store ignores conditional writes ({what}), so two runs could overwrite each other's state",
            hint="use Amazon S3, or a store that honours If-Match and If-None-Match on PutObject",
        )
    return etag


def _remove(bucket: Bucket, key: str) -> None:
    with suppress(StateError):
        left = bucket.get(key)
        if left is not None:
            bucket.delete(key, if_match=left.etag)


def _versioning(bucket: BotoBucket) -> list[str]:
    advice = "with it, an older state can be restored"
    try:
        on = bucket.versioned()
    except StateError as error:
        return [f"whether versioning is on cannot be told ({error.message}); {advice}"]
    return [] if on else [f"versioning is off in s3://{bucket.name}: turn it on; {advice}"]


def _same_key(asked: str, used: str) -> bool:
    """Return whether the key in use may be the one that was asked for: an alias cannot be compared with the ARN behind it."""
    if asked.startswith("alias/") or ":alias/" in asked:
        return True
    return used.rpartition("/")[2] == asked.rpartition("/")[2]
