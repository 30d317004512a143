"""The gateway's processes and the sockets that they listen on, as the kernel has them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evidence.kernel import REACH, doors, held, link, reach
from .model import Fact, Wanted, unclear

_EVERY = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


@dataclass(frozen=True)
class Listener:
    """A TCP socket that takes connections: address, port, the processes that hold it, and the kernel's line."""

    ip: str
    port: int
    pids: tuple[int, ...]
    line: str

    @property
    def reach(self) -> str:
        """Where this machine reaches it."""
        return {_EVERY[0]: "127.0.0.1", _EVERY[1]: "::1"}.get(self.ip, self.ip)

    @property
    def name(self) -> str:
        """Address and port as programs take them."""
        return f"[{self.reach}]:{self.port}" if ":" in self.reach else f"{self.reach}:{self.port}"


def gateway_pids(config: str) -> tuple[int, ...]:
    """Return the processes of HAProxy that were started with `config`: the master, its worker, and workers that still end."""
    found = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return tuple(sorted(pid for pid in found if _runs(pid, config)))


def _runs(pid: int, config: str) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return config.encode() in arguments and os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("haproxy")
    except OSError:
        return False


def started_at(pid: int) -> float:
    """Return when a process was started, in seconds since 1970."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def listeners(pids: Sequence[int]) -> tuple[Listener, ...]:
    """Return every TCP socket that one of the processes listens on."""
    found = {inode: door for inode, door in doors().items() if door.kind in ("tcp", "tcp6")}
    holders = held(pids, found)
    made = (Listener(found[one].address, found[one].port, tuple(sorted(holders[one])), found[one].line) for one in holders)
    return tuple(sorted(made, key=lambda one: (one.port, one.ip)))


def strangers(pids: Sequence[int], port: int, ours: Sequence[Listener]) -> tuple[str, ...]:
    """Return the sockets of other programs that take some of the gateway's connections: the kernel lets several share a port."""
    found = {inode: door for inode, door in doors().items() if door.kind in ("tcp", "tcp6") and door.port == port}
    network, known = link(f"/proc/{pids[0]}/ns/net"), held(pids, found)
    taken = {one.ip for one in ours if one.port == port}
    theirs = (door for inode, door in found.items() if inode not in known and link(f"/proc/{door.witness}/ns/net") == network)
    shared = (door for door in theirs if taken & set(_EVERY) or door.address in {*taken, *_EVERY})
    return tuple(sorted(door.line for door in shared))


def exposure(wanted: Wanted, pids: Sequence[int], found: Sequence[Listener]) -> Fact:
    """Tell who can open a connection: the widest of all sockets counts."""
    command = f"grep -h ' 0A ' /proc/{pids[0]}/net/tcp /proc/{pids[0]}/net/tcp6; ls -l /proc/{pids[0]}/fd"
    if not found:
        return unclear("exposure", "no process of the gateway listens on a TCP port", command)
    output = "\n".join(f"{one.ip} port {one.port}, held by {', '.join(map(str, one.pids))}: {one.line}" for one in found)
    value = max((reach(one.ip) for one in found), key=REACH.index)
    if wanted.behind and value == "public":
        reason = f"it listens on every address; who can reach these is decided before this machine, by {wanted.behind}"
        return unclear("exposure", reason, command, output)
    return Fact("exposure", value, command, output)
