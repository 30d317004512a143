from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import jsonschema
import pytest

from llmdeploy.change import Change
from llmdeploy.plan import Plan
from llmdeploy.resource import UNKNOWN, Tree
from llmdeploy.state.model import Entry, State
from llmdeploy.views.document import dumps
from llmdeploy.views.json_view import known, plan_document, plan_schema, state_document, unknown
from tests.views import plans
from tests.views.test_human import golden


@pytest.mark.parametrize("make", plans.ALL, ids=lambda make: make.__name__)
def test_plan(make: Callable[[], Plan]) -> None:
    golden(f"plan-{make.__name__}.json", dumps(plan_document(make())) + "\n")


def closed(schema: Tree) -> Tree:
    """Return a schema that takes no field which it does not describe."""
    if isinstance(schema, list):
        return [closed(item) for item in cast("list[Tree]", schema)]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(item) for name, item in cast("dict[str, Tree]", schema).items()}
    return {"additionalProperties": False, **found} if found.get("type") == "object" and "properties" in found else found


@pytest.mark.parametrize("make", [*plans.ALL, plans.unchanged], ids=lambda make: make.__name__)
@pytest.mark.parametrize("errored", [False, True])
def test_the_schema_describes_every_field(make: Callable[[], Plan], errored: bool) -> None:
    schema = json.loads(plan_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(dumps(plan_document(make(), plan_id="1a2b3c", errored=errored)))
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    jsonschema.validate(document, closed(schema), jsonschema.Draft202012Validator)


def test_what_the_schema_does_not_take() -> None:
    document = json.loads(dumps(plan_document(plans.changed())))
    document["resource_changes"][0]["change"]["actions"] = ["create", "update"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(plan_schema()))


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
    assert "action_reason" not in document["resource_changes"][1]
    assert document["resource_drift"][0]["drift"][0] == {"field": "mount", "sentence": "volume: it is not mounted"}


def test_what_happens_to_a_stack_that_lives() -> None:
    document = plan_document(plans.eventful())
    found = [(one["address"], one.get("deposed", ""), one["change"]["actions"]) for one in document["resource_changes"]]
    assert found == [
        ("thing.a", "", ["create"]),
        ("thing.b", "", ["no-op"]),
        ("thing.c", "", ["no-op"]),
        ("thing.c", "00000001", ["delete"]),
        ("thing.c", "00000002", ["delete"]),
        ("gateway.a", "", ["create", "delete"]),
        ("gateway.a", "00000004", ["delete"]),
        ("gateway.b", "", ["update"]),
    ]
    assert document["resource_changes"][1]["change"]["importing"] == {"id": "i-0123"}
    assert document["in_doubt"] == ["thing.a"]
    assert (document["complete"], document["applyable"], document["errored"]) == (False, True, False)
    assert document["warnings"] == ["this plan is a part of the whole: only gateway.a, gateway.b and what belongs to that"]
    assert document["variables"] == {"replicas": {"value": 2}}


def test_drift_has_the_shape_of_a_change() -> None:
    document = plan_document(plans.drifted())
    gone, other = document["resource_drift"]
    assert (gone["change"]["actions"], gone["change"]["before"], gone["change"]["after"]) == (["delete"], {"n": 1}, None)
    assert (other["change"]["actions"], other["change"]["after"], other["change"]["after_unknown"]) == (
        ["update"],
        {},
        {"n": True},
    )
    assert (document["applyable"], document["changes"]) == (False, False)
    assert {one["actions"][0] for one in document["output_changes"].values()} == {"no-op"}


def test_an_object_that_is_made_again_had_gone() -> None:
    again = Change("thing.a", "thing", "p", "create", "it is gone", before={"n": 1}, after={"n": 2})
    (drift,) = plan_document(replace(plans.changed(), changes=(again,)))["resource_drift"]
    assert drift["change"]["actions"] == ["delete"]
    assert plan_document(replace(plans.changed(), changes=(replace(again, resume=True),)))["resource_drift"] == []


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
