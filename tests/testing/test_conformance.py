"""The fake cloud and the null provider keep what the suite asks; a provider that does not is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmdeploy.sdk import Context, Identity, Prior, ReadResult, Ref, Run
from llmdeploy.testing.cloud import FakeCloud, Habits, LocalCloud
from llmdeploy.testing.cloud_provider import FakeCloudProvider
from llmdeploy.testing.cloud_types import Bucket, Machine, MachineOutputs, MachineSpec
from llmdeploy.testing.conformance import Conformance, Sample, Site, World
from llmdeploy.testing.null import NullProvider

CANARY = "canary-71c2"
LINEAGE = "0" * 32

NETWORK = Sample("fake_network.net", {"cidr": "10.9.0.0/16"}, {"cidr": "10.9.0.0/16", "mtu": 9000}, {"cidr": "10.8.0.0/16"})
TEMPLATE = Sample("fake_template.base", {"image": "one", "network": Ref("fake_network.net", "id")}, replacing={"image": "two"})
BUCKET = Sample(
    "fake_bucket.data",
    {"bucket": "data", "about": Ref("fake_network.net", "id"), "password": "env:PASSWORD"},
    {"bucket": "data", "versioned": False, "password": "env:PASSWORD"},
    {"bucket": "other", "password": "env:PASSWORD"},
)
MACHINE = Sample(
    "fake_machine.web",
    {"network": Ref("fake_network.net", "id"), "template": Ref("fake_template.base", "id"), "password": "env:PASSWORD"},
    {"size": 4, "network": Ref("fake_network.net", "id"), "config": "x", "password": "env:PASSWORD"},
    {"image": "other", "network": Ref("fake_network.net", "id")},
    older={
        1: {
            "spec": {"cores": 2, "image": "debian", "network": None, "template": None},
            "outputs": {"id": "machine-1", "address": "10.0.0.1", "revision": 1, "password_mark": None},
        }
    },
)


def cloud_world(folder: Path, cloud: FakeCloud, provider: FakeCloudProvider | None = None) -> World:
    environ = {"PASSWORD": CANARY}
    return World(
        provider or FakeCloudProvider(lambda _run: LocalCloud(cloud)),
        lambda: Run(Identity("demo", LINEAGE), folder, environ),
        secrets=(CANARY,),
        live=lambda: len(cloud.objects()),
    )


@pytest.mark.parametrize("habits", [Habits(), Habits(hidden_reads=3, pending_reads=2)], ids=["calm", "nasty"])
class TestFakeCloud(Conformance):
    samples = (NETWORK, TEMPLATE, BUCKET, MACHINE)

    @pytest.fixture
    def world(self, tmp_path: Path, habits: Habits) -> World:
        return cloud_world(tmp_path, FakeCloud(habits))


class TestNull(Conformance):
    samples = (
        Sample(
            "null_thing.a",
            {"name": "a", "revision": "1", "size": 1},
            {"name": "a", "revision": "2", "size": 1},
            {"name": "b", "revision": "1", "size": 1},
            tells_gone=False,
        ),
        Sample(
            "null_thing.b", {"name": "b", "revision": "1", "size": 1, "parent": Ref("null_thing.a", "name")}, tells_gone=False
        ),
    )

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return World(NullProvider(), lambda: Run(Identity("demo", LINEAGE), tmp_path, {}))


# --- the suite can fail -----------------------------------------------------------------------------------------------------


class ForgetsTheToken(Machine):
    def make(self, ctx: Context, spec: MachineSpec, *, name: str = "") -> Any:
        params = spec.model_dump(mode="json")
        found = self.door.ask(ctx.run, "create", kind=self.kind, params=params, tags=dict(ctx.tags))
        ctx.acked(found["id"])
        return found


class TellsTheSecret(Machine):
    def create(self, ctx: Context, spec: MachineSpec) -> MachineOutputs:
        if spec.password:
            ctx.progress(f"the password is {ctx.run.secret(spec.password).reveal().decode()}")
        return super().create(ctx, spec)


class NeedsItsId(Machine):
    def delete(self, ctx: Context, prior: Prior) -> None:
        if prior.id:
            super().delete(ctx, prior)


class ChangesItsAddress(Machine):
    changing_outputs = frozenset({"password_mark"})


class AcksTooLate(Machine):
    def create(self, ctx: Context, spec: MachineSpec) -> MachineOutputs:
        quiet = Context(ctx.run, ctx.address, generation=ctx.generation, token="")
        outputs = super().create(quiet, spec)
        ctx.acked(outputs.id)
        return outputs


class TakesAnyBucket(Bucket):
    def predict(self, values: Any, identity: Identity) -> Any:
        return {"url": f"fake://{values['bucket']}/wrong"}


BROKEN = [
    (ForgetsTheToken, MACHINE, "test_a_create_is_made_once_however_often_it_is_sent"),
    (TellsTheSecret, MACHINE, "test_what_was_made_is_there_and_needs_no_change"),
    (NeedsItsId, MACHINE, "test_a_delete_finds_what_was_never_acknowledged"),
    (ChangesItsAddress, MACHINE, "test_an_update_in_place_can_be_repeated"),
    (AcksTooLate, MACHINE, "test_a_create_goes_on_where_it_was_stopped"),
    (TakesAnyBucket, BUCKET, "test_outputs_come_as_they_were_predicted"),
]


@pytest.mark.parametrize(("kind", "sample", "name"), BROKEN, ids=[broken[0].__name__ for broken in BROKEN])
def test_a_broken_type_is_found_out(tmp_path: Path, kind: Any, sample: Sample, name: str) -> None:
    cloud = FakeCloud()
    provider = FakeCloudProvider(lambda _run: LocalCloud(cloud))
    provider.types = {**provider.types, sample.type: kind(provider.types[sample.type].door)}  # type: ignore[attr-defined]
    world = cloud_world(tmp_path, cloud, provider)
    site = Site(world, TestFakeCloud.samples)

    def check() -> None:
        getattr(TestFakeCloud(), name)(site, sample)
        assert CANARY not in site.told()

    with pytest.raises(AssertionError):
        check()


def test_a_refresh_that_answers_too_little_is_found_out(tmp_path: Path) -> None:
    class Lazy(NullProvider):
        def refresh(self, run: Run, requests: Any) -> list[ReadResult]:
            del run
            return [ReadResult(request.prior.address) for request in requests[1:]]

    site = Site(World(Lazy(), lambda: Run(Identity("demo", LINEAGE), tmp_path, {})), TestNull.samples)
    with pytest.raises(AssertionError, match="one result per request"):
        TestNull().test_refresh_answers_each_question_once(site)
