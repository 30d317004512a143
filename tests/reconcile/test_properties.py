"""What holds for every graph, whatever its shape."""

from __future__ import annotations

import json
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdeploy.graph import GraphError, topological
from llmdeploy.plan import Plan
from llmdeploy.reconcile.promise import fits
from llmdeploy.state.model import State
from llmdeploy.testing.cloud import FakeCloud
from llmdeploy.testing.effects import Effects
from llmdeploy.views.json_view import plan_document
from tests.reconcile.crash_lab import Lab, LocalWorld, check_whole

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Generator[Lab]:
    folder: Path = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Lab(folder, monkeypatch)


REFERABLE = {"fake_network": "id", "fake_template": "id", "fake_machine": "address", "fake_bucket": "url"}
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])


@st.composite
def stacks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw the nodes of a stack: each may refer to earlier ones, and only networks are referred to as networks."""
    nodes: list[dict[str, Any]] = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=6, unique=True)):
        kind = draw(st.sampled_from(sorted(REFERABLE)))
        earlier = [node["address"] for node in nodes]
        networks = [address for address in earlier if address.startswith("fake_network")]
        node: dict[str, Any] = {"address": f"{kind}.{name}", "values": draw(_plain_values(kind, name))}
        if networks and kind in ("fake_template", "fake_machine") and draw(st.booleans()):
            node["values"]["network"] = {"ref": f"{draw(st.sampled_from(networks))}#id"}
        if earlier and kind in ("fake_bucket", "fake_machine") and draw(st.booleans()):
            target = draw(st.sampled_from(earlier))
            reference = {"ref": f"{target}#{REFERABLE[target.partition('.')[0]]}"}
            node["values"]["about" if kind == "fake_bucket" else "config"] = reference
        node["after"] = draw(st.lists(st.sampled_from(earlier), max_size=2, unique=True)) if earlier else []
        nodes.append(node)
    return nodes


def _plain_values(kind: str, name: str) -> st.SearchStrategy[dict[str, Any]]:
    if kind == "fake_network":
        return st.fixed_dictionaries(
            {"cidr": st.sampled_from(["10.0.0.0/16", "10.1.0.0/16"]), "mtu": st.sampled_from([1500, 9000])}
        )
    if kind == "fake_template":
        return st.fixed_dictionaries({"image": st.sampled_from(["one", "two"])})
    if kind == "fake_bucket":
        return st.fixed_dictionaries({"bucket": st.sampled_from([f"{name}-one", f"{name}-two"]), "versioned": st.booleans()})
    return st.fixed_dictionaries(
        {
            "size": st.integers(1, 4),
            "image": st.sampled_from(["debian", "ubuntu"]),
            "password": st.sampled_from([None, "env:PASSWORD"]),
        }
    )


# --- order --------------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.integers(0, 9).map(str), st.sets(st.integers(0, 9).map(str), max_size=4)))
def test_an_order_puts_dependencies_first_or_names_a_loop(needs: dict[str, set[str]]) -> None:
    try:
        order = topological(needs)
    except GraphError as error:
        loop = error.message.partition(": ")[2].split(" -> ")
        assert loop[0] == loop[-1]
        assert all(below in needs[above] for above, below in pairwise(loop))
        return
    assert sorted(order) == sorted(needs)
    place = {node: index for index, node in enumerate(order)}
    assert all(place[below] < place[node] for node in needs for below in needs[node] if below in needs)


# --- plan and apply ----------------------------------------------------------------------------------------------------------


@QUICK
@given(st.lists(stacks(), min_size=1, max_size=3))
def test_after_an_apply_there_is_nothing_to_do(lab: Lab, stages: list[list[dict[str, Any]]]) -> None:
    """From each stack to the next, and at last to nothing."""
    world = LocalWorld(FakeCloud())
    for nodes in stages:
        wish = lab.wish(*nodes, outputs={"first": f"{nodes[0]['address']}#{REFERABLE[nodes[0]['address'].partition('.')[0]]}"})
        ran = lab.apply(world, wish)
        assert ran.outcome.failed == {}
        check_whole(lab, world, wish)
        _kept_its_promise(ran.plan, ran.outcome.state)
    lab.apply(world, lab.nothing)
    assert world.cloud.objects() == []


def _kept_its_promise(plan: Plan, state: State) -> None:
    """Every value that the plan showed as known is the one that came."""
    for change in plan.changes:
        if change.action == "delete":
            assert change.address not in state.entries
            continue
        entry = state.entries[change.address]
        fits(change.after, entry.spec, change.address)
        fits(change.outputs, entry.outputs, change.address)
        assert change.action not in ("create", "replace") or entry.generation == change.generation


@QUICK
@given(stacks(), stacks())
def test_a_plan_is_the_same_each_time(lab: Lab, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """Byte for byte, but for its time."""
    world = LocalWorld(FakeCloud())
    lab.apply(world, lab.wish(*first))
    wish = lab.wish(*second)
    documents = [{**plan_document(lab.plan(world.fork(), wish)), "timestamp": ""} for _ in range(2)]
    assert json.dumps(documents[0]) == json.dumps(documents[1])


# --- state -------------------------------------------------------------------------------------------------------------------


@QUICK
@given(stacks(), stacks())
def test_the_journal_comes_to_the_state_that_is_written(
    lab: Lab, first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    world = LocalWorld(FakeCloud())
    lab.apply(world, lab.wish(*first))
    folded: list[State | None] = []

    def look(_number: int, point: str) -> None:
        if point == "disk: create .state.json.new":
            folded.append(lab.stored(world.fork()))

    written = lab.apply(world, lab.wish(*second), Effects(on_point=look)).outcome.state
    for state in folded:
        assert state is not None
        assert state.entries == written.entries


@QUICK
@given(stacks())
def test_a_state_comes_back_whole(lab: Lab, nodes: list[dict[str, Any]]) -> None:
    world = LocalWorld(FakeCloud())
    state = lab.apply(world, lab.wish(*nodes)).outcome.state
    text = state.to_json("0")
    again = State.from_json(text, "here")
    assert again == state
    assert again.to_json("0") == text
    assert lab.stored(world) == state
