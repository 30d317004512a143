"""Looks for texts everywhere on a throw-away machine, from outside: files on every mount, and what its processes show."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .machine import Machine

_KERNEL_ONLY: Final = """
    autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts efivarfs fusectl hugetlbfs mqueue nsfs proc pstore rpc_pipefs
    securityfs selinuxfs sysfs tracefs
    """
_WITHOUT_FILES: Final = frozenset(_KERNEL_ONLY.split())
"""File systems of the kernel that keep nothing."""
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_CLOCK_S: Final = 1.0
"""How far a file's time may lag behind the clock."""


@dataclass(frozen=True)
class Hit:
    """Where a text was found, in which shape, and what stands around it."""

    place: str
    shape: str
    around: bytes


class Scan:
    """Finds `needles` (shape -> bytes) in whatever the machine wrote since `since` (seconds since 1970).

    Read are: the contents, names and link targets of files that changed since then on every mount of every mount namespace, gzip
    unpacked; all files that lie in memory, changed or not, because a mapped write leaves no time; files that are mapped for
    writing or were removed and are still open; command lines and environments; the kernel's messages.
    """

    def __init__(self, machine: Machine, needles: Mapping[str, bytes], since: float) -> None:
        self._machine = machine
        self._needles = needles
        self._since = since - _CLOCK_S
        self.read: set[str] = set()
        """What was read, so that a test can show that nothing was left out."""
        self.cores: list[str] = []
        """Images of memory among them, whatever they hold."""

    def hits(self, pages: Mapping[str, bytes] | None = None) -> list[Hit]:
        """Return everything that is found. pages: more texts to look through, by name."""
        places = (*self._files(), *self._processes())
        return [*(hit for place, content in places for hit in self._found(place, content)), *self.among(pages or {})]

    def among(self, pages: Mapping[str, bytes]) -> list[Hit]:
        """Return what is found in texts, by their names."""
        return [hit for name, content in pages.items() for hit in self._found(name, content)]

    def _found(self, place: str, content: bytes) -> Iterator[Hit]:
        self.read.add(place)
        if content.startswith(b"\x7fELF") and content[16:18] == b"\x04\x00":
            self.cores.append(place)
        for name, text in ((place, content), *_unpacked(place, content)):
            for shape, needle in self._needles.items():
                start = text.find(needle)
                if start >= 0:
                    yield Hit(name, shape, text[max(start - 60, 0) : start + len(needle) + 60])

    def _files(self) -> Iterator[tuple[str, bytes]]:
        yield from self._below("/", self._machine.upper, changed_only=True)
        for pid in self._roots():
            root = f"/proc/{pid}/root"
            for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
                mount = line.split()[4].encode().decode("unicode_escape")
                kind = line.split(" - ")[1].split()[0]
                if kind not in _WITHOUT_FILES and mount != "/":
                    yield from self._below(mount, Path(root + mount), changed_only=kind not in _IN_MEMORY)

    def _roots(self) -> list[int]:
        """Return one process of each mount namespace."""
        spaces: dict[str, int] = {}
        for pid in (self._machine.init_pid, *(process.pid for process in self._machine.processes())):
            try:
                spaces.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), pid)
            except OSError:
                continue
        return list(spaces.values())

    def _below(self, name: str, folder: Path, *, changed_only: bool) -> Iterator[tuple[str, bytes]]:
        device = _device(str(folder))
        for parent, folders, files in os.walk(folder):
            inside = f"{name.rstrip('/')}{parent[len(str(folder)) :]}"
            for file in (*folders, *files):
                yield from self._entry(f"{inside}/{file}", Path(parent, file), changed_only=changed_only)
            folders[:] = [one for one in folders if _device(f"{parent}/{one}") == device]

    def _entry(self, name: str, path: Path, *, changed_only: bool) -> Iterator[tuple[str, bytes]]:
        try:
            status = path.lstat()
            if changed_only and status.st_ctime < self._since:
                return
            yield f"the name of {name}", name.encode()
            if stat.S_ISLNK(status.st_mode):
                yield f"the target of {name}", os.fsencode(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                yield name, path.read_bytes()
        except FileNotFoundError:
            return

    def _processes(self) -> Iterator[tuple[str, bytes]]:
        yield "the kernel's messages", _kernel_messages()
        for process in self._machine.processes():
            folder = Path(f"/proc/{process.pid}")
            try:
                for name in ("cmdline", "environ", "comm"):
                    yield f"{name} of {process.command[:60]}", (folder / name).read_bytes()
                for path in (*_removed(folder), *_mapped(folder)):
                    yield f"{os.readlink(path)} of {process.command[:60]}", path.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile


def _device(folder: str) -> int | None:
    """Return the file system of a folder, None when it is gone."""
    try:
        return os.lstat(folder).st_dev
    except FileNotFoundError:
        return None


def _removed(process: Path) -> Iterator[Path]:
    """Yield open files that have no name any more."""
    for path in (process / "fd").iterdir():
        target = os.readlink(path)
        if target.startswith("/") and target.endswith(" (deleted)") and path.is_file():
            yield path


def _mapped(process: Path) -> Iterator[Path]:
    """Yield files that the process can write to without a system call."""
    for line in (process / "maps").read_text().splitlines():
        addresses, rights, *_ = line.split()
        path = process / "map_files" / "-".join(part.lstrip("0") or "0" for part in addresses.split("-"))
        if rights.startswith("rw") and rights.endswith("s") and path.is_file() and not _is_memory(os.readlink(path)):
            yield path


def _is_memory(target: str) -> bool:
    """Return whether a mapping has no file: memory that processes share and nothing keeps."""
    return target.startswith(("/dev/", "/memfd:", "/SYSV", "anon_inode:"))


def _kernel_messages() -> bytes:
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""  # a container that must not see them
    lines: list[bytes] = []
    try:
        while True:
            try:
                lines.append(os.read(descriptor, 8192))
            except BrokenPipeError:
                continue  # lines were lost between two reads
            except BlockingIOError:
                return b"".join(lines)
    finally:
        os.close(descriptor)


def _unpacked(place: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield every member of a gzip file, also of one that is not whole."""
    number, rest = 0, content
    while rest.startswith(b"\x1f\x8b"):
        unpack = zlib.decompressobj(31)
        try:
            yield f"{place}, unpacked ({number})", unpack.decompress(rest)
        except zlib.error:
            return
        number, rest = number + 1, unpack.unused_data
