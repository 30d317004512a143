"""The two roles of the README, with the rights of their policies and no more, on the real store."""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module

import pytest

from llmdeploy.errors import StateError
from llmdeploy.state.boto import BotoBucket
from llmdeploy.state.model import State
from llmdeploy.state.s3 import S3Store
from tests.examples_ci.cloud import BUCKET, PREFIX, REGION, STACK, Cloud, serving_cloud
from tests.examples_ci.runner import ROLES

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cloud() -> Generator[Cloud]:
    with serving_cloud() as cloud:
        yield cloud


def store_of(cloud: Cloud, role: str, monkeypatch: pytest.MonkeyPatch, stack: str = STACK) -> S3Store:
    """Return the store as a job in this role sees it."""
    for name, value in cloud.assume(ROLES[f"LLMDEPLOY_{role.upper()}_ROLE"]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(import_module("boto3"), "DEFAULT_SESSION", None)
    prefix = f"{PREFIX}/{stack}"
    return S3Store(BotoBucket(BUCKET, REGION), prefix, f"s3://{BUCKET}/{prefix}")


def test_the_plan_role_reads_and_locks_and_writes_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    first = State(lineage="a" * 32, stack=STACK, serial=1)
    applying = store_of(cloud, "apply", monkeypatch)
    with applying.lock("apply", 0):
        applying.begin(first)
        applying.write(first)

    planning = store_of(cloud, "plan", monkeypatch)
    with planning.lock("plan", 0):
        state = planning.read()
        assert state is not None
        assert state.lineage == first.lineage
        with pytest.raises(StateError, match="access is denied"):
            planning.begin(state)
    assert planning.holder() is None, "it may give its lock back"


@pytest.mark.parametrize("role", ["plan", "apply"])
def test_no_role_touches_another_stack(role: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(cloud, role, monkeypatch, stack="other")
    with pytest.raises(StateError, match="access is denied"):
        store.read()
    with pytest.raises(StateError, match="access is denied"), store.lock("plan", 0):
        pytest.fail("it may not lock it")
