"""What the probe is told, and what it tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FACTS = (
    *("exposure", "in_transit", "tls_min", "authenticated", "guards", "log_fields", "stored_keys", "private"),
    *("retention_days", "content_found", "data_flows"),
)
"""Every fact that the probe tells, by name; one that it cannot tell has a reason."""


@dataclass(frozen=True)
class Wanted:
    """Where the gateway is and what is known of it; no secrets.

    folder, sockets, run, log: its files, its sockets, the stack's sockets and state, its log (a folder under s6, the namespace of
    a journal under systemd). service: its service folder under s6, the journal's settings under systemd. janitor: the service
    folder of what ends old log files, "" under systemd. behind: the load balancer through which alone clients reach it. digest:
    SHA-256 of `salt` and of the haproxy.cfg that was applied. key_pattern: regular expression of an API key.
    """

    folder: str
    sockets: str
    run: str
    logs: str
    log: str
    supervisor: str
    service: str
    janitor: str
    port: int
    behind: str
    generic_errors: bool
    salt: str
    digest: str
    key_pattern: str

    @property
    def config(self) -> str:
        """The file that HAProxy was started with."""
        return f"{self.folder}/haproxy.cfg"


@dataclass(frozen=True)
class Fact:
    """One observation: a value, or the reason why there is none; what can be run to see it, and what that showed."""

    fact: str
    value: Any = None
    command: str = ""
    output: str = ""
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def unclear(fact: str, reason: str, command: str = "", output: str = "") -> Fact:
    """Return a fact that could not be told."""
    return Fact(fact, command=command, output=output, reason=reason)
