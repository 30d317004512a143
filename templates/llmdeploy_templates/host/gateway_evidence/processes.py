"""The gateway's processes and the sockets that they listen on, as the kernel has them."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from .model import Fact, Wanted, unclear

_LISTENS = "0A"
_WIDER = ("host", "private", "public")


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
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.ip, self.ip)  # noqa: S104 - compared, not bound

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
    holders: dict[str, set[int]] = {}
    for pid in pids:
        for inode in _sockets(pid):
            holders.setdefault(inode, set()).add(pid)
    found: dict[str, Listener] = {}
    for pid in pids:
        for line in _tcp_lines(pid):
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENS and fields[9] in holders:
                ip, port = _address(fields[1])
                found[fields[9]] = Listener(ip, port, tuple(sorted(holders[fields[9]])), line.strip())
    return tuple(sorted(found.values(), key=lambda one: (one.port, one.ip)))


def exposure(wanted: Wanted, pids: Sequence[int], found: Sequence[Listener]) -> Fact:
    """Tell who can open a connection: the widest of all sockets counts."""
    command = f"grep -h ' {_LISTENS} ' /proc/{pids[0]}/net/tcp /proc/{pids[0]}/net/tcp6; ls -l /proc/{pids[0]}/fd"
    if not found:
        return unclear("exposure", "no process of the gateway listens on a TCP port", command)
    output = "\n".join(f"{one.ip} port {one.port}, held by {', '.join(map(str, one.pids))}: {one.line}" for one in found)
    value = max((_reach(one.ip) for one in found), key=_WIDER.index)
    if wanted.behind and value == "public":
        reason = f"it listens on every address; who can reach these is decided before this machine, by {wanted.behind}"
        return unclear("exposure", reason, command, output)
    return Fact("exposure", value, command, output)


def _reach(text: str) -> str:
    ip = ip_address(text)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return "host"
    # an unspecified address counts as private for Python; here it means every address, public ones too
    return "private" if ip.is_private and not ip.is_unspecified else "public"


def _sockets(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    try:
        entries = os.listdir(folder)
    except OSError:
        return
    for entry in entries:
        try:
            match = re.match(r"socket:\[(\d+)\]", os.readlink(f"{folder}/{entry}"))
        except OSError:
            continue
        if match:
            yield match[1]


def _tcp_lines(pid: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        try:
            yield from Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue


def _address(text: str) -> tuple[str, int]:
    """Read an address as /proc/net has it: words of 32 bits in the machine's byte order, in hexadecimal digits."""
    digits, _, port = text.partition(":")
    packed = b"".join(int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8))
    return str(ip_address(packed)), int(port, 16)
