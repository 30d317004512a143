"""What AWS answers becomes one sentence, with what to do next."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from llmdeploy.errors import StateError
from llmdeploy.state import aws
from llmdeploy.state.bucket import Conflict

EXCEPTIONS: Any = import_module("botocore.exceptions")


def answered(status: int, code: str, headers: dict[str, str] | None = None) -> Exception:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    return EXCEPTIONS.ClientError({"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": metadata}, "PutObject")


@pytest.mark.parametrize(
    ("error", "sentence", "hint"),
    [
        (answered(403, "AccessDenied"), "access is denied (PutObject)", "s3:PutObject"),
        (answered(403, "403"), "access is denied", "s3:ListBucket"),
        (answered(404, "NoSuchBucket"), "there is no such bucket", "state.s3.bucket"),
        (answered(403, "InvalidAccessKeyId"), "the access key is not known there", "AWS_PROFILE"),
        (answered(403, "SignatureDoesNotMatch"), "the secret access key is wrong", "AWS_PROFILE"),
        (answered(400, "ExpiredToken"), "the credentials have expired", "aws sso login"),
        (answered(403, "RequestTimeTooSkewed"), "the clock of this machine is wrong", "set the clock"),
        (answered(301, "PermanentRedirect", {"x-amz-bucket-region": "us-east-2"}), "is not in eu-west-1", "region: us-east-2"),
        (answered(400, "AuthorizationHeaderMalformed"), "is not in eu-west-1", "the one it is in"),
        (answered(503, "SlowDown"), "answered 503 SlowDown 5 times", "run the command again"),
        (answered(400, "KMS.DisabledException"), "the KMS key is disabled", "enable it"),
        (answered(400, "NotFoundException"), "there is no such KMS key", "kms_key"),
        (answered(400, "MalformedPolicy"), "refused PutObject: MalformedPolicy: m", "policies"),
        (answered(501, "NotImplemented"), "cannot do PutObject", "another store"),
        (EXCEPTIONS.NoCredentialsError(), "there are no AWS credentials", "AWS_ACCESS_KEY_ID"),
        (EXCEPTIONS.ProfileNotFound(profile="nobody"), "nobody", "AWS_PROFILE"),
        (EXCEPTIONS.EndpointConnectionError(endpoint_url="https://x"), "no answer from https://x", "AWS_ENDPOINT_URL_S3"),
        (EXCEPTIONS.ReadTimeoutError(endpoint_url="https://x"), "no answer from https://x", "check the network"),
        (EXCEPTIONS.UnauthorizedSSOTokenError(), "SSO", "aws sso login"),
        (ConnectionResetError("reset"), "no answer", "check the network"),
    ],
    ids=str,
)
def test_an_error_is_told(error: Exception, sentence: str, hint: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(StateError) as told:
        aws.told(fail, "s3://b", "eu-west-1")
    assert sentence in told.value.message
    assert told.value.message.startswith("s3://b")
    assert "\n" not in told.value.message
    assert hint in told.value.hint


@pytest.mark.parametrize("code", ["PreconditionFailed", "NoSuchKey", "412"])
def test_a_condition_that_does_not_hold_is_a_conflict(code: str) -> None:
    def fail() -> None:
        raise answered(404 if code == "NoSuchKey" else 412, code)

    with pytest.raises(Conflict):
        aws.told(fail, "s3://b", None)
