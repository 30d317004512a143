"""What a volume of tokens costs on machines of one's own and at a hosted API, and from where on the machines are cheaper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .volume import MILLION, Assumptions, whole

if TYPE_CHECKING:
    from ..catalog import HostedModel


def blended(hosted: HostedModel, assumptions: Assumptions) -> float:
    """Return USD per million tokens of input, cached input and output in the assumed mix."""
    cached = hosted.input if hosted.cached is None else hosted.cached
    read = (1 - assumptions.cached_share) * hosted.input + assumptions.cached_share * cached
    return assumptions.input_share * read + (1 - assumptions.input_share) * hosted.output


def hosted_usd(hosted: HostedModel, assumptions: Assumptions, tokens: float) -> float:
    """Return what a hosted API takes for `tokens` tokens."""
    return blended(hosted, assumptions) * tokens / MILLION


def crossover(usd_per_month: float, usd_per_million: float) -> float | None:
    """Return the tokens per month for which an API takes what a fixed bill is; None where it takes nothing.

    Says nothing about whether the machines behind that bill carry so many: `SelfHosted.break_even` does.
    """
    return usd_per_month / usd_per_million * MILLION if usd_per_million > 0 else None


@dataclass(frozen=True)
class Crossing:
    """Where self-hosting becomes cheaper, in tokens per month.

    first: the smallest volume at which it is not dearer. lasting: the smallest from which it stays so at every larger volume.
    The two differ when the next machine makes it dearer again for a while.
    """

    first: float
    lasting: float


@dataclass(frozen=True)
class SelfHosted:
    """USD per month on machines of one's own as the volume grows.

    fixed_usd: what does not grow with the machines (operations among it). unit_usd: one set of whole machines; unit_tokens: what
    it carries in a month at the assumed utilization; units: that the stack has, which is the least. token_usd: what each token
    adds (traffic, logs).
    """

    fixed_usd: float
    unit_usd: float
    unit_tokens: float
    units: int
    token_usd: float = 0.0

    def units_for(self, tokens: float) -> int:
        """Return how many sets of machines carry `tokens` in a month."""
        return max(self.units, whole(tokens / self.unit_tokens))

    def usd(self, tokens: float) -> float:
        """Return USD per month for `tokens` in a month. Never falls as they grow."""
        return self.fixed_usd + self.unit_usd * self.units_for(tokens) + self.token_usd * tokens

    def break_even(self, usd_per_million: float) -> Crossing | None:
        """Return where this is not dearer than an API of that price; None when no volume is large enough.

        With n sets of machines the API takes as much as this at (fixed + n x unit) / (price - token) tokens, which counts when n
        sets carry that many. A set more is worth it as soon as the sets before it earn its cost: n x (what the API takes for one
        full set, less the cost of the set) >= fixed + unit.
        """
        price = usd_per_million / MILLION - self.token_usd
        gain = price * self.unit_tokens - self.unit_usd
        if self.fixed_usd + self.unit_usd <= 0:
            return Crossing(0.0, 0.0) if price >= 0 else None
        if gain <= 0:
            return None
        first, lasting = (
            max(self.units, whole(usd / gain)) for usd in (self.fixed_usd, self.fixed_usd + self.unit_usd)
        )  # fmt: skip
        return Crossing(*((self.fixed_usd + n * self.unit_usd) / price for n in (first, lasting)))
