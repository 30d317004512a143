"""Records of what is being done, made durable before and while it is done.

A run that is killed leaves its journal; the next one folds it over the last state. Each record is one line: CRC-32, a space, and
JSON with a growing `seq`. A torn last line is dropped; a bad line before good ones means damage and is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

from ..errors import StateCorrupt
from ..resource import Tree
from ..secret import sync_folder

Record = Mapping[str, Tree]
"""`kind` is one of:
    begin   {lineage, stack, serial}            a run on this state began
    intent  {entry, action}                     this entry is about to be created, updated or deleted
    acked   {address, id}                       the object exists under this id
    step    {address, name}                     one step of its creation is done
    done    {entry}                             it is as the entry says
    failed  {entry}                             it stayed half-way; the entry says what is known
    gone    {address}                           it does not exist any more
"""


class Journal:
    """An append-only file. `append` is durable when it returns; concurrent appends share one fsync."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[bytes] = []
        self._seq = 0
        self._durable = 0
        self._buffer_lock = Lock()
        self._write_lock = Lock()
        self._descriptor: int | None = None

    def append(self, records: Iterable[Record]) -> None:
        """Write records in order and make them durable."""
        with self._buffer_lock:
            for record in records:
                self._seq += 1
                self._pending.append(_line({"seq": self._seq, **record}))
            mine = self._seq
        with self._write_lock:
            if self._durable >= mine:
                return
            with self._buffer_lock:
                batch, upto = b"".join(self._pending), self._seq
                self._pending.clear()
            try:
                self._write(batch)
            except OSError:
                with self._buffer_lock:
                    # Others may wait for these records: they go with the next write, never by the board.
                    self._pending.insert(0, batch)
                raise
            self._durable = upto

    def _write(self, batch: bytes) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            sync_folder(self._path.parent)
            _cut_torn_end(self._descriptor)
        start = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            view = memoryview(batch)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, start)
            raise

    def records(self) -> list[dict[str, Any]]:
        """Return what the file holds.

        Raises:
            StateCorrupt: a line before the last is damaged.
        """
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            record = _parse(line)
            if record is not None:
                found.append(record)
            elif any(_parse(later) for later in lines[number:]):
                raise StateCorrupt(f"{self._path}:{number} is damaged", hint="restore the file from a backup of this folder")
        self._seq = max((int(record["seq"]) for record in found), default=0)
        return found

    def clear(self) -> None:
        """Remove the file: its records are in the state now."""
        self.close()
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the file and keep it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _cut_torn_end(descriptor: int) -> None:
    """Drop what a killed writer left of its last line, or give a whole one its newline: a record must not begin in mid-line."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    whole = content.rfind(b"\n") + 1
    if _parse(content[whole:]) is not None:
        os.write(descriptor, b"\n")
    elif whole < len(content):
        os.ftruncate(descriptor, whole)


def _line(record: Record) -> bytes:
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
    return b"%08x %s\n" % (crc32(text), text)


def _parse(line: bytes) -> dict[str, Any] | None:
    check, _, text = line.partition(b" ")
    if len(check) != 8 or check != b"%08x" % crc32(text):
        return None
    return json.loads(text)
