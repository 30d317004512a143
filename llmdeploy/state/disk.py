"""The system calls that keep a state in files: one method, one effect, so that a test can stop the machine between any two."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """Files below one folder. What was written is durable after `sync`; what was named is durable after `sync_folder`.

    Every method raises OSError as the call behind it does.
    """

    def read(self, path: Path) -> bytes:
        """Return the content."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted; none when there is no such folder."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Make a folder of mode 0700, with its parents; it may be there."""
        ...

    def create(self, path: Path, content: bytes) -> None:
        """Write a file of mode 0600 from its beginning."""
        ...

    def append(self, path: Path, content: bytes) -> None:
        """Write at the end of a file; it is made, with mode 0600, when it is not there."""
        ...

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes."""
        ...

    def sync(self, path: Path) -> None:
        """Make the content durable."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, in place of what had it."""
        ...

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name."""
        ...

    def unlink(self, path: Path) -> None:
        """Take a name away; it may be gone."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        ...

    def lock(self, path: Path, timeout_s: float) -> AbstractContextManager[bool]:
        """Hold the exclusive lock of a file while the body runs; gives False when another process has it after `timeout_s`."""
        ...


class OsDisk:
    """The real file system.

    The file that was appended to last stays open, so that a journal's record costs one write and one fsync.
    """

    def __init__(self) -> None:
        self._appended: tuple[Path, int] | None = None

    def read(self, path: Path) -> bytes:
        """See `Disk.read`."""
        return path.read_bytes()

    def names(self, folder: Path) -> list[str]:
        """See `Disk.names`."""
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def make_folder(self, folder: Path) -> None:
        """See `Disk.make_folder`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, path: Path, content: bytes) -> None:
        """See `Disk.create`."""
        self._close_if(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            _write(descriptor, content)
        finally:
            os.close(descriptor)

    def append(self, path: Path, content: bytes) -> None:
        """See `Disk.append`."""
        if self._appended is None or self._appended[0] != path:
            self._close()
            self._appended = path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _write(self._appended[1], content)

    def truncate(self, path: Path, size: int) -> None:
        """See `Disk.truncate`."""
        os.truncate(path, size)

    def sync(self, path: Path) -> None:
        """See `Disk.sync`."""
        if self._appended is not None and self._appended[0] == path:
            os.fsync(self._appended[1])
        else:
            _sync(path, os.O_RDWR)

    def rename(self, old: Path, new: Path) -> None:
        """See `Disk.rename`."""
        self._close_if(old, new)
        os.rename(old, new)

    def link(self, old: Path, new: Path) -> None:
        """See `Disk.link`."""
        os.link(old, new)

    def unlink(self, path: Path) -> None:
        """See `Disk.unlink`."""
        self._close_if(path)
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """See `Disk.sync_folder`."""
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Generator[bool]:
        """See `Disk.lock`. The kernel frees it when its process ends in any way."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _flock(descriptor, timeout_s)
        finally:
            self._close()
            os.close(descriptor)

    def _close_if(self, *paths: Path) -> None:
        if self._appended is not None and self._appended[0] in paths:
            self._close()

    def _close(self) -> None:
        if self._appended is not None:
            os.close(self._appended[1])
            self._appended = None


def _flock(descriptor: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
