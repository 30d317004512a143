"""Clients of AWS, and their failures as sentences. boto3 is imported when the first client is made.

Credentials, profile and endpoint come from where every tool of AWS takes them: AWS_PROFILE, AWS_ENDPOINT_URL_S3 and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from ..errors import StateError
from .bucket import Conflict

T = TypeVar("T")

TRIES = 5
"""How often a call is made that is throttled, times out, or meets an error of the service or of the network."""

_AGAIN = "nothing is lost: run the command again"
_LOG_IN = "log in (`aws sso login`), or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REASONS: Mapping[str, tuple[str, str]] = {
    "NoSuchBucket": ("there is no such bucket", "make it, with versioning on, or correct state.s3.bucket"),
    "AccessDenied": (
        "access is denied",
        "the role needs s3:GetObject and s3:PutObject on the state, s3:DeleteObject on its lock, s3:ListBucket on the bucket, "
        "and kms:Decrypt and kms:GenerateDataKey on a KMS key",
    ),
    "InvalidAccessKeyId": ("the access key is not known there", _LOG_IN),
    "UnrecognizedClientException": ("the access key is not known there", _LOG_IN),
    "SignatureDoesNotMatch": ("the secret access key is wrong", _LOG_IN),
    "InvalidSignatureException": ("the secret access key is wrong", _LOG_IN),
    "ExpiredToken": ("the credentials have expired", _LOG_IN),
    "ExpiredTokenException": ("the credentials have expired", _LOG_IN),
    "InvalidToken": ("the session token is not valid there", _LOG_IN),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "set the clock"),
    "NotFoundException": ("there is no such KMS key", "correct kms_key"),
    "IncorrectKeyException": ("another KMS key made this data key", "correct state.encryption.kms_key"),
    "InvalidCiphertextException": ("the data key was changed, or belongs to another state", "restore what it lies beside"),
    "DisabledException": ("the KMS key is disabled", "enable it, or name another kms_key"),
    "KMSInvalidStateException": ("the KMS key cannot be used now", "look at its state"),
}


class NotSupported(StateError):
    """The service does not know this kind of call."""


class NoWinner(StateError):
    """Two conditional writes met, and neither was done."""


def client(service: str, region: str | None, timeout_s: float) -> Any:
    """Return a client that tries again with jitter, and waits `timeout_s` for each answer."""
    config: Any = import_module("botocore.config").Config(
        connect_timeout=min(5, timeout_s),
        read_timeout=timeout_s,
        retries={"mode": "standard", "total_max_attempts": TRIES},
    )
    boto3: Any = import_module("boto3.session")
    return told(lambda: boto3.Session().client(service, region_name=region, config=config), service, region)


def told(call: Callable[[], T], place: str, region: str | None) -> T:
    """Call, and tell every failure in one sentence. `place` names what was called.

    Raises:
        Conflict: the condition of a write does not hold.
        NoWinner: nor does that of another one that came at the same time; try again.
        NotSupported: the service cannot do that.
        StateError: anything else.
    """
    exceptions: Any = import_module("botocore.exceptions")
    unreadable: Any = import_module("botocore.parsers").ResponseParserError
    try:
        return call()
    except exceptions.ClientError as error:
        raise _refused(error, place, region) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
        raise StateError(f"{place}: there are no AWS credentials", hint=_LOG_IN) from None
    except (exceptions.ConnectionError, exceptions.HTTPClientError, OSError) as error:
        endpoint = getattr(error, "kwargs", {}).get("endpoint_url", "the service")
        raise StateError(
            f"{place}: no answer from {endpoint}", hint=f"check the network, the region and AWS_ENDPOINT_URL_S3; {_AGAIN}"
        ) from None
    except (unreadable, KeyError):  # an answer without what every answer of this service has
        raise StateError(
            f"{place}: what answered is no such service, perhaps a proxy with a page of its own",
            hint=f"check HTTPS_PROXY and AWS_ENDPOINT_URL_S3; {_AGAIN}",
        ) from None
    except exceptions.BotoCoreError as error:
        # A profile that does not exist, a single sign-on that ended, and the like: the text says which.
        raise StateError(f"{place}: {error}", hint=_LOG_IN) from None


def _refused(error: Any, place: str, region: str | None) -> StateError:
    details: Mapping[str, Any] = error.response.get("Error", {})
    answer: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), int(answer.get("HTTPStatusCode", 0))
    if status == 412 or code in ("PreconditionFailed", "NoSuchKey"):
        return Conflict(f"{place}: an object is not the one that was read", hint=_AGAIN)
    if status == 409:
        return NoWinner(f"{place}: two writers at once", hint=_AGAIN)
    if status == 501 or code == "NotImplemented":
        return NotSupported(f"{place} cannot do {error.operation_name}", hint="use another store")
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"):
        right = answer.get("HTTPHeaders", {}).get("x-amz-bucket-region") or details.get("Region") or "the one it is in"
        return StateError(f"{place} is not in {region}", hint=f"write state.s3.region: {right}")
    reason = _REASONS.get(code.removeprefix("KMS.")) or {403: _REASONS["AccessDenied"], 404: _REASONS["NoSuchBucket"]}.get(status)
    if reason:
        return StateError(f"{place}: {reason[0]} ({error.operation_name})", hint=reason[1])
    if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout", "ThrottlingException"):
        return StateError(f"{place} answered {status} {code} {TRIES} times ({error.operation_name})", hint=_AGAIN)
    message = f"{place} refused {error.operation_name}: {code}: {details.get('Message', '')}"
    return StateError(message, hint="look at the policies of the bucket and of the key")
