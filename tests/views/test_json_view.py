from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from llmdeploy.plan import Plan
from llmdeploy.resource import UNKNOWN, Tree
from llmdeploy.state.model import Entry, State
from llmdeploy.views.document import dumps
from llmdeploy.views.json_view import known, plan_document, state_document, unknown
from tests.views import plans
from tests.views.test_human import golden


@pytest.mark.parametrize("make", [plans.fresh, plans.changed, plans.destroyed], ids=lambda make: make.__name__)
def test_plan(make: Callable[[], Plan]) -> None:
    golden(f"plan-{make.__name__}.json", dumps(plan_document(make())) + "\n")


def test_only_the_timestamp_tells_two_plans_apart() -> None:
    first, second = plan_document(plans.fresh()), plan_document(replace(plans.fresh(), created_at="2027-01-01T00:00:00+00:00"))
    assert first.pop("timestamp") != second.pop("timestamp")
    assert dumps(first) == dumps(second)


def test_actions_have_the_words_of_terraform() -> None:
    document = plan_document(plans.changed())
    assert [change["change"]["actions"] for change in document["resource_changes"]] == [
        ["no-op"], ["update"], ["update"], ["delete", "create"], ["delete"], ["delete"],
    ]  # fmt: skip
    engine = document["resource_changes"][3]
    assert engine["change"]["replace_paths"] == [["context"]]
    assert (engine["action_reason"], engine["reason"]) == ("replace_because_cannot_update", "an engine reads its flags once")
    assert document["resource_drift"][0]["drift"][0] == {"field": "mount", "sentence": "volume: it is not mounted"}


PARTLY_UNKNOWN: list[tuple[Tree, Tree, Tree]] = [
    ({"a": 1}, {"a": 1}, {}),
    (UNKNOWN, None, True),
    ({"a": UNKNOWN, "b": {"c": UNKNOWN, "d": 1}}, {"b": {"d": 1}}, {"a": True, "b": {"c": True}}),
    ({"a": [1, UNKNOWN]}, {"a": [1, None]}, {"a": [False, True]}),
    ({"a": ({"b": UNKNOWN}, {})}, {"a": [{}, {}]}, {"a": [{"b": True}, {}]}),
]


@pytest.mark.parametrize(("tree", "plain", "mask"), PARTLY_UNKNOWN)
def test_what_is_unknown_is_told_apart(tree: Tree, plain: Tree, mask: Tree) -> None:
    assert known(tree) == plain
    assert unknown(tree) == mask


def test_state() -> None:
    entry = Entry(
        address="thing.a", type="thing", provider="p", id="i", spec={"n": 1}, outputs={"o": 2}, dependencies=("host.a",)
    )
    document = state_document(State("l", "demo", 2, {"thing.a": entry}, {"endpoint": "https://x"}))
    assert json.loads(dumps(document)) == document
    assert document["values"]["outputs"] == {"endpoint": {"sensitive": False, "value": "https://x", "type": "string"}}
    (found,) = document["values"]["root_module"]["resources"]
    assert (found["address"], found["name"], found["values"], found["depends_on"]) == ("thing.a", "a", {"n": 1}, ["host.a"])


def test_json_is_ascii_whatever_the_locale() -> None:
    assert dumps({"region": "Zürich"}).isascii()
