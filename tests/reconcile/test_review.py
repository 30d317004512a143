"""What goes wrong seldom: restored states, refusals after lost answers, members that are out already, parts of a plan."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.change import Change
from llmdeploy.errors import LlmdeployError, ProviderError
from llmdeploy.event import Event, Skipped
from llmdeploy.graph import Graph, GraphError
from llmdeploy.identity import Identity
from llmdeploy.reconcile.apply import Apply
from llmdeploy.reconcile.diff import diff
from llmdeploy.reconcile.recover import depose
from llmdeploy.reconcile.schedule import Schedule
from llmdeploy.resource import Ref
from llmdeploy.sdk import Context, Prior, ReadResult, Run
from llmdeploy.state.model import Deposed, Entry, State
from llmdeploy.state.upgrade import upgrade
from llmdeploy.testing.cloud import FakeCloud, Fault, Habits
from llmdeploy.testing.effects import Effects, PowerCut
from llmdeploy.workflow import apply_plan, identity_of, keep_addresses, make_plan
from tests.reconcile import lab as things
from tests.reconcile.crash_lab import HABITS, Lab, LocalWorld, Ran, Wish, check_rollouts, check_whole, out_of_service
from tests.reconcile.lab import Thing, thing
from tests.reconcile.test_recovery import die_after, machine
from tests.reconcile.test_rollouts import member, members


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def template(image: str, **values: Any) -> dict[str, Any]:
    return {"address": "fake_template.base", "values": {"image": image, **values}}


def restored(world: LocalWorld, state: State) -> None:
    """Somebody put an older state back."""
    store = world.store(Effects())
    with store.lock("test", 0):
        store.write(state)


def part(lab: Lab, world: LocalWorld, wish: Wish, *targets: str) -> Ran:
    """Plan and apply a part."""
    effects, events = Effects(), list[Event]()
    project = lab.project(world, effects)
    with project.lock("apply"):
        state = project.state()
        with project.run(identity_of(state, wish.desired)) as run:
            plan = make_plan(project, wish.desired, run, state, targets=targets)
            outcome = apply_plan(project, plan, state, run, events.append, parallelism=1)
    return Ran(plan, outcome, effects, events)


# --- what is there is not lost ---------------------------------------------------------------------------------------------


def test_a_new_object_gets_another_generation_than_one_that_a_restored_state_does_not_know(cloud: Lab) -> None:
    world = LocalWorld()
    cloud.apply(world, cloud.wish(machine("a")))
    before = cloud.stored(world)
    assert before is not None
    cloud.apply(world, cloud.wish(machine("a", image="other")))
    restored(world, before)
    wish = cloud.wish(machine("a", image="other"))
    assert cloud.apply(world, wish).outcome.failed == {}
    check_whole(cloud, world, wish)


def test_a_create_that_is_refused_after_an_answer_was_lost_is_not_forgotten(cloud: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(_low: float, _high: float) -> float:
        return 0.0

    monkeypatch.setattr("llmdeploy.reconcile.retry.uniform", at_once)
    wish = cloud.wish(machine("a"))
    undisturbed = LocalWorld(FakeCloud())
    cloud.apply(undisturbed, wish)
    refused = 0
    for number in range(1, undisturbed.cloud.calls):
        world = LocalWorld(FakeCloud(faults=(Fault(number, "RequestTimeout", "after"), Fault(number + 1, "InvalidCall"))))
        try:
            ran = cloud.apply(world, wish)
        except ProviderError:
            continue  # it was the plan that could not look
        refused += bool(ran.outcome.failed)
        assert {one.tags["llmdeploy:address"] for one in world.cloud.objects()} <= set(ran.outcome.state.entries)
        cloud.apply(world, wish)
        check_whole(cloud, world, wish)
    assert refused


def test_a_creation_in_doubt_that_is_refused_later_is_not_forgotten(cloud: Lab) -> None:
    wish = cloud.wish(machine("a"))
    world = die_after(cloud, LocalWorld(FakeCloud(Habits(hidden_reads=100))), wish, "cloud: create, done")
    (made,) = world.cloud.objects()
    plan_calls = _calls_of_plan(cloud, world, wish)
    refused = world.fork((Fault(plan_calls + 1, "InvalidCall"),))
    ran = cloud.apply(refused, wish)
    assert list(ran.outcome.failed) == ["fake_machine.a"]
    assert [one.id for one in refused.cloud.objects()] == [made.id]
    assert "fake_machine.a" in ran.outcome.state.entries
    refused.cloud.habits = HABITS
    for one in refused.cloud._objects.values():  # pyright: ignore[reportPrivateUsage]
        one.hidden = 0
    cloud.apply(refused, wish)
    check_whole(cloud, refused, wish)


def _calls_of_plan(lab: Lab, world: LocalWorld, wish: Wish) -> int:
    trial = world.fork()
    lab.plan(trial, wish)
    return trial.cloud.calls


def test_a_replacement_that_is_refused_leaves_the_old_one_as_healthy_as_it_was(cloud: Lab) -> None:
    world = LocalWorld(FakeCloud(replace(HABITS, capacity={"template": 1})))
    cloud.apply(world, cloud.wish(template("one")))
    state = cloud.stored(world)
    assert state is not None
    entry = state.entries["fake_template.base"]
    restored(world, replace(state.with_entry(entry.model_copy(update={"status": "updating"})), serial=state.serial + 1))
    ran = cloud.apply(world, cloud.wish(template("two")))
    assert list(ran.outcome.failed) == ["fake_template.base"]
    assert ran.outcome.state.entries["fake_template.base"].status == "updating"
    (change,) = cloud.plan(world, cloud.wish(template("one"))).changes
    assert (change.action, change.reason) == ("update", "an earlier update did not end")


def test_what_is_guarded_is_not_removed_because_a_restored_state_does_not_know_it(cloud: Lab) -> None:
    world = LocalWorld()
    cloud.apply(world, cloud.wish(machine("a")))
    before = cloud.stored(world)
    assert before is not None
    cloud.apply(world, cloud.wish(machine("a", image="other")))
    restored(world, before)
    guarded = cloud.wish({**machine("a", image="other"), "prevent_destroy": True})
    with pytest.raises(LlmdeployError, match="marked prevent_destroy, and a newer object of it is there"):
        cloud.plan(world, guarded)


# --- order ---------------------------------------------------------------------------------------------------------------------


def test_a_part_that_removes_something_changes_first_what_stands_on_it(cloud: Lab) -> None:
    world = LocalWorld()
    cloud.apply(world, cloud.wish(machine("a"), machine("user", config={"ref": "fake_machine.a#address"})))
    since = len(world.cloud.history)
    part(cloud, world, cloud.wish(machine("user", config="none")), "fake_machine.a")
    assert world.cloud.history[since:] == [("update", "fake_machine.user"), ("delete", "fake_machine.a")]


def test_a_part_that_replaces_something_new_object_first_changes_what_stands_on_the_old_one(cloud: Lab) -> None:
    def wish(image: str) -> Wish:
        return cloud.wish(
            template(image), machine("user", template={"ref": "fake_template.base#id"}), machine("apart", size=len(image))
        )

    world = LocalWorld()
    cloud.apply(world, wish("one"))
    since = len(world.cloud.history)
    part(cloud, world, wish("three"), "fake_template.base")
    assert world.cloud.history[since:] == [
        ("create", "fake_template.base"),
        ("update", "fake_machine.user"),
        ("delete", "fake_template.base"),
    ]


def test_what_is_half_made_on_something_that_is_replaced_is_replaced_too(cloud: Lab) -> None:
    def wish(cidr: str) -> Wish:
        net = {"address": "fake_network.net", "values": {"cidr": cidr}}
        return cloud.wish(net, machine("a", network={"ref": "fake_network.net#id"}))

    trial = Effects()
    cloud.apply(LocalWorld(), wish("10.1.0.0/16"), trial)
    made = [number for number, name in enumerate(trial.points, 1) if name == "cloud: create, answered"]
    world = LocalWorld()
    with pytest.raises(PowerCut):
        cloud.apply(world, wish("10.1.0.0/16"), Effects(cut_at=made[1]))
    world = next(iter(world.futures()))
    plan = cloud.plan(world, wish("10.2.0.0/16"))
    assert [(change.action, change.reason) for change in plan.changes] == [
        ("replace", "the addresses of a network are fixed"),
        ("replace", "a machine cannot move to another network"),
    ]
    ran = cloud.apply(world, wish("10.2.0.0/16"))
    assert ran.outcome.failed == {}
    done = [one for one in world.cloud.history if one[0] in ("create", "delete", "update")]
    assert done[-4:] == [
        ("delete", "fake_machine.a"),
        ("delete", "fake_network.net"),
        ("create", "fake_network.net"),
        ("create", "fake_machine.a"),
    ]
    check_whole(cloud, world, wish("10.2.0.0/16"))


def test_what_a_creation_began_with_is_kept_until_it_no_longer_needs_it(cloud: Lab) -> None:
    base = {"address": "fake_bucket.base", "values": {"bucket": "demo-base"}}
    old = cloud.wish(base, machine("a", config={"ref": "fake_bucket.base#url"}))
    trial = Effects()
    cloud.apply(LocalWorld(), old, trial)
    world = LocalWorld()
    with pytest.raises(PowerCut):
        cloud.apply(world, old, Effects(cut_at=trial.points.index("cloud: attach, before it is sent") + 1))
    world = next(iter(world.futures()))
    wish = cloud.wish(machine("a", config="none"))
    trial = Effects()
    cloud.apply(world.fork(), wish, trial)
    for point in range(1, trial.count + 1):
        left = world.fork()
        with pytest.raises(PowerCut):
            cloud.apply(left, wish, Effects(cut_at=point))
        left = next(iter(left.futures()))
        state = cloud.stored(left)
        assert state is not None
        updated = any(one.kind == "machine" and one.params["config"] == "none" for one in left.cloud.objects())
        assert updated or "fake_bucket.base" in state.entries["fake_machine.a"].dependencies, trial.points[point - 1]
        cloud.apply(left, wish)
        check_whole(cloud, left, wish)


def test_destroy_keeps_what_the_old_object_of_something_kept_stands_on(cloud: Lab) -> None:
    world = LocalWorld()
    data = {"address": "fake_bucket.data", "values": {"bucket": "demo-data"}}
    cloud.apply(world, cloud.wish({"address": "fake_network.net"}, data))
    state = cloud.stored(world)
    assert state is not None
    entry = state.entries["fake_bucket.data"]
    waiting = depose(entry.model_copy(update={"dependencies": ("fake_network.net",)}))
    state = state.with_entry(waiting.model_copy(update={"dependencies": (), "id": "bucket-new", "generation": 9}))
    types = cloud.project(world, Effects()).types(state)
    assert keep_addresses(state, types) == {"fake_bucket.data", "fake_network.net"}


def test_what_leaves_goes_before_what_it_stands_on_even_when_others_stay_on_both(cloud: Lab) -> None:
    leaving = {"address": "fake_bucket.b", "values": {"bucket": "demo-b", "about": {"ref": "fake_machine.db#id"}}}
    world = LocalWorld()
    user = {"address": "fake_machine.user", "values": {"config": {"ref": "fake_bucket.b#url"}}, "after": ["fake_machine.db"]}
    cloud.apply(world, cloud.wish(machine("db"), leaving, user))
    since = len(world.cloud.history)
    wish = cloud.wish(machine("db", image="other"), {**user, "values": {"config": "none"}})
    assert cloud.apply(world, wish).outcome.failed == {}
    assert world.cloud.history[since:] == [
        ("delete", "fake_bucket.b"),
        ("delete", "fake_machine.db"),
        ("create", "fake_machine.db"),
        ("update", "fake_machine.user"),
    ]
    check_whole(cloud, world, wish)


def test_a_replaced_object_goes_before_what_only_it_stood_on() -> None:
    changes = [Change("net.a", "net", "p", "replace"), Change("vm.a", "vm", "p", "no-op", deposed=(1,))]
    schedule = Schedule(changes, {"net.a": (), "vm.a": ("net.a",)})
    walked: list[str] = []
    while wave := schedule.ready():
        for node in wave:
            walked.append(str(node))
            schedule.done(node)
    assert walked.index("delete vm.a") < walked.index("delete net.a")


def test_a_new_object_does_not_come_first_when_the_old_one_stands_on_what_goes_first(cloud: Lab) -> None:
    def wish(cidr: str, **values: Any) -> Wish:
        # The network comes after the template in every order, because it follows a bucket.
        bucket = {"address": "fake_bucket.b", "values": {"bucket": "demo-b"}}
        net = {"address": "fake_network.net", "values": {"cidr": cidr}, "after": ["fake_bucket.b"]}
        user = machine("user", template={"ref": "fake_template.base#id"})
        return cloud.wish(
            bucket, net, {"address": "fake_template.base", "values": values}, {**user, "after": ["fake_network.net"]}
        )

    world = LocalWorld()
    cloud.apply(world, wish("10.1.0.0/16", image="one", network={"ref": "fake_network.net#id"}))
    after = wish("10.2.0.0/16", image="two")
    since = len(world.cloud.history)
    assert cloud.apply(world, after).outcome.failed == {}
    gone = [one for one in world.cloud.history[since:] if one[0] == "delete"]
    assert gone == [("delete", "fake_template.base"), ("delete", "fake_network.net")]
    check_whole(cloud, world, after)


def test_what_another_provider_made_is_not_taken_for_ones_own(lab: things.Lab) -> None:
    state = lab.apply(thing("a")).state
    graph = Graph([replace(thing("a"), provider="others")])
    (change,) = diff(graph, state, {}, lab.provider.types, Identity("s", state.lineage))
    assert (change.action, change.provider) == ("replace", "others")
    assert change.reason == "it is with the provider things, and shall be with others"


def test_a_replaced_object_that_is_still_there_gets_the_schema_of_today(cloud: Lab) -> None:
    old = Deposed(id="machine-1", generation=1, spec={"cores": 2}, outputs={"id": "machine-1"})
    entry = Entry(
        address="fake_machine.a", type="fake_machine", provider="fakecloud", version=1, spec={"cores": 4}, deposed=(old,)
    )
    types = cloud.registry.types(["fakecloud"])
    upgraded = upgrade(State("1" * 32, "demo", 3, {entry.address: entry}), types).entries[entry.address]
    assert upgraded.spec == {"size": 4}
    assert upgraded.deposed[0].spec == {"size": 2}
    assert upgraded.deposed[0].outputs == {"id": "machine-1", "flavor": "fake.2"}


# --- rollouts ------------------------------------------------------------------------------------------------------------------


def test_members_that_are_out_of_service_come_back_before_others_leave(cloud: Lab) -> None:
    """Killed at any moment of a rollout that begins with the last member, and gone on with another wish."""

    def wish(**values: Any) -> Wish:
        return cloud.wish(*(member(n, order=3 - n, **values) for n in range(3)))

    def other(**values: Any) -> Wish:
        return cloud.wish(*(member(n, order=n, **values) for n in range(3)))

    made = LocalWorld()
    cloud.apply(made, wish())
    for change in ({"size": 2}, {"image": "new"}):
        trial = Effects()
        cloud.apply(made.fork(), wish(**change), trial)
        for point in range(1, trial.count + 1):
            world = made.fork()
            with pytest.raises(PowerCut):
                cloud.apply(world, wish(**change), Effects(cut_at=point))
            left = next(iter(world.futures()))
            again = other(**change, healthy=True, config="more")
            out = {*out_of_service(left, again)}
            present = {one.tags["llmdeploy:address"] for one in left.cloud.objects()}
            out |= again.addresses - present
            left.cloud.history.clear()
            assert cloud.apply(left, again, parallelism=4).outcome.failed == {}
            check_rollouts(again, left.cloud.history, out)
            check_whole(cloud, left, again)


def test_a_member_that_only_waits_for_a_worker_does_not_start_after_the_gate_said_no(cloud: Lab) -> None:
    world = LocalWorld()
    cloud.apply(world, members(cloud, 3, at_once=3))
    ran = cloud.apply(world, members(cloud, 3, at_once=3, healthy=False), parallelism=1)
    assert list(ran.outcome.failed) == ["fake_machine.m0"]
    assert ran.outcome.skipped == {"fake_machine.m1": "fake_machine.m0", "fake_machine.m2": "fake_machine.m0"}
    assert sum(not one.params["healthy"] for one in world.cloud.objects()) == 1


def test_a_rollout_that_no_order_can_carry_out_is_refused_in_the_plan(cloud: Lab) -> None:
    def wish(cidr: str) -> Wish:
        net = {"address": "fake_network.net", "values": {"cidr": cidr}}
        return cloud.wish(net, *(member(n, network={"ref": "fake_network.net#id"}) for n in range(2)))

    world = LocalWorld()
    cloud.apply(world, wish("10.1.0.0/16"))
    with pytest.raises(GraphError, match="both are members of the rollout group web"):
        cloud.plan(world, wish("10.2.0.0/16"))


def test_a_group_that_lets_nobody_leave_is_refused_in_the_plan(cloud: Lab) -> None:
    world = LocalWorld()
    cloud.apply(world, members(cloud, 2, at_once=0))
    with pytest.raises(GraphError, match="max_unavailable is less than 1"):
        cloud.plan(world, members(cloud, 2, at_once=0, size=2))


# --- promises, and what is told ------------------------------------------------------------------------------------------------


def test_a_value_that_nobody_knows_even_after_everything_fails_its_resource_alone(lab: things.Lab) -> None:
    outcome = lab.apply(thing("a"), thing("b", hint=Ref("thing.a", "nothing")), thing("c", "b"), thing("d", "a"))
    assert list(outcome.failed) == ["thing.b"]
    assert "hint" in outcome.failed["thing.b"]
    assert outcome.skipped == {"thing.c": "thing.b"}
    assert sorted(lab.world.live) == ["thing.a", "thing.d"]
    assert lab.store.read() == outcome.state


def test_an_update_knows_what_the_plan_saw(lab: things.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.apply(thing("a"))

    def read(_self: Thing, _run: Run, prior: Prior) -> ReadResult:
        return ReadResult(prior.address, outputs={**prior.outputs, "id": "moved"})

    monkeypatch.setattr(Thing, "read", read)
    plan = lab.plan(thing("a", size=2))
    assert plan.changes[0].outputs == {"id": "moved", "label": "size 2"}
    outcome = lab.apply(thing("a", size=2))
    assert outcome.failed == {}
    assert outcome.state.entries["thing.a"].outputs == {"id": "moved", "label": "size 2"}


def test_what_provider_made_it_last_is_in_the_state(lab: things.Lab) -> None:
    lab.apply(thing("a"))
    plan = replace(lab.plan(thing("a", size=2)), provider_configs={"things": {"size": 7}})
    state = lab.store.read()
    assert state is not None
    with lab.store.lock("apply", 0):
        run = Run(Identity("s", state.lineage), lab.folder, {})
        lab.store.read()
        outcome = Apply(plan, state, lab.store, lab.provider.types, run, lab.events.append).run()
    assert outcome.state.entries["thing.a"].provider_config == {"size": 7}


def test_a_reader_of_events_that_breaks_does_not_lose_what_was_done(lab: things.Lab) -> None:
    def broken(_event: Event) -> None:
        raise BrokenPipeError

    plan = lab.plan(thing("a"), thing("b", "a"))
    with lab.store.lock("apply", 0):
        state = lab.store.read() or State.fresh("s")
        run = Run(Identity("s", state.lineage), lab.folder, {})
        apply = Apply(plan, state, lab.store, lab.provider.types, run, broken)
        with pytest.raises(BrokenPipeError):
            apply.run()
    kept = lab.store.read()
    assert kept is not None
    assert {address: entry.status for address, entry in kept.entries.items()} == {"thing.a": "ok"}
    assert kept.serial == 1
    assert lab.store.folder.joinpath("state.json").is_file()


def test_what_would_not_have_changed_is_not_told_as_skipped_or_not_started(lab: things.Lab) -> None:
    lab.apply(thing("a"), thing("b", "a"), thing("c", "b"))

    def fail(_: Context) -> None:
        raise ProviderError("no")

    lab.world.trouble["update thing.a"] = fail
    outcome = lab.apply(thing("a", size=2), thing("b", "a"), thing("c", "b", size=2))
    assert outcome.skipped == {"thing.c": "thing.a"}
    assert [event.address for event in lab.events if isinstance(event, Skipped)] == ["thing.c"]
    stop = threading.Event()
    lab.world.trouble["update thing.a"] = lambda _: stop.set()
    assert lab.apply(thing("a", size=3), thing("b", "a"), thing("c", "b", size=2), stop=stop).stopped == ("thing.c",)
