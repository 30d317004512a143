"""Members of a rollout group change one after the other, out of service, and no further than the gate lets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmdeploy.errors import LlmdeployError
from llmdeploy.graph import GraphError
from llmdeploy.testing.effects import Effects, PowerCut
from tests.reconcile.crash_lab import Lab, LocalWorld, Wish, check_rollouts, check_whole, out_of_service


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def member(number: int, *, order: int = 0, at_once: int = 1, **values: Any) -> dict[str, Any]:
    group = {"name": "web", "order": order, "max_unavailable": at_once, "gate": "probe", "enter": "undrain", "exit": "drain"}
    return {"address": f"fake_machine.m{number}", "values": values, "rollout": group}


def members(lab: Lab, count: int, *, at_once: int = 1, **values: Any) -> Wish:
    return lab.wish(*(member(n, at_once=at_once, **values) for n in range(count)))


def history(world: LocalWorld, since: int) -> list[str]:
    wanted = {"create", "update", "delete", "exit", "enter"}
    return [f"{operation} {address[-2:]}" for operation, address in world.cloud.history[since:] if operation in wanted]


@pytest.mark.parametrize(("at_once", "parallelism"), [(1, 8), (2, 8), (3, 2)])
def test_at_most_so_many_are_out_of_service(lab: Lab, at_once: int, parallelism: int) -> None:
    world = LocalWorld()
    lab.apply(world, members(lab, 6, at_once=at_once))
    since = len(world.cloud.history)
    wish = members(lab, 6, at_once=at_once, size=2)
    assert lab.apply(world, wish, parallelism=parallelism).outcome.failed == {}
    check_rollouts(wish, world.cloud.history[since:])
    check_whole(lab, world, wish)


def test_an_update_leaves_service_and_comes_back(lab: Lab) -> None:
    world = LocalWorld()
    lab.apply(world, members(lab, 2))
    since = len(world.cloud.history)
    lab.apply(world, members(lab, 2, size=2))
    assert history(world, since) == ["exit m0", "update m0", "enter m0", "exit m1", "update m1", "enter m1"]


def test_a_replace_leaves_service_before_the_old_one_goes(lab: Lab) -> None:
    world = LocalWorld()
    lab.apply(world, members(lab, 2))
    since = len(world.cloud.history)
    lab.apply(world, members(lab, 2, image="new"))
    one = ["exit m0", "delete m0", "create m0", "enter m0"]
    assert history(world, since) == [*one, *(line.replace("m0", "m1") for line in one)]


def test_order_is_kept(lab: Lab) -> None:
    def wish(**values: Any) -> Wish:
        return lab.wish(member(0, order=2, **values), member(1, order=1, at_once=1, **values), member(2, order=0, **values))

    world = LocalWorld()
    lab.apply(world, wish())
    since = len(world.cloud.history)
    lab.apply(world, wish(size=2), parallelism=4)
    assert [line for line in history(world, since) if line.startswith("update")] == ["update m2", "update m1", "update m0"]


def test_a_gate_that_says_no_stops_the_group_and_nothing_else(lab: Lab) -> None:
    def wish(**values: Any) -> Wish:
        return lab.wish(*(member(n, **values) for n in range(3)), {"address": "fake_machine.apart", "values": values})

    world = LocalWorld()
    lab.apply(world, wish())
    ran = lab.apply(world, wish(healthy=False))
    assert list(ran.outcome.failed) == ["fake_machine.m0"]
    assert "does not answer its health check" in ran.outcome.failed["fake_machine.m0"]
    assert ran.outcome.skipped == {"fake_machine.m1": "fake_machine.m0", "fake_machine.m2": "fake_machine.m0"}
    assert {one.tags["llmdeploy:address"][-2:]: one.params["healthy"] for one in world.cloud.objects()} == {
        "m0": False, "m1": True, "m2": True, "rt": False,
    }  # fmt: skip
    good = wish(size=2)
    lab.apply(world, good)
    check_whole(lab, world, good)


def test_killed_while_a_member_is_out_of_service_it_comes_back_even_when_the_wish_goes_back(lab: Lab) -> None:
    start = members(lab, 3)
    made = LocalWorld()
    lab.apply(made, start)
    for wish in (members(lab, 3, size=2), members(lab, 3, image="new")):
        trial = Effects()
        lab.apply(made.fork(), wish, trial)
        for point in range(1, trial.count + 1):
            world = made.fork()
            with pytest.raises(PowerCut):
                lab.apply(world, wish, Effects(cut_at=point))
            for left in world.futures():
                ran = lab.apply(left, start)
                assert ran.outcome.failed == {}, trial.points[point - 1]
                assert out_of_service(left, start) == set(), f"killed at {trial.points[point - 1]}"
                plan = lab.plan(left, start)
                assert plan.nothing_to_do, (trial.points[point - 1], plan.effective)


def test_members_that_stand_on_each_other_are_refused_before_anything_happens(lab: Lab) -> None:
    def wish(**values: Any) -> Wish:
        return lab.wish(member(0, **values), {**member(1, config={"ref": "fake_machine.m0#address"}, **values)})

    world = LocalWorld()
    lab.apply(world, wish())
    since = len(world.cloud.history)
    with pytest.raises(
        GraphError, match=r"fake_machine.m1 depends on fake_machine.m0, and both are members of the rollout group web"
    ):
        lab.apply(world, wish(size=2))
    assert history(world, since) == []


def test_an_operation_that_the_type_does_not_have_is_refused_in_the_plan(lab: Lab) -> None:
    group = {"name": "nets", "gate": "probe"}
    wish = lab.wish({"address": "fake_network.n", "rollout": group})
    with pytest.raises(LlmdeployError, match="rolls out with the operation probe, which fake_network does not have"):
        lab.plan(LocalWorld(), wish)
