"""A bucket of S3, or of a store that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib import import_module
from typing import Any, TypeVar

from ..errors import StateError
from . import aws
from .bucket import Conflict, Stored

T = TypeVar("T")

_RACES = 20
_CUTS = 3


class BotoBucket:
    """One bucket. With a KMS key, every object is encrypted with it by the service."""

    def __init__(self, name: str, region: str, *, kms_key: str | None = None, timeout_s: float = 15) -> None:
        self.name = name
        self.region = region
        self.kms_key = kms_key
        self._timeout_s = timeout_s

    def get(self, key: str) -> Stored | None:
        """See `Bucket.get`."""
        client = self._client

        def call() -> Stored | None:
            try:
                answer = client.get_object(Bucket=self.name, Key=key)
            except client.exceptions.NoSuchKey:
                return None
            date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            age_s = max(0.0, (date - answer["LastModified"]).total_seconds())
            return Stored(_body(answer), answer["ETag"], age_s)

        for _ in range(_CUTS - 1):
            try:
                return self._told(call)
            except _Cut:  # botocore tries again until an answer begins, not when it breaks off
                continue
        return self._told(call)

    def put(self, key: str, content: bytes, *, if_match: str | None) -> str:
        """See `Bucket.put`."""
        condition = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
        return self._race(
            lambda: self._client.put_object(Bucket=self.name, Key=key, Body=content, **condition, **self._encryption())["ETag"]
        )

    def delete(self, key: str, *, if_match: str) -> None:
        """See `Bucket.delete`."""
        try:
            self._race(lambda: self._client.delete_object(Bucket=self.name, Key=key, IfMatch=if_match))
        except aws.NotSupported:
            # Not every store has conditional deletes. The caller looked a moment ago: more than that cannot be had there.
            self._told(lambda: self._client.delete_object(Bucket=self.name, Key=key))

    def versioned(self) -> bool:
        """Return whether the bucket keeps older versions of its objects."""
        return self._told(lambda: self._client.get_bucket_versioning(Bucket=self.name)).get("Status") == "Enabled"

    def encryption(self, key: str) -> tuple[str, str]:
        """Return how an object is encrypted at rest ("" when it is not), and by which KMS key."""
        head = self._told(lambda: self._client.head_object(Bucket=self.name, Key=key))
        return head.get("ServerSideEncryption", ""), head.get("SSEKMSKeyId", "")

    @cached_property
    def _client(self) -> Any:
        return aws.client("s3", self.region, self._timeout_s)

    def _encryption(self) -> Mapping[str, Any]:
        if self.kms_key is None:
            return {}
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key, "BucketKeyEnabled": True}

    def _race(self, call: Callable[[], T]) -> T:
        """Call; a race with another writer that nobody won is run again at once."""
        for _ in range(_RACES):
            try:
                return self._told(call)
            except aws.NoWinner:
                continue
        raise Conflict(f"others write to s3://{self.name} all the time", hint="run the command again")

    def _told(self, call: Callable[[], T]) -> T:
        return aws.told(call, f"s3://{self.name}", self.region)


class _Cut(StateError):
    """An answer broke off."""


def _body(answer: Mapping[str, Any]) -> bytes:
    exceptions: Any = import_module("botocore.exceptions")
    try:
        return answer["Body"].read()
    except (exceptions.HTTPClientError, exceptions.IncompleteReadError, OSError):
        raise _Cut("an answer of the bucket broke off", hint="check the network and run the command again") from None
