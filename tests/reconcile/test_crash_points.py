"""A run may die at any effect: run again, and the world is whole. See `crash_lab` for what a world is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest

from llmdeploy.errors import Fenced, LlmdeployError
from llmdeploy.state.local import LocalStore
from llmdeploy.state.s3 import LEASE_S
from llmdeploy.testing.cloud import FakeCloud, Habits
from llmdeploy.testing.effects import Effects, PowerCut
from tests.reconcile.crash_lab import (
    FOLDER,
    HABITS,
    BucketWorld,
    Lab,
    LocalWorld,
    Wish,
    World,
    check_whole,
    fingerprint,
    first_wish,
    second_wish,
)
from tests.reconcile.crash_matrix import Matrix

PHASES = ("first apply", "change", "destroy")
NEW_WORLD: dict[str, Callable[[FakeCloud], World]] = {"local": LocalWorld, "bucket": BucketWorld}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def begin(lab: Lab, storage: str, phase: str) -> tuple[World, Wish]:
    """Return the world that a phase begins with, and what it wishes."""
    world = NEW_WORLD[storage](FakeCloud(HABITS))
    wishes = [first_wish(lab), second_wish(lab), lab.nothing]
    number = PHASES.index(phase)
    for wish in wishes[:number]:
        lab.apply(world, wish)
    return world.fork(), wishes[number]


@pytest.mark.parametrize("storage", NEW_WORLD)
@pytest.mark.parametrize("phase", PHASES)
def test_die_at_every_effect_point_and_run_again(lab: Lab, storage: str, phase: str) -> None:
    counts = Matrix(lab, *begin(lab, storage, phase)).die_at_every_point()
    print(f"{storage}, {phase}: {counts}")
    assert counts.points > {"first apply": 150, "change": 120, "destroy": 50}[phase]
    assert counts.died >= counts.points
    assert counts.worlds > 20


def test_the_matrix_finds_a_journal_that_is_not_synced(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix itself must be able to fail: without its fsync the journal forgets what was made."""

    def no_sync(self: object, path: Path) -> None:
        del self, path

    monkeypatch.setattr("llmdeploy.testing.memory_disk.MemoryDisk.sync", no_sync)
    with pytest.raises((AssertionError, LlmdeployError)):
        Matrix(lab, *begin(lab, "local", "first apply")).die_at_every_point()


def test_the_matrix_finds_intents_that_are_not_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    append = LocalStore.append

    def forgetful(self: LocalStore, records: Iterator[dict[str, object]]) -> None:
        append(self, [one for one in records if one["kind"] != "intent"])

    monkeypatch.setattr(LocalStore, "append", forgetful)
    with pytest.raises((AssertionError, LlmdeployError, KeyError)):
        Matrix(lab, *begin(lab, "local", "first apply")).die_at_every_point()


# --- torn writes ---------------------------------------------------------------------------------------------------------------


def small_wish(lab: Lab) -> Wish:
    return lab.wish(
        {"address": "fake_bucket.a", "values": {"bucket": "a-bucket"}},
        {"address": "fake_network.b", "after": ["fake_bucket.a"]},
    )


def moments_of_writing(lab: Lab, world: LocalWorld, wish: Wish) -> Iterator[LocalWorld]:
    """Yield each world in which one write of a run has only some of its bytes down."""
    torn: list[LocalWorld] = []

    def note(_number: int, point: str) -> None:
        if point.startswith("disk: sync "):
            torn.extend(world.torn())

    lab.apply(world, wish, Effects(on_point=note))
    yield from torn


def test_a_write_torn_at_any_byte_leaves_what_was_there_before(lab: Lab) -> None:
    wish = small_wish(lab)
    lived = LocalWorld()
    lab.apply(lived, wish)
    met: set[str] = set()
    worlds = 0
    for world in moments_of_writing(lab, LocalWorld(), wish):
        worlds += 1
        state = lab.stored(world)
        store = LocalStore(FOLDER, world.disk)
        assert lab.stored(world) == state
        key = fingerprint(world)
        if key in met:
            # The store drops the torn end before it goes on; that is all that the number of bytes changes.
            if state is not None:
                store.begin(state)
                assert lab.stored(world) == state
            continue
        met.add(key)
        lab.apply(world, wish)
        check_whole(lab, world, wish)
    print(f"{worlds} torn writes, {len(met)} worlds")
    assert worlds > 3000


