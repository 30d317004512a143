"""The lock of a state in a bucket: an object that only one writer can make, renewed while its holder lives.

It keeps people from working at the same time. It need not be perfect: a holder that was paused past the end of its lease still
cannot write over the state of the next one, because every write names the version it replaces (`S3Store`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event, Thread

from ..errors import Locked, StateError
from .bucket import Bucket, Conflict, Stored
from .lock import LockInfo, duration

_RENEWALS = 4
_RACES = 5
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 16.0


class Lease:
    """One taking of the lock at `key`. Call `acquire` once, then `release`.

    warn: gets a sentence for the user.
    """

    def __init__(self, bucket: Bucket, key: str, info: LockInfo, where: str, warn: Callable[[str], None]) -> None:
        self.info = info
        self.lost = ""
        """Why this lock is not ours any more; empty while it is."""
        self._bucket = bucket
        self._key = key
        self._where = where
        self._warn = warn
        self._etag = ""
        self._over = Event()
        self._heart = Thread(target=self._renew, name="lease", daemon=True)

    def acquire(self, timeout_s: float) -> None:
        """Take the lock, or one whose lease has ended; wait for it at most `timeout_s`.

        Raises:
            Locked: somebody else has it.
        """
        deadline, wait_s = time.monotonic() + timeout_s, _FIRST_WAIT_S
        while (held := self._try()) is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._locked(held)
            if wait_s == _FIRST_WAIT_S:
                self._warn(f"waiting for the lock: {_tell(held)}")
            time.sleep(min(left, wait_s * random.uniform(0.5, 1.0)))  # noqa: S311 - jitter, not a secret
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        self._heart.start()

    def _try(self) -> Stored | None:
        """Take the lock and return None, or return what somebody else put there."""
        for _ in range(_RACES):
            if self._put(self.info, None):
                return None
            held = self._bucket.get(self._key)
            if held is None:
                continue  # given back between the two calls
            holder = holder_of(held)
            if holder is None or held.age_s <= holder.lease_s:
                return held
            if self._put(replace(self.info, took_over=f"{holder.id}: {holder}"), held.etag):
                ended = duration(held.age_s - holder.lease_s)
                self._warn(f"took over the lock of {holder}, whose lease ended {ended} ago")
                return None
        raise StateError(f"{self._where}: the lock can neither be made nor read", hint="`llmdeploy init` checks the bucket")

    def _put(self, info: LockInfo, etag: str | None) -> bool:
        content = info.to_json().encode()
        try:
            self._etag = self._bucket.put(self._key, content, if_match=etag)
        except Conflict:
            held = self._bucket.get(self._key)
            if held is None or held.content != content:
                return False
            self._etag = held.etag  # it was written, only the answer was lost
        self.info = info
        return True

    def _locked(self, held: Stored) -> Locked:
        holder = holder_of(held)
        if holder is None:
            return Locked(f"{self._where}: the lock is not one of llmdeploy", hint="look at it; delete it if nobody works there")
        left = duration(max(0.0, holder.lease_s - held.age_s))
        way_out = f"if it is dead, its lease ends in {left}, or at once with `llmdeploy state unlock {holder.id}`"
        return Locked(f"this stack is locked: {_tell(held)}", hint=f"wait with --lock-timeout 5m; {way_out}")

    def _renew(self) -> None:
        """Renew the lease until the lock is given back, or is another's."""
        while not self._over.wait(self.info.lease_s / _RENEWALS):
            try:
                if not self._put(replace(self.info, renewals=self.info.renewals + 1), self._etag):
                    self.check()
                    return
            except StateError:
                continue  # the service cannot be reached; as long as the lease lasts, nobody else begins

    def check(self) -> None:
        """Look whether the lock is still ours, and set `lost`."""
        held = self._bucket.get(self._key)
        if not self._is_mine(held):
            self.lost = f"the lock is held by another now: {_tell(held)}" if held else "somebody took the lock away"

    def release(self) -> None:
        """Give the lock back, if it is still ours."""
        self._over.set()
        if self._heart.is_alive():
            self._heart.join(timeout=_FIRST_WAIT_S)
        try:
            held = self._bucket.get(self._key)
            if held is not None and self._is_mine(held):
                self._bucket.delete(self._key, if_match=held.etag)
        except Conflict:
            pass  # taken over since we looked
        except StateError as error:
            lease = duration(self.info.lease_s)
            self._warn(f"the lock could not be given back ({error.message}); its lease ends in {lease}, then others may go on")

    def _is_mine(self, held: Stored | None) -> bool:
        holder = holder_of(held)
        return holder is not None and holder.id == self.info.id


def holder_of(held: Stored | None) -> LockInfo | None:
    """Return whose lock an object is; None when there is none, or it is not one of llmdeploy."""
    if held is None:
        return None
    try:
        return LockInfo.from_json(held.content.decode())
    except UnicodeDecodeError:
        return None


def _tell(held: Stored) -> str:
    return f"{holder_of(held) or 'somebody'}, last heard of {duration(held.age_s)} ago"
