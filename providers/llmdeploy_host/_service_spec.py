"""What a long-lived process on a machine is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")


@dataclass(frozen=True)
class Service:
    """One long-lived process.

    name: `[a-z0-9-]`, unique in the stack. user: None is root. isolate_network: a network namespace of its own with nothing but
    loopback. stop_signal: without SIG; SIGKILL follows after stop_timeout_s. memory_max_bytes: a hard limit where the supervisor
    has one (systemd). log_max_bytes: size of one log file; log_keep: how many full ones are kept beside it; log_retention_days:
    no line is older. secret_env_file: a 0600 file of root with NAME=value lines, read at each start; values are of printable
    characters other than blanks, quotes, backslashes and `$`. pre_start: sh that root runs before each start; when it fails, the
    service is not started and tried again later.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict[str, str])
    user: str | None = None
    umask: str = "077"
    cwd: str = "/"
    isolate_network: bool = False
    stop_signal: str = "TERM"
    stop_timeout_s: int = 30
    memory_max_bytes: int | None = None
    log_max_bytes: int = 10 * 2**20
    log_keep: int = 5
    log_retention_days: int = 30
    reload_signal: str | None = None
    secret_env_file: str | None = None
    pre_start: str = ""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError(f'bad service name "{self.name}": expected up to 32 of [a-z0-9-]')
        if any("\0" in part or "\n" in part for part in (*self.argv, *self.env.values())):
            raise ValueError(f"{self.name}: arguments and environment are single lines")
