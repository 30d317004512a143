"""What an earlier run left: creations in doubt, objects that no state knows, replaced objects that are still there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.state.model import State
from llmdeploy.testing.cloud import FakeCloud, LocalCloud
from llmdeploy.testing.effects import Effects, PowerCut
from llmdeploy.workflow import identity_of, make_plan
from tests.reconcile.crash_lab import HABITS, Lab, LocalWorld, Wish, check_whole


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def calls(cloud: FakeCloud) -> list[tuple[str, str]]:
    return list(cloud.history)


def die_after(lab: Lab, world: LocalWorld, wish: Wish, point: str) -> LocalWorld:
    """Apply until the first effect whose name begins with `point` has happened; return the world that is left."""
    trial = Effects()
    lab.apply(world.fork(), wish, trial)
    number = next(n for n, name in enumerate(trial.points, 1) if name.startswith(point))
    with pytest.raises(PowerCut):
        lab.apply(world, wish, Effects(cut_at=number))
    return next(iter(world.futures()))


def machine(name: str, **values: Any) -> dict[str, Any]:
    return {"address": f"fake_machine.{name}", "values": values}


def lost_state(world: LocalWorld) -> LocalWorld:
    """Somebody restored yesterday's state: it knows of nothing."""
    store = world.store(Effects())
    with store.lock("test", 0):
        state = store.read()
        assert state is not None
        store.write(replace(state, entries={}, outputs={}, serial=state.serial + 1))
    return world


def test_an_unanswered_create_is_in_doubt_and_repeated_exactly(lab: Lab) -> None:
    wish = lab.wish(machine("a", size=2))
    for point, in_doubt in (("cloud: create, before", True), ("cloud: create, done", False)):
        world = die_after(lab, LocalWorld(), wish, point)
        plan = lab.plan(world, wish)
        (change,) = plan.changes
        # Where the cloud knows the tags, a look tells what the answer would have told.
        assert (change.action, change.resume, change.in_doubt) == ("create", True, in_doubt)
        assert plan.in_doubt == (("fake_machine.a",) if in_doubt else ())
        lab.apply(world, wish)
        check_whole(lab, world, wish)


def test_what_was_begun_is_finished_as_it_was_begun_before_the_wish_of_today_counts(lab: Lab) -> None:
    world = die_after(lab, LocalWorld(), lab.wish(machine("a", size=2)), "cloud: create, done")
    wish = lab.wish(machine("a", size=8))
    (change,) = lab.plan(world, wish).changes
    assert [(one.path, one.before, one.after) for one in change.fields] == [("size", 2, 8)]
    lab.apply(world, wish)
    check_whole(lab, world, wish)
    (found,) = world.cloud.objects()
    assert found.params["size"] == 8
    assert found.revision > 1


def test_what_cannot_become_the_wish_of_today_is_removed_and_made_anew(lab: Lab) -> None:
    world = die_after(lab, LocalWorld(), lab.wish(machine("a")), "cloud: create, done")
    wish = lab.wish(machine("a", image="other"))
    (change,) = lab.plan(world, wish).changes
    assert (change.action, change.reason) == ("replace", "a disk cannot be swapped under a running machine")
    lab.apply(world, wish)
    check_whole(lab, world, wish)


def test_an_interrupted_create_that_nobody_wants_any_more_is_removed(lab: Lab) -> None:
    world = die_after(lab, LocalWorld(), lab.wish(machine("a")), "cloud: create, done")
    lab.apply(world, lab.nothing)
    assert world.cloud.objects() == []
    state = lab.stored(world)
    assert state is not None
    assert dict(state.entries) == {}


def test_objects_that_no_state_knows_are_adopted_or_removed(lab: Lab) -> None:
    world = LocalWorld()
    both = lab.wish(machine("a"), machine("b"))
    lab.apply(world, both)
    ids = {one.tags["llmdeploy:address"]: one.id for one in world.cloud.objects()}
    lost_state(world)
    wish = lab.wish(machine("a", size=3))
    plan = lab.plan(world, wish)
    assert {change.address: (change.action, change.found) for change in plan.changes} == {
        "fake_machine.a": ("adopt", ids["fake_machine.a"]),
        "fake_machine.b": ("delete", ids["fake_machine.b"]),
    }
    assert all("tags of this stack" in change.reason for change in plan.changes)
    lab.apply(world, wish)
    check_whole(lab, world, wish)
    assert [one.id for one in world.cloud.objects()] == [ids["fake_machine.a"]]


