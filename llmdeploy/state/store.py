"""Where a state lives: the protocol that local files and S3 share."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from .journal import Record
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

    def append(self, records: Iterable[Record]) -> None:
        """Make records durable. Only under the lock, and after `write`."""
        ...

    def write(self, state: State) -> None:
        """Replace the state and drop the journal, atomically. Only under the lock."""
        ...
