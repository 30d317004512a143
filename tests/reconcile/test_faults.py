"""Every call of the cloud fails once, in each way a call can fail, before and after its effect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from llmdeploy.errors import ProviderError
from llmdeploy.event import Failed, Progress, Skipped
from llmdeploy.testing.cloud import FakeCloud, Fault, Habits
from tests.reconcile.crash_lab import Lab, LocalWorld, Wish, check_rollouts, check_whole, first_wish, second_wish

PASSING = ("Throttling", "InternalError", "RequestTimeout", "ConnectionReset")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    def soon(_low: float, _high: float) -> float:
        return 0.0001

    monkeypatch.setattr("llmdeploy.reconcile.retry.uniform", soon)
    return Lab(tmp_path, monkeypatch)


def begin(lab: Lab, phase: str) -> tuple[LocalWorld, Wish]:
    world, wishes = LocalWorld(), {"first apply": first_wish(lab), "change": second_wish(lab), "destroy": lab.nothing}
    for name, wish in wishes.items():
        if name == phase:
            return world.fork(), wish
        lab.apply(world, wish)
    raise AssertionError(phase)


@pytest.mark.parametrize("phase", ["first apply", "change", "destroy"])
@pytest.mark.parametrize("code", PASSING)
def test_a_fault_that_passes_is_waited_out_at_every_call(lab: Lab, phase: str, code: str) -> None:
    start, wish = begin(lab, phase)
    whole = start.fork()
    lab.apply(whole, wish)
    moments: tuple[Literal["before", "after"], ...] = ("before", "after")
    for number in range(1, whole.cloud.calls + 1):
        for when in moments:
            world = start.fork((Fault(number, code, when),))
            ran = lab.apply(world, wish)
            assert ran.outcome.failed == {}, f"call {number}, {when}"
            check_whole(lab, world, wish)
            check_rollouts(wish, world.cloud.history)


def test_a_retry_is_told_in_a_sentence(lab: Lab) -> None:
    world = LocalWorld(FakeCloud(faults=(Fault(2, "Throttling"),)))  # the first call asks for the account
    wish = lab.wish({"address": "fake_network.a"})
    told = [event.message for event in lab.apply(world, wish).events if isinstance(event, Progress)]
    assert told == ["the cloud is busy (Throttling); trying again in 0 s"]


@pytest.mark.parametrize("seed", range(10))
def test_a_cloud_that_fails_all_the_time_at_random(lab: Lab, seed: int) -> None:
    """What is not waited out is reported, and the next apply goes on with it."""
    calm = Habits(hidden_reads=2, pending_reads=2)
    world = LocalWorld(FakeCloud(calm, seed=seed))
    for wish in (first_wish(lab), second_wish(lab), lab.nothing):
        world.cloud.habits = replace(calm, fault_rate=0.1)
        for _ in range(8):
            try:
                failed = lab.apply(world, wish, parallelism=4).outcome.failed
            except ProviderError as error:  # before the first effect: it could not see what exists
                failed = {"": error.message}
            assert all("the cloud" in sentence for sentence in failed.values())
            if not failed:
                break
        world.cloud.habits = calm
        check_whole(lab, world, wish)


# --- what does not pass -----------------------------------------------------------------------------------------------------


def broken_wish(lab: Lab) -> Wish:
    """b fails, c stands on it, d does not."""
    return lab.wish(
        {"address": "fake_network.a"},
        {"address": "fake_bucket.b", "values": {"bucket": "bbb"}, "after": ["fake_network.a"]},
        {"address": "fake_machine.c", "values": {"config": {"ref": "fake_bucket.b#url"}}},
        {"address": "fake_template.d", "values": {"image": "x", "network": {"ref": "fake_network.a#id"}}},
    )


def told(events: list[Any]) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    failed = [(event.address, event.message, event.hint) for event in events if isinstance(event, Failed)]
    return failed, [(event.address, event.because) for event in events if isinstance(event, Skipped)]


def test_no_room_is_told_once_skips_what_depends_on_it_and_is_made_good_later(lab: Lab) -> None:
    world, wish = LocalWorld(FakeCloud(Habits(capacity={"bucket": 0}))), broken_wish(lab)
    ran = lab.apply(world, wish)
    assert told(ran.events) == (
        [
            (
                "fake_bucket.b",
                "the cloud has no room: no capacity for another bucket",
                "remove something, or ask for a higher quota",
            )
        ],
        [("fake_machine.c", "fake_bucket.b")],
    )
    assert sorted(one.kind for one in world.cloud.objects()) == ["network", "template"]
    world.cloud.habits = Habits()
    assert lab.apply(world, wish).outcome.failed == {}
    check_whole(lab, world, wish)


def test_what_somebody_else_owns_is_left_alone(lab: Lab) -> None:
    world, wish = LocalWorld(), broken_wish(lab)
    foreign = world.cloud.call("create", kind="bucket", name="bbb", params={}, tags={})
    ran = lab.apply(world, wish)
    assert ran.outcome.failed == {"fake_bucket.b": "a bucket named bbb is there, and this stack did not make it"}
    assert ran.outcome.skipped == {"fake_machine.c": "fake_bucket.b"}
    assert [one.id for one in world.cloud.objects() if one.kind == "bucket"] == [foreign["id"]]
    lab.apply(world, lab.nothing)
    assert [one.id for one in world.cloud.objects()] == [foreign["id"]]


def test_a_cloud_that_stays_busy_is_told_once_and_the_next_apply_goes_on(lab: Lab) -> None:
    faults = tuple(Fault(number, "InternalError") for number in range(2, 60))
    world, wish = LocalWorld(FakeCloud(faults=faults)), broken_wish(lab)
    ran = lab.apply(world, wish)
    assert [event.address for event in ran.events if isinstance(event, Failed)] == sorted(ran.outcome.failed)
    assert set(ran.outcome.failed.values()) == {"the cloud is busy (InternalError)"}
    assert all(event.hint == "wait a minute and run it again" for event in ran.events if isinstance(event, Failed))
    later = world.fork()
    assert lab.apply(later, wish).outcome.failed == {}
    check_whole(lab, later, wish)


def test_an_object_that_is_removed_while_it_is_made_is_made_anew(lab: Lab) -> None:
    """Its token is spent, so the next generation is made."""
    world = LocalWorld(FakeCloud())
    wish = lab.wish({"address": "fake_machine.a"})
    remove = world.cloud.call

    def removing(name: str, /, **arguments: Any) -> Any:
        answer = remove(name, **arguments)
        if name == "attach" and world.cloud.creates.total() == 2:
            remove("delete", id=arguments["id"])
        return answer

    world.cloud.call = removing  # pyright: ignore[reportAttributeAccessIssue] - somebody else at work
    ran = lab.apply(world, wish)
    if ran.outcome.failed:  # it had ended its create when it was found gone
        assert lab.apply(world, wish).outcome.failed == {}
    assert [one.tags["llmdeploy:generation"] for one in world.cloud.objects()] == ["2"]
    assert lab.plan(world, wish).nothing_to_do


@pytest.mark.parametrize("field", ["serving", "config", "mtu"])
def test_drift_is_shown_and_mended(lab: Lab, field: str) -> None:
    world, wish = LocalWorld(FakeCloud()), first_wish(lab)
    lab.apply(world, wish)
    kind, call, arguments = {
        "serving": ("machine", "serve", {"serving": False}),
        "config": ("machine", "attach", {"part": "config", "value": "graffiti"}),
        "mtu": ("network", "update", {"params": {"mtu": 600}}),
    }[field]
    victim = next(one for one in world.cloud.objects() if one.kind == kind)
    world.cloud.call(call, id=victim.id, **arguments)
    plan = lab.plan(world, wish)
    assert [(change.action, [drift.field for drift in change.drift]) for change in plan.effective] == [("update", [field])]
    assert lab.apply(world, wish).outcome.failed == {}
    check_whole(lab, world, wish)


def test_what_somebody_removed_is_made_again_with_what_stands_on_it(lab: Lab) -> None:
    world = LocalWorld(FakeCloud())
    wish = lab.wish(
        {"address": "fake_network.a"},
        {"address": "fake_template.b", "values": {"image": "x", "network": {"ref": "fake_network.a#id"}}},
    )
    lab.apply(world, wish)
    victim = next(one for one in world.cloud.objects() if one.kind == "network")
    world.cloud.call("delete", id=victim.id)
    actions = {change.address: change.action for change in lab.plan(world, wish).effective}
    assert actions == {"fake_network.a": "create", "fake_template.b": "replace"}
    assert lab.apply(world, wish).outcome.failed == {}
    check_whole(lab, world, wish)