def test_a_second_object_at_an_address_is_removed(lab: Lab) -> None:
    world = LocalWorld()
    wish = lab.wish(machine("a"))
    lab.apply(world, wish)
    (first,) = world.cloud.objects()
    tags = {**first.tags, "llmdeploy:generation": "99"}
    LocalCloud(world.cloud).call("create", kind="machine", params=first.params, tags=tags, token="somebody")
    (change,) = lab.plan(world, wish).changes
    assert (change.action, change.deposed) == ("no-op", (99,))
    assert lab.plan(world, wish).counts["delete"] == 1
    lab.apply(world, wish)
    assert [one.id for one in world.cloud.objects()] == [first.id]


def test_another_stacks_objects_are_left_alone(lab: Lab) -> None:
    world = LocalWorld()
    wish = lab.wish(machine("a"))
    lab.apply(world, wish)
    tags = {"llmdeploy:lineage": "other", "llmdeploy:address": "fake_machine.b", "llmdeploy:generation": "1"}
    LocalCloud(world.cloud).call("create", kind="machine", params={}, tags=tags, token="other")
    assert lab.plan(world, wish).nothing_to_do
    lab.apply(world, lab.nothing)
    assert [one.tags["llmdeploy:lineage"] for one in world.cloud.objects()] == ["other"]


def test_a_replacement_comes_first_and_the_old_one_goes_last(lab: Lab) -> None:
    def wish(image: str) -> Wish:
        base = {"address": "fake_template.base", "values": {"image": image}}
        return lab.wish(base, machine("user", template={"ref": "fake_template.base#id"}))

    world = LocalWorld()
    lab.apply(world, wish("one"))
    before = len(world.cloud.history)
    plan = lab.plan(world, wish("two"))
    assert [(change.action, change.create_first) for change in plan.changes] == [("replace", True), ("update", False)]
    lab.apply(world, wish("two"))
    done = [one for one in world.cloud.history[before:] if one[0] in ("create", "update", "delete")]
    assert done == [
        ("create", "fake_template.base"),
        ("update", "fake_machine.user"),
        ("delete", "fake_template.base"),
    ]
    check_whole(lab, world, wish("two"))


def test_an_object_that_waits_to_be_removed_is_in_the_plan(lab: Lab) -> None:
    def wish(image: str) -> Wish:
        return lab.wish({"address": "fake_template.base", "values": {"image": image}})

    world = LocalWorld()
    lab.apply(world, wish("one"))
    left = die_after(lab, world, wish("two"), "cloud: delete, before")
    (change,) = lab.plan(left, wish("two")).changes
    assert (change.action, change.deposed, change.effective) == ("no-op", (1,), True)
    lab.apply(left, wish("two"))
    check_whole(lab, left, wish("two"))


def test_a_template_in_a_network_that_goes_first_goes_first_too(lab: Lab) -> None:
    def wish(cidr: str) -> Wish:
        base = {"address": "fake_template.base", "values": {"image": "x", "network": {"ref": "fake_network.net#id"}}}
        return lab.wish({"address": "fake_network.net", "values": {"cidr": cidr}}, base)

    world = LocalWorld()
    lab.apply(world, wish("10.0.0.0/8"))
    plan = lab.plan(world, wish("10.9.0.0/16"))
    assert [(change.action, change.create_first) for change in plan.changes] == [("replace", False), ("replace", False)]
    lab.apply(world, wish("10.9.0.0/16"))
    check_whole(lab, world, wish("10.9.0.0/16"))


def test_a_new_object_never_has_the_generation_of_an_earlier_one(lab: Lab) -> None:
    world = LocalWorld()
    wish = lab.wish(machine("a"))
    generations: list[str] = []
    for _ in range(3):
        lab.apply(world, wish)
        generations += [one.tags["llmdeploy:generation"] for one in world.cloud.objects()]
        lab.apply(world, lab.nothing)
    assert len(set(generations)) == 3


