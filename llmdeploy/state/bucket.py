"""Objects with conditional writes: all that a state needs from S3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..errors import StateError


class Conflict(StateError):
    """The object is not the one that the condition named."""


@dataclass(frozen=True)
class Stored:
    """An object as it was read: content, ETag (opaque), and its age in seconds by the service's own clock."""

    content: bytes
    etag: str
    age_s: float


class Bucket(Protocol):
    """A flat space of keys."""

    def get(self, key: str) -> Stored | None:
        """Return the object, or None."""
        ...

    def put(self, key: str, content: bytes, *, if_match: str | None) -> str:
        """Write the object if its ETag is still `if_match` (None: if there is no such object); return the new ETag.

        Raises:
            Conflict: the condition does not hold.
        """
        ...

    def delete(self, key: str, *, if_match: str) -> None:
        """Remove the object if its ETag is still `if_match`; it may be gone.

        Raises:
            Conflict: it is another object now.
        """
        ...
