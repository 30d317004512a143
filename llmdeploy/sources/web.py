"""One request to a server that files or digests come from: limits, tries, redirects, and how a silent server is told.

Proxies and a corporate CA come from the usual variables (`https_proxy`, `no_proxy`, `SSL_CERT_FILE`).
"""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from ipaddress import ip_address
from typing import IO, Literal
from urllib.parse import urlsplit

from ..errors import LlmdeployError

_TIMEOUT_S = 30.0
_TOTAL_S = 300.0
_PAUSES_S = (0.5, 2.0)
"""Waits between tries; as many retries as there are waits."""


@dataclass(frozen=True)
class Question:
    """What is asked. headers: beside the usual ones; `Authorization` stays with the server that it is sent to.

    server: its name in errors. purpose: what it is asked for, as ` for ...`, where its name does not tell. hint: what to do when
    it cannot be reached. max_bytes: of the answer.
    """

    url: str
    server: str
    hint: str
    max_bytes: int
    purpose: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    method: Literal["GET", "HEAD"] = "GET"


@dataclass(frozen=True)
class Answer:
    """An answer with status 200: its headers, and its whole content (nothing after HEAD)."""

    headers: HTTPMessage
    content: bytes


def ask(question: Question) -> Answer:
    """Ask, again after what may pass: a full server (429), one in trouble (5xx), a cut connection.

    Raises:
        urllib.error.HTTPError: the server refuses; closed, with status and headers.
        LlmdeployError: it cannot be reached, is not who it says it is, or answers with too much.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            return _read(question)
        except urllib.error.HTTPError as error:
            error.close()
            if pause_s is None or (error.code != 429 and error.code < 500):
                raise
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            if pause_s is None or isinstance(reason, ssl.SSLCertVerificationError):
                raise _unreachable(question, reason) from None
        time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def is_loopback(host: str | None) -> bool:
    """Tell whether a host name never leaves this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def may_carry_token(url: str) -> bool:
    """Tell whether a token may be sent there: encrypted, or without leaving this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the token goes to the same server only, and nothing goes from https to what is less."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request that follows, with the same method. Raises URLError."""
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if before.scheme == "https" and after.scheme != "https":
            raise urllib.error.URLError(f"it redirects from https to {after.scheme}")
        if following is not None:
            following.method = req.get_method()
            if (before.scheme, before.netloc) != (after.scheme, after.netloc):
                following.headers.pop("Authorization", None)
        return following


def _read(question: Question) -> Answer:
    headers = {"User-Agent": "llmdeploy", **question.headers}
    request = urllib.request.Request(question.url, headers=headers, method=question.method)  # noqa: S310 - callers check it
    deadline, content = time.monotonic() + _TOTAL_S, bytearray()
    with urllib.request.build_opener(Redirects).open(request, timeout=_TIMEOUT_S) as answer:
        while block := answer.read1(2**20):
            content += block
            if len(content) > question.max_bytes:
                raise LlmdeployError(f"{question.url} gives more than {question.max_bytes // 2**20} MiB, which is too much")
            if time.monotonic() > deadline:
                raise TimeoutError
        length = answer.headers.get("Content-Length")
        told = answer.headers
    if question.method == "GET" and length is not None and length != str(len(content)):
        raise HTTPException("the answer was cut off")
    return Answer(told, bytes(content))


def _unreachable(question: Question, reason: object) -> LlmdeployError:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return LlmdeployError(
            f"the certificate of {question.server} is not trusted: {reason.verify_message}",
            hint="behind a company's proxy, point SSL_CERT_FILE at a file that holds its CA",
        )
    what = "no answer in time" if isinstance(reason, TimeoutError) else str(getattr(reason, "strerror", None) or reason)
    return LlmdeployError(f"cannot reach {question.server}{question.purpose}: {what}", hint=question.hint)
