"""Plan, apply, change, drift and destroy through the real state, journal and scheduler, on things in memory."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from llmdeploy.errors import LlmdeployError, ProviderError
from llmdeploy.event import Failed, Skipped, Started
from llmdeploy.resource import UNKNOWN, Ref
from llmdeploy.sdk import Context
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import State
from tests.reconcile.lab import Lab, Thing, actions, thing


def test_create_in_order_then_nothing_to_do(lab: Lab) -> None:
    resources = (thing("a"), thing("b", base=Ref("thing.a", "id")), thing("c", "b"))
    outcome = lab.apply(*resources)
    assert outcome.failed == {}
    assert [call for call in lab.world.calls if call.startswith("create")] == [
        "create thing.a",
        "create thing.b",
        "create thing.c",
    ]
    assert outcome.state.entries["thing.b"].spec["base"] == "thing.a/1"
    assert outcome.state.outputs == {"first": "thing.a/1"}
    plan = lab.plan(*resources)
    assert plan.nothing_to_do
    serial = outcome.state.serial
    assert lab.apply(*resources).state.serial == serial


def test_plan_shows_unknown_then_known(lab: Lab) -> None:
    before = lab.plan(thing("a"), thing("b", base=Ref("thing.a", "id"), hint=Ref("thing.a", "label")))
    after = before.changes[1].after
    assert after is not None
    assert after["base"] is UNKNOWN
    assert after["hint"] == "size 1"


def test_update_in_place_and_its_dependents(lab: Lab) -> None:
    lab.apply(thing("a"), thing("b", hint=Ref("thing.a", "label")))
    resources = (thing("a", size=2), thing("b", hint=Ref("thing.a", "label")))
    plan = lab.plan(*resources)
    assert actions(plan.changes) == {"a": "update", "b": "update"}
    assert [(f.path, f.before, f.after) for f in plan.changes[1].fields] == [("hint", "size 1", "size 2")]
    lab.apply(*resources)
    assert lab.world.calls == ["update thing.a", "update thing.b"]
    assert lab.plan(*resources).nothing_to_do


def test_replace_takes_what_stands_on_it_along(lab: Lab) -> None:
    lab.apply(thing("a"), thing("b", base=Ref("thing.a", "id")), thing("c", hint=Ref("thing.b", "label")))
    resources = (thing("a", kind="other"), thing("b", base=Ref("thing.a", "id")), thing("c", hint=Ref("thing.b", "label")))
    plan = lab.plan(*resources)
    assert actions(plan.changes) == {"a": "replace", "b": "replace", "c": "no-op"}
    assert [change.reason for change in plan.changes] == ["the kind of a thing is fixed", "it stands on that thing", ""]
    outcome = lab.apply(*resources)
    calls = [call for call in lab.world.calls if call.startswith(("create", "delete"))]
    assert calls == ["delete thing.b", "delete thing.a", "create thing.a", "create thing.b"]
    assert outcome.state.entries["thing.b"].generation == 2
    assert lab.plan(*resources).nothing_to_do


def test_delete_comes_after_those_that_stop_needing_it(lab: Lab) -> None:
    lab.apply(thing("a"), thing("b", hint=Ref("thing.a", "id")))
    lab.apply(thing("b", hint="none"))
    assert lab.world.calls == ["update thing.b", "delete thing.a"]


def test_destroy_is_the_reverse(lab: Lab) -> None:
    lab.apply(thing("a"), thing("b", "a"), thing("c", "b"))
    outcome = lab.apply()
    assert lab.world.calls == ["delete thing.c", "delete thing.b", "delete thing.a"]
    assert dict(outcome.state.entries) == {}
    assert lab.plan().nothing_to_do


def test_drift_and_loss_are_named_and_repaired(lab: Lab) -> None:
    resources = (thing("a"), thing("b", base=Ref("thing.a", "id")), thing("c"))
    lab.apply(*resources)
    lab.world.live["thing.c"]["size"] = 9
    del lab.world.live["thing.a"]
    plan = lab.plan(*resources)
    assert actions(plan.changes) == {"a": "create", "b": "replace", "c": "update"}
    assert [change.reason for change in plan.changes if change.address == "thing.c"] == ["size is 9"]
    assert lab.apply(*resources).failed == {}
    assert lab.plan(*resources).nothing_to_do


def test_a_failure_skips_only_what_depends_on_it(lab: Lab) -> None:
    def fail(_: Context) -> None:
        raise ProviderError("no more things", hint="buy some")

    lab.world.trouble["create thing.b"] = fail
    outcome = lab.apply(thing("a"), thing("b", "a"), thing("c", "b"), thing("d", "a"))
    assert outcome.failed == {"thing.b": "no more things"}
    assert outcome.skipped == {"thing.c": "thing.b"}
    assert sorted(lab.world.live) == ["thing.a", "thing.d"]
    assert [e.hint for e in lab.events if isinstance(e, Failed)] == ["buy some"]
    assert [e.address for e in lab.events if isinstance(e, Skipped)] == ["thing.c"]
    lab.world.trouble.clear()
    assert lab.apply(thing("a"), thing("b", "a"), thing("c", "b"), thing("d", "a")).failed == {}


def test_an_interrupted_create_goes_on_at_its_step(lab: Lab) -> None:
    def fail(_: Context) -> None:
        raise ProviderError("lost")

    lab.world.trouble["second thing.a"] = fail
    outcome = lab.apply(thing("a"))
    entry = outcome.state.entries["thing.a"]
    assert (entry.status, entry.steps, entry.id) == ("creating", ("first",), "id-thing.a-1")
    lab.world.trouble.clear()
    plan = lab.plan(thing("a", size=3))
    assert plan.changes[0].resume
    outcome = lab.apply(thing("a", size=3))
    assert lab.world.calls == ["create thing.a", "second thing.a"]
    assert outcome.state.entries["thing.a"].status == "ok"
    assert outcome.state.entries["thing.a"].generation == 1


def test_retryable_errors_are_tried_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(_low: float, _high: float) -> float:
        return 0.001

    monkeypatch.setattr("llmdeploy.reconcile.retry.uniform", short)
    failures = iter([True, True, False])

    def fail(_: Context) -> None:
        if next(failures):
            raise ProviderError("slow down", retryable=True)

    lab.world.trouble["create thing.a"] = fail
    assert lab.apply(thing("a")).failed == {}
    assert lab.world.calls.count("create thing.a") == 3


def test_stop_lets_running_work_finish_and_starts_nothing_new(lab: Lab) -> None:
    stop = threading.Event()
    lab.world.trouble["create thing.a"] = lambda _: stop.set()
    outcome = lab.apply(thing("a"), thing("b", "a"), stop=stop)
    assert outcome.stopped == ("thing.b",)
    assert outcome.state.entries["thing.a"].status == "ok"
    assert [e.address for e in lab.events if isinstance(e, Started)] == ["thing.a"]


def test_a_broken_promise_is_found(lab: Lab) -> None:
    kind = lab.provider.types["thing"]
    assert isinstance(kind, Thing)
    kind.predict = lambda values, identity: {"label": "wrong"}  # pyright: ignore[reportAttributeAccessIssue] - a provider's bug, made on purpose
    outcome = lab.apply(thing("a"))
    assert "the plan said 'wrong', now it would be 'size 1'" in outcome.failed["thing.a"]
    assert outcome.state.entries["thing.a"].status == "ok"


def test_prevent_destroy_counts_after_the_stack_forgot_it(lab: Lab) -> None:
    lab.apply(replace(thing("a"), prevent_destroy=True))
    with pytest.raises(LlmdeployError, match="prevent_destroy"):
        lab.plan()


def test_parallel_work_is_bounded(lab: Lab) -> None:
    running, most = 0, 0
    gate = threading.Barrier(3, timeout=20)

    def work(_: Context) -> None:
        nonlocal running, most
        with lab.world.lock:
            running += 1
            most = max(most, running)
        gate.wait()
        with lab.world.lock:
            running -= 1

    things = [thing(f"t{n}") for n in range(9)]
    lab.world.trouble = {f"create thing.t{n}": work for n in range(9)}
    assert lab.apply(*things, parallelism=3).failed == {}
    assert most == 3


def test_the_journal_of_a_killed_run_is_folded_in(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(_self: LocalStore, _state: State) -> None:
        raise Killed

    monkeypatch.setattr(LocalStore, "write", die)
    with pytest.raises(Killed):
        lab.apply(thing("a"), thing("b", "a"))
    monkeypatch.undo()
    state = lab.store.read()
    assert state is not None
    assert {address: entry.status for address, entry in state.entries.items()} == {"thing.a": "ok", "thing.b": "ok"}
    assert lab.plan(thing("a"), thing("b", "a")).effective == ()
    lineage = state.lineage
    assert lab.apply(thing("a"), thing("b", "a")).state.lineage == lineage


def test_a_bug_of_a_provider_is_told_with_its_traceback_and_stops_the_run(lab: Lab) -> None:
    def bug(_: Context) -> None:
        raise ZeroDivisionError("oops")

    lab.world.trouble["create thing.a"] = bug
    outcome = lab.apply(thing("a"), thing("b", "a"))
    (failed,) = [event for event in lab.events if isinstance(event, Failed)]
    assert "internal error: ZeroDivisionError: oops" in failed.message
    assert "Traceback" in failed.tail
    assert outcome.skipped == {"thing.b": "thing.a"}


def test_a_failed_update_is_not_forgotten_when_the_wish_goes_back(lab: Lab) -> None:
    lab.apply(thing("a"))

    def fail(_: Context) -> None:
        raise ProviderError("half of it")

    lab.world.trouble["update thing.a"] = fail
    assert lab.apply(thing("a", size=2)).state.entries["thing.a"].status == "updating"
    lab.world.trouble.clear()
    (change,) = lab.plan(thing("a")).changes
    assert (change.action, change.reason) == ("update", "an earlier update did not end")
    lab.apply(thing("a"))
    assert lab.plan(thing("a")).nothing_to_do


def test_ignored_changes_stay_as_they_are_until_a_new_object_is_made(lab: Lab) -> None:
    lab.apply(thing("a"))
    ignoring = replace(thing("a", size=5, hint="new"), ignore_changes=frozenset({"size"}))
    (change,) = lab.plan(ignoring).changes
    assert [(one.path, one.after) for one in change.fields] == [("hint", "new")]
    assert lab.apply(ignoring).state.entries["thing.a"].spec["size"] == 1
    assert lab.plan(ignoring).nothing_to_do
    lab.world.live["thing.a"]["size"] = 9
    assert lab.plan(ignoring).nothing_to_do
    other = replace(thing("a", size=5, kind="other"), ignore_changes=frozenset({"size"}))
    assert lab.apply(other).state.entries["thing.a"].spec["size"] == 5
    assert lab.plan(other).nothing_to_do