# --- two controllers -----------------------------------------------------------------------------------------------------------


@dataclass
class Paused:
    """A run that stops at one of its points until it may go on, in a thread of its own."""

    lab: Lab
    world: World
    wish: Wish
    at: int
    error: BaseException | None = None
    reached: Event = field(default_factory=Event)
    go_on: Event = field(default_factory=Event)

    def start(self) -> Thread:
        thread = Thread(target=self._run, name="paused", daemon=True)
        thread.start()
        self.reached.wait(30)
        return thread

    def _run(self) -> None:
        try:
            self.lab.apply(self.world, self.wish, Effects(on_point=self._point))
        except BaseException as error:  # noqa: BLE001, RUF100 - looked at by the test
            self.error = error
        self.reached.set()

    def _point(self, number: int, _point: str) -> None:
        if number == self.at:
            self.reached.set()
            self.go_on.wait(30)


@pytest.mark.parametrize("phase", PHASES)
def test_whoever_lost_the_lock_can_write_no_more(lab: Lab, phase: str) -> None:
    """Pause a run at each of its points; another one takes over the lock whose lease ended, and finishes; the first goes on."""
    start, wish = begin(lab, "bucket", phase)
    assert isinstance(start, BucketWorld)
    whole = start.fork()
    points = lab.apply(whole, wish).effects.points
    last_write = max(number for number, point in enumerate(points, 1) if "put" in point and "before" in point)
    late = 0
    for number in range(1, len(points) + 1):
        world = start.fork()
        paused = Paused(lab, world, wish, number)
        thread = paused.start()
        world.bucket.advance(2 * LEASE_S)
        assert lab.apply(world, wish).outcome.failed == {}
        paused.go_on.set()
        thread.join(30)
        assert not thread.is_alive()
        if 2 < number <= last_write:  # it had the lock and had not written everything
            assert isinstance(paused.error, Fenced), f"{points[number - 1]}: {paused.error!r}"
        # Its call that was on the way arrives late. What it does is what the other one did, but for taking out of service.
        drift = {one.field for change in lab.plan(world, wish).changes for one in change.drift}
        if drift:
            assert drift == {"serving"}
            late += 1
            assert lab.apply(world, wish).outcome.failed == {}
        check_whole(lab, world, wish)
        assert world.store(Effects()).holder() is None
    print(f"{phase}: {len(points)} points, {late} with a drain that came late")
    # Two points of each of the three members: when the intent is written and not answered, and before the call is sent.
    assert late <= (6 if phase == "change" else 0)


# --- several threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(24))
def test_die_at_random_points_of_a_parallel_run(lab: Lab, seed: int) -> None:
    """Several threads at work, so that points come in another order each time; and whoever comes next may want something else."""
    random = Random(seed)
    habits = Habits(hidden_reads=random.randrange(3), pending_reads=random.randrange(3))
    world = random.choice(list(NEW_WORLD.values()))(FakeCloud(habits))
    wishes = [first_wish(lab), second_wish(lab), lab.nothing]
    for wish in (wishes[0], *random.choices(wishes, k=3), wishes[2]):
        for _ in range(random.randrange(4)):
            try:
                cut = Effects(random.randrange(1, 160))
                lab.apply(world, random.choice([wish, wish, *wishes]), cut, parallelism=random.choice([1, 4, 10]))
            except PowerCut:
                world = random.choice(list(world.futures()))
        ran = lab.apply(world, wish, parallelism=4)
        assert ran.outcome.failed == {}
        check_whole(lab, world, wish)
    assert world.cloud.objects() == []
