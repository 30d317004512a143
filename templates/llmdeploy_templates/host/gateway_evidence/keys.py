"""API keys as text: one that nobody has, and how to find others where none may be."""

from __future__ import annotations

import re
import secrets
import zlib
from collections.abc import Iterable
from pathlib import Path

from ..evidence.kernel import Unclear
from .model import Fact, Wanted, unclear
from .records import Log
from .runtime import maps

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HASH = re.compile(rb"[0-9a-f]{64}\Z")


def checksum(body: str) -> str:
    """Return the six digits that end a key: the CRC-32 of what is before them, in base 62."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits


def stranger() -> str:
    """Return a well-formed key that nobody has."""
    random = "".join(secrets.choice(_DIGITS) for _ in range(51))
    body = f"llmd_live_{random[:8]}_{random[8:]}"
    return body + checksum(body)


def keys_in(data: bytes, pattern: re.Pattern[bytes]) -> int:
    """Return how many API keys are in `data`: their checksum tells them from what only looks like one."""
    return sum(checksum(match[0][:-6].decode()) == match[0][-6:].decode() for match in pattern.finditer(data))


def stored(wanted: Wanted, pids: Iterable[int], log: Log) -> Fact:
    """Tell whether the gateway has anything but hashes: in its files, its processes' arguments and environment, its log, and the
    key maps that it holds in memory."""
    pattern = re.compile(wanted.key_pattern.encode())
    command = (
        f"grep -rlaE 'llmd_(live|test)_[0-9A-Za-z]{{8}}_[0-9A-Za-z]{{49}}' {wanted.folder} /proc/PID/cmdline /proc/PID/environ "
        f"{log.place}; awk '{{print length($1)}}' {wanted.folder}/keys.map; echo 'show map {wanted.folder}/keys.map' | "
        f"socat - {wanted.sockets}/admin.sock"
    )
    lines: list[str] = []
    try:
        live = maps(f"{wanted.sockets}/admin.sock")
        places = [(f"map {name} in memory", text) for name, text in live.items()]
        places += [(str(path), path.read_bytes()) for path in sorted(Path(wanted.folder).rglob("*")) if path.is_file()]
        places += [(f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes()) for pid in pids for name in _PROCESS]
        found = [(place, keys_in(data, pattern)) for place, data in places]
        found += [(place, keys_in(data, pattern)) for place, data in log.everything()]
        records = live.get(f"{wanted.folder}/keys.map")
        if records is None:
            raise Unclear("the running gateway has no map of keys")
        kept = Path(wanted.folder, "keys.map").read_bytes()
        unhashed = {"keys.map": _unhashed(kept), "keys.map in memory": _unhashed(records)}
    except (OSError, Unclear) as error:
        return unclear("stored_keys", f"not everything could be looked at: {error}", command)
    lines += [f"{place}: {count} API keys" for place, count in found if count]
    lines += [f"{name}: {count} records without a SHA-256" for name, count in unhashed.items() if count]
    value = "clear" if lines else "hashes"
    seen = f"{len(found)} places looked at; {len(kept.splitlines())} records, each begins with a SHA-256"
    return Fact("stored_keys", value, command, "\n".join(lines or [seen]))


_PROCESS = ("cmdline", "environ")


def _unhashed(records: bytes) -> int:
    return sum(not _HASH.match(line.split(b" ")[0]) for line in records.splitlines() if line.strip())
