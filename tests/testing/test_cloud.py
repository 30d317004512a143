"""The fake cloud is as nasty as real ones, in memory and behind a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmdeploy.testing.cloud import Cloud, CloudError, FakeCloud, Fault, Habits, LocalCloud, habits_of
from llmdeploy.testing.effects import Effects, PowerCut
from llmdeploy.testing.fake_cloud import SocketCloud, cloud_process

TAGS = {"llmdeploy:lineage": "l", "llmdeploy:address": "machine.a", "llmdeploy:generation": "1"}


def create(cloud: Cloud, **more: Any) -> dict[str, Any]:
    return cloud.call("create", **{"kind": "machine", "params": {"size": 1}, "tags": TAGS, "token": "t", **more})


def code(cloud: Cloud, name: str, **arguments: Any) -> str:
    with pytest.raises(CloudError) as caught:
        cloud.call(name, **arguments)
    return caught.value.code


def test_a_token_makes_one_object_and_is_spent_with_it() -> None:
    cloud = FakeCloud()
    first = create(cloud)
    assert create(cloud) == first
    assert cloud.creates == {"token t": 1, "machine.a#1": 1}
    with pytest.raises(CloudError, match="IdempotentParameterMismatch"):
        create(cloud, params={"size": 2})
    cloud.call("delete", id=first["id"])
    with pytest.raises(CloudError, match="IdempotentObjectTerminated"):
        create(cloud)
    assert create(cloud, token="t2")["id"] != first["id"]


def test_names_are_unique_where_they_are_asked_to_be() -> None:
    cloud = FakeCloud()
    create(cloud, kind="bucket", name="b", token="")
    with pytest.raises(CloudError, match="AlreadyExists"):
        create(cloud, kind="bucket", name="b", token="")
    create(cloud, kind="machine", name="b")
    create(cloud, kind="machine", name="b", token="u")


def test_a_new_object_stays_hidden_for_a_while() -> None:
    cloud = FakeCloud(Habits(hidden_reads=2))
    object_id = create(cloud)["id"]
    assert cloud.call("list", tags={"llmdeploy:lineage": "l"}) == []
    assert code(cloud, "update", id=object_id, params={}) == "NotFound"
    assert [one["id"] for one in cloud.call("list", kind="machine")] == [object_id]


def test_a_new_object_takes_time_to_run() -> None:
    cloud = FakeCloud(Habits(pending_reads=2))
    object_id = create(cloud)["id"]
    assert code(cloud, "attach", id=object_id, part="disk", value="x") == "InvalidCall"
    assert [cloud.call("get", id=object_id)["state"] for _ in range(3)] == ["pending", "pending", "running"]


def test_revisions_count_changes() -> None:
    cloud = FakeCloud()
    object_id = create(cloud)["id"]
    assert [cloud.call("update", id=object_id, params={"size": n})["revision"] for n in (1, 2, 2)] == [1, 2, 2]


def test_capacity_ends() -> None:
    cloud = FakeCloud(Habits(capacity={"machine": 1}))
    create(cloud)
    with pytest.raises(CloudError, match="InsufficientCapacity"):
        create(cloud, token="u")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_comes_before_or_after_the_effect(when: Any) -> None:
    cloud = FakeCloud(faults=(Fault(2, "RequestTimeout", when),))
    create(cloud)
    assert code(cloud, "create", kind="machine", params={}, tags={}) == "RequestTimeout"
    assert len(cloud.objects()) == (1 if when == "before" else 2)


def test_random_faults_come_at_most_twice_in_a_row_and_depend_on_the_seed() -> None:
    def failures(seed: int) -> list[bool]:
        cloud = FakeCloud(Habits(fault_rate=0.5), seed=seed)
        found: list[bool] = []
        for _ in range(200):
            try:
                cloud.call("account")
                found.append(False)
            except CloudError:
                found.append(True)
        return found

    first = failures(1)
    assert first == failures(1)
    assert first != failures(2)
    assert 40 < sum(first) < 120
    assert not any(all(first[n : n + 3]) for n in range(198))


def test_a_fork_goes_its_own_way() -> None:
    cloud = FakeCloud()
    create(cloud)
    other = cloud.fork()
    assert other.world() == cloud.world()
    create(other, token="u")
    assert other.world() != cloud.world()
    assert len(cloud.objects()) == 1


def test_three_points_around_a_call_that_changes_something() -> None:
    lived = Effects()
    create(LocalCloud(FakeCloud(), lived))
    assert lived.points == [
        "cloud: create, before it is sent",
        "cloud: create, done and not answered",
        "cloud: create, answered",
    ]
    for cut_at, made in ((1, 0), (2, 1), (3, 1)):
        cloud = FakeCloud()
        with pytest.raises(PowerCut):
            create(LocalCloud(cloud, Effects(cut_at)))
        assert len(cloud.objects()) == made


def test_a_password_is_never_shown() -> None:
    cloud = FakeCloud()
    object_id = create(cloud)["id"]
    cloud.call("attach", id=object_id, part="password", value="canary")
    assert "canary" not in repr(cloud.objects())


def test_habits_have_names() -> None:
    assert habits_of({"hidden_reads": 2, "unique": ["disk"]}) == Habits(hidden_reads=2, unique=("disk",))
    with pytest.raises(ValueError, match="no habits of the cloud: hidden; there are"):
        habits_of({"hidden": 2})


@pytest.mark.integration
def test_behind_a_socket_it_outlives_its_clients(tmp_path: Path) -> None:
    with cloud_process(tmp_path / "cloud", {"hidden_reads": 1}) as cloud:
        first = create(cloud)
        cloud.close()
        other = SocketCloud(str(tmp_path / "cloud"))
        assert create(other) == first
        assert code(other, "delete", id=first["id"]) == "NotFound"
        assert code(other, "create", nonsense=1) == "InvalidCall"
        assert code(other, "nonsense") == "InvalidCall"
        assert [one["id"] for one in other.call("list")] == [first["id"]]
        assert other.call("audit")["creates"] == {"token t": 1, "machine.a#1": 1}
        other.close()
    assert code(other, "account") == "ConnectionReset"
