from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdeploy.cost import Assumptions, Basis, Fleet, reckon, tokens_text, usual, with_prior
from llmdeploy.errors import LlmdeployError
from llmdeploy.prices import Price
from tests.cost.support import FLEET, PRICES, hosted, stack

MACHINE = 6.88 * 730 + 500 * 0.08
FRONT = 0.0225 * 730


def economics(basis: Basis, **assumed: Any) -> dict[str, Any]:
    return dict(reckon(basis, Assumptions(**assumed)).economics)


def test_sums_are_of_the_lines_and_once_is_apart() -> None:
    found = economics(stack(2), tokens_per_month=1e9)
    traffic = 0.2 * 1e9 * 250 / 1e9 * 0.09
    assert found["usd_per_month"] == pytest.approx(2 * MACHINE + FRONT + traffic, abs=0.01)
    assert found["usd_per_hour"] == pytest.approx(found["usd_per_month"] / 730, abs=1e-4)
    assert found["usd_once"] == pytest.approx(2 * 140 * 0.045)
    assert [one["label"] for one in found["lines"]] == ["big", "disk", "front", "answers", "weights"]
    assert found["lines"][0]["quantity"] == 2
    assert found["assumptions"]["hours_per_month"] == 730


def test_a_million_tokens_cost_what_the_bill_says_at_that_utilization() -> None:
    found = economics(stack())
    capacity = FLEET.capacity(0.8)
    assert found["capacity_tokens_per_month"] == round(capacity)
    at_forty = next(one["usd"] for one in found["usd_per_million_tokens"] if one["utilization"] == 0.4)
    # The bill is for the expected month, which is that of 40 %.
    assert at_forty == pytest.approx(found["usd_per_month"] / (0.4 * capacity / 1e6), rel=1e-4)


def test_the_idle_share_is_told() -> None:
    idle = economics(stack())["idle"]
    assert idle["of_usd_per_month"] == pytest.approx(MACHINE, abs=0.01)
    assert idle["usd_per_month"] == pytest.approx(0.6 * MACHINE, abs=0.01)
    busy = economics(stack(), tokens_per_month=10 * FLEET.capacity(0.8))["idle"]
    assert (busy["utilization"], busy["usd_per_month"]) == (1.0, 0.0)


def test_at_the_volume_that_was_asked_for() -> None:
    carried = 0.4 * FLEET.capacity(0.8)
    found = economics(stack(), tokens_per_month=2.5 * carried)["at"]
    assert found["replicas"] == 3
    assert found["self_hosted_usd"] == pytest.approx(3 * MACHINE + FRONT + 2.5 * carried * 0.2 * 250 / 1e9 * 0.09, abs=0.1)
    assert found["hosted"]["sonnet"] == pytest.approx(2.5 * carried * 5.4 / 1e6, abs=0.01)
    assert economics(stack())["at"] is None


def test_operations_are_no_line_of_a_machine() -> None:
    without, staffed = (economics(stack(), operations_usd_per_month=usd, tokens_per_month=1e11) for usd in (0.0, 3_000.0))
    assert without["at"]["replicas"] > 10
    assert staffed["at"]["self_hosted_usd"] - without["at"]["self_hosted_usd"] == pytest.approx(3_000, abs=0.02)
    assert staffed["usd_per_month"] == without["usd_per_month"]
    assert staffed["assumptions"]["operations_usd_per_month"] == 3_000


def test_verdicts() -> None:
    basis = replace(stack(), usual=("sonnet", "cheap"))
    sonnet, cheap = economics(basis)["against"]
    assert sonnet["blended"] == pytest.approx(5.4)
    assert sonnet["break_even_tokens_per_month"] == pytest.approx(
        (MACHINE + FRONT) / (5.4 - 0.2 * 250 * 0.09 / 1000) * 1e6, rel=1e-3
    )
    assert sonnet["note"] == ""
    assert cheap["break_even_tokens_per_month"] is None
    assert cheap["note"].startswith("dearer at every volume")


def sonnet_alone(decode: float, staff: float) -> tuple[float, str]:
    """Return the break-even of one machine that writes so fast, in machines at 40 %, and what is said of it."""
    fleet = Fleet(1, 1, 10_000, decode)
    (found,) = economics(replace(stack(fleet=fleet), usual=("sonnet",)), operations_usd_per_month=staff)["against"]
    return found["break_even_tokens_per_month"] / (0.4 * fleet.capacity(0.8)), found["note"]


def test_a_break_even_that_needs_more_machines_says_so() -> None:
    # A full machine of 5,062 USD carries what the API takes 11,800 for: the second one has earned the staff.
    machines, note = sonnet_alone(500, 7_000)
    assert 1 < machines < 2
    assert note == "with 2 times the machines of this stack, which carry 2.19B at 40% utilization"


def test_a_break_even_that_the_next_machine_undoes_says_so() -> None:
    # Here 8,700 for a full one: three earn the staff, and with the fourth it stays so.
    machines, note = sonnet_alone(350, 9_000)
    assert 3 < machines < 4
    assert note == "cheaper for the first time at 4.49B, dearer again while a machine more is not full yet"


def test_a_model_that_will_be_switched_off_says_when() -> None:
    (cheap,) = reckon(stack(), against=["cheap"]).economics["against"]
    assert cheap["note"].endswith("its provider switches it off on 2026-12-11")


