"""Tells how the processes behind an engine's socket really run, as the kernel sees them. Reads only; needs root.

For each fact it prints `fact<TAB>value as JSON` or `fact?<TAB>reason`, and lines `fact: text` that show why.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from .evidence.kept import DAY_S, by_journald, by_s6
from .evidence.kernel import REACH, Door, Unclear, doors, held, link, pids, reach, runs, status, text_of

HIDDEN = "***"
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
SECRET = re.compile(r"(^|[-_])(key|token|secret|password|credentials|headers)$", re.IGNORECASE)
TOLD = re.compile(r"(VLLM|HF|OTEL|TRANSFORMERS|PYTHON|LD|DISABLE|DO_NOT)_?")
CAPABILITIES = ("CapEff", "CapPrm", "CapBnd", "CapAmb")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=30)
        self.path = path

    def connect(self) -> None:
        """Open it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


# --- processes --------------------------------------------------------------------------------------------------------------


def holders(path: str) -> list[int]:
    """Return the processes that listen on a unix socket, whoever started them and in whatever network namespace."""
    wanted = {inode: door for inode, door in doors().items() if door.kind == "unix" and door.address == path}
    return sorted({pid for found in held(pids(), wanted).values() for pid in found})


def supervised(command: list[str]) -> list[int]:
    """Return the process that the supervisor started, as it prints it: the engine may listen elsewhere."""
    asked = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return [int(asked)] if asked.isdigit() and int(asked) in pids() else []


def family(first: Iterable[int]) -> list[int]:
    """Return the processes, those that share a UTS namespace of their own with them, and all their children."""
    mine = link("/proc/self/ns/uts")
    spaces = {link(f"/proc/{pid}/ns/uts") for pid in first} - {mine, ""}
    running = pids()
    found = {*first, *(pid for pid in running if link(f"/proc/{pid}/ns/uts") in spaces)}
    parents = {pid: int(status(pid).get("PPid", "0") or 0) for pid in running}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def top(pid: int, members: Iterable[int]) -> int:
    """Return the member from which the process comes."""
    parent = int(status(pid).get("PPid", "0") or 0)
    return top(parent, members) if parent in members else pid


# --- facts ------------------------------------------------------------------------------------------------------------------


