"""State in files beside the stack file: `.llmdeploy/state.json`, its journal, its lock, and kept generations."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from .. import __version__
from ..errors import Locked, StateCorrupt, StateError
from ..secret import write_private
from .fold import fold
from .journal import Journal, Record
from .lock import LockInfo
from .model import State

_KEPT = 5
_NO_SPACE = "free disk space and run the same command again: nothing is lost"


class LocalStore:
    """A store in one folder that only its owner can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "state.json"
        self._journal = Journal(folder / "journal.jsonl")

    def read(self) -> State | None:
        """Return the state with the journal folded in, or None. See `Store.read`."""
        state = self._read_file()
        records = self._journal.records()
        if state is None and records:
            begin = records[0]
            # Only the first run of all begins without a state; any other journal tells half the story.
            if begin["kind"] != "begin" or begin["serial"] != 0 or self._backups():
                raise StateCorrupt(f"{self._state} is missing beside its journal", hint=f"restore it from {self._state}.backup")
            state = State(lineage=begin["lineage"], stack=begin["stack"], serial=begin["serial"])
        if state is None:
            self._refuse_leftovers()
            return None
        # Records of before the state was written are in it already: the process died between the write and the removal.
        fresh = records if records and records[0].get("serial") == state.serial else []
        return fold(state, fresh)

    def _read_file(self) -> State | None:
        try:
            text = self._state.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StateCorrupt(f"cannot read {self._state}: {error}") from None
        return State.from_json(text, str(self._state))

    def _refuse_leftovers(self) -> None:
        backups = self._backups()
        if backups:
            raise StateCorrupt(
                f"{self._state} is missing, but a backup is there",
                hint=f"cp {backups[0]} {self._state}, or remove the folder {self.folder} if nothing of this stack exists",
            )

    def _backups(self) -> list[Path]:
        return sorted(self.folder.glob("state.json.backup*"))

    @contextmanager
    def lock(self, operation: str, timeout_s: float) -> Generator[None]:
        """Hold the lock. It belongs to the process: the kernel frees it when the process ends in any way."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot lock {self.folder}: {error.strerror}", hint="check the rights of that folder") from None
        try:
            self._acquire(descriptor, timeout_s)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, LockInfo.mine(operation).to_json().encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            self._journal.close()
            os.close(descriptor)

    def _acquire(self, descriptor: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = self.holder()
                    raise Locked(
                        f"this stack is locked: {holder}" if holder else "this stack is locked by another process",
                        hint="wait for it, or run again with --lock-timeout 5m",
                    ) from None
                time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))

    def holder(self) -> LockInfo | None:
        """Return what the lock file says of its holder; it may have ended since."""
        try:
            return LockInfo.from_json((self.folder / "lock").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None

    def begin(self, state: State) -> None:
        """Begin the journal of a run. See `Store.begin`."""
        self.append([{"kind": "begin", "lineage": state.lineage, "stack": state.stack, "serial": state.serial}])

    def append(self, records: Iterable[Record]) -> None:
        """Make records durable. See `Store.append`."""
        try:
            self._journal.append(records)
        except OSError as error:
            raise StateError(
                f"cannot write the journal in {self.folder}: {error.strerror}", hint="free disk space, run again"
            ) from None

    def write(self, state: State) -> None:
        """Replace the state, keep the last generations, drop the journal. See `Store.write`."""
        try:
            content = state.to_json(__version__).encode()
            # A run without changes must not push the older generations out.
            if not self._state.exists() or self._state.read_bytes() != content:
                self._keep_generations()
                write_private(self._state, content)
            self._journal.clear()
        except OSError as error:
            raise StateError(f"cannot write {self._state}: {error.strerror}", hint=_NO_SPACE) from None

    def _keep_generations(self) -> None:
        if not self._state.exists():
            return
        names = [self.folder / f"state.json.backup{n or ''}" for n in range(_KEPT)]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        os.link(self._state, names[0])
