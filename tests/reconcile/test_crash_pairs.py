"""Two deaths in a row, at every pair of points; on a smaller stack any number of them.

`LLMDEPLOY_DEATHS=any` covers any number on the large stack too (about half an hour).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.testing.cloud import FakeCloud
from tests.reconcile.crash_lab import (
    HABITS,
    BucketWorld,
    Lab,
    LocalWorld,
    Wish,
    World,
    first_nodes,
    first_wish,
    second_nodes,
    second_wish,
)
from tests.reconcile.crash_matrix import Matrix

pytestmark = pytest.mark.integration

DEATHS = {"any": None}.get(os.environ.get("LLMDEPLOY_DEATHS", ""), 2)
PHASES = ("first apply", "change", "destroy")
NEW_WORLD: dict[str, Callable[[FakeCloud], World]] = {"local": LocalWorld, "bucket": BucketWorld}
SMALL = {"fake_network.net", "fake_template.base", "fake_machine.web-0"}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def begin(lab: Lab, world: World, phase: str, wishes: list[Wish]) -> tuple[World, Wish]:
    """Return the world that a phase begins with, and what it wishes."""
    number = PHASES.index(phase)
    for wish in wishes[:number]:
        lab.apply(world, wish)
    return world.fork(), [*wishes, lab.nothing][number]


def small(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [node for node in nodes if node["address"] in SMALL]


@pytest.mark.timeout(3600 if DEATHS is None else 240)
@pytest.mark.parametrize("storage", NEW_WORLD)
@pytest.mark.parametrize("phase", PHASES)
def test_die_at_every_pair_of_points(lab: Lab, storage: str, phase: str) -> None:
    world, wish = begin(lab, NEW_WORLD[storage](FakeCloud(HABITS)), phase, [first_wish(lab), second_wish(lab)])
    counts = Matrix(lab, world, wish).die_again_and_again(DEATHS)
    print(f"{storage}, {phase}: {counts}")
    assert counts.died > 10 * counts.points
    assert counts.worlds > counts.points


@pytest.mark.timeout(240)
@pytest.mark.parametrize("storage", NEW_WORLD)
@pytest.mark.parametrize("phase", PHASES)
def test_die_any_number_of_times(lab: Lab, storage: str, phase: str) -> None:
    """Until there is no world left that was not visited. On a calm cloud: one that hides what is new has ten times the worlds."""
    wishes = [lab.wish(*small(nodes)) for nodes in (first_nodes(), second_nodes())]
    counts = Matrix(lab, *begin(lab, NEW_WORLD[storage](FakeCloud()), phase, wishes)).die_again_and_again()
    print(f"{storage}, {phase}: {counts}")
    assert counts.worlds > 20
