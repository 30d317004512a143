"""Where a state lives: the protocol that local files and S3 share."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from .journal import Record
from .lock import LockInfo
from .model import State


class Store(Protocol):
    """Holds one stack's state, its journal and its lock."""

    def read(self) -> State | None:
        """Return the state with the journal of a killed run folded in; None when this stack was never applied.

        Raises:
            StateCorrupt: there is something, and it is not a whole state.
        """
        ...

    def lock(self, operation: str, timeout_s: float) -> AbstractContextManager[None]:
        """Hold the lock; wait at most `timeout_s`.

        Raises:
            Locked: somebody else holds it; the message says who, for what, and since when.
        """
        ...

    def begin(self, state: State) -> None:
        """A run that changes things starts from `state`, as `read` gave it: whoever held the lock before can write no more.

        Raises:
            Fenced: the state was written since it was read.
        """
        ...

    def append(self, records: Iterable[Record]) -> None:
        """Make records durable. Only under the lock, and after `begin`; several threads may call it.

        Raises:
            Fenced: somebody took the lock over.
        """
        ...

    def write(self, state: State) -> None:
        """Replace the state and drop the journal, atomically. Only under the lock.

        Raises:
            Fenced: somebody took the lock over.
        """
        ...

    def holder(self) -> LockInfo | None:
        """Return who holds the lock, as far as can be told; None when it is free."""
        ...

    def unlock(self, lock_id: str) -> LockInfo:
        """Take the lock from a holder that is gone, and return who that was.

        Raises:
            LlmdeployError: nobody holds it, its id is another one, or its holder is alive.
        """
        ...

    def retire(self, moved_to: str) -> None:
        """Put a state aside that lies elsewhere now, `moved_to` in words, and keep it as a backup. Only under the lock."""
        ...
