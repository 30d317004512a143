"""Probes are asked side by side, and whatever one of them does, the others are heard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from llmdeploy.audit.probes import Probed, probe_all
from llmdeploy.errors import Interrupted, LlmdeployError
from llmdeploy.sdk import (
    EVIDENCE,
    Context,
    Identity,
    Observation,
    Operation,
    OperationResult,
    Outputs,
    Prior,
    ResourceType,
    Run,
    Spec,
    Traits,
    Tree,
    observed,
)
from llmdeploy.state.model import Deposed, Entry, State
from llmdeploy.testing.cloud import FakeCloud, LocalCloud
from llmdeploy.testing.cloud_provider import FakeCloudProvider

LINEAGE = "0" * 32


class Nothing(Outputs):
    """Nothing."""


class ThingSpec(Spec):
    """A thing and where it lies."""

    region: str = "DE"


class Thing(ResourceType[ThingSpec, Nothing]):
    """A thing whose probe is given."""

    name = "thing"
    spec = ThingSpec
    outputs = Nothing

    def __init__(self, probe: Operation | None) -> None:
        self.operations = {EVIDENCE: probe} if probe else {}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        return Traits(region=values["region"])


def state_of(*names: str, **more: Any) -> State:
    common: dict[str, Any] = {"type": "thing", "provider": "p", "spec": {"region": "DE"}, **more}
    entries = [Entry(address=f"thing.{name}", id=name, **common) for name in names]
    return State(LINEAGE, "demo", 1, {one.address: one for one in entries})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(Identity("demo", LINEAGE), tmp_path, {})


def probed(state: State, run: Run, probe: Operation | None) -> dict[str, Probed]:
    return {one.seen.address: one for one in probe_all({"thing": Thing(probe)}, state, run, lambda _text: None)}


def test_they_run_side_by_side_and_come_back_by_address(run: Run) -> None:
    together = Barrier(4, timeout=20)

    def probe(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
        together.wait()
        return observed([Observation(fact="region", value=prior.id.upper())])

    found = probed(state_of("d", "a", "c", "b"), run, probe)
    assert list(found) == ["thing.a", "thing.b", "thing.c", "thing.d"]
    assert [one.seen.observations[0].value for one in found.values()] == ["A", "B", "C", "D"]
    assert all(one.seen.planned == Traits(region="DE") for one in found.values())


def test_what_has_no_probe_was_not_asked(run: Run) -> None:
    (one,) = probed(state_of("a"), run, None).values()
    assert (one.asked, one.seen.observations, one.seen.reason) == (False, (), "")


@pytest.mark.parametrize("status", ["creating", "updating", "tainted"])
def test_what_is_unfinished_is_not_asked(run: Run, status: str) -> None:
    def probe(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
        raise AssertionError("it was asked")

    (one,) = probed(state_of("a", status=status), run, probe).values()
    assert (one.asked, bool(one.seen.reason)) == (False, True)


def test_what_was_replaced_and_is_left_is_seen_by_nobody(run: Run) -> None:
    old = Deposed(id="old", generation=1, spec={"region": "US"}, outputs={})
    found = probed(state_of("a", deposed=(old,)), run, lambda _ctx, _prior, _arguments: observed([]))
    left = found["thing.a (old)"].seen
    assert (left.planned.region, left.observations, "not gone yet" in left.reason) == ("US", (), True)


def test_outputs_that_a_probe_gives_change_nothing(run: Run) -> None:
    state = state_of("a")
    probed(state, run, lambda _ctx, _prior, _arguments: OperationResult([], {"edited": True}))
    assert state == state_of("a")


def test_a_probe_that_is_stopped_ends_the_audit_and_asks_no_more(run: Run) -> None:
    asked: list[str] = []

    def probe(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
        asked.append(prior.id)
        ctx.run.abort.set()
        raise Interrupted("stopped")

    names = [f"n{number:03d}" for number in range(100)]
    with pytest.raises(Interrupted):
        probed(state_of(*names), run, probe)
    assert len(asked) < len(names)


def test_an_error_of_one_is_its_reason(run: Run) -> None:
    def probe(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
        if prior.id == "a":
            raise LlmdeployError("no way in", hint="open it")
        return observed([Observation(fact="region", value="DE")])

    found = probed(state_of("a", "b"), run, probe)
    assert found["thing.a"].seen.reason == "no way in"
    assert found["thing.b"].seen.observations[0].value == "DE"


def test_the_fake_cloud_shows_how_a_probe_is_written(run: Run) -> None:
    cloud = LocalCloud(FakeCloud())
    provider = FakeCloudProvider(lambda _run: cloud)
    made = cloud.call("create", kind="machine", name="", params={"size": 1, "healthy": True}, tags={}, token="t" * 64)
    spec: dict[str, Any] = {"size": 1, "image": "debian", "config": ""}
    entry = Entry(address="fake_machine.a", type="fake_machine", provider="fakecloud", version=2, id=made["id"], spec=spec)
    (one,) = probe_all(provider.types, State(LINEAGE, "demo", 1, {entry.address: entry}), run, lambda _text: None)
    assert {told.fact: (told.value, bool(told.reason)) for told in one.seen.observations} == {
        "region": ("nowhere-1", False),
        "clock_synced": (None, True),
    }
    cloud.call("delete", id=made["id"])
    (one,) = probe_all(provider.types, State(LINEAGE, "demo", 1, {entry.address: entry}), run, lambda _text: None)
    assert "is gone" in one.seen.reason