def test_a_token_whose_object_was_removed_is_not_used_again(lab: Lab) -> None:
    wish = lab.wish(machine("a"))
    world = die_after(lab, LocalWorld(), wish, "cloud: create, done")
    (made,) = world.cloud.objects()
    lab.plan(world, wish)  # looking makes it visible
    LocalCloud(world.cloud).call("delete", id=made.id)
    lab.apply(world, wish)
    (found,) = world.cloud.objects()
    assert found.id != made.id
    assert int(found.tags["llmdeploy:generation"]) > int(made.tags["llmdeploy:generation"])
    assert lab.plan(world, wish).nothing_to_do


def test_a_part_of_the_plan(lab: Lab) -> None:
    base = {"address": "fake_network.net"}
    wish = lab.wish(base, machine("a", network={"ref": "fake_network.net#id"}), machine("b"), outputs={"a": "fake_machine.a#id"})
    world = LocalWorld()
    project = lab.project(world, Effects())
    with project.run(identity_of(None, wish.desired)) as run:
        plan = make_plan(project, wish.desired, run, None, targets=["fake_machine.a"])
    assert [change.address for change in plan.changes] == ["fake_network.net", "fake_machine.a"]
    assert plan.targets == ("fake_machine.a",)
    assert dict(plan.outputs) == {}


def test_a_part_of_the_plan_takes_along_what_must_leave_first(lab: Lab) -> None:
    world = LocalWorld()
    wish = lab.wish(
        {"address": "fake_network.net"}, machine("a", network={"ref": "fake_network.net#id"}), machine("b"), machine("c")
    )
    lab.apply(world, wish)
    project = lab.project(world, Effects())
    smaller = lab.wish(machine("c", size=2))
    state = project.state()
    with project.run(identity_of(state, smaller.desired)) as run:
        plan = make_plan(project, smaller.desired, run, state, targets=["fake_network.net"])
    assert {change.address: change.action for change in plan.changes} == {
        "fake_machine.a": "delete",
        "fake_network.net": "delete",
    }


def test_refresh_only_tells_drift_and_nothing_else(lab: Lab) -> None:
    world = LocalWorld()
    wish = lab.wish(machine("a"), machine("b"))
    lab.apply(world, wish)
    first, second = sorted(world.cloud.objects(), key=lambda one: one.tags["llmdeploy:address"])
    LocalCloud(world.cloud).call("update", id=first.id, params={**first.params, "size": 7})
    LocalCloud(world.cloud).call("delete", id=second.id)
    project = lab.project(world, Effects())
    state = project.state()
    assert isinstance(state, State)
    with project.run(identity_of(state)) as run:
        plan = make_plan(project, None, run, state, refresh_only=True)
    assert plan.mode == "refresh-only"
    assert plan.nothing_to_do
    told = {change.address: [drift.sentence for drift in change.drift] for change in plan.changes}
    assert told == {"fake_machine.a": ["size is 7, it was made 1"], "fake_machine.b": ["it is gone"]}


def crowded(limit: int, kind: str = "machine") -> LocalWorld:
    return LocalWorld(FakeCloud(replace(HABITS, capacity={kind: limit})))


def test_a_create_that_was_refused_is_not_repeated_with_the_wish_of_yesterday(lab: Lab) -> None:
    world = crowded(0)
    assert list(lab.apply(world, lab.wish(machine("a", size=2))).outcome.failed) == ["fake_machine.a"]
    world.cloud.habits = HABITS
    wish = lab.wish(machine("a", size=1))
    plan = lab.plan(world, wish)
    assert (plan.changes[0].action, plan.changes[0].resume, plan.in_doubt) == ("create", False, ())
    lab.apply(world, wish)
    check_whole(lab, world, wish)
    (found,) = world.cloud.objects()
    assert (found.params["size"], found.revision, found.tags["llmdeploy:generation"]) == (1, 1, "2")


def test_a_replacement_that_was_refused_leaves_the_old_one_in_its_place(lab: Lab) -> None:
    def wish(image: str) -> Wish:
        base = {"address": "fake_template.base", "values": {"image": image}}
        return lab.wish(base, machine("user", template={"ref": "fake_template.base#id"}))

    world = crowded(1, "template")
    lab.apply(world, wish("one"))
    ran = lab.apply(world, wish("two"))
    assert list(ran.outcome.failed) == ["fake_template.base"]
    assert ran.outcome.skipped == {"fake_machine.user": "fake_template.base"}
    check_whole(lab, world, wish("one"))
    world.cloud.habits = HABITS
    lab.apply(world, wish("two"))
    check_whole(lab, world, wish("two"))
