"""What a probe looks at of an engine on a machine, and how.

Two Python scripts do the looking as root: one reads what the kernel tells of the processes behind the engine's socket, the other
sends planted content through the socket and searches whatever could have kept it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from llmdeploy.sdk import Context, Interrupted, LlmdeployError, Observation

from . import _s6, _systemd
from ._connection import Connection, Paths
from ._evidence import Question, answers, bounded, private_question, script_of, unanswered
from ._probe_program import program
from ._scripts import render
from ._service_spec import Service
from ._session import run_script
from .host_supervisor import JANITOR

CONTENT: Final = "content_found"

_SHARED: Final = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")  # noqa: S108 - it is looked at, not written to
"""Folders of the machine that every program may write to."""

_CANARY_S: Final = 300
"""Seconds that the planted content may take; most of them wait for a busy engine."""

_LOOK_S: Final = 60

_COMMANDS: Final[Mapping[str, str]] = {
    "process": "tr '\\0' ' ' </proc/PID/cmdline; tr '\\0' '\\n' </proc/PID/environ",
    "software": "curl --unix-socket {socket} http://engine/version",
    "exposure": "ls -l /proc/PID/fd; cat /proc/PID/net/tcp /proc/PID/net/tcp6 /proc/PID/net/udp /proc/PID/net/unix",
    "in_transit": "ls -l /proc/PID/fd; cat /proc/PID/net/tcp /proc/PID/net/tcp6 /proc/PID/net/udp",
    "egress": "readlink /proc/PID/ns/net /proc/1/ns/net; cat /proc/PID/net/dev",
    "privileged": "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs)' /proc/PID/status",
    "core_dumps": "grep core /proc/PID/limits; cat /proc/sys/kernel/core_pattern",
    "retention_days": "{retention}",
    CONTENT: "send a random text in each field through {socket}, then: grep -rlF TEXT {searched}",
}
"""What an auditor could run to see each fact."""

FACTS: Final = (*_COMMANDS, "private")
"""Everything that a probe of an engine tells."""


@dataclass(frozen=True)
class Place:
    """Where the things of one engine are.

    engine: its name. service: as the supervisor runs it. socket, data, work: its socket, and the folders that it writes to.
    files: that it reads, path to content.
    """

    engine: str
    service: Service
    supervisor: str
    socket: str
    data: str
    work: str
    files: Mapping[str, str] = field(default_factory=dict[str, str])

    def log_folder(self, paths: Paths) -> str:
        """Return the folder of its log, "" where journald keeps it."""
        return f"{paths.log}/{self.service.name}" if self.supervisor == "s6" else ""

    def folders(self, paths: Paths) -> tuple[str, ...]:
        """Return the folders that hold what the engine writes."""
        found = (self.socket.rpartition("/")[0], self.work, self.data, self.log_folder(paths))
        return tuple(folder for folder in found if folder)


def observe(ctx: Context, connection: Connection, paths: Paths, place: Place) -> tuple[Observation, ...]:
    """Return what is seen of a running engine, and of the files that it wrote.

    Raises:
        Interrupted: the user stopped the run.
    """
    *first, _ = questions(paths, place, ())
    observations, output = _ask(ctx, connection, first)
    if not (pids := pids_of(output)):
        reason = next((one.reason for one in observations if one.fact == "process"), "") or "its processes were not found"
        return *told(paths, place, observations, output), *told(paths, place, _without_content(connection, reason), "")
    found, searched = _ask(ctx, connection, questions(paths, place, pids)[-1:])
    return *told(paths, place, observations, output), *told(paths, place, found, searched)


def pids_of(output: str) -> tuple[int, ...]:
    """Return the processes that the first question found; none where the engine does not run."""
    found = next((line for line in output.splitlines() if line.startswith("pids: ")), "")
    return tuple(int(word) for word in found.split()[1:])


def _ask(ctx: Context, connection: Connection, questions: Sequence[Question]) -> tuple[tuple[Observation, ...], str]:
    """Ask as `_evidence.ask` does; return all of the output as well, as each fact shows its own part of it."""
    try:
        output = run_script(ctx, connection, script_of(questions))
    except Interrupted:
        raise
    except LlmdeployError as error:
        reason = f"{connection.address} could not be asked: {error.message}"
        return tuple(one for question in questions for one in unanswered(question, connection.address, reason)), ""
    return answers(questions, connection.address, output), output


def _without_content(connection: Connection, reason: str) -> tuple[Observation, ...]:
    return (Observation(fact=CONTENT, host=connection.address, reason=reason),)


def questions(paths: Paths, place: Place, pids: Sequence[int]) -> tuple[Question, ...]:
    """Return what is asked: how its processes run, who can read what they wrote, and, last, whether planted content is found."""
    return _running(paths, place), _files(paths, place), _canary(paths, place, pids)


def told(paths: Paths, place: Place, observations: Sequence[Observation], output: str) -> Iterator[Observation]:
    """Yield each observation with the command and the lines that concern it alone."""
    for one in observations:
        if one.command:
            yield one
            continue
        prefix = f"{one.fact}: "
        lines = "\n".join(line.removeprefix(prefix) for line in output.splitlines() if line.startswith(prefix))
        shown = bounded(lines) if lines or not one.reason else one.output
        yield one.model_copy(update={"command": _command(paths, place, one.fact), "output": shown})


# --- questions --------------------------------------------------------------------------------------------------------------


def _running(paths: Paths, place: Place) -> Question:
    """Return the question how its processes run."""
    facts = {fact: json.loads for fact in _COMMANDS if fact != CONTENT}
    asked = _asked(paths, place)
    return Question("", _python(("kernel", "kept"), "engine_evidence", asked, _LOOK_S, user=place.service.user), facts)


def _files(paths: Paths, place: Place) -> Question:
    """Return the question whether other users can read what it wrote."""
    owner = place.service.user
    return private_question(place.folders(paths), [owner] if owner else [])


def _canary(paths: Paths, place: Place, pids: Sequence[int]) -> Question:
    """Return the question whether planted content is found again. pids: the engine's processes."""
    folder = place.log_folder(paths)
    asked = {
        "socket": place.socket,
        "pids": list(pids),
        "folders": _searched(paths, place),
        "logs": [folder] if folder else [],
        "shared": list(_SHARED),
        "journal": "" if folder else _systemd.namespace(paths, place.service.name),
        "timeout_s": _CANARY_S,
    }
    return Question("", _python(("kernel", "scan"), "engine_canary", asked, _CANARY_S + _LOOK_S), {CONTENT: json.loads})


