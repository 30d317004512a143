from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.cost import Ledger, bill
from llmdeploy.prices import CostLine, Price, Tariff, Total, Usage
from llmdeploy.resource import UNKNOWN, Ref, Resource
from tests.cost.support import PRICES, TYPES

TARIFF = Tariff(PRICES, Usage(weights_bytes=140_000_000_000))


def test_three_equal_machines_are_one_line_times_three() -> None:
    lines = bill([("rented", {"machine": "big", "disk_gb": 500})] * 3, TYPES, TARIFF)
    assert [(one.label, one.quantity) for one in lines] == [("big", 3), ("disk", 1500), ("weights", 420)]
    assert lines[0].usd_per_hour == pytest.approx(3 * 6.88)
    assert Total.of(lines).usd_once == pytest.approx(420 * 0.045)


def test_the_dearest_comes_first_and_what_has_no_price_last() -> None:
    lines = bill([("rented", {"machine": "unheard-of", "disk_gb": 1}), ("front", {})], TYPES, TARIFF)
    assert [one.label for one in lines] == ["front", "disk", "weights", "answers", "unheard-of"]
    assert lines[-1].usd is None
    assert Total.of(lines).unpriced == ("unheard-of",)


def test_lines_of_different_prices_stay_apart_and_notes_are_kept() -> None:
    lines = bill([("front", {}), ("front", {})], TYPES, TARIFF)
    assert [(one.label, one.quantity, one.note) for one in lines] == [("front", 2, ""), ("answers", 0, "250 bytes a token")]
    own = {**PRICES, "big": Price(5.0, "hour", "stack file")}
    both = [*bill([("rented", {"machine": "big"})], TYPES, TARIFF), *bill([("rented", {"machine": "big"})], TYPES, Tariff(own))]
    assert len({(one.label, one.usd_per_unit) for one in both if one.label == "big"}) == 2


def test_a_type_that_nobody_knows_costs_nothing_that_can_be_told() -> None:
    assert bill([("gone", {})], TYPES, TARIFF) == ()


def test_what_only_apply_can_tell_does_not_break_the_bill() -> None:
    lines = bill([("rented", {"machine": "big", "disk_gb": UNKNOWN})], TYPES, TARIFF)
    assert [one.label for one in lines] == ["big", "weights"]


def test_a_ledger_parts_what_every_machine_has_from_what_the_stack_has_once() -> None:
    graph = [
        Resource("rented.a", "rented", "p", {"machine": "big", "disk_gb": Ref("front.all", "n")}, group="a"),
        Resource("rented.b", "rented", "p", {"machine": "big"}, group="b"),
        Resource("front.all", "front", "p", {}, group="stack"),
    ]
    ledger = Ledger.of(graph, {"a", "b"}, TYPES, PRICES, 1)
    assert ledger.machines == (("rented", {"machine": "big", "disk_gb": UNKNOWN}), ("rented", {"machine": "big"}))
    assert ledger.shared == (("front", {}),)


@given(st.lists(st.tuples(st.sampled_from(["big", "small"]), st.integers(0, 2000)), max_size=12))
def test_the_bill_of_all_is_the_sum_of_the_bills_of_each(machines: list[tuple[str, int]]) -> None:
    nodes = [("rented", {"machine": name, "disk_gb": disk}) for name, disk in machines]
    together = Total.of(bill(nodes, TYPES, TARIFF))
    each = [Total.of(bill([node], TYPES, TARIFF)) for node in nodes]
    for name in ("usd_per_hour", "usd_per_month", "usd_once"):
        assert cast("float", getattr(together, name)) == pytest.approx(sum(cast("float", getattr(one, name)) for one in each))
    assert together.usd_per_month == pytest.approx(together.usd_per_hour * 730)


@given(st.permutations([("big", 1), ("big", 2), ("small", 3), ("other", 4)]))
def test_the_order_of_the_resources_does_not_matter(machines: list[tuple[str, int]]) -> None:
    def lines(nodes: list[tuple[str, int]]) -> tuple[CostLine, ...]:
        return bill([("rented", {"machine": name, "disk_gb": disk}) for name, disk in nodes], TYPES, TARIFF)

    assert lines(machines) == lines(sorted(machines))
