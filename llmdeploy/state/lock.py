"""Who works on a stack right now."""

from __future__ import annotations

import getpass
import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import uuid4


@dataclass(frozen=True)
class LockInfo:
    """The holder of a lock: random id, what it does, who it is, process id, since when (UTC, ISO 8601), URL of a CI run."""

    id: str
    operation: str
    who: str
    pid: int
    since: str
    run_url: str = ""

    @classmethod
    def mine(cls, operation: str) -> LockInfo:
        """Return the info of this process."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        who = f"{user}@{socket.gethostname()}"
        return cls(uuid4().hex, operation, who, os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"), _ci_run())

    @property
    def age_s(self) -> float:
        """Seconds since the lock was taken."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.since)).total_seconds()

    def __str__(self) -> str:
        run = f", {self.run_url}" if self.run_url else ""
        return f"{self.operation} by {self.who} (process {self.pid}{run}) since {self.since}, {_duration(self.age_s)} ago"

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


def _ci_run() -> str:
    server, repository, run = (os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if run else os.environ.get("CI_JOB_URL", "")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
