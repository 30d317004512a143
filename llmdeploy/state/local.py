"""State in files beside the stack file: `.llmdeploy/state.json`, its journal, its lock, and kept generations."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .. import __version__
from ..errors import Locked, StateCorrupt, StateError
from .disk import Disk, OsDisk
from .journal import Journal, Record
from .lock import LockInfo, duration
from .model import State
from .recover import recover
from .seal import Bound, Seal, open_state, seal_state

STATE_FOLDER = ".llmdeploy"
"""Name of the folder beside the stack file."""

_KEPT = 5
_NO_SPACE = "free disk space and run the same command again: nothing is lost"


class LocalStore:
    """A store in one folder that only its owner can read."""

    def __init__(self, folder: Path, disk: Disk | None = None, seal: Seal | None = None) -> None:
        self.folder = folder
        self._seal = seal
        self._known: State | None = None
        self._disk = disk or OsDisk()
        self._state = folder / "state.json"
        self._lock = folder / "lock"
        self._journal_path = folder / "journal.jsonl"
        self._journal = Journal(self._disk, self._journal_path, self._seal)

    def read(self) -> State | None:
        """Return the state with the journal folded in, or None. See `Store.read`."""
        # The journal first: a run that ends meanwhile puts it into the state, and then drops it.
        records = self._journal.records()
        state = self._read_state()
        if state is None:
            self._refuse_leftovers(bool(records))
        self._known = recover(state, records, str(self._state), str(self._journal_path))
        return self._known

    def _read_state(self) -> State | None:
        try:
            content = self._disk.read(self._state)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateCorrupt(f"cannot read {self._state}: {error}") from None
        return State.from_json(self._opened(content), str(self._state), self._way_out)

    def _opened(self, content: bytes) -> bytes:
        return open_state(content, str(self._state), self._seal, self._way_out)

    @property
    def _way_out(self) -> str:
        return f"restore the newest whole file from {self._state}.backup, or move it away if nothing of this stack exists"

    def _refuse_leftovers(self, has_journal: bool) -> None:
        backups = [self.folder / name for name in self._disk.names(self.folder) if name.startswith(self._backup(0).name)]
        if backups:
            beside = "is missing beside its journal" if has_journal else "is missing, but a backup is there"
            raise StateCorrupt(
                f"{self._state} {beside}",
                hint=f"cp {backups[0]} {self._state}, or remove the folder {self.folder} if nothing of this stack exists",
            )

    @contextmanager
    def lock(self, operation: str, timeout_s: float) -> Generator[None]:
        """Hold the lock. It belongs to the process: the kernel frees it when the process ends in any way."""
        with ExitStack() as stack:
            try:
                self._disk.make_folder(self.folder)
                free = stack.enter_context(self._disk.lock(self._lock, timeout_s))
                if free:
                    self._disk.create(self._lock, LockInfo.mine(operation).to_json().encode())
            except OSError as error:
                raise StateError(f"cannot lock {self.folder}: {error.strerror}", hint="check the rights of that folder") from None
            if not free:
                holder = self.holder()
                raise Locked(
                    f"this stack is locked: {holder}, {duration(holder.age_s)} ago"
                    if holder
                    else "this stack is locked by another process",
                    hint="wait for it, or run again with --lock-timeout 5m",
                )
            # Somebody else may have written to the file; and what an earlier run could not write is not this one's.
            self._journal = Journal(self._disk, self._journal_path, self._seal)
            try:
                yield
            finally:
                with suppress(OSError):
                    self._disk.truncate(self._lock, 0)

    def holder(self) -> LockInfo | None:
        """Return what the lock file says of its holder; it may have ended since."""
        try:
            return LockInfo.from_json(self._disk.read(self._lock).decode())
        except (OSError, UnicodeDecodeError):
            return None

    def unlock(self, lock_id: str) -> LockInfo:
        """Refuse: no holder leaves its lock behind. See `Store.unlock`."""
        try:
            with self._disk.lock(self._lock, 0) as free:
                holder = None if free else self.holder()
        except OSError:
            free, holder = True, None
        if free:
            raise StateError(
                f"nobody holds the lock of {self.folder}", hint="it ends with its process, however that ends: run your command"
            )
        if holder is None or holder.id != lock_id:
            raise StateError(f"the lock of {self.folder} has another id: {holder.id if holder else 'not known'}")
        raise StateError(
            f"the holder is alive: {holder}", hint=f"wait for it, or end it (kill {holder.pid}): the kernel then frees the lock"
        )

    def begin(self, state: State) -> None:
        """Begin the journal of a run. See `Store.begin`."""
        if self._known is not None and state.serial != self._known.serial:
            self.write(state)  # it was upgraded: records of this run are about the present names
        try:
            if not state.serial:
                # The journal is the only trace of a first run: the folder that holds it must be there after a power failure.
                self._disk.sync_folder(self.folder.parent)
        except OSError as error:
            raise StateError(f"cannot write into {self.folder.parent}: {error.strerror}", hint=_NO_SPACE) from None
        self.append([{"kind": "begin", "lineage": state.lineage, "stack": state.stack, "serial": state.serial}])

    def append(self, records: Iterable[Record]) -> None:
        """Make records durable. See `Store.append`."""
        try:
            self._journal.append(records)
        except OSError as error:
            raise StateError(f"cannot write the journal in {self.folder}: {error.strerror}", hint=_NO_SPACE) from None

    def write(self, state: State) -> None:
        """Replace the state, keep the last generations, drop the journal. See `Store.write`."""
        try:
            plain = state.to_json(__version__).encode()
            content = seal_state(plain, Bound(state.lineage, state.serial), self._seal)
            present = self._content(self._state)
            opened = None if present is None else self._opened(present)
            # A run without changes must not push the older generations out; one that changes how it is sealed may.
            sealed_anew = (opened is present) != (content is plain)
            if opened != plain or sealed_anew:
                if present is not None and (sealed_anew or not self._only_audited(opened, state)):
                    self._keep_generation(present)
                self._replace(content)
            self._journal.clear()
        except OSError as error:
            raise StateError(f"cannot write {self._state}: {error.strerror}", hint=_NO_SPACE) from None

    def _only_audited(self, opened: bytes | None, state: State) -> bool:
        """Return whether an audit alone lies between a state's text and `state`: it is no generation to go back to."""
        try:
            before = State.from_json(opened or b"", str(self._state))
        except StateCorrupt:
            return False
        return before.evidence != state.evidence and state.same_things(before)

    def _replace(self, content: bytes) -> None:
        """Put a whole state in the place of the old one: after a crash, one of the two is there."""
        temporary = self.folder / ".state.json.new"
        self._disk.create(temporary, content)
        self._disk.sync(temporary)
        self._disk.rename(temporary, self._state)
        self._disk.sync_folder(self.folder)

    def _keep_generation(self, present: bytes) -> None:
        """Give the present state the name of the newest backup, and each backup that of the one before it."""
        if self._content(self._backup(0)) == present:
            return  # kept by a run that was killed before it replaced the state
        names = self._disk.names(self.folder)
        for number in reversed(range(_KEPT - 1)):
            if self._backup(number).name in names:
                self._disk.rename(self._backup(number), self._backup(number + 1))
        self._disk.link(self._state, self._backup(0))

    def _backup(self, number: int) -> Path:
        return self.folder / f"state.json.backup{number or ''}"

    def _content(self, path: Path) -> bytes | None:
        try:
            return self._disk.read(path)
        except FileNotFoundError:
            return None

    def retire(self, moved_to: str) -> None:
        """Put everything of this state aside: it lies elsewhere now. Only under the lock."""
        del moved_to
        try:
            serial = "" if (state := self.read()) is None else str(state.serial)
            # The backups first: without them, a state that is gone is no alarm.
            for name in reversed(self._disk.names(self.folder)):
                if name.startswith(self._state.name):
                    self._disk.rename(self.folder / name, self.folder / f"moved-{serial}-{name}")
            self._disk.sync_folder(self.folder)
        except OSError as error:
            raise StateError(f"cannot put {self._state} aside: {error.strerror}", hint="move it away by hand") from None
