"""Waiting and trying again, where an error says that this may help."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import uniform
from threading import Event as Flag
from typing import TypeVar

from ..errors import Interrupted, ProviderError

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How often to try, and how long to wait before the second try (seconds); each further wait is twice as long, with jitter."""

    tries: int = 5
    base_s: float = 1.0

    def call(
        self,
        action: Callable[[], T],
        *,
        abort: Flag,
        deadline: float = float("inf"),
        tell: Callable[[str], None] = lambda _text: None,
    ) -> T:
        """Call `action` until it succeeds, its error is final, the tries are used up, or `deadline` (monotonic) would pass.

        Raises:
            Interrupted: `abort` was set while waiting.
        """
        for attempt in range(self.tries):
            try:
                return action()
            except (ProviderError, ConnectionError, TimeoutError) as error:
                failure = error if isinstance(error, ProviderError) else _lost(error)
            wait_s = self.base_s * uniform(0.5, 1.0) * 2**attempt  # noqa: S311 - jitter, not a secret
            if not failure.retryable or attempt == self.tries - 1 or time.monotonic() + wait_s > deadline:
                raise failure
            tell(f"{failure.message}; trying again in {wait_s:.0f} s")
            if abort.wait(wait_s):
                raise Interrupted("stopped while waiting to try again")
        raise AssertionError("unreachable")


def _lost(error: OSError) -> ProviderError:
    """Return what a connection that broke means for a person."""
    what = "no answer in time" if isinstance(error, TimeoutError) else "the connection was lost"
    return ProviderError(f"{what}: {error}", hint="check the network, then run the same command again", retryable=True)
