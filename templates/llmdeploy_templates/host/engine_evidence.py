"""Tells how the processes behind an engine's socket really run, as the kernel sees them. Reads only; needs root.

Arguments: what is asked as JSON, and the number of the stack's user. For each fact it prints `fact<TAB>value as JSON` or
`fact?<TAB>reason`, and lines `fact: text` that show why.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

HIDDEN = "***"
SECRET = re.compile(r"(^|[-_])(key|token|secret|password|credentials|headers)$", re.IGNORECASE)
TOLD = re.compile(r"(VLLM|HF|OTEL|TRANSFORMERS|PYTHON|LD|DISABLE|DO_NOT)_?")
LISTENING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
EXPOSURE = ("none", "host", "private", "public")
ACCEPTS = "00010000"
CAPABILITIES = ("CapEff", "CapPrm", "CapBnd", "CapAmb")
DAY_S = 86400


class CannotTell(Exception):
    """A fact that cannot be told, and why."""


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


def text_of(path: str) -> str:
    """Return a file's text, "" where it cannot be read: processes come and go."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def link(path: str) -> str:
    """Return where a link leads, "" where it cannot be read."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def pids() -> list[int]:
    """Return every process that is no zombie."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and status(int(name)).get("State", "Z")[0] != "Z"]


def status(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status."""
    rows = (line.partition(":") for line in text_of(f"/proc/{pid}/status").splitlines())
    return {name: value.strip() for name, _, value in rows}


def inodes(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return set()
    links = (link(f"/proc/{pid}/fd/{name}") for name in names)
    return {one[len("socket:[") : -1] for one in links if one.startswith("socket:[")}


def unix_listeners(pid: int) -> Iterator[tuple[str, str]]:
    """Yield inode and path of every unix socket that takes connections in the process's network namespace."""
    for line in text_of(f"/proc/{pid}/net/unix").splitlines()[1:]:
        parts = line.split(None, 7)
        if len(parts) == 8 and parts[3] == ACCEPTS:
            yield parts[6], parts[7]


def holders(path: str) -> list[int]:
    """Return the processes that listen on a unix socket, whoever started them and in whatever network namespace."""
    spaces: dict[str, int] = {link(f"/proc/{pid}/ns/net"): pid for pid in pids()}
    wanted = {inode for pid in spaces.values() for inode, name in unix_listeners(pid) if name == path}
    return [pid for pid in pids() if wanted & inodes(pid)]


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
        first = holders(asked["socket"]) or supervised(asked["supervised"])
        if not first:
            raise CannotTell(f"the engine is not running: nothing listens on {asked['socket']}")
        self.pids = family(first)
        self.mains = sorted({top(pid, self.pids) for pid in first})
        self.host_space = link("/proc/1/ns/net")

    def process(self) -> Any:
        """Return arguments and environment of the main process, without secrets."""
        self._named()
        if len(self.mains) != 1:
            raise CannotTell(f"several processes listen on its socket: {self.mains}")
        pid = self.mains[0]
        argv = text_of(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
        pairs = dict(entry.split("=", 1) for entry in text_of(f"/proc/{pid}/environ").split("\0") if "=" in entry)
        if len(argv) < 2 or "PATH" not in pairs:
            raise CannotTell(f"process {pid} overwrote its command line or its environment")
        shown = " ".join(masked(argv, set(self.asked["argv"])))
        show("process", f"pid {pid}: {shown}")
        show("process", f"environment: {' '.join(sorted(pairs))}")
        env = {name: self._marked(value) if self._tells(name) else HIDDEN for name, value in sorted(pairs.items())}
        told = [self._marked(word) for word in masked(argv, set(self.asked["argv"]))]
        return {"engine": self.asked["engine"], "argv": told, "env": env}

    def _marked(self, value: str) -> str:
        """Return a word or a variable's value; one that names a file of the process says when that is not as it was written."""
        wanted = self.asked["files"].get(value)
        if wanted is None or hashlib.sha256(text_of(value).encode()).hexdigest() == wanted:
            return value
        show("process", f"{value} is not as it was written")
        return f"{value} (its content was changed)"

    def _named(self) -> None:
        if not self.asked["engine"]:
            raise CannotTell("the state file is older than its field `engine`: the next change of it writes that down")

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
            raise CannotTell(f"the engine does not answer: {error}") from None
        finally:
            connection.close()
        show("software", f"GET /version: {answer.status} {body}")
        found = re.search(r'"version"\s*:\s*"([^"]+)"', body)
        if answer.status != 200 or not found:
            raise CannotTell("the engine does not tell its version")
        return [{"name": self.asked["engine"], "version": found[1]}]

    def isolated(self, pid: int) -> bool:
        """Tell whether a process is in a network namespace with nothing but loopback."""
        names = {line.split(":")[0].strip() for line in text_of(f"/proc/{pid}/net/dev").splitlines()[2:]}
        return link(f"/proc/{pid}/ns/net") not in ("", self.host_space) and names == {"lo"}

    def exposure(self) -> Any:
        """Return who can open a connection to one of the processes."""
        for line in sorted({line for pid in self.pids for line, _ in self._exposed(pid)}):
            show("exposure", line)
        return self._level()

    def in_transit(self) -> Any:
        """Return whether what it says stays in this machine's kernel."""
        show("in_transit", f"can be reached from: {self._level()}")
        return "local" if self._level() in ("none", "host") else "plain"

    def _level(self) -> str:
        return EXPOSURE[max((EXPOSURE.index(level) for pid in self.pids for _, level in self._exposed(pid)), default=0)]

    def _exposed(self, pid: int) -> Iterator[tuple[str, str]]:
        own, alone = inodes(pid), self.isolated(pid)
        for inode, path in unix_listeners(pid):
            if inode in own:
                level = "none" if (alone if path.startswith("@") else not others_reach(path)) else "host"
                yield f"pid {pid}: unix {path}: {level}", level
        for kind, state in LISTENING.items():
            for row in (line.split() for line in text_of(f"/proc/{pid}/net/{kind}").splitlines()[1:]):
                if row[3] == state and row[9] in own:
                    address, port = endpoint(row[1])
                    level = "none" if alone else reach(address)
                    where = " (a network of its own)" if alone else ""
                    yield f"pid {pid}: {kind} {address} port {port}: {level}{where}", level

    def egress(self) -> Any:
        """Return where the processes can open connections to."""
        for pid in self.pids:
            space, alone = link(f"/proc/{pid}/ns/net"), self.isolated(pid)
            show("egress", f"pid {pid}: {space}: {'nothing but loopback' if alone else 'the network of the machine, or more'}")
        return "none" if all(self.isolated(pid) for pid in self.pids) else "open"

    def privileged(self) -> Any:
        """Return whether a process has another user than the stack's, root's group, a capability, or can gain one."""
        return any([self._privileged(pid) for pid in self.pids])

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
        return any([self._dumps(pid, pattern) for pid in self.pids])

    def _dumps(self, pid: int, pattern: str) -> bool:
        row = re.search(r"^Max core file size\s+(\S+)\s+(\S+)", text_of(f"/proc/{pid}/limits"), re.MULTILINE)
        if not row:
            raise CannotTell(f"process {pid} ended meanwhile")
        show("core_dumps", f"pid {pid}: Max core file size {row[1]} {row[2]}")
        if row[1] != "0" or row[2] != "0":
            return True
        # The kernel pays no heed to a limit of 0 when it hands the memory to a program; systemd-coredump itself does.
        program = pattern[1:].split()[0] if pattern.startswith("|") and pattern[1:].split() else ""
        return bool(program) and os.path.basename(program) not in ("false", "true", "systemd-coredump")

    def private(self) -> Any:
        """Return whether nobody but root and the stack's user can look into its folders."""
        return all([self._closed(folder) for folder in self.asked["folders"]])

    def _closed(self, folder: str) -> bool:
        try:
            found = os.stat(folder)
        except OSError as error:
            raise CannotTell(f"{folder}: {error.strerror}") from None
        show("private", f"{found.st_mode & 0o7777:04o} uid {found.st_uid} {folder}")
        return not found.st_mode & 0o077 and found.st_uid in (0, self.uid)

    def retention_days(self) -> Any:
        """Return for how many days a line of its log is kept."""
        return kept_by_s6(self.asked["log"]) if self.asked["log"]["kind"] == "s6" else kept_by_journald(self.asked["log"])


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
    return shown


def endpoint(text: str) -> tuple[str, int]:
    """Return address and port of `0100007F:1F90`: 32-bit words, each as the processor stores it."""
    address, port = text.split(":")
    raw = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
    return str(ipaddress.ip_address(raw)), int(port, 16)


def reach(address: str) -> str:
    """Return who reaches a socket on an address of the machine."""
    found = ipaddress.ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    if found.is_loopback:
        return "host"
    return "private" if found.is_private and not found.is_unspecified else "public"


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


def kept_by_s6(log: dict[str, str]) -> int:
    """Return the days that the janitor keeps; more where it left something older."""
    minutes = text_of(f"{log['service']}/data/retention_minutes").strip()
    if not minutes.isdigit():
        raise CannotTell(f"{log['service']}/data/retention_minutes does not tell it")
    asked = subprocess.run(["s6-svstat", "-o", "up", log["janitor"]], capture_output=True, text=True, check=False)
    if asked.stdout.strip() != "true":
        raise CannotTell(f"what removes old log lines is not running ({log['janitor']})")
    names = [name for name in os.listdir(log["folder"]) if name.startswith("@")]
    ages = [time.time() - os.stat(f"{log['folder']}/{name}").st_mtime for name in names]
    oldest = max(ages, default=0)
    show("retention_days", f"{minutes} minutes; {len(names)} full files, the oldest ended {int(oldest // 60)} minutes ago")
    kept_s = int(minutes) * 60
    return math.ceil((oldest if oldest > kept_s else kept_s) / DAY_S)


def kept_by_journald(log: dict[str, str]) -> int:
    """Return the days of the journal's own limit."""
    found = re.search(r"^MaxRetentionSec=(\d+)day$", text_of(log["settings"]), re.MULTILINE)
    if not found:
        raise CannotTell(f"{log['settings']} does not tell it")
    show("retention_days", f"{log['settings']}: {found[0]}")
    return int(found[1])


def show(fact: str, text: str) -> None:
    """Print what shows a fact, as one line."""
    print(f"{fact}: " + " ".join(text.split()))


def tell(fact: str, look: Callable[[], Any]) -> None:
    """Print a fact, or why it cannot be told."""
    try:
        print(f"{fact}\t{json.dumps(look())}")
    except (CannotTell, OSError, ValueError) as error:
        print(f"{fact}?\t" + " ".join(str(error).split()))


FACTS = ("process", "software", "exposure", "in_transit", "egress", "privileged", "core_dumps", "private", "retention_days")


def main() -> None:
    """Tell every fact."""
    try:
        engine = Engine(json.loads(sys.argv[1]), int(sys.argv[2]))
    except CannotTell as error:
        for fact in FACTS:
            print(f"{fact}?\t{error}")
        return
    show("pids", " ".join(map(str, engine.pids)))
    for fact in FACTS:
        tell(fact, getattr(engine, fact))


if __name__ == "__main__":
    main()
