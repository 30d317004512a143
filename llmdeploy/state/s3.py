"""State in a bucket: `state.json`, its journal and its lock, each one object.

Every write names the version that it replaces. A run begins by replacing both objects, so that whoever held the lock before, and
was taken for dead, can write neither any more. The journal is rewritten for each group of records, and put into the state when it
has grown: so the size of one write is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from uuid import uuid4

from .. import __version__
from ..errors import Fenced, StateCorrupt, StateError
from .bucket import Bucket, Conflict
from .fold import fold
from .journal import GroupCommit, Lines, Record, decode
from .lease import Lease, holder_of
from .lock import LockInfo
from .model import State
from .recover import recover
from .seal import Bound, Seal, open_state, seal_state

LEASE_S = 120.0
JOURNAL_LIMIT = 256 * 1024

_WAY_OUT = "restore an older version of this object"
_WRITTEN = "somebody else wrote since this run read the state"


class S3Store:
    """A store under one prefix of a bucket.

    where: names the place for people (s3://bucket/prefix). warn: gets a sentence for the user.
    """

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        where: str,
        *,
        lease_s: float | None = None,
        warn: Callable[[str], None] = lambda _sentence: None,
        seal: Seal | None = None,
    ) -> None:
        self.where = where
        self._seal = seal
        self._bucket = bucket
        self._lease_s = lease_s or LEASE_S
        self._warn = warn
        self._lock_key = f"{prefix}/state.json.lock"
        self._state = _Object(bucket, f"{prefix}/state.json")
        self._journal = _Object(bucket, f"{prefix}/journal.json")
        self._group = GroupCommit(self._write_records)
        self._lease: Lease | None = None
        self._base: State | None = None
        self._begun = False
        self._lost = ""
        self._lines: Lines = Lines()
        self._text: bytes = b""
        self._serial: int = 0
        self._writer = uuid4().hex
        self._writes = 0

    def read(self) -> State | None:
        """Return the state with the journal folded in, or None. See `Store.read`."""
        # The journal first: a run that ends meanwhile puts it into the state, and then begins it anew.
        journal, content = self._journal.read(), self._state.read()
        if self._begun and (self._journal.foreign or self._state.foreign):
            self._lost = _WRITTEN  # what was read is another's now: this run must not go on from it
        lines = decode(journal or b"", f"{self.where}/journal.json", self._seal)
        if journal is not None and lines.size != len(journal):
            raise StateCorrupt(f"{self.where}/journal.json is cut off", hint=_WAY_OUT)
        self._lines = lines
        where = f"{self.where}/state.json"
        opened = None if content is None else open_state(content, where, self._seal, _WAY_OUT)
        state = None if opened is None else State.from_json(opened, where, _WAY_OUT)
        self._base = recover(state, lines.records, where, f"{self.where}/journal.json")
        return self._base

    # --- the lock ---

    @contextmanager
    def lock(self, operation: str, timeout_s: float) -> Generator[None]:
        """Hold the lock. See `Store.lock`; a lock whose lease has ended is taken over."""
        info = LockInfo.mine(operation, lease_s=self._lease_s)
        lease = Lease(self._bucket, self._lock_key, info, f"{self.where}/state.json.lock", self._warn)
        try:
            lease.acquire(timeout_s)
        except KeyboardInterrupt:
            lease.release()  # it may have been ours for a moment
            raise
        self._lease, self._writer, self._lost = lease, info.id, ""
        try:
            yield
        finally:
            self._lease, self._begun = None, False
            lease.release()

    def holder(self) -> LockInfo | None:
        """Return who holds the lock. See `Store.holder`."""
        return holder_of(self._bucket.get(self._lock_key))

    def unlock(self, lock_id: str) -> LockInfo:
        """Take the lock from a holder that is gone. See `Store.unlock`; one that lives after all can write no more."""
        held = self._bucket.get(self._lock_key)
        holder = holder_of(held)
        if held is None:
            raise StateError(f"nobody holds the lock of {self.where}")
        if holder is None or holder.id != lock_id:
            raise StateError(f"the lock of {self.where} has another id: {holder.id if holder else 'not known'}")
        try:
            self._bucket.delete(self._lock_key, if_match=held.etag)
        except Conflict:
            raise StateError(f"the lock has just been renewed, so its holder is alive: {holder}", hint="wait for it") from None
        return holder

    # --- writing ---

    def begin(self, state: State) -> None:
        """Begin a run, and shut out whoever held the lock before. See `Store.begin`."""
        if not self._journal.known:
            self.read()
        if self._lease is not None:
            self._lease.check()
        # From the first write on, the old holder adds no record; from the second, it writes no state. A run that dies between the
        # two leaves both as they were read.
        begin = self._begin_record(state)
        line = self._lines.encode([begin], self._seal)
        self._put(self._journal, (self._journal.content or b"") + line)
        self._put_state(state)
        self._text, self._lines, self._begun = line, self._lines.after(line, [begin]), True
        self._group = GroupCommit(self._write_records)

    def append(self, records: Iterable[Record]) -> None:
        """Make records durable. See `Store.append`."""
        self._group.append(records)

    def _write_records(self, records: Sequence[Record]) -> None:
        line = self._lines.encode(records, self._seal)
        text, lines = self._text + line, self._lines.after(line, records)
        if len(text) <= JOURNAL_LIMIT or self._base is None:
            self._put(self._journal, text)
            self._text, self._lines = text, lines
            return
        # The next state begins in the journal before it is written: whether or not it ever is, the records that follow count.
        folded = fold(self._base, decode(text, self.where, self._seal).records)
        state = replace(folded, serial=max(folded.serial, self._serial + 1))
        begin = self._begin_record(state)
        line = lines.encode([begin], self._seal)
        self._put(self._journal, text + line)
        self._text, self._lines, self._serial = text + line, lines.after(line, [begin]), state.serial
        try:
            self._put_state(state)
        except Fenced:
            raise
        except StateError:
            return  # the records are safe in the journal; the next ones try again
        self._text = line

    def write(self, state: State) -> None:
        """Replace the state and begin the journal anew. See `Store.write`."""
        if not self._begun:
            self.begin(self._base or state)
        if self._base is None or replace(state, serial=self._base.serial) != self._base:
            changed = self._base is None or not state.same_things(self._base)
            state = replace(state, serial=max(state.serial, self._serial + changed))
            self._put_state(state)
            begin = self._begin_record(state)
            self._text = self._lines.encode([begin], self._seal)
            self._lines = self._lines.after(self._text, [begin])
        try:
            self._put(self._journal, self._text)
        except Fenced:
            raise
        except StateError:
            pass  # what the journal still says is in the state, and is read so

    def retire(self, moved_to: str) -> None:
        """Say in the state's place where it lies now, and keep it beside. Only under the lock, after `begin`."""
        content, base = self._state.content, self._base
        if content is None or base is None:
            return
        with suppress(Conflict):  # kept by a try that was interrupted
            self._bucket.put(f"{self._state.key}.moved-{base.serial}", content, if_match=None)
        self._put(self._state, base.moved_json(__version__, moved_to).encode())

    def _begin_record(self, state: State) -> Record:
        return {"kind": "begin", "lineage": state.lineage, "stack": state.stack, "serial": state.serial, "lock": self._writer}

    def _put_state(self, state: State) -> None:
        self._writes += 1
        plain = state.to_json(__version__, write=f"{self._writer}.{self._writes}").encode()
        self._put(self._state, seal_state(plain, Bound(state.lineage, state.serial), self._seal))
        self._base, self._serial = state, state.serial

    def _put(self, target: _Object, content: bytes) -> None:
        if lost := self._lost or (self._lease.lost if self._lease else ""):
            raise self._fenced(lost)
        try:
            target.write(content)
        except Conflict:
            raise self._fenced(_WRITTEN) from None

    def _fenced(self, reason: str) -> Fenced:
        return Fenced(f"{self.where}: {reason}", hint="this run can write no more; run the command again: it goes on from there")


class _Object:
    """One object, of which each write replaces exactly the version that is known.

    An answer can be lost on its way back, so what was sent without an answer may be there; whoever finds it there finds his own.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.known = False
        self.foreign = False
        """Whether the last read found a version that this process neither knew nor wrote."""
        self.content: bytes | None = None
        self.key = key
        self._bucket = bucket
        self._etag: str | None = None
        self._in_doubt: list[bytes] = []

    def read(self) -> bytes | None:
        """Return the content; None when there is no such object."""
        stored = self._bucket.get(self.key)
        content, etag = (stored.content, stored.etag) if stored else (None, None)
        self.foreign = self.known and etag != self._etag and content not in self._in_doubt
        self.content, self._etag = content, etag
        self.known, self._in_doubt = True, []
        return self.content

    def write(self, content: bytes) -> None:
        """Replace the known version. No two contents may be the same.

        Raises:
            Conflict: another version is there.
        """
        try:
            self._etag = self._replace(content)
        except BaseException:
            self._in_doubt.append(content)
            raise
        self.content, self._in_doubt = content, []

    def _replace(self, content: bytes) -> str:
        try:
            return self._bucket.put(self.key, content, if_match=self._etag)
        except Conflict:
            there = self._bucket.get(self.key)
            if there is not None and there.content == content:
                return there.etag
            if there is not None and there.content in self._in_doubt:
                return self._bucket.put(self.key, content, if_match=there.etag)
            raise
