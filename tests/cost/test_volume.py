from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.cost import Assumptions, Fleet, usage
from tests.cost.support import FLEET

RATE = st.floats(1, 1e6)
SHARE = st.floats(0, 1)
MONTH_S = 730 * 3600


def test_reading_and_writing_take_their_own_time() -> None:
    assert FLEET.tokens_per_month(0) == pytest.approx(1_000 * MONTH_S)
    assert FLEET.tokens_per_month(1) == pytest.approx(10_000 * MONTH_S)
    # 1,000 tokens, 800 of them read in 0.08 s and 200 written in 0.2 s
    assert FLEET.tokens_per_month(0.8) == pytest.approx(1_000 / 0.28 * MONTH_S)


@given(RATE, RATE, SHARE, st.integers(1, 50), st.floats(1, 10))
def test_capacity_grows_with_either_rate_and_in_proportion_to_the_replicas(
    prefill: float, decode: float, share: float, replicas: int, factor: float
) -> None:
    one = Fleet(replicas, replicas, prefill, decode)
    capacity = one.capacity(share)
    assert capacity > 0
    for faster in (replace(one, prefill_tokens_per_s=prefill * factor), replace(one, decode_tokens_per_s=decode * factor)):
        assert faster.capacity(share) >= capacity * (1 - 1e-12)
    assert replace(one, replicas=replicas + 1).capacity(share) == pytest.approx(capacity * (replicas + 1) / replicas)


@given(RATE, RATE, SHARE)
def test_capacity_lies_between_reading_only_and_writing_only(prefill: float, decode: float, share: float) -> None:
    rate = Fleet(1, 1, prefill, decode).tokens_per_month(share) / MONTH_S
    assert min(prefill, decode) * (1 - 1e-9) <= rate <= max(prefill, decode) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("replicas", "machines", "per_unit", "units"),
    [(1, 1, 1, 1), (2, 2, 1, 2), (2, 4, 1, 2), (4, 1, 4, 1), (3, 2, 2, 2), (8, 2, 4, 2)],
)
def test_replicas_come_in_whole_machines(replicas: int, machines: int, per_unit: int, units: int) -> None:
    fleet = Fleet(replicas, machines, 1, 1)
    assert (fleet.replicas_per_unit, fleet.units) == (per_unit, units)


def test_the_expected_month_is_forty_percent_of_what_can_be_carried() -> None:
    found = usage(FLEET, Assumptions(), 7)
    tokens = 0.4 * FLEET.capacity(0.8)
    assert (found.tokens_in, found.tokens_out) == (pytest.approx(0.8 * tokens), pytest.approx(0.2 * tokens))
    assert found.requests == pytest.approx(tokens / 1_000)
    assert found.weights_bytes == 7


def test_the_users_own_month_counts_instead() -> None:
    found = usage(FLEET, Assumptions(tokens_per_month=5e6, input_share=0.5))
    assert (found.tokens_in, found.tokens_out, found.requests) == (2.5e6, 2.5e6, 5_000)


def test_without_a_prediction_nothing_is_expected() -> None:
    assert usage(None, Assumptions()).requests == 0
