"""Who works on a stack right now."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import uuid4

from .. import __version__


@dataclass(frozen=True)
class LockInfo:
    """The holder of a lock: random id, what it does, who it is, process id, since when by its own clock (UTC, ISO 8601), URL of a
    CI run, version of llmdeploy.

    lease_s: seconds after the last renewal at which others may take the lock over; 0: the kernel watches over it instead.
    renewals: how often it was renewed, so that no two versions are the same. took_over: whose lock this one followed, when that
    one's lease had ended.
    """

    id: str
    operation: str
    who: str
    pid: int
    since: str
    run_url: str = ""
    version: str = ""
    lease_s: float = 0
    renewals: int = 0
    took_over: str = ""

    @classmethod
    def mine(cls, operation: str, *, lease_s: float = 0) -> LockInfo:
        """Return the info of this process."""
        from getpass import getuser  # loads what asks for passwords on a terminal: only for whoever takes a lock

        try:
            user = getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        who, since = f"{user}@{socket.gethostname()}", datetime.now(UTC).isoformat(timespec="seconds")
        return cls(uuid4().hex, operation, who, os.getpid(), since, _ci_run(), __version__, lease_s)

    @property
    def age_s(self) -> float:
        """Seconds since the lock was taken; only on the machine where it was."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.since)).total_seconds()

    def __str__(self) -> str:
        run = f", {self.run_url}" if self.run_url else ""
        return f"{self.operation} by {self.who} (process {self.pid}{run}) since {self.since}"

    def to_json(self) -> str:
        """Return the text of the lock file."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> LockInfo | None:
        """Return the holder, or None when the text is no lock info (its writer was killed while writing)."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _ci_run() -> str:
    server, repository, run = (os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if run else os.environ.get("CI_JOB_URL", "")
