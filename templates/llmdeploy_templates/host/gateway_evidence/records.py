"""The gateway's log: what is written in it, since when, and how long it is kept."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from ..evidence.kept import DAY_S, by_journald, by_s6
from ..evidence.kernel import Unclear
from .model import Fact, Wanted, unclear

_WAIT_S = 5.0
_PIECE = 2**22


class Log(ABC):
    """The log as its keeper has it. `since` is when looking began, in seconds since 1970."""

    place: str

    def __init__(self) -> None:
        self.since = time.time()

    @abstractmethod
    def new_lines(self) -> list[bytes]:
        """Return the lines that were written since looking began."""

    @abstractmethod
    def everything(self) -> Iterator[tuple[str, bytes]]:
        """Return all of it in pieces of whole lines, each with its place."""

    @abstractmethod
    def oldest(self) -> float | None:
        """Return when its oldest line was written, in seconds since 1970; None for an empty log."""

    @abstractmethod
    def kept_days(self) -> int:
        """Return how long its keeper keeps a line. Raises Unclear when nobody does."""

    @property
    @abstractmethod
    def keeper(self) -> str:
        """What shows how long it is kept, as a command."""


class Files(Log):
    """A folder of s6-log, whose old files a janitor removes."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.place = wanted.log
        self._service, self._janitor = wanted.service, wanted.janitor
        self._begun = {found.st_ino: found.st_size for found in (path.stat() for path in self._files())}

    def new_lines(self) -> list[bytes]:
        """See Log."""
        found: list[bytes] = []
        for path in self._files():
            with path.open("rb") as file:
                file.seek(self._begun.get(path.stat().st_ino, 0))
                found += file.read().rpartition(b"\n")[0].splitlines()
        return found

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """See Log."""
        for path in self._files():
            yield str(path), path.read_bytes()

    def oldest(self) -> float | None:
        """See Log: the first line that says when, of each file; a file's own time where none does."""
        times: list[float] = []
        for path in self._files():
            with path.open("rb") as file:
                said = next((at for at in map(_written_at, file) if at is not None), None)
            if path.stat().st_size:
                times.append(path.stat().st_mtime if said is None else said)
        return min(times, default=None)

    def kept_days(self) -> int:
        """See Log."""
        return by_s6(self._service, self._janitor)

    @property
    def keeper(self) -> str:
        """See Log."""
        return f"cat {self._service}/data/retention_minutes; s6-svstat {self._janitor}; head -qn 1 {self.place}/*"

    def _files(self) -> list[Path]:
        folder = Path(self.place)
        if not folder.is_dir():
            raise Unclear(f"there is no log in {folder}")
        return sorted(path for path in folder.iterdir() if path.name == "current" or path.name.startswith("@"))


class Journal(Log):
    """A journal of its own under systemd."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self._namespace, self._settings = wanted.log, wanted.service
        self.place = f"/var/log/journal/*.{wanted.log}"
        b"".join(self._told("--lines=1"))

    def new_lines(self) -> list[bytes]:
        """See Log."""
        return b"".join(self._told("--identifier=gateway", "--output=cat", f"--since=@{int(self.since)}")).splitlines()

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """See Log."""
        rest = b""
        for piece in self._told("--output=cat"):
            lines, end, rest = (rest + piece).rpartition(b"\n")
            yield f"journal {self._namespace}", lines + end
        yield f"journal {self._namespace}", rest

    def oldest(self) -> float | None:
        """See Log."""
        match = re.match(rb"\d+\.\d+", next(self._told("--output=short-unix"), b""))
        return float(match[0]) if match else None

    def kept_days(self) -> int:
        """See Log."""
        return by_journald(self._settings)

    @property
    def keeper(self) -> str:
        """See Log."""
        return f"grep MaxRetentionSec {self._settings}; journalctl --namespace={self._namespace} --output=short-iso | head -n 1"

    def _told(self, *options: str) -> Iterator[bytes]:
        """Yield what journalctl prints, in pieces: years of requests do not fit into memory."""
        command = ["journalctl", f"--namespace={self._namespace}", "--quiet", "--no-pager", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - pipes were asked for
            try:
                while piece := process.stdout.read(_PIECE):
                    yield piece
                said = process.stderr.read(200).decode(errors="replace").strip()
            except GeneratorExit:
                process.kill()
                raise
        if process.returncode != 0:
            raise Unclear(f"its journal cannot be read: {said}")


def open_log(wanted: Wanted) -> Log:
    """Return the log from now on. Raises Unclear or OSError when there is none."""
    return Files(wanted) if wanted.supervisor == "s6" else Journal(wanted)


def _written_at(line: bytes) -> float | None:
    match = re.search(rb'"ts":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+)Z"', line)
    return datetime.fromisoformat(f"{match[1].decode()}+00:00").timestamp() if match else None


def wait_for_lines(log: Log, ids: Collection[str]) -> list[bytes]:
    """Return what was written since looking began, as soon as every request in `ids` is in it. Raises Unclear."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        lines = log.new_lines()
        missing = [one for one in ids if not any(one.encode() in line for line in lines)]
        if not missing:
            return lines
        if time.monotonic() > deadline:
            raise Unclear(f"{len(missing)} of {len(ids)} requests are not in the log after {_WAIT_S:.0f} s")
        time.sleep(0.05)


def fields(log: Log, lines: Collection[bytes], ids: Collection[str]) -> Fact:
    """Tell the names of the fields of the lines that the probe's own requests wrote, in the order of their first appearance.

    Lines of requests that were not understood carry no id; their fields count as well.
    """
    command = f"tail -n {len(lines)} {log.place}/current | jq -c keys_unsorted | sort | uniq -c"
    if isinstance(log, Journal):
        command = f"journalctl --namespace={log.place.rpartition('.')[2]} --output=cat | jq -c keys_unsorted | sort | uniq -c"
    found: dict[str, int] = {}
    own = 0
    for line in lines:
        entry = _entry(line)
        named = any(one.encode() in line for one in ids)
        if entry is None and named:
            found["text that is no JSON"] = found.get("text that is no JSON", 0) + 1
        elif entry is not None and (named or entry.get("request_id") is None):
            found.update({name: found.get(name, 0) + 1 for name in entry})
        own += named
    if not own:
        return unclear("log_fields", "none of the probe's requests is in the log", command)
    output = "\n".join([f"{own} lines of the probe's own requests", *(f"{count} x {name}" for name, count in found.items())])
    return Fact("log_fields", list(found), command, output)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, Any]", entry) if isinstance(entry, dict) else None


def retention(log: Log) -> Fact:
    """Tell for how many days lines are kept: what the keeper was told, and more when a line is older than that."""
    try:
        days, oldest = log.kept_days(), log.oldest()
    except (OSError, Unclear) as error:
        return unclear("retention_days", str(error), log.keeper)
    age = 0 if oldest is None else math.ceil((time.time() - oldest) / DAY_S)
    said = "the log is empty" if oldest is None else f"the oldest line was written within the last {age} days"
    return Fact("retention_days", max(days, age), log.keeper, f"kept for {days} days; {said}")
