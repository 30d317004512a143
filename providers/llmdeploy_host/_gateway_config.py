"""The gateway's configuration as text: haproxy.cfg, the key map, and the commands that bring a running process to it.

Everything here is pure. Writing the files, starting HAProxy and talking to its socket is the resource type's part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import quote, unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from llmdeploy_templates import render

OLDEST_HAPROXY = (2, 6)
# HAProxy before 3.2 can lose a 401 to a POST over HTTP/2 (its issue 1219)
FIRST_HAPROXY_WITH_SAFE_HTTP2 = (3, 2)
# Fits the 64 KiB buffer beside 16 KiB of headers, so that HAProxy has seen the end of a body that is no longer
CHUNKED_BODY_BYTES = 32 * 1024
# One command and its payload must fit HAProxy's buffer
PAYLOAD_BYTES = 16 * 1024
# The year 2286; a record always has two numbers, so that HAProxy needs no rule for a missing one
NEVER = 9_999_999_999
LONGEST_PRINCIPAL = 256


def _principal(value: str) -> str:
    if not value.isprintable() or any(ord(character) > 0xFFFF for character in value):
        raise ValueError("a principal has printable characters of the Basic Multilingual Plane only")
    return value


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not ip_address(host.strip("[]")).is_loopback or not 0 < int(port) < 65536:
        raise ValueError("a replica's address is LOOPBACK-IP:PORT; engines of other hosts are never reached in plain text")
    return value


def _ip(value: str) -> str:
    return str(ip_address(value))


AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/@+-]*$", max_length=200)]
# a Unix socket's path has 107 bytes at most, and HAProxy adds a suffix of its own while it binds
SocketPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/@+-]+$", max_length=90)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=200)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
Epoch = Annotated[int, Field(ge=1, lt=NEVER)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Replica(_Frozen):
    """One engine that the gateway may send requests to: a Unix socket, or a loopback address with its port."""

    name: Name
    socket: SocketPath | None = None
    address: Annotated[str, AfterValidator(_address)] | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.socket is None) == (self.address is None):
            raise ValueError(f"replica {self.name} needs either a socket or an address")
        return self


class Limits(_Frozen):
    """Sizes in bytes, times in seconds; `answer_timeout_s` is the longest silence of an engine, not of a whole answer."""

    body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024
    request_timeout_s: Annotated[int, Field(ge=1)] = 30
    answer_timeout_s: Annotated[int, Field(ge=1)] = 3600
    queue_timeout_s: Annotated[int, Field(ge=1)] = 20
    drain_timeout_s: Annotated[int, Field(ge=1)] = 3600
    connections: Annotated[int, Field(ge=10)] = 4000
    connections_per_replica: Annotated[int, Field(ge=1)] = 256
    keys: Annotated[int, Field(ge=100)] = 10_000


class GatewayConfig(_Frozen):
    """All that haproxy.cfg is made of. With `chroot`, the sockets of all replicas lie below that folder.

    generic_errors: what an engine says of an error, which can repeat what the client sent, does not reach the client. Known limit
    (seen with HAProxy 2.6.12): when an engine answers and closes before it has taken a body of more than 64 KiB, HAProxy may pass
    that answer on without a look at its rules. It cannot repeat what the engine has not read.
    """

    address: Annotated[str, AfterValidator(_ip)] = "0.0.0.0"  # noqa: S104 - the gateway is the one part that is meant to be reached
    port: Annotated[int, Field(ge=1, le=65535)]
    tls_pem: AbsolutePath
    keys_map: AbsolutePath
    usage_lua: AbsolutePath
    sockets_dir: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/@+-]*[^/]$", max_length=70)]
    replicas: Annotated[tuple[Replica, ...], Field(min_length=1)]
    served_models: Annotated[tuple[ModelName, ...], Field(min_length=1)]
    sticky_header: HeaderName = "x-session-id"
    limits: Limits = Limits()
    # with several threads HAProxy 2.6 drops a log line now and then (1 of 1,000 to 10,000 in a flood of 25,000 requests a second)
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    token_accounting: bool = True
    generic_errors: bool = False
    haproxy_version: Annotated[tuple[int, ...], Field(min_length=2)]
    user: Name | None = None
    group: Name | None = None
    chroot: AbsolutePath | None = None

    @property
    def admin_socket(self) -> str:
        """The socket of HAProxy's runtime commands."""
        return f"{self.sockets_dir}/admin.sock"

    @property
    def metrics_socket(self) -> str:
        """The socket that answers `GET /metrics` in Prometheus' format."""
        return f"{self.sockets_dir}/metrics.sock"

    @property
    def bind(self) -> str:
        """Address and port as HAProxy writes them."""
        ip = ip_address(self.address)
        return f"ipv{ip.version}@{ip}:{self.port}"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.haproxy_version < OLDEST_HAPROXY:
            raise ValueError("the gateway needs HAProxy 2.6 or newer")
        names = [replica.name for replica in self.replicas]
        if len(set(names)) < len(names):
            raise ValueError("two replicas have the same name")
        for replica in self.replicas:
            if self.chroot and replica.socket and not replica.socket.startswith(f"{self.chroot}/"):
                raise ValueError(f"the socket of replica {replica.name} lies outside of {self.chroot}")
        return self


