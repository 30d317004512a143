"""Ends runs at their effect points, brings the world they leave to its end, and checks what must hold."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count, repeat

import pytest

from llmdeploy.testing.effects import Effects, PowerCut
from tests.reconcile.crash_lab import Lab, Wish, World, check_rollouts, check_whole, fingerprint, out_of_service

RECOVERY_CALLS = 60
"""Calls of the cloud that a recovery may need more than a run that nothing happened to: it looks for what it cannot see."""


@dataclass
class Counts:
    """What was covered. points: effect points of a run that nothing happened to; died: runs that ended early or moments at which
    one could have; worlds: different worlds that they left."""

    points: int = 0
    died: int = 0
    worlds: int = 0

    def __str__(self) -> str:
        return f"{self.points} points, {self.died} deaths, {self.worlds} worlds"


@dataclass
class Matrix:
    """One wish, carried out from one world with deaths on the way."""

    lab: Lab
    start: World
    wish: Wish
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        state = self.lab.stored(self.start)
        self._serial, self._lineage = (state.serial, state.lineage) if state else (0, None)
        world = self.start.fork()
        self.end(world)
        self._calls = world.cloud.calls
        self._destroyed: set[str] = set()
        self._met: set[str] = set()
        self._raw: set[bytes] = set()

    def end(self, world: World, effects: Effects | None = None) -> None:
        """Run to the end and check that all is well."""
        out = out_of_service(world, self.wish)
        ran = self.lab.apply(world, self.wish, effects)
        assert ran.outcome.failed == {}
        assert ran.outcome.skipped == {}
        self.counts.points = self.counts.points or ran.effects.count
        check_whole(self.lab, world, self.wish)
        check_rollouts(self.wish, world.cloud.history, out)

    def recover(self, world: World, effects: Effects | None = None) -> None:
        """Run once more, on what a dead run left, and check every invariant."""
        before = self.lab.stored(world)
        self.lab.plan(world, self.wish)
        world.cloud.calls = 0
        world.cloud.history.clear()
        self.end(world, effects)
        after = self.lab.stored(world)
        assert after is not None
        # (d) serial and lineage
        assert after.serial > self._serial
        assert before is None or (after.serial >= before.serial and after.lineage == before.lineage)
        assert self._lineage in (None, after.lineage)
        # (e) the lock is free
        assert world.store(Effects()).holder() is None
        # (g) it did not ask much more than an undisturbed run
        assert world.cloud.calls <= self._calls + RECOVERY_CALLS
        # (h) nothing is left after destroy
        key = fingerprint(world)
        if key not in self._destroyed:
            self._destroyed.add(key)
            self.lab.apply(world, self.lab.nothing)
            assert world.cloud.objects() == []

    def is_new(self, world: World) -> bool:
        """Whether no world like this one was met before. The cheap comparison comes first."""
        self.counts.died += 1
        raw = sha256(json.dumps(world.cloud.world()).encode())
        for name, content in sorted(world.content().items()):
            raw.update(name.encode() + b"=%d:" % len(content) + content)
        if raw.digest() in self._raw:
            return False
        self._raw.add(raw.digest())
        key = fingerprint(world)
        if key in self._met:
            return False
        self._met.add(key)
        self.counts.worlds += 1
        return True

    def die_at_every_point(self) -> Counts:
        """Die at each point, with each way in which un-synced work may be lost; then run once more."""
        for number in range(1, self.counts.points + 1):
            world = self.start.fork()
            self.lab.lineages = (f"{lineage:032x}" for lineage in count(1))
            with pytest.raises(PowerCut):
                self.lab.apply(world, self.wish, Effects(number))
            for left in world.futures():
                if self.is_new(left):
                    self.recover(left)
        return self.counts

    def die_again_and_again(self, deaths: int | None = None) -> Counts:
        """Visit every world that so many deaths in a row (None: any number) can lead to, and run to the end from each.

        What a run does follows from the world that it finds. So one run shows all the worlds that its death can leave, and a
        world that was visited need not be visited again: all sequences of deaths are covered, not only those that were played.
        """
        self.lab.lineages = repeat("1" * 32)
        waiting = deque([(self.start.fork(), 0)])
        while waiting:
            world, died = waiting.popleft()

            def note(_number: int, _point: str, world: World = world, died: int = died) -> None:
                waiting.extend((left, died + 1) for left in world.futures() if self.is_new(left))

            self.recover(world, Effects(on_point=note if deaths is None or died < deaths else None))
        return self.counts
