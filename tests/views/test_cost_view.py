from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdeploy.cost import Accounts, Assumptions, Fleet, document, with_prior
from llmdeploy.plan import Plan
from llmdeploy.prices import CostLine
from llmdeploy.views.cost_curve import curve_lines
from llmdeploy.views.cost_view import cost_block, cost_lines
from llmdeploy.views.human import plan_lines, summary
from llmdeploy.views.markdown import plan_markdown
from llmdeploy.views.screen import wrap
from tests.views import plans
from tests.views.test_human import golden

MONTH = Assumptions(tokens_per_month=5e9, cached_share=0.5, operations_usd_per_month=3_000)


def told(accounts: Accounts, width: int, prior: tuple[CostLine, ...] | None = None) -> str:
    lines = cost_lines("demo", with_prior(document(accounts), prior), width)
    return "".join(f"{piece.plain.rstrip()}\n" for one in lines for piece in wrap(one, width))


@pytest.mark.parametrize("width", [120, 80, 40])
def test_cost(width: int) -> None:
    golden(f"cost-{width}.txt", told(plans.ACCOUNTS, width))


def test_cost_of_a_month_that_was_asked_for_against_what_exists() -> None:
    text = told(replace(plans.ACCOUNTS, assumptions=MONTH), 80, plans.PRIOR_COST)
    golden("cost-month-80.txt", text)
    assert text.isascii()
    assert all(len(one) <= 80 for one in text.splitlines())


def owned(months: float | None) -> Accounts:
    """Two machines of somebody's own: bought, powered, and housed."""
    purchase = None if months is None else 42_000 / months
    machines = (
        CostLine("machine (owned): purchase", 2, "machine", purchase, "month", "stack file", "seen", "42,000 USD over 36 months"),
        CostLine("machine (owned): power", 1752, "kWh", 0.24, "month", "stack file", "seen", "1200 W x 730 h"),
        CostLine("machine (owned): colocation", 2, "machine", 90.0, "month", "stack file", "seen"),
    )
    return replace(plans.ACCOUNTS, lines=machines, machines=machines, shared=(), stale=())


def test_machines_of_ones_own() -> None:
    golden("cost-owned-80.txt", told(owned(36), 80))


def test_machines_whose_purchase_nobody_told() -> None:
    text = told(owned(None), 200)
    assert "no price for machine (owned): purchase" in text
    assert "CHEAPER FROM" in text
    assert "USD per month, by" not in text, "no curve"


def test_a_stack_without_prices_says_so() -> None:
    text = told(replace(plans.ACCOUNTS, lines=(), machines=(), shared=()), 200)
    assert "Nothing in this stack has a price." in text
    assert "give your own under `prices:`" in text


def drawn(accounts: Accounts, width: int = 80) -> list[str]:
    return [one.plain for one in curve_lines(document(accounts), width)]


def test_the_curve_fits_and_has_a_letter_for_every_api() -> None:
    picture = drawn(plans.ACCOUNTS)
    assert all(len(one) <= 80 for one in picture[:-1])
    rows = "\n".join(one[8:] for one in picture[1:-3])
    assert {mark for mark in rows if not mark.isspace()} == {"#", "a", "b", "c", "X"}
    assert rows.count("X") == 2, "the dear ones are crossed, the cheap one never"


def test_the_crossing_lies_on_the_curve() -> None:
    picture = [one[8:].ljust(72) for one in drawn(replace(plans.ACCOUNTS, against=plans.ACCOUNTS.against[:1]))[1:-3]]
    row, column = next((row, text.index("X")) for row, text in enumerate(picture) if "X" in text)
    near = {picture[r][c] for r in (row - 1, row, row + 1) for c in (column - 1, column, column + 1)}
    assert {"#", "a"} <= near


def test_a_dear_stack_beside_a_cheap_api_can_be_drawn() -> None:
    tiny = replace(plans.ACCOUNTS, against=(plans.hosted("free", 0, 0, 0), plans.hosted("cheap", 0.001, None, 0.001)))
    picture = drawn(tiny)
    assert any("#" in one for one in picture)
    assert "X" not in "".join(picture)


