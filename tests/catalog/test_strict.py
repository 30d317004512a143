from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

import pytest

from llmdeploy.catalog.strict import Wrong, check


class Inner(TypedDict):
    count: int
    word: NotRequired[Literal["red", "green"]]


class Outer(Inner):
    ratio: float
    on: bool
    maybe: str | None
    rows: list[Inner]
    table: dict[str, float]
    anything: Any


EMPTY: dict[str, Any] = {}
ROWS = [{"count": 2, "word": "red"}]
GOOD: dict[str, Any] = {"count": 1, "ratio": 1, "on": True, "maybe": None, "rows": ROWS, "table": {"a": 0.5}, "anything": object}


def test_a_value_of_its_type_has_nothing_wrong() -> None:
    assert list(check(GOOD, Outer)) == []


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"count": True}, Wrong(("count",), "must be a whole number, not true")),
        ({"count": 1.0}, Wrong(("count",), "must be a whole number, not 1.0")),
        ({"ratio": "1"}, Wrong(("ratio",), 'must be a number, not "1"')),
        ({"on": 1}, Wrong(("on",), "must be true or false, not 1")),
        ({"maybe": 3}, Wrong(("maybe",), "must be text, not 3")),
        ({"word": "rad"}, Wrong(("word",), 'must be one word of a list, not "rad"', 'did you mean "red"?')),
        ({"word": None}, Wrong(("word",), "must be one word of a list, not empty", "valid: red, green")),
        ({"rows": EMPTY}, Wrong(("rows",), "must be a list, not a mapping")),
        ({"rows": [{"count": "2"}]}, Wrong(("rows", 0, "count"), 'must be a whole number, not "2"')),
        ({"rows": [EMPTY]}, Wrong(("rows", 0), '"count" is missing')),
        ({"table": {1: 0.5}}, Wrong(("table", "1"), "the key must be text, not 1", at_key=True)),
        ({"table": {"a": ROWS}}, Wrong(("table", "a"), "must be a number, not a list")),
        ({"tabel": EMPTY}, Wrong(("tabel",), 'unknown key "tabel"', 'did you mean "table"?', at_key=True)),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_a_way_out(change: dict[str, Any], wrong: Wrong) -> None:
    assert list(check({**GOOD, **change}, Outer)) == [wrong]


def test_a_key_that_may_be_left_out_is_not_missed_and_another_one_is() -> None:
    assert list(check({}, Inner)) == [Wrong((), '"count" is missing')]
    assert list(check([], Inner)) == [Wrong((), "must be a mapping, not a list", "keys: count, word")]
