"""Ctrl-C in two steps: the first lets what runs come to its end, the second stops it; a third kills as usual."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from types import FrameType

from ..event import Emit, Note
from ..sdk import Run

_SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__)
_FIRST = "Stopping after what runs now. Press Ctrl-C again to stop it at once."
_SECOND = "Stopping at once. What was under way is in doubt until the next apply looks at it."


@dataclass
class Stop:
    """Whether and how the user wants to stop. `flag` is for the apply; `asked` tells a person's wish from a failure's."""

    flag: Flag = field(default_factory=Flag)
    asked: bool = False


@contextmanager
def stopping(run: Run, emit: Emit) -> Generator[Stop]:
    """Turn signals into `flag`, then `run.abort`, while the body runs."""
    stop = Stop()
    # A handler must not write: it may have interrupted the very write. A queue may be put to anywhere.
    notes: SimpleQueue[str | None] = SimpleQueue()
    wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not stop.asked:
            stop.asked = True
            stop.flag.set()
            notes.put(_FIRST)
        else:
            for signal_number in wanted:
                signal.signal(signal_number, signal.SIG_DFL)
            run.abort.set()
            notes.put(_SECOND)

    teller = Thread(target=_tell, args=(notes, emit), name="stopping", daemon=True)
    teller.start()
    before = {number: signal.signal(number, on_signal) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        notes.put(None)
        teller.join()


def _tell(notes: SimpleQueue[str | None], emit: Emit) -> None:
    for text in iter(notes.get, None):
        emit(Note(text, datetime.now(UTC).isoformat(timespec="milliseconds")))