def test_the_curve_is_drawn_with_the_break_evens_in_it() -> None:
    found = economics(stack())
    curve = found["curve"]
    volumes = curve["tokens_per_month"]
    assert all(less < more for less, more in pairwise(volumes))
    marks = [one["break_even_tokens_per_month"] for one in found["against"] if one["break_even_tokens_per_month"]]
    assert volumes[0] < min(marks)
    assert max(marks) < volumes[-1]
    assert len(curve["self_hosted_usd"]) == len(volumes) == len(curve["hosted"]["sonnet"])


RATE = st.floats(10, 1e5)


@settings(max_examples=50)
@given(RATE, RATE, st.integers(1, 6), st.floats(0, 1), st.floats(0.05, 1), st.floats(0, 1e4))
def test_for_any_stack(prefill: float, decode: float, replicas: int, share: float, busy: float, staff: float) -> None:
    basis = stack(replicas, fleet=Fleet(replicas, replicas, prefill, decode))
    found = economics(basis, input_share=share, utilization=busy, operations_usd_per_month=staff)
    prices = [one["usd"] for one in found["usd_per_million_tokens"]]
    assert all(more > less for more, less in pairwise(prices)), "a million tokens are cheaper the more are used"
    curve = found["curve"]
    assert all(less <= more for less, more in pairwise(curve["self_hosted_usd"])), "the curve never falls"
    for one in found["against"]:
        mark = one["break_even_tokens_per_month"]
        here, there = curve["self_hosted_usd"], curve["hosted"][one["name"]]
        for tokens, own, api in zip(curve["tokens_per_month"], here, there, strict=True):
            if mark is not None and tokens > mark * 1.001:
                assert own <= api + 0.02, "beyond the break-even the curve lies below the API's"


def test_without_a_price_for_the_machines_nothing_is_said_per_token() -> None:
    found = economics(stack(machine="unheard-of"))
    assert found["unpriced"] == ["unheard-of"]
    assert (found["curve"], found["idle"], found["usd_per_million_tokens"]) == (None, None, [])
    assert found["against"][0]["break_even_tokens_per_month"] is None
    assert any("no price for unheard-of" in note for note in found["notes"])


def test_without_a_prediction_nothing_is_said_per_token() -> None:
    found = economics(stack(fleet=None))
    assert (found["capacity_tokens_per_month"], found["curve"], found["usd_per_million_tokens"]) == (None, None, [])
    assert any("no throughput is predicted" in note for note in found["notes"])


def test_of_a_stack_without_prices_hosted_apis_are_told_all_the_same() -> None:
    found = economics(Basis(fleet=FLEET, hosted=stack().hosted, usual=("sonnet",)))
    assert (found["lines"], found["usd_per_month"], found["curve"]) == ([], 0, None)
    assert found["against"][0]["blended"] == pytest.approx(5.4)
    assert any("nothing here has a price" in note for note in found["notes"])


def test_a_small_thing_without_a_price_is_left_out_and_named() -> None:
    basis = stack()
    prices = {name: price for name, price in PRICES.items() if name != "front"}
    found = economics(replace(basis, ledger=replace(basis.ledger, prices=prices)))
    assert found["curve"] is not None
    assert any(note == "sums leave out what has no price: front" for note in found["notes"])


def test_own_prices_change_everything_that_is_made_of_them() -> None:
    basis = stack()
    own = {**PRICES, "big": Price(3.44, "hour", "stack file")}
    half = economics(replace(basis, ledger=replace(basis.ledger, prices=own)))
    assert half["lines"][0]["source"] == "stack file"
    assert half["against"][0]["break_even_tokens_per_month"] < economics(basis)["against"][0]["break_even_tokens_per_month"]


def test_what_exists_is_beside_it() -> None:
    reckoning = reckon(stack())
    assert reckoning.economics["prior_usd_per_month"] is None
    assert with_prior(reckoning.economics, reckoning.lines)["prior_usd_per_month"] == reckoning.economics["usd_per_month"]
    assert with_prior(reckoning.economics, None)["prior_usd_per_month"] is None


def test_only_what_was_asked_for_is_compared() -> None:
    assert [one["name"] for one in reckon(stack(), against=["cheap"]).economics["against"]] == ["cheap"]
    with pytest.raises(LlmdeployError, match='no hosted model "sonet"') as caught:
        reckon(stack(), against=["sonet"])
    assert caught.value.hint == 'did you mean "sonnet"?'


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.9, "1K"),
        (1_000, "1K"),
        (1_418_000_000, "1.42B"),
        (930e6, "930M"),
        (999_999_999, "1B"),
        (2.5e12, "2.5T"),
    ],
)
def test_tokens_for_people(tokens: float, text: str) -> None:
    assert tokens_text(tokens) == text


def test_a_plan_compares_with_the_first_the_same_and_another() -> None:
    rows = [
        hosted("old", 1, None, 1, provider="a", ends="2026-12-01"),
        hosted("large", 3, None, 15, provider="a"),
        hosted("small", 1, None, 5, provider="a"),
        hosted("other", 2, None, 8, provider="b"),
        hosted("llama-3.3-70b-c", 1.04, None, 1.04, provider="c"),
        hosted("llama-3.3-70b-d", 0.72, None, 0.72, provider="d"),
        hosted("llama-3.3-70b-e", 0.1, None, 0.1, provider="e", ends="2026-12-01"),
    ]
    names = {one.name: one for one in rows}
    assert usual("llama-3.3-70b-instruct", names) == ("large", "llama-3.3-70b-d", "other")
    assert usual("qwen3-32b", names) == ("large", "other")
    assert usual("qwen3-32b", {}) == ()
