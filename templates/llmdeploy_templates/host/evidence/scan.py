"""Content that is planted, and the search for it in whatever may have kept it."""

from __future__ import annotations

import base64
import os
import secrets
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO

from .kernel import Unclear

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
MOST_BYTES = 4 * 2**30
_CHUNK = 2**22


class Marks(dict[str, str]):
    """The planted text of each field: 24 random letters that all share, so 120 bits, and the field's own letter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = "".join(secrets.choice(LETTERS) for _ in range(24))

    def __missing__(self, field: str) -> str:
        """Return the text of a field that is asked for the first time."""
        self[field] = f"{self.stem}{LETTERS[len(self)]}"
        return self[field]

    def field(self, letter: str) -> str:
        """Return the field that a letter after the stem stands for."""
        return next((field for field, text in self.items() if text[-1] == letter), "content")


def forms(stem: str, tokens: Sequence[int] = ()) -> dict[bytes, str]:
    """Return what to look for -> how it is written down, "" for as it was sent.

    tokens: what the engine's tokenizer makes of it. In base64 it has one of three forms, by where it begins; what depends on its
    neighbours is left out of each. URLs and JSON leave the letters as they are.
    """
    raw = stem.encode()
    found = {
        raw: "",
        raw[::-1]: "reversed",
        raw.lower(): "in small letters",
        raw.hex().encode(): "hexadecimal",
        raw.hex().upper().encode(): "hexadecimal",
        "".join(f"%{byte:02X}" for byte in raw).encode(): "URL-escaped",
        stem.encode("utf-16-le"): "as UTF-16",
        stem.encode("utf-16-be"): "as UTF-16",
    }
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw + b"\0" * 3)
        found[encoded[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]] = "base64"
    inner = tokens[2:-2]
    if len(inner) >= 6:
        found |= {between.join(map(str, inner)).encode(): "as token ids" for between in (", ", ",", " ")}
    return found


class Search:
    """A search for what was planted, in names of files and in their content, with a limit on what is read."""

    def __init__(self, marks: Marks, tokens: Sequence[int] = ()) -> None:
        self._marks = marks
        self._wanted = forms(marks.stem, tokens)
        self.read = 0
        self.seen: set[str] = set()
        self.found: set[str] = set()

    def below(self, folder: str, since: float) -> None:
        """Search every plain file below a folder that changed since then."""
        for path in changed_files(folder, since):
            self.file(path)

    def file(self, path: str, name: str = "") -> None:
        """Search one file, once. name: what it is called, where `path` is a link of the kernel's to what a process has open."""
        if (name or path) in self.seen:
            return
        self.seen.add(name or path)
        self._look(os.fsencode(os.path.basename(name or path)), f"a name in {os.path.dirname(name or path)}")
        # A name may have become a link or a pipe meanwhile.
        flags = os.O_RDONLY | os.O_NONBLOCK | (0 if name else os.O_NOFOLLOW)
        try:
            with open(os.open(path, flags), "rb") as file:
                self._bounded(os.fstat(file.fileno()).st_size)
                self.stream(file, name or path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unclear(f"{name or path} cannot be read: {error.strerror}") from None

    def journals(self, since: float) -> None:
        """Search what the machine's journals give out: their files are compressed."""
        command = ["journalctl", "--namespace=*", "--quiet", "--no-pager", "--output=export", f"--since=@{int(since)}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            self.stream(process.stdout, "a journal")
        if process.returncode != 0:
            raise Unclear(f"journalctl ended with status {process.returncode}")

    def stream(self, file: IO[bytes], name: str) -> None:
        """Search what can be read. Raises Unclear when it is too much."""
        longest = max(map(len, self._wanted)) + 1
        rest = b""
        while piece := file.read(_CHUNK):
            self._bounded(len(piece))
            self.read += len(piece)
            self._look(rest + piece, name)
            rest = (rest + piece)[-longest:]

    def _bounded(self, more: int) -> None:
        if self.read + more > MOST_BYTES:
            raise Unclear(f"there is more than {MOST_BYTES >> 30} GiB to search")

    def _look(self, data: bytes, name: str) -> None:
        for text, form in self._wanted.items():
            at = data.find(text)
            while at >= 0:
                letter = data[at + len(text) : at + len(text) + 1].decode("ascii", "replace")
                self.found.add(_told("content" if form else self._marks.field(letter), form, name))
                at = data.find(text, at + 1)


def _told(field: str, form: str, name: str) -> str:
    return f"{field}{' ' * bool(form)}{form} in {name}"


def changed_files(folder: str, since: float) -> Iterator[str]:
    """Yield the plain files below a folder that were written to since then; links are not followed.

    Raises OSError for a folder that cannot be read.
    """
    for parent, _, names in os.walk(folder, onerror=_unless_gone):
        for name in names:
            path = os.path.join(parent, name)
            try:
                seen = os.lstat(path)
            except FileNotFoundError:
                continue
            # The kernel's clock for files runs a few milliseconds behind.
            if stat.S_ISREG(seen.st_mode) and max(seen.st_mtime, seen.st_ctime) >= since - 1:
                yield path


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def prove(folders: Sequence[str]) -> str:
    """Plant every form in every folder, search for it in the same way, remove it, and tell so.

    Raises Unclear where it is not found, and where nothing can be planted.
    """
    if missing := [folder for folder in folders if not os.path.isdir(folder)]:
        raise Unclear(f"there is no folder {' '.join(missing)}")
    marks, since = Marks(), time.time()
    wanted, search = forms(marks.stem), Search(marks)
    planted = [os.path.join(folder, f".llmdeploy-control-{secrets.token_hex(4)}") for folder in folders]
    try:
        for path in planted:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(b"\n".join(wanted))
        for folder in folders:
            search.below(folder, since)
    finally:
        for path in planted:
            with suppress(FileNotFoundError):
                os.unlink(path)
    missed = [path for path in planted if not {_told("content", form, path) for form in wanted.values()} <= search.found]
    if missed:
        raise Unclear(f"the search does not find what was planted in {' '.join(map(os.path.dirname, missed))}")
    return f"control: planted in {len(planted)} folders in {len(wanted)} forms, found in each"
