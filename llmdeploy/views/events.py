"""The events of an apply as lines that only ever grow: for pipes, logs and terminals that cannot be redrawn."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from types import TracebackType
from typing import Protocol, Self

from ..change import Action
from ..event import Done, Event, Failed, Note, Progress, Skipped, Started
from .errors import hint_lines, sentence_lines, tail_lines
from .screen import BLANK, Line, Lines, Screen, line
from .value import elapsed

DOING: Mapping[Action, str] = {
    "create": "Creating",
    "update": "Changing",
    "replace": "Replacing",
    "delete": "Removing",
    "adopt": "Taking into the state",
    "no-op": "Looking at it",
}
DONE: Mapping[Action, str] = {
    "create": "Created",
    "update": "Changed",
    "replace": "Replaced",
    "delete": "Removed",
    "adopt": "Taken into the state",
    "no-op": "Seen",
}


class EventView(Protocol):
    """Shows events as they come, from any thread, and what failed once more at the end, in full."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End; restore the terminal."""
        ...

    def __call__(self, event: Event) -> None:
        """Show one event. Never raises: an output that went away must not stop an apply."""
        ...

    def finish(self) -> None:
        """Tell what failed and what was skipped."""
        ...


class Kept:
    """What a view keeps of the events until the end: failures in full, and what waited for them."""

    def __init__(self) -> None:
        self.failed: list[Failed] = []
        self.skipped: list[Skipped] = []

    def keep(self, event: Event) -> None:
        """Keep what is told at the end."""
        if isinstance(event, Failed):
            self.failed.append(event)
        elif isinstance(event, Skipped):
            self.skipped.append(event)

    def lines(self) -> Iterator[Line]:
        """Yield each failure with its last lines and its way out, then what was skipped because of it."""
        for event in self.failed:
            yield BLANK
            where = "" if event.message.startswith(event.address) else f"{event.address}: "
            yield from sentence_lines(where + event.message)
            yield from tail_lines(event.tail)
            if event.hint:
                yield from hint_lines(event.hint)
            waiting = sorted({skipped.address for skipped in self.skipped if skipped.because == event.address})
            if waiting:
                yield line(f"  Skipped because {event.address} failed: {', '.join(waiting)}", hang=4)


class PlainEvents:
    """One line for each event. `errors` gets the failures at the end."""

    def __init__(self, screen: Screen, errors: Screen) -> None:
        self._screen = screen
        self._errors = errors
        self._doing: dict[str, Action] = {}
        self._last: dict[str, str] = {}
        self._kept = Kept()
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            self._kept.keep(event)
            write_safely(self._screen, self._lines(event))

    def finish(self) -> None:
        """Tell what failed and what was skipped."""
        write_safely(self._errors, self._kept.lines())

    def _lines(self, event: Event) -> Sequence[Line]:
        match event:
            case Started(address, action):
                self._doing[address] = action
                return [line((address, "bold"), f": {DOING[action]}...", hang=2)]
            case Progress(address, message, elapsed_s):
                return [self._progress(address, message, elapsed_s)]
            case Done() | Failed():
                return [ended(event)]
            case Note(message):
                return [line(message, hang=2)]
            case _:
                return []

    def _progress(self, address: str, message: str, elapsed_s: float) -> Line:
        """A heartbeat without words repeats the last ones."""
        if message:
            self._last[address] = message
        words = message or self._last.get(address, "")
        still = "" if message else f" Still {DOING[self._doing.get(address, 'create')].lower()}..."
        return line((address, "bold"), f":{still}{' ' + words if words else ''} [{elapsed(elapsed_s)}]", hang=2)


def ended(event: Done | Failed) -> Line:
    """Return the line about one operation that ended. What went wrong is told at the end, once."""
    if isinstance(event, Failed):
        return line((event.address, "bold"), ": ", ("Failed", "bold red"), f" [{elapsed(event.elapsed_s)}]", hang=2)
    return line((event.address, "bold"), f": {DONE[event.action]} [{elapsed(event.elapsed_s)}]", hang=2)


def write_safely(screen: Screen, lines: Lines) -> None:
    """Write and flush; see `going_on`."""
    with going_on(screen):
        screen.write(lines)
        screen.flush()


@contextmanager
def going_on(screen: Screen) -> Generator[None]:
    """When the reader or the terminal went away, go on in silence: an apply does not end half-way because of its output."""
    try:
        yield
    except OSError:
        screen.stream = None