@settings(max_examples=60)
@given(
    st.floats(0, 1e4),
    st.floats(0, 1e3),
    st.floats(1, 1e6),
    st.floats(1, 1e6),
    st.one_of(st.just(0.0), st.floats(1e-4, 100)),
    st.one_of(st.none(), st.floats(1, 1e14)),
    st.integers(40, 120),
)
def test_any_curve_can_be_drawn(
    machine: float, front: float, prefill: float, decode: float, api: float, tokens: float | None, width: int
) -> None:
    machines, shared = (CostLine("m", 1, "hour", machine),), (CostLine("f", 1, "month", front + 0.01, "month"),)
    accounts = Accounts(
        lines=(*machines, *shared),
        machines=machines,
        shared=shared,
        fleet=Fleet(1, 1, prefill, decode),
        assumptions=Assumptions(tokens_per_month=tokens),
        against=(plans.hosted("one", api, None, api), plans.hosted("two", api / 10, 0, api * 2)),
    )
    volumes: list[int] = document(accounts)["curve"]["tokens_per_month"]
    assert volumes == sorted(set(volumes))
    assert all(len(one) <= width for one in drawn(accounts, width)[:-1])
    assert told(accounts, width).isascii()


def block(plan: Plan) -> str:
    return "\n".join(cost_block(plan))


def test_no_block_where_nothing_is_known() -> None:
    assert cost_block(plans.changed()) == ()
    assert "Cost" not in summary(plans.changed())


def test_seven_hundred_and_thirty_hours_are_said_everywhere() -> None:
    plan = plans.priced()
    told_human = "\n".join(one.plain for one in plan_lines(plan))
    for text in (told_human, plan_markdown(plan), told(plans.ACCOUNTS, 80)):
        assert "730 hours" in text
    assumed: Any = document(plans.ACCOUNTS)["assumptions"]
    assert assumed["hours_per_month"] == 730


def test_the_block_tells_the_change_against_what_exists() -> None:
    plan = plans.priced()
    assert "7,757.84 more per month than what exists now" in block(plan)
    assert "less per month than what exists now" in block(replace(plan, cost=plan.prior_cost[:1]))
    assert "as much as what exists now" in block(replace(plan, cost=plan.prior_cost))
    assert "exists now" not in block(replace(plan, prior_cost=()))


def test_a_bill_without_any_price_is_not_zero() -> None:
    line = CostLine("machine (owned)", 2, "machine", None, "month", "no price of it", "unverified", "set machine.purchase")
    assert block(replace(plans.priced(), cost=(line,))) == "no price for machine (owned): set machine.purchase"
    text = told(replace(plans.ACCOUNTS, lines=(line,), machines=(line,), shared=()), 80)
    assert "together" not in text
    assert "0.00" not in text.partition("Hosted APIs")[0]


def test_a_destroy_tells_what_is_saved() -> None:
    text = block(replace(plans.destroyed(), prior_cost=plans.PRIOR_COST))
    assert text == "0.00 USD per hour, 0.00 USD in a month of 730 hours; 7,676.05 less per month than what exists now"


def test_the_largest_lines_are_told_and_the_rest_is_summed() -> None:
    text = block(plans.priced())
    assert text.index("15,319.25 g6e.12xlarge x 2 + ") < text.index("96.00 gp3 disk, 1,200 GB + ")
    assert re.search(r" \+ [\d.]+ others$", text, re.MULTILINE)
    assert "730 hours; 7,757.84 more per month than what exists now; 12.69 USD once" in text
    assert "no price for traffic between zones" in text


def test_the_block_tells_what_tokens_cost_and_where_it_breaks_even() -> None:
    text = block(plans.priced())
    assert "2.28 USD at 40% use of the machines, 0.91 at 100%" in text
    assert "cheaper than claude-sonnet-4.6 (5.40 USD a million) from 2.86B tokens per month on" in text.splitlines()
    dear = replace(plans.ACCOUNTS, against=plans.ACCOUNTS.against[2:])
    assert "never cheaper than llama-3.3-70b-turbo (1.04 USD a million)" in block(
        replace(plans.priced(), economics=document(dear))
    )
