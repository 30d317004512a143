from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.cost import Assumptions, SelfHosted, blended, crossover, hosted_usd
from tests.cost.support import SONNET, hosted

USD = st.floats(0, 1e5)
OWN = st.builds(
    SelfHosted,
    fixed_usd=USD,
    unit_usd=st.floats(1, 1e5),
    unit_tokens=st.floats(1e6, 1e12),
    units=st.integers(1, 20),
    token_usd=st.floats(0, 1e-7),
)
PRICE = st.floats(0.01, 100)


def gain(own: SelfHosted, price: float, tokens: float) -> float:
    """Return what is saved at a volume."""
    return price * tokens / 1e6 - own.usd(tokens)


@given(OWN, st.lists(st.floats(1, 1e13), min_size=2, max_size=20))
def test_the_curve_never_falls(own: SelfHosted, volumes: list[float]) -> None:
    assert all(own.usd(less) <= own.usd(more) for less, more in pairwise(sorted(volumes)))


@given(OWN, PRICE, st.lists(st.floats(1, 1e4), min_size=1, max_size=20))
def test_beyond_the_break_even_it_is_never_dearer(own: SelfHosted, price: float, factors: list[float]) -> None:
    found = own.break_even(price)
    if found is None:
        return
    for tokens in (found.lasting * factor for factor in factors):
        # Just beyond a step too, where a machine that nobody uses yet is paid.
        for at in (tokens, own.units_for(tokens) * own.unit_tokens * (1 + 1e-6)):
            assert gain(own, price, at) >= -1e-6 * own.usd(at)


@given(OWN, PRICE)
def test_just_below_the_break_even_it_is_dearer_and_below_the_first_crossing_everywhere(own: SelfHosted, price: float) -> None:
    found = own.break_even(price)
    if found is None:
        return
    assert found.first <= found.lasting
    below = found.lasting * (1 - 1e-6)
    # Where a machine less carries what is just below, its cost makes the difference, not the crossing.
    assert gain(own, price, below) <= 1e-6 * own.usd(found.lasting) or own.units_for(below) < own.units_for(found.lasting)
    assert gain(own, price, found.first) >= -1e-6 * own.usd(found.first)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        assert gain(own, price, found.first * share) <= 1e-6 * own.usd(found.first)


@given(OWN, PRICE, st.lists(st.floats(1, 1e14), min_size=1, max_size=20))
def test_without_a_break_even_it_is_dearer_at_every_volume(own: SelfHosted, price: float, volumes: list[float]) -> None:
    if own.break_even(price) is not None:
        return
    for tokens in volumes:
        full = own.units_for(tokens) * own.unit_tokens
        assert gain(own, price, full) <= 1e-6 * own.usd(full)


@given(OWN, PRICE, st.floats(1, 10))
def test_a_dearer_api_breaks_even_no_later(own: SelfHosted, price: float, factor: float) -> None:
    cheap, dear = own.break_even(price), own.break_even(price * factor)
    if cheap is not None:
        assert dear is not None
        assert dear.lasting <= cheap.lasting * (1 + 1e-9)


def test_a_machine_more_can_undo_it_for_a_while() -> None:
    # One machine: 1,000 USD carry 1M tokens. At 1,100 USD a million it pays from 0.91M on; at 1.01M a second machine comes.
    own = SelfHosted(fixed_usd=0, unit_usd=1_000, unit_tokens=1e6, units=1)
    found = own.break_even(1_100)
    assert found is not None
    assert found.first == pytest.approx(1e6 / 1.1)
    assert gain(own, 1_100, 1.01e6) < 0
    # With n machines full, 100 x n USD are saved, and one more costs 1,000: ten are enough.
    assert found.lasting == pytest.approx(10 * 1e6 / 1.1)


def test_operations_are_paid_once_however_many_machines() -> None:
    own = SelfHosted(fixed_usd=3_000, unit_usd=1_000, unit_tokens=1e9, units=1)
    assert [own.usd(volume) for volume in (1, 1e9, 1.1e9, 5e9)] == [4_000, 4_000, 5_000, 8_000]


def test_the_machines_that_are_there_are_paid_at_every_volume() -> None:
    assert SelfHosted(fixed_usd=0, unit_usd=1_000, unit_tokens=1e9, units=3).usd(1) == 3_000


def test_what_costs_nothing_is_never_dearer() -> None:
    free = SelfHosted(fixed_usd=0, unit_usd=0, unit_tokens=1e9, units=1).break_even(1)
    assert free is not None
    assert free.lasting == 0


def test_input_cached_input_and_output_have_prices_of_their_own() -> None:
    assert blended(SONNET, Assumptions()) == pytest.approx(0.8 * 3 + 0.2 * 15)
    assert blended(SONNET, Assumptions(cached_share=0.5)) == pytest.approx(0.8 * (0.5 * 3 + 0.5 * 0.3) + 0.2 * 15)
    assert blended(hosted("x", 3, None, 15), Assumptions(cached_share=0.5)) == pytest.approx(5.4)
    assert hosted_usd(SONNET, Assumptions(input_share=0), 2e6) == pytest.approx(30)


def test_an_api_that_is_free_is_never_crossed() -> None:
    assert crossover(100, 0) is None
    assert crossover(100, 2) == 50e6