class KeyRecord(_Frozen):
    """What the gateway knows of one API key: a hash, never the key. Times are seconds since 1970."""

    key_id: Name
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    principal: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PRINCIPAL), AfterValidator(_principal)]
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)]
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)]
    not_before: Epoch | None = None
    not_after: Epoch | None = None
    allow_fallback: bool = False


def render_config(config: GatewayConfig) -> str:
    """The text of haproxy.cfg."""
    safe_http2 = config.haproxy_version >= FIRST_HAPROXY_WITH_SAFE_HTTP2
    return render(
        "gateway/haproxy.cfg.j2",
        config=config,
        alpn="h2,http/1.1" if safe_http2 else "http/1.1",
        chunked_body_bytes=CHUNKED_BODY_BYTES,
        targets=[(replica.name, _target(replica, config.chroot)) for replica in config.replicas],
    )


def render_usage_lua() -> str:
    """The text of the Lua filter that `token_accounting` loads."""
    return render("gateway/usage.lua")


def render_keys_map(keys: Iterable[KeyRecord]) -> str:
    """The key map: one line for each key, sorted by hash. Raises ValueError when a hash or an id occurs twice."""
    records = sorted(keys, key=lambda key: key.sha256)
    _refuse_twins(records)
    return "".join(_line(key) for key in records)


def parse_keys_map(text: str) -> tuple[KeyRecord, ...]:
    """The records of a key map, in its order. Raises ValueError, with the line's number, for anything that is not one."""
    records = tuple(_record(line, number) for number, line in enumerate(text.splitlines(), start=1))
    _refuse_twins(records)
    return records


def prepare_map_command(keys_map: str) -> str:
    """The command whose reply `prepared_version` reads."""
    return f"prepare map {keys_map}\n"


def prepared_version(reply: str) -> int:
    """The version that HAProxy opened for a new content of the map. Raises ValueError for any other reply."""
    match = re.fullmatch(r"New version created: (\d+)", reply.strip())
    if match is None:
        raise ValueError(f"HAProxy did not open a new version of the key map: {reply.strip()[:200]}")
    return int(match[1])


def runtime_sync_commands(keys_map: str, text: str, version: int) -> tuple[str, ...]:
    """The commands that make the running process hold exactly `text`, after `prepare_map_command` gave `version`.

    Each goes over a connection of its own and is answered by an empty line; anything else is a failure, after which the old
    content is still in force. The last one switches at once.
    """
    adds = (f"add map @{version} {keys_map} <<\n{payload}\n" for payload in _payloads(text.splitlines(keepends=True)))
    return (*adds, f"commit map @{version} {keys_map}\n")


def show_map_command(keys_map: str) -> str:
    """The command whose reply `runtime_map_text` reads."""
    return f"show map {keys_map}\n"


def runtime_map_text(reply: str) -> str:
    """The key map that the running process holds, as `render_keys_map` would write it."""
    lines = (line.partition(" ")[2] for line in reply.splitlines() if line.startswith("0x"))
    return "".join(sorted(f"{line}\n" for line in lines))


def server_state_command(replica: str, state: Literal["ready", "drain", "maint"]) -> str:
    """The command that takes a replica out of service (`drain` lets its requests end) or back into it."""
    return f"set server engine/{replica} state {state}\n"


def _target(replica: Replica, chroot: str | None) -> str:
    if replica.socket is None:
        return str(replica.address)
    return f"unix@{replica.socket.removeprefix(chroot or '')}"


def _line(key: KeyRecord) -> str:
    # the safe characters are those of an ARN, so that the file stays readable; none of them separates anything
    principal = quote(key.principal, safe="/:@+=,")
    fields = (
        key.key_id,
        principal,
        key.requests_per_minute,
        key.concurrency,
        int(key.allow_fallback),
        0 if key.not_before is None else key.not_before,
        NEVER if key.not_after is None else key.not_after,
    )
    return f"{key.sha256} {'|'.join(map(str, fields))}\n"


def _record(line: str, number: int) -> KeyRecord:
    try:
        return _fields(line)
    except ValueError as error:
        raise ValueError(f"line {number} of the key map is not a record") from error


def _fields(line: str) -> KeyRecord:
    sha256, _, value = line.partition(" ")
    key_id, principal, rate, concurrency, fallback, not_before, not_after = value.split("|")
    key = KeyRecord(
        key_id=key_id,
        sha256=sha256,
        principal=unquote(principal, errors="strict"),
        requests_per_minute=int(rate),
        concurrency=int(concurrency),
        not_before=int(not_before) or None,
        not_after=None if int(not_after) == NEVER else int(not_after),
        allow_fallback=fallback == "1",
    )
    if _line(key) != f"{line}\n":
        raise ValueError("written in another way")
    return key


def _refuse_twins(records: Sequence[KeyRecord]) -> None:
    for what, values in (("hash", [r.sha256 for r in records]), ("id", [r.key_id for r in records])):
        if len(set(values)) < len(values):
            twin = next(value for value in values if values.count(value) > 1)
            raise ValueError(f"two keys have the {what} {twin}")


def _payloads(lines: Sequence[str]) -> Iterable[str]:
    payload = ""
    for line in lines:
        if payload and len(payload) + len(line) > PAYLOAD_BYTES:
            yield payload
            payload = ""
        payload += line
    if payload:
        yield payload
