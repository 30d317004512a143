"""A bucket in memory with the conditional writes of S3."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from hashlib import md5

from ..state.bucket import Conflict, Stored
from .effects import Effects


@dataclass(frozen=True)
class _Object:
    content: bytes
    etag: str
    written_at: float


@dataclass
class _Shelf:
    """What every client of one bucket shares. ahead_s: how far the service's clock runs ahead of this machine's."""

    objects: dict[str, _Object] = field(default_factory=dict[str, _Object])
    ahead_s: float = 0.0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        return time.monotonic() + self.ahead_s


class MemoryBucket:
    """Implements `llmdeploy.state.bucket.Bucket`. As in S3, the ETag follows from the content alone.

    Each write passes two points of `effects`: before it is sent, and when it is done and not yet answered.
    """

    def __init__(self, effects: Effects | None = None) -> None:
        self.effects = effects or Effects()
        self._shelf = _Shelf()

    def get(self, key: str) -> Stored | None:
        """Return the object, or None."""
        with self._shelf.guard:
            found = self._shelf.objects.get(key)
            return found and Stored(found.content, found.etag, self._shelf.now() - found.written_at)

    def put(self, key: str, content: bytes, *, if_match: str | None) -> str:
        """Write the object if its ETag is still `if_match` (None: if there is no such object); return the new ETag."""
        self.effects.at(f"bucket: put {key}, before it is sent")
        with self._shelf.guard:
            self._check(key, if_match)
            etag = f'"{md5(content, usedforsecurity=False).hexdigest()}"'
            self._shelf.objects[key] = _Object(content, etag, self._shelf.now())
        self.effects.at(f"bucket: put {key}, done and not answered")
        return etag

    def delete(self, key: str, *, if_match: str) -> None:
        """Remove the object if its ETag is still `if_match`; it may be gone."""
        self.effects.at(f"bucket: delete {key}, before it is sent")
        with self._shelf.guard:
            if key in self._shelf.objects:
                self._check(key, if_match)
                del self._shelf.objects[key]
        self.effects.at(f"bucket: delete {key}, done and not answered")

    def _check(self, key: str, if_match: str | None) -> None:
        found = self._shelf.objects.get(key)
        if (found.etag if found else None) != if_match:
            raise Conflict(f"{key} is not the object that was read")

    # --- what tests do with it ---

    def copy(self, effects: Effects | None = None) -> MemoryBucket:
        """Return another bucket with the same objects."""
        other = MemoryBucket(effects)
        with self._shelf.guard:
            other._shelf = _Shelf(dict(self._shelf.objects), self._shelf.ahead_s)
        return other

    def door(self, effects: Effects) -> MemoryBucket:
        """Return another client's way to this very bucket, with effect points of its own."""
        other = MemoryBucket(effects)
        other._shelf = self._shelf
        return other

    def advance(self, seconds: float) -> None:
        """Let the service's clock run ahead: a lease ends without waiting for it."""
        self._shelf.ahead_s += seconds

    def content(self) -> dict[str, bytes]:
        """Return every object by its key."""
        with self._shelf.guard:
            return {key: found.content for key, found in sorted(self._shelf.objects.items())}