class Engine:
    """The processes behind the socket of what was asked for."""

    def __init__(self, asked: dict[str, Any], uid: int) -> None:
        self.asked = asked
        self.uid = uid
        first = [*holders(asked["socket"]), *supervised(asked["supervised"])]
        if not first:
            raise Unclear(f"the engine is not running: nothing listens on {asked['socket']}")
        self.pids = family(first)
        self.mains = sorted({top(pid, self.pids) for pid in first})
        self.host_space = link("/proc/1/ns/net")

    def process(self) -> Any:
        """Return arguments and environment of the main process, without secrets."""
        self._named()
        if len(self.mains) != 1:
            raise Unclear(f"several processes listen on its socket: {self.mains}")
        pid = self.mains[0]
        argv = text_of(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
        pairs = dict(entry.split("=", 1) for entry in text_of(f"/proc/{pid}/environ").split("\0") if "=" in entry)
        if len(argv) < 2 or "PATH" not in pairs:
            raise Unclear(f"process {pid} overwrote its command line or its environment")
        shown = " ".join(masked(argv, set(self.asked["argv"])))
        show("process", f"pid {pid}: {shown}")
        show("process", f"environment: {' '.join(sorted(pairs))}")
        env = {name: self._marked(value) if self._tells(name) else HIDDEN for name, value in sorted(pairs.items())}
        told = [self._marked(word) for word in masked(argv, set(self.asked["argv"]))]
        return {"engine": self.asked["engine"], "argv": told, "env": env}

    def _marked(self, value: str) -> str:
        """Return a word or a variable's value; one that names a file of the process says when that is not as it was written."""
        wanted = self.asked["files"].get(value)
        value = CREDENTIALS.sub(HIDDEN, value)
        if wanted is None or hashlib.sha256(text_of(value).encode()).hexdigest() == wanted:
            return value
        show("process", f"{value} is not as it was written")
        return f"{value} (its content was changed)"

    def _named(self) -> None:
        if not self.asked["engine"]:
            raise Unclear("the state file is older than its field `engine`: the next change of it writes that down")

    def _tells(self, name: str) -> bool:
        return name in self.asked["env"] or bool(TOLD.match(name) and not SECRET.search(name))

    def software(self) -> Any:
        """Return the version that the engine itself names."""
        self._named()
        connection = UnixConnection(self.asked["socket"])
        try:
            connection.request("GET", "/version")
            answer = connection.getresponse()
            body = answer.read(4096).decode(errors="replace")
        except OSError as error:
            raise Unclear(f"the engine does not answer: {error}") from None
        finally:
            connection.close()
        show("software", f"GET /version: {answer.status} {body}")
        found = re.search(r'"version"\s*:\s*"([^"]+)"', body)
        if answer.status != 200 or not found:
            raise Unclear("the engine does not tell its version")
        return [{"name": self.asked["engine"], "version": found[1]}]

    def each(self, look: Callable[[int], bool]) -> list[bool]:
        """Return what is seen of each process but those that ended meanwhile, of which nothing can be seen."""
        found = [(look(pid), runs(pid)) for pid in self.pids]
        if not any(running for _, running in found):
            raise Unclear("its processes ended meanwhile")
        return [seen for seen, running in found if running]

    def isolated(self, pid: int) -> bool:
        """Tell whether a process is in a network namespace with nothing but loopback."""
        names = {line.split(":")[0].strip() for line in text_of(f"/proc/{pid}/net/dev").splitlines()[2:]}
        return link(f"/proc/{pid}/ns/net") not in ("", self.host_space) and names == {"lo"}

    def exposure(self) -> Any:
        """Return who can open a connection to one of the processes."""
        for line in sorted(line for line, _ in self.open_to):
            show("exposure", line)
        return self._level()

    def in_transit(self) -> Any:
        """Return whether what it says stays in this machine's kernel."""
        show("in_transit", f"can be reached from: {self._level()}")
        return "local" if self._level() in ("none", "host") else "plain"

    def _level(self) -> str:
        return max((level for _, level in self.open_to), key=REACH.index, default="none")

    @cached_property
    def open_to(self) -> list[tuple[str, str]]:
        """What it can be reached by, each with by whom; a process can hold a socket of another network than its own."""
        found = doors()
        return [self._reached(found[inode], holding) for inode, holding in held(self.pids, found).items()]

    def _reached(self, door: Door, holding: Iterable[int]) -> tuple[str, str]:
        alone = self.isolated(door.witness)
        if door.kind == "unix":
            hidden = alone if door.address.startswith("@") else not others_reach(door.address)
            level = "none" if hidden else "host"
        else:
            level = "none" if alone else reach(door.address)
        where = f"port {door.port}: {level}" if door.port else level
        of = " (a network of its own)" if alone else ""
        return f"pid {' '.join(map(str, sorted(holding)))}: {door.kind} {door.address} {where}{of}", level

    def egress(self) -> Any:
        """Return where the processes can open connections to."""
        return "none" if all(self.each(self._shut_in)) else "open"

    def _shut_in(self, pid: int) -> bool:
        space, alone = link(f"/proc/{pid}/ns/net"), self.isolated(pid)
        show("egress", f"pid {pid}: {space}: {'nothing but loopback' if alone else 'the network of the machine, or more'}")
        return alone

    def privileged(self) -> Any:
        """Return whether a process has another user than the stack's, root's group, a capability, or can gain one."""
        return any(self.each(self._privileged))

    def _privileged(self, pid: int) -> bool:
        found = status(pid)
        kept = {
            name: found.get(name, "") for name in ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs")
        }
        show("privileged", f"pid {pid}: " + " ".join(f"{name}={' '.join(value.split())}" for name, value in kept.items()))
        users, groups = set(kept["Uid"].split()), {*kept["Gid"].split(), *kept["Groups"].split()}
        capable = any(int(kept[name] or "1", 16) for name in CAPABILITIES)
        return users != {str(self.uid)} or "0" in groups or capable or kept["NoNewPrivs"] != "1"

    def core_dumps(self) -> Any:
        """Return whether a crash hands memory to a file or a program."""
        pattern = text_of("/proc/sys/kernel/core_pattern").strip()
        show("core_dumps", f"core_pattern: {pattern}")
        return any(self.each(lambda pid: self._dumps(pid, pattern)))

    def _dumps(self, pid: int, pattern: str) -> bool:
        row = re.search(r"^Max core file size\s+(\S+)\s+(\S+)", text_of(f"/proc/{pid}/limits"), re.MULTILINE)
        limits = row.groups() if row else ("unknown", "unknown")
        show("core_dumps", f"pid {pid}: Max core file size {' '.join(limits)}")
        if limits != ("0", "0") or pattern.startswith("@"):
            return True
        # The kernel pays no heed to a limit of 0 when it hands the memory to a program; systemd-coredump itself does.
        program = pattern[1:].split()[0] if pattern.startswith("|") and pattern[1:].split() else ""
        return bool(program) and os.path.basename(program) not in ("false", "true", "systemd-coredump")

    def retention_days(self) -> Any:
        """Return for how many days a line of its log is kept."""
        return kept(self.asked["log"])


# --- judgements -------------------------------------------------------------------------------------------------------------


def masked(argv: list[str], known: set[str]) -> list[str]:
    """Return arguments without the values of options that take secrets; what was planned is none."""
    shown: list[str] = []
    hides = False
    for word in argv:
        if word.startswith("--"):
            name, given, _ = word.partition("=")
            hides = bool(SECRET.search(name))
            shown.append(f"{name}={HIDDEN}" if hides and given and word not in known else word)
        else:
            shown.append(HIDDEN if hides and word not in known else word)
    return [CREDENTIALS.sub(HIDDEN, word) for word in shown]


def others_reach(path: str) -> bool:
    """Tell whether another user of the machine can connect to a unix socket."""
    try:
        folder = os.path.dirname(path)
        while folder not in ("", "/"):
            if not os.stat(folder).st_mode & 0o001:
                return False
            folder = os.path.dirname(folder)
        return bool(os.stat(path).st_mode & 0o002)
    except OSError:
        return False


def kept(log: dict[str, str]) -> int:
    """Return the days that a line of its log is kept; more where something older was left."""
    if log["kind"] != "s6":
        show("retention_days", f"{log['settings']}: {text_of(log['settings'])}")
        return by_journald(log["settings"])
    days = by_s6(log["service"], log["janitor"])
    names = [name for name in os.listdir(log["folder"]) if name.startswith("@")]
    oldest_s = max((time.time() - os.stat(f"{log['folder']}/{name}").st_mtime for name in names), default=0)
    show("retention_days", f"{days} days; {len(names)} full files, the oldest ended {int(oldest_s // 60)} minutes ago")
    return max(days, math.ceil(oldest_s / DAY_S))


def show(fact: str, text: str) -> None:
    """Print what shows a fact, as one line."""
    print(f"{fact}: " + " ".join(text.split()))


def tell(fact: str, look: Callable[[], Any]) -> None:
    """Print a fact, or why it cannot be told."""
    try:
        print(f"{fact}\t{json.dumps(look())}")
    except (Unclear, OSError, ValueError) as error:
        print(f"{fact}?\t" + " ".join(str(error).split()))


FACTS = ("process", "software", "exposure", "in_transit", "egress", "privileged", "core_dumps", "retention_days")


def main(asked: str, uid: str) -> None:
    """Tell every fact. `asked`: what is asked, as JSON; uid: the number of the stack's user."""
    try:
        engine = Engine(json.loads(asked), int(uid))
    except Unclear as error:
        for fact in FACTS:
            print(f"{fact}?\t{error}")
        return
    show("pids", " ".join(map(str, engine.pids)))
    for fact in FACTS:
        tell(fact, getattr(engine, fact))
