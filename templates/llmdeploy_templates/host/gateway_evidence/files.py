"""Whether other users of the machine can read what the gateway keeps, what that holds, and whether it runs what was applied."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

from ..evidence.kernel import Unclear
from ..evidence.scan import Marks, Search, prove
from .model import Fact, Wanted, unclear
from .processes import started_at
from .records import Files, Log
from .runtime import servers, worker

_SLACK_S = 10.0
"""Seconds from the note to the worker's start at a start of the machine under load."""
_LOADED = ("haproxy.cfg", "usage.lua", "tls.pem")


def private(wanted: Wanted, log: Log) -> Fact:
    """Tell whether only root gets at the gateway's files, its sockets of operation and its log, by owner and mode of each."""
    folder, sockets = Path(wanted.folder), Path(wanted.sockets)
    command = f"stat -c '%a %u %n' {wanted.folder} {wanted.folder}/* {wanted.sockets} {wanted.sockets}/* {log.place}"
    lines: list[str] = []
    wrong: list[str] = []
    try:
        paths = [folder, *sorted(folder.iterdir()), sockets, *sorted(sockets.iterdir())]
        paths += [Path(log.place)] if isinstance(log, Files) else sorted(Path("/").glob(f"{log.place}/*".lstrip("/")))
        for path in paths:
            seen = path.lstat()
            line = f"{stat.S_IMODE(seen.st_mode):o} {seen.st_uid} {path}"
            lines.append(line)
            # a journal belongs to a group of its own: its readers are the machine's administrators
            others = 0o077 if isinstance(log, Files) or not str(path).startswith("/var/log/journal") else 0o007
            if seen.st_mode & others or seen.st_uid != 0:
                wrong.append(line)
    except OSError as error:
        return unclear("private", f"not everything could be looked at: {error}", command, "\n".join(lines))
    missing = [name for name in ("haproxy.cfg", "keys.map", "tls.pem") if not (folder / name).is_file()]
    if missing and not wrong:
        return unclear("private", f"{', '.join(missing)} is not there", command, "\n".join(lines))
    return Fact("private", not wrong, command, "\n".join(lines))


def content(wanted: Wanted, log: Log, planted: Marks) -> Fact:
    """Tell where in the files and journals of the stack the planted content is."""
    roots = [wanted.folder, wanted.run, wanted.logs]
    command = f"grep -rlaF MARKER {' '.join(roots)}" if isinstance(log, Files) else "journalctl '--namespace=*' --grep MARKER"
    search = Search(planted)
    try:
        control = prove(roots)
        for root in roots:
            search.below(root, log.since)
        if not isinstance(log, Files):
            search.journals(log.since)
    except (OSError, Unclear) as error:
        return unclear("content_found", f"not everything could be looked at: {error}", command)
    seen = f"{control}; searched: {len(search.seen)} files that changed, {search.read} bytes"
    return Fact(
        "content_found", sorted(search.found), command, "\n".join([seen, *(f"found: {one}" for one in sorted(search.found))])
    )


def runs_what_was_applied(wanted: Wanted) -> str:
    """Return "" when the process loaded the files that lie there and they are those that were applied; else what differs.

    Whoever starts or reloads it notes the digest of what it loads; a worker that is younger than the note loaded something else.
    """
    folder = Path(wanted.folder)
    try:
        noted = Path(wanted.sockets, "loaded").stat().st_mtime
        loaded = Path(wanted.sockets, "loaded").read_text().split()[:1]
        now = sha256(b"".join((folder / name).read_bytes() for name in _LOADED)).hexdigest()
        config = sha256(wanted.salt.encode() + (folder / "haproxy.cfg").read_bytes()).hexdigest()
        age = started_at(worker(f"{wanted.sockets}/admin.sock")) - noted
    except (OSError, Unclear) as error:
        return f"its configuration cannot be read: {error}"
    if loaded != [now]:
        return "the running process has not loaded the configuration that lies there"
    if config != wanted.digest:
        return "haproxy.cfg is not the one that was applied"
    if age > _SLACK_S:
        return f"the running process was started {age:.0f} s after its configuration was noted, so that it may be another one"
    return ""


def guards(wanted: Wanted, wrong: Sequence[str], lines: Sequence[str]) -> Fact:
    """Tell what the gateway does so that content does not get where it can be kept.

    wrong: names of the guards that did not hold; lines: what the requests showed. Whether error texts are general is read in the
    configuration that runs, because no request without a key reaches an engine.
    """
    command = f"curl --insecure 'https://localhost:{wanted.port}/v1/models?x=1'; sha256sum {wanted.folder}/haproxy.cfg; "
    command += f"cat {wanted.folder}/{{haproxy.cfg,usage.lua,tls.pem}} | sha256sum | diff - {wanted.sockets}/loaded"
    held = [name for name in ("no-query", "own-request-ids") if name not in wrong]
    output = list(lines)
    if wanted.generic_errors:
        differs = runs_what_was_applied(wanted)
        output.append(differs or "the process has loaded the applied haproxy.cfg, which replaces error texts of engines")
        if differs and not wrong:
            return unclear("guards", f"generic-errors: {differs}", command, "\n".join(output))
        held = held if differs else ["generic-errors", *held]
    return Fact("guards", held, command, "\n".join(output))


def flows(wanted: Wanted) -> Fact:
    """Tell where the gateway sends requests besides the engines of this machine, and nothing when that is nowhere.

    Its servers are read from the running process; that nothing else is sent anywhere (logs, mails) in its configuration.
    """
    admin = f"{wanted.sockets}/admin.sock"
    command = f"echo 'show servers state' | socat - {admin}; sha256sum {wanted.folder}/haproxy.cfg"
    try:
        found = servers(admin)
    except (OSError, Unclear) as error:
        return unclear("data_flows", str(error), command)
    output = "\n".join(f"{name}: {address or 'a socket of this machine'}" for name, address in sorted(found.items()))
    away = sorted({address for address in found.values() if address and not ip_address(address).is_loopback})
    if away:
        told = [{"what": "requests of clients", "to": address, "region": None, "carries": "prompts"} for address in away]
        return Fact("data_flows", told, command, output)
    differs = runs_what_was_applied(wanted)
    return unclear("data_flows", differs, command, output) if differs else Fact("data_flows", [], command, output)