def _command(paths: Paths, place: Place, fact: str) -> str:
    minutes = f"cat {_service_folder(paths, place)}/data/retention_minutes"
    return _COMMANDS[fact].format(
        socket=place.socket,
        searched=" ".join((*_searched(paths, place), *_SHARED)),
        retention=minutes if place.supervisor == "s6" else f"grep MaxRetentionSec {_settings(paths, place)}",
    )


def _asked(paths: Paths, place: Place) -> dict[str, Any]:
    if folder := place.log_folder(paths):
        janitor = f"{_s6.scan_folder(paths)}/{JANITOR}"
        log = {"kind": "s6", "folder": folder, "service": _service_folder(paths, place), "janitor": janitor}
        supervised = ["s6-svstat", "-o", "pid", _service_folder(paths, place)]
    else:
        log = {"kind": "systemd", "settings": _settings(paths, place)}
        unit = _systemd.unit_name(paths, place.service.name)
        supervised = ["systemctl", "show", "--property", "MainPID", "--value", unit]
    return {
        "engine": place.engine,
        "socket": place.socket,
        "argv": list(place.service.argv),
        "env": list(place.service.env),
        "files": {path: sha256(f"{content}\n".encode()).hexdigest() for path, content in place.files.items()},
        "log": log,
        "supervised": supervised,
    }


def _searched(paths: Paths, place: Place) -> list[str]:
    return [paths.run, paths.log, place.data]


def _service_folder(paths: Paths, place: Place) -> str:
    return f"{_s6.scan_folder(paths)}/{place.service.name}"


def _settings(paths: Paths, place: Place) -> str:
    return _systemd.files(paths, place.service.name)[1]


def _python(shared: Sequence[str], name: str, asked: Mapping[str, Any], timeout_s: int, *, user: str | None = None) -> str:
    """Return the fragment that runs a probe with a JSON argument and, where there is a user, that one's number."""
    script = program((*(f"evidence.{one}" for one in shared), name))
    values = {"script": script, "asked": json.dumps(asked, sort_keys=True), "timeout_s": timeout_s, "user": user}
    return render("engine_python.sh.j2", **values)
