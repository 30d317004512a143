"""A disk in memory that forgets what was not synced when the power fails."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .effects import Effects


@dataclass(frozen=True)
class Kept:
    """What of the un-synced work outlives a power failure; file systems differ, and a machine may die at any moment.

    names: how many of the changes of names since the last sync of their folder, oldest first (None: all). content: whether
    un-synced content is there. torn: the last un-synced write got only that many of its bytes down; what was before it is there.
    """

    names: int | None = 0
    content: bool = False
    torn: int | None = None


@dataclass
class _File:
    volatile: bytes = b""
    durable: bytes = b""
    last_write: tuple[int, bytes] | None = None  # where the last un-synced write began, and its bytes


@dataclass
class _Rename:
    """One change of names: `name` now stands for `file` (None: for nothing)."""

    name: Path
    file: _File | None


@dataclass
class _Names:
    """Names as programs see them, as they are on the platter, and the changes between the two, oldest first."""

    volatile: dict[Path, _File] = field(default_factory=dict[Path, _File])
    durable: dict[Path, _File] = field(default_factory=dict[Path, _File])
    pending: list[list[_Rename]] = field(default_factory=list[list[_Rename]])


class MemoryDisk:
    """Implements `llmdeploy.state.disk.Disk` below folders that exist only here.

    Strict where POSIX is: syncing a file does not make its name durable, a folder's own name is durable only after its parent was
    synced, and a lock ends with its process. Each call that has an effect passes one point of `effects` before it.
    """

    def __init__(self, effects: Effects | None = None) -> None:
        self.effects = effects or Effects()
        self._names = _Names()
        self._folders: set[Path] = set()
        self._durable_folders: set[Path] = set()
        self._locks: dict[Path, threading.Lock] = {}
        self._guard = threading.RLock()

    # --- Disk ---

    def read(self, path: Path) -> bytes:
        """Return the content."""
        with self._guard:
            return self._file(path).volatile

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted; none when there is no such folder."""
        with self._guard:
            inside = {path for path in (*self._names.volatile, *self._folders) if path.parent == folder and path != folder}
            return sorted(path.name for path in inside)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, with its parents; it may be there."""
        self._point("make_folder", folder)
        with self._guard:
            self._folders |= {folder, *folder.parents}

    def create(self, path: Path, content: bytes) -> None:
        """Write a file from its beginning."""
        self._point("create", path)
        with self._guard:
            file = self._opened(path)
            file.volatile = content
            file.last_write = (0, content)

    def append(self, path: Path, content: bytes) -> None:
        """Write at the end of a file; it is made when it is not there."""
        self._point("append", path)
        with self._guard:
            file = self._opened(path)
            file.last_write = (len(file.volatile), content)
            file.volatile += content

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes."""
        self._point("truncate", path)
        with self._guard:
            file = self._file(path)
            file.volatile = file.volatile[:size].ljust(size, b"\0")
            file.last_write = None

    def sync(self, path: Path) -> None:
        """Make the content durable."""
        self._point("sync", path)
        with self._guard:
            file = self._file(path)
            file.durable, file.last_write = file.volatile, None

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, in place of what had it."""
        self._point("rename", new)
        with self._guard:
            self._change([_Rename(old, None), _Rename(new, self._file(old))])

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name."""
        self._point("link", new)
        with self._guard:
            if new in self._names.volatile:
                raise FileExistsError(17, "File exists", str(new))
            self._change([_Rename(new, self._file(old))])

    def unlink(self, path: Path) -> None:
        """Take a name away; it may be gone."""
        self._point("unlink", path)
        with self._guard:
            if path in self._names.volatile:
                self._change([_Rename(path, None)])

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        self._point("sync_folder", folder)
        with self._guard:
            if folder in self._folders:
                self._durable_folders |= {one for one in self._folders if one.parent == folder}
            settled = [change for change in self._names.pending if change[-1].name.parent == folder]
            for change in settled:
                _apply(change, self._names.durable)
            self._names.pending = [change for change in self._names.pending if change not in settled]

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Generator[bool]:
        """Hold the exclusive lock of a file while the body runs; gives False when it is held after `timeout_s`."""
        with self._guard:
            if path.parent not in self._folders:
                raise FileNotFoundError(2, "No such file or directory", str(path))
            held = self._locks.setdefault(path, threading.Lock())
        got = held.acquire(timeout=max(0.0, timeout_s))
        try:
            yield got
        finally:
            if got:
                held.release()

    # --- what tests do with it ---

    def crash(self, kept: Kept, effects: Effects | None = None) -> MemoryDisk:
        """Return the disk that the next run finds after the power failed now; this one stays as it is."""
        world = MemoryDisk(effects)
        with self._guard:
            folders = self._folders if kept.names is None else self._durable_folders
            world._folders = {folder for folder in folders if all(above in folders for above in folder.parents)}
            world._durable_folders = set(world._folders)
            names = dict(self._names.durable)
            for change in self._names.pending[: kept.names]:
                _apply(change, names)
            torn = _last_written(self._names) if kept.torn is not None else None
            fresh: dict[int, _File] = {}  # a file that has two names stays one file
            for path, file in names.items():
                if path.parent in world._folders:
                    content = _survivor(file, kept, torn=file is torn)
                    world._names.volatile[path] = fresh.setdefault(id(file), _File(content, content))
            world._names.durable = dict(world._names.volatile)
        return world

    def futures(self) -> Iterator[Kept]:
        """Yield each way in which the un-synced work of this moment may outlive a power failure, without torn writes."""
        with self._guard:
            pending = len(self._names.pending)
            files = {id(file): file for file in (*self._names.volatile.values(), *self._names.durable.values())}
            dirty = any(file.volatile != file.durable for file in files.values())
            folders = self._folders != self._durable_folders
        names = [*range(pending), None] if pending or folders else [None]
        for kept in names:
            for content in (False, True) if dirty else (True,):
                yield Kept(kept, content)

    def torn_bytes(self) -> int:
        """Return how many bytes the last un-synced write has: it may be torn at each. 0: everything is synced."""
        with self._guard:
            file = _last_written(self._names)
            return len(file.last_write[1]) if file and file.last_write else 0

    def content(self) -> dict[str, bytes]:
        """Return every file by its path."""
        with self._guard:
            return {str(path): file.volatile for path, file in sorted(self._names.volatile.items())}

    # ---

    def _point(self, operation: str, path: Path) -> None:
        self.effects.at(f"disk: {operation} {path.name}")

    def _file(self, path: Path) -> _File:
        try:
            return self._names.volatile[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", str(path)) from None

    def _opened(self, path: Path) -> _File:
        if path.parent not in self._folders:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        if path not in self._names.volatile:
            self._change([_Rename(path, _File())])
        return self._names.volatile[path]

    def _change(self, change: list[_Rename]) -> None:
        _apply(change, self._names.volatile)
        self._names.pending.append(change)


def _apply(change: list[_Rename], names: dict[Path, _File]) -> None:
    for one in change:
        if one.file is None:
            names.pop(one.name, None)
        else:
            names[one.name] = one.file


def _last_written(names: _Names) -> _File | None:
    return next((file for file in reversed(names.volatile.values()) if file.last_write is not None), None)


def _survivor(file: _File, kept: Kept, *, torn: bool) -> bytes:
    if torn and file.last_write is not None:
        start, written = file.last_write
        return file.volatile[:start] + written[: kept.torn]
    return file.volatile if kept.content or kept.torn is not None else file.durable
