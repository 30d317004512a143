"""The system calls that keep a state in files: one method, one effect, so that a test can stop the machine between any two."""

from __future__ import annotations

from contextlib import AbstractContextManager
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
