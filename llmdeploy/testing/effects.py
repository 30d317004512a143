"""Effect points: the moments between two effects on a world, at any of which a test can end or hold a run."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock


class PowerCut(BaseException):
    """The run died here. Not an `Exception`, so that nothing on the way up takes it for a failure that can be handled."""


class Effects:
    """Counts effect points and cuts the power at one of them.

    cut_at: number of the point (from 1) at which the run dies; None: never. From then on every point raises, so that nothing that
    a dying run still tries has an effect. on_point: called with number and name of each point that is passed, from the thread
    that passes it; it may block.
    """

    def __init__(self, cut_at: int | None = None, on_point: Callable[[int, str], None] | None = None) -> None:
        self.cut_at = cut_at
        self.points: list[str] = []
        self.dead = False
        self._on_point = on_point
        self._lock = Lock()

    @property
    def count(self) -> int:
        """How many points were reached."""
        return len(self.points)

    def at(self, point: str) -> None:
        """Pass a point. Raises PowerCut when the run dies here or died before."""
        with self._lock:
            if self.dead:
                raise PowerCut(f"dead since point {len(self.points)}, {self.points[-1]}; tried {point}")
            self.points.append(point)
            number = len(self.points)
            if number == self.cut_at:
                self.dead = True
                raise PowerCut(f"point {number}, {point}")
        if self._on_point is not None:
            self._on_point(number, point)
