"""Processes, and the sockets that they take connections on, as the kernel has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

REACH = ("none", "host", "private", "public")
"""Who can open a connection, from nobody to everybody."""

_LISTENS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
"""The state of a socket that takes connections or datagrams, by its kind."""
_ACCEPTS = "00010000"


class Unclear(Exception):
    """Something could not be found out; the text says why."""


@dataclass(frozen=True)
class Door:
    """A socket that others can come in by.

    address: an IP address; of the kind `unix` a path, or a name that begins with @. witness: a process in the socket's network,
    whoever holds the socket. line: the kernel's.
    """

    kind: str
    address: str
    port: int
    witness: int
    line: str


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


def status(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status; none where the process is gone."""
    rows = (line.partition(":") for line in text_of(f"/proc/{pid}/status").splitlines())
    return {name: value.strip() for name, _, value in rows}


def runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    return status(pid).get("State", "Z")[0] not in "ZX"


def pids() -> list[int]:
    """Return every process."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and runs(int(name))]


def inodes(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return set()
    links = (link(f"/proc/{pid}/fd/{name}") for name in names)
    return {one[len("socket:[") : -1] for one in links if one.startswith("socket:[")}


def doors() -> dict[str, Door]:
    """Return every such socket of the machine, in all of its networks, by inode: a process can hold one of another network."""
    networks = {link(f"/proc/{pid}/ns/net"): pid for pid in pids()}
    return {inode: door for pid in networks.values() for inode, door in (*_inet(pid), *_unix(pid))}


def held(by: Iterable[int], among: dict[str, Door]) -> dict[str, set[int]]:
    """Return the processes that hold each door, by its inode."""
    holders: dict[str, set[int]] = {}
    for pid in by:
        for inode in inodes(pid) & set(among):
            holders.setdefault(inode, set()).add(pid)
    return holders


def reach(address: str) -> str:
    """Return who reaches a socket on an address of the machine."""
    ip = ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return "host"
    # An unspecified address counts as private for Python; here it means every address, public ones too.
    return "private" if ip.is_private and not ip.is_unspecified else "public"


def endpoint(text: str) -> tuple[str, int]:
    """Read `0100007F:1F90` as address and port: words of 32 bits in the machine's byte order, in hexadecimal digits."""
    digits, _, port = text.partition(":")
    packed = b"".join(int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8))
    return str(ip_address(packed)), int(port, 16)


def _inet(pid: int) -> Iterator[tuple[str, Door]]:
    for kind, state in _LISTENS.items():
        for line in text_of(f"/proc/{pid}/net/{kind}").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == state:
                yield fields[9], Door(kind, *endpoint(fields[1]), pid, line.strip())


def _unix(pid: int) -> Iterator[tuple[str, Door]]:
    for line in text_of(f"/proc/{pid}/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[3] == _ACCEPTS:
            yield fields[6], Door("unix", fields[7], 0, pid, line.strip())
