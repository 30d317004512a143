"""HAProxy's own socket: what the running process holds."""

from __future__ import annotations

import re
import socket

from ..evidence.kernel import Unclear

_MAP = re.compile(r"^-?\d+ \((.*?)\) ", re.MULTILINE)
_ADDRESS = 4
"""Column of `show servers state` with a server's address."""
_ENTRY = re.compile(rb"^0x[0-9a-f]+ (.*)$", re.MULTILINE)


def ask(path: str, command: str) -> bytes:
    """Return the reply to one command. Raises OSError when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(5)
        link.connect(path)
        link.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: link.recv(65536), b""))


def maps(path: str) -> dict[str, bytes]:
    """Return the entries of every map that the process holds, by the file that it was made from."""
    overview = ask(path, "show map").decode(errors="replace")
    if not overview.startswith("# id"):
        raise Unclear("the running gateway does not show its maps")
    return {name: b"\n".join(_ENTRY.findall(ask(path, f"show map {name}"))) for name in sorted(set(_MAP.findall(overview)))}


def servers(path: str) -> dict[str, str]:
    """Return the address of every server that requests can go to, by `backend/server`; "" for a Unix socket."""
    rows = [line.split() for line in ask(path, "show servers state").decode(errors="replace").splitlines()]
    known = [row for row in rows if len(row) > _ADDRESS and row[0].isdigit()]
    if not known:
        raise Unclear("the running gateway does not show its servers")
    return {f"{row[1]}/{row[3]}": "" if row[_ADDRESS] == "-" else row[_ADDRESS] for row in known}


def worker(path: str) -> int:
    """Return the process that serves."""
    match = re.search(rb"^Pid: (\d+)$", ask(path, "show info"), re.MULTILINE)
    if not match:
        raise Unclear("the running gateway does not tell its process")
    return int(match[1])
