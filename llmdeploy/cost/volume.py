"""How many tokens a stack carries in a month, and how many it is expected to."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from ..prices import HOURS_PER_MONTH, Usage

if TYPE_CHECKING:  # views read documents of costs, and need no more than that
    from ..sizing import Sizing

SECONDS_PER_MONTH: Final = HOURS_PER_MONTH * 3600
MILLION: Final = 1_000_000
_ROUNDING = 1e-9
"""A count that comes out this little above a whole number is that number."""


@dataclass(frozen=True)
class Assumptions:
    """What every figure per token rests on; told with each of them.

    utilization: share of what a replica can carry that is asked of it over a whole month, nights included; above it another one
    is counted. input_share: of all tokens; cached_share: of the input, read from a hosted API's prompt cache. tokens_per_month:
    input and output of the whole stack, None: what it carries at that utilization. operations_usd_per_month: people and tools,
    the same for one machine as for ten.
    """

    utilization: float = 0.4
    input_share: float = 0.8
    cached_share: float = 0.0
    tokens_per_request: int = 1_000
    operations_usd_per_month: float = 0.0
    tokens_per_month: float | None = None


@dataclass(frozen=True)
class Fleet:
    """The replicas of a stack, on whole machines, and how fast one replica is.

    prefill_tokens_per_s and decode_tokens_per_s: of one replica that does nothing else; planning values.
    """

    replicas: int
    machines: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float

    @classmethod
    def of(cls, sizing: Sizing) -> Fleet | None:
        """Return what was sized; None when no throughput is predicted for it."""
        rates = sizing.throughput
        if rates is None:
            return None
        return cls(sizing.replicas, sizing.placement.count, rates.prefill.planning, rates.decode.planning)

    def tokens_per_month(self, input_share: float) -> float:
        """Return input and output tokens of one replica in a month at 100 %.

        A replica reads its input at one rate and writes its output at another, one after the other: T tokens take
        share x T / prefill + (1 - share) x T / decode seconds.
        """
        seconds_per_token = input_share / self.prefill_tokens_per_s + (1 - input_share) / self.decode_tokens_per_s
        return SECONDS_PER_MONTH / seconds_per_token

    def capacity(self, input_share: float) -> float:
        """Return input and output tokens of all replicas in a month at 100 %."""
        return self.replicas * self.tokens_per_month(input_share)

    @property
    def replicas_per_unit(self) -> int:
        """Replicas that come with the smallest number of whole machines that can be added."""
        return max(1, whole(self.replicas / self.machines))

    @property
    def units(self) -> int:
        """How many such sets of machines the stack has."""
        return whole(self.replicas / self.replicas_per_unit)


def whole(count: float) -> int:
    """Return how many whole things hold `count`."""
    return ceil(count - _ROUNDING * max(1.0, abs(count)))


def expected_tokens(fleet: Fleet | None, assumptions: Assumptions) -> float:
    """Return the tokens of a month: those that were asked for, else the utilization of what the replicas carry; 0: not known."""
    if assumptions.tokens_per_month is not None:
        return assumptions.tokens_per_month
    return fleet.capacity(assumptions.input_share) * assumptions.utilization if fleet else 0.0


def usage(fleet: Fleet | None, assumptions: Assumptions, weights_bytes: int = 0) -> Usage:
    """Return what the lines of a bill are computed with. weights_bytes: one copy of the model's files."""
    tokens = expected_tokens(fleet, assumptions)
    return Usage(
        requests=tokens / assumptions.tokens_per_request,
        tokens_in=tokens * assumptions.input_share,
        tokens_out=tokens * (1 - assumptions.input_share),
        weights_bytes=weights_bytes,
    )
