"""Content that is planted, and the search for it afterwards in whatever was written since."""

from __future__ import annotations

import base64
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .model import Fact, Unclear, Wanted, unclear
from .records import Journal, Log

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
PLACES = ("query", "path", "header", "request id", "authorization", "body", "method")


@dataclass(frozen=True)
class Planted:
    """One random marker for each place where a client can put text: 24 letters of base32, so 120 bits."""

    marks: dict[str, str]

    @classmethod
    def fresh(cls) -> Planted:
        """Return new markers."""
        return cls({place: "".join(secrets.choice(_ALPHABET) for _ in range(24)) for place in PLACES})

    def needles(self) -> Iterator[tuple[str, str, bytes]]:
        """Return place, form and bytes of everything that is looked for."""
        for place, mark in self.marks.items():
            for form, needle in forms(mark).items():
                yield place, form, needle


def forms(mark: str) -> dict[str, bytes]:
    """Return how a marker may have been written down, by the form's name.

    In base64 it has one of three forms, by where it begins; what depends on its neighbours is left out of each.
    """
    raw = mark.encode()
    shifted = {f"base64, {shift}": base64.b64encode(b"\0" * shift + raw)[(0, 2, 3)[shift] : -4] for shift in range(3)}
    return {
        "as it was sent": raw,
        "in small letters": mark.lower().encode(),
        "reversed": raw[::-1],
        "URL-escaped": "".join(f"%{byte:02X}" for byte in raw).encode(),
        "in hexadecimal digits": raw.hex().encode(),
        **shifted,
    }


def scan(files: Sequence[Path], planted: Planted) -> dict[Path, list[str]]:
    """Return the files that hold a marker, each with where it was sent and in which form it was found."""
    found: dict[Path, list[str]] = {}
    for path in files:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        if hits := hits_in(data, planted):
            found[path] = hits
    return found


def hits_in(data: bytes, planted: Planted) -> list[str]:
    """Return which markers are in `data`: where each was sent, and its form."""
    return [f"{place}, {form}" for place, form, needle in planted.needles() if needle in data]


def changed_files(roots: Sequence[str], since: float) -> list[Path]:
    """Return every regular file below `roots` that was written to since then; links are not followed.

    Raises OSError for a folder that cannot be read.
    """
    found: list[Path] = []
    for root in roots:
        for folder, _, names in os.walk(root, onerror=_unless_gone):
            for name in names:
                path = Path(folder, name)
                try:
                    seen = path.lstat()
                except FileNotFoundError:
                    continue
                # the kernel's clock for files runs a few milliseconds behind
                if stat.S_ISREG(seen.st_mode) and max(seen.st_mtime, seen.st_ctime) >= since - 1:
                    found.append(path)
    return sorted(found)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def content(wanted: Wanted, log: Log, planted: Planted) -> Fact:
    """Tell in which files of the stack the planted content is. A file with it is planted as well, and must be found."""
    roots = [wanted.folder, wanted.run, wanted.logs]
    command = f"grep -rlaF MARKER {' '.join(roots)} {log.place if isinstance(log, Journal) else ''}".rstrip()
    try:
        with tempfile.TemporaryDirectory(prefix="evidence-", dir=wanted.run) as folder:
            control = Path(folder, "planted")
            control.write_bytes(b"\n".join(b"..." + needle + b"..." for _, _, needle in planted.needles()))
            files = changed_files(roots, log.since)
            found = scan(files, planted)
            expected = len(list(planted.needles()))
            if len(found.pop(control, [])) != expected:
                return unclear("content_found", "the scan does not find planted content", command)
        if isinstance(log, Journal):
            found |= _in_journals(log, planted)
    except (OSError, Unclear) as error:
        return unclear("content_found", f"not everything could be looked at: {error}", command)
    value = sorted(f"{path} ({hit})" for path, hits in found.items() for hit in hits)
    seen = (
        f"{len(files) - 1} files changed since it was sent; all {expected} forms were found in a file with them, as they must be"
    )
    return Fact("content_found", value, command, "\n".join([seen, *(f"found: {one}" for one in value)]))


def _in_journals(log: Journal, planted: Planted) -> dict[Path, list[str]]:
    """Search what journals give out: their files are compressed."""
    found = {Path(place): hits_in(data, planted) for place, data in log.of_the_stack()}
    if log.place.partition("*")[2] not in {f".{path.name.partition('.')[2]}" for path in found}:
        raise Unclear(f"there is no journal in {log.place}")
    return {path: hits for path, hits in found.items() if hits}
