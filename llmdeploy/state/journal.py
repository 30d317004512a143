"""Records of what is being done, made durable before and while it is done.

A run that is killed leaves its journal; the next one folds it over the last state. Records that became durable together are one
line: CRC-32, a space, and JSON with a growing `seq`; with a seal, the records are an envelope. So a group is there as a whole or
not at all: a torn last line is dropped, and nobody relied on it. A bad line before good ones, or one that is missing, means
damage and is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

from ..errors import StateCorrupt
from ..resource import Tree
from .disk import Disk
from .seal import Bound, Seal, need

Record = Mapping[str, Tree]
"""`kind` is one of:
    begin   {lineage, stack, serial}            a run on this state began
    intent  {entry, action}                     this entry is about to be created, updated or deleted
    acked   {address, id}                       the object exists under this id
    step    {address, name}                     one step of its creation is done
    done    {entry}                             it is as the entry says
    failed  {entry}                             it stayed half-way; the entry says what is known
    leaving {address}                           it is being taken out of service, to be changed
    gone    {address, id, generation}           that object does not exist any more
"""


@dataclass(frozen=True)
class Lines:
    """What a journal holds: its records, the number of its last line, and how many of its bytes are whole lines.

    lineage and serial are those of the last run that began in it.
    """

    records: tuple[dict[str, Any], ...] = ()
    seq: int = 0
    size: int = 0
    lineage: str = ""
    serial: int = 0

    def encode(self, records: Sequence[Record], seal: Seal | None = None) -> bytes:
        """Return the next line: records that become durable together."""
        seq = self.seq + 1
        after = _began(self, records)
        envelope = seal.seal(_json(records), Bound(after.lineage, after.serial, "journal", seq)) if seal else None
        text = _json({"seq": seq, "sealed": envelope} if envelope else {"seq": seq, "records": records})
        return b"%08x %s\n" % (crc32(text), text)

    def after(self, line: bytes, records: Sequence[Record]) -> Lines:
        """Return what is known when `line`, which holds `records`, was written: all but the records of the lines before."""
        return replace(_began(self, records), records=(), seq=self.seq + 1, size=self.size + len(line))


def decode(content: bytes, where: str, seal: Seal | None = None) -> Lines:
    """Read lines of a journal. `where` names it in errors.

    Raises:
        StateCorrupt: a line before the last is damaged or missing, or was changed after it was sealed.
        StateError: a line is sealed, and its key is not at hand.
    """
    lines = content.split(b"\n")
    found = Lines()
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        place = f"{where}:{number}"
        document = _parse(line)
        if document is None:
            if any(_parse(later) for later in lines[number:]):
                raise StateCorrupt(f"{place} is damaged", hint=_WAY_OUT)
            break
        if found.seq and document["seq"] != found.seq + 1:
            raise StateCorrupt(f"{place}: records before this line are missing", hint=_WAY_OUT)
        fresh = _opened(document, place, seal)
        found = replace(_began(found, fresh), seq=document["seq"], size=found.size + len(line) + 1)
        envelope = document.get("sealed")
        if envelope and (envelope["lineage"], envelope["serial"]) != (found.lineage, found.serial):
            raise StateCorrupt(f"{place} belongs to another run", hint=_WAY_OUT)
        records += fresh
    return replace(found, records=tuple(records))


def _opened(document: Mapping[str, Any], place: str, seal: Seal | None) -> list[dict[str, Any]]:
    if "sealed" not in document:
        return document["records"]
    envelope = document["sealed"]
    return json.loads(need(seal, envelope, place).open(envelope, place, kind="journal", place=document["seq"]))


def _began(lines: Lines, records: Sequence[Record]) -> Lines:
    """Return `lines` with lineage and serial of the last `begin` in `records`."""
    begin = next((record for record in reversed(records) if record["kind"] == "begin" and "serial" in record), None)
    return lines if begin is None else replace(lines, lineage=begin["lineage"], serial=begin["serial"])


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


_WAY_OUT = "restore the journal from a backup of the place where the state lies"


def _parse(line: bytes) -> dict[str, Any] | None:
    check, _, text = line.partition(b" ")
    return json.loads(text) if len(check) == 8 and check == b"%08x" % crc32(text) else None


class GroupCommit:
    """Gathers what several threads append and has it made durable together: `write` is called by one thread at a time."""

    def __init__(self, write: Callable[[Sequence[Record]], None]) -> None:
        self._write = write
        self._pending: list[Record] = []
        self._taken = 0
        self._durable = 0
        self._buffer_lock = Lock()
        self._write_lock = Lock()

    def append(self, records: Iterable[Record]) -> None:
        """Have records written in order; they are durable when this returns."""
        with self._buffer_lock:
            before = len(self._pending)
            self._pending += records
            self._taken += len(self._pending) - before
            mine = self._taken
        with self._write_lock:
            if self._durable >= mine:
                return
            with self._buffer_lock:
                group, upto = self._pending, self._taken
                self._pending = []
            try:
                self._write(group)
            except BaseException:
                with self._buffer_lock:
                    # Others may wait for these records: they go with the next write, never by the board.
                    self._pending[:0] = group
                raise
            self._durable = upto


class Journal:
    """A journal in a file. `append` is durable when it returns; concurrent appends share one fsync."""

    def __init__(self, disk: Disk, path: Path, seal: Seal | None = None) -> None:
        self._disk = disk
        self._path = path
        self._seal = seal
        self._group = GroupCommit(self._write)
        self._lines: Lines | None = None

    def append(self, records: Iterable[Record]) -> None:
        """Write records in order and make them durable, with the name of the file.

        Raises:
            OSError: they could not be written; they come with the next append.
        """
        self._group.append(records)

    def records(self) -> tuple[dict[str, Any], ...]:
        """Return what the file holds.

        Raises:
            StateCorrupt: a line before the last is damaged, or one is missing.
        """
        return self._read()[0].records

    def _read(self) -> tuple[Lines, int]:
        """Return the lines, and the size of the file."""
        try:
            content = self._disk.read(self._path)
        except FileNotFoundError:
            content = b""
        return decode(content, str(self._path), self._seal), len(content)

    def _write(self, records: Sequence[Record]) -> None:
        fresh = self._lines is None
        lines = self._lines or self._opened()
        line = lines.encode(records, self._seal)
        # Until it is written, nothing is known of the file's end.
        self._lines = None
        try:
            self._disk.append(self._path, line)
            self._disk.sync(self._path)
            if fresh:
                self._disk.sync_folder(self._path.parent)
        except OSError:
            with suppress(OSError):
                self._disk.truncate(self._path, lines.size)
            raise
        self._lines = lines.after(line, records)

    def _opened(self) -> Lines:
        """Return where to go on: what a killed writer left of its last line is dropped, a record must not begin in mid-line."""
        lines, size = self._read()
        if lines.size < size:
            self._disk.truncate(self._path, lines.size)
        elif lines.size > size:  # the last line lacks nothing but its end
            self._disk.append(self._path, b"\n")
        return lines

    def clear(self) -> None:
        """Remove the file: its records are in the state now."""
        self._lines = None
        self._disk.unlink(self._path)
        self._disk.sync_folder(self._path.parent)
