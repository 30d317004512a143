"""The events of an apply on a terminal: what ended scrolls by, what runs is redrawn below with its time."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from types import TracebackType
from typing import Any, Self, TextIO, cast

from rich.console import Group
from rich.live import Live
from rich.text import Text

from ..event import Done, Event, Failed, Note, Progress, Skipped, Started
from .events import DOING, Kept, ended, write_safely
from .screen import Screen, line
from .value import elapsed

_REDRAWS_PER_S = 4


@dataclass
class _Running:
    """One operation under way: what it does, since when (monotonic), and its last words."""

    verb: str
    since: float
    message: str = ""


class _Unbreakable:
    """A stream that goes on in silence when its terminal went away: rich redraws from its own thread, and would exit."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            if self._stream is not None:
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class LiveEvents:
    """A live display. `errors` gets the failures at the end."""

    def __init__(self, screen: Screen, errors: Screen) -> None:
        self._screen = Screen(cast("TextIO", _Unbreakable(screen.stream)), screen.environ)
        self._errors = errors
        self._running: dict[str, _Running] = {}
        self._kept = Kept()
        self._lock = RLock()
        self._live = Live(
            console=self._screen.console,
            get_renderable=self._render,
            refresh_per_second=_REDRAWS_PER_S,
            transient=True,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            self._kept.keep(event)
            match event:
                case Started(address, action):
                    self._running[address] = _Running(DOING[action], time.monotonic())
                case Progress(address, message) if message and address in self._running:
                    self._running[address].message = message
                case Done() | Failed():
                    self._running.pop(event.address, None)
                    write_safely(self._screen, [ended(event)])
                case Note(message):
                    write_safely(self._screen, [line(message, hang=2)])
                case Progress() | Skipped():
                    pass

    def finish(self) -> None:
        """Tell what failed and what was skipped."""
        write_safely(self._errors, self._kept.lines())

    def _render(self) -> Group:
        with self._lock:
            running = list(self._running.items())
        now = time.monotonic()
        rows = [
            Text.assemble(
                ("  " + address, "bold"),
                f": {one.verb} [{elapsed(now - one.since)}]",
                (f"  {one.message}" if one.message else "", "dim"),
            )
            for address, one in running
        ]
        for row in rows:
            row.no_wrap, row.overflow = True, "crop"
        return Group(*rows)
