"""What `host_gateway` is told and what it gives back; nouns that its other modules share."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from llmdeploy.sdk import Input, Outputs, Replace, SecretRef, Spec

from ._connection import HostSpec
from .api_key import Credential

SERVICE: Final = "gateway"
FILES: Final = ("haproxy.cfg", "usage.lua", "keys.map", "tls.pem")
LOG_FIELDS: Final = (
    *("ts", "request_id", "key_id", "principal", "model", "route", "method", "status", "replica", "stream"),
    *("tokens_in", "tokens_out", "queue_ms", "ttft_ms", "duration_ms", "bytes_out", "termination"),
)
"""Names of the fields of a log line, in their order; the template of haproxy.cfg says what they hold."""


class GatewayKey(Spec):
    """A key as the gateway enforces it: who, how much, and its credentials."""

    name: str
    principal: str
    requests_per_minute: int
    concurrency: int
    allow_fallback: bool = False
    credentials: Input[tuple[Credential, ...]]


class HostedFallback(Spec):
    """A hosted OpenAI-compatible API for requests that no replica can take; base_url has a host name, api_key is a reference."""

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")]
    model: str
    api_key: SecretRef


class HostGatewaySpec(HostSpec):
    """address: where it listens. sticky: the header that keeps a session on one replica, "" for none.

    chain_pem and key_source: what `certificate` gives out. peers: addresses of the gateways of the stack's other replicas, which
    are reached over TLS with certificates on both sides, on peer_port. behind: address of the load balancer's resource through
    which alone clients reach it, None when they reach it directly. generic_errors: an engine's error texts, which can repeat what
    a client sent, are replaced by general ones. fallback: who gets requests that no replica can take, for keys that allow it.
    """

    engine_sockets: Annotated[tuple[Input[str], ...], Field(min_length=1)]
    peers: tuple[Input[str], ...] | None = None
    peer_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    behind: str | None = None
    fallback: HostedFallback | None = None
    keys: tuple[GatewayKey, ...] = ()
    chain_pem: Input[str]
    key_source: Input[str]
    address: str = "0.0.0.0"  # noqa: S104 - the gateway is the one part that is meant to be reached
    port: Annotated[int, Field(ge=1, le=65535)]
    sticky: str = "x-session-id"
    served_name: str
    generic_errors: bool = False
    log_retention_days: Annotated[int, Field(ge=1)] = 30
    user: Input[str]
    supervisor: Annotated[Input[Literal["systemd", "s6"]], Replace("it moves to another process supervisor")]


class HostGatewayOutputs(Outputs):
    """The port, the service's name, where its log is found, and a salted digest of each file that was written."""

    port: int
    service: str
    log: str
    files: dict[str, str]
