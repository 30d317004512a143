"""Asks everything that exists how it is, several at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..compliance.live import Seen
from ..errors import CommandFailed, Interrupted, LlmdeployError
from ..evidence import EVIDENCE, observations_of
from ..reconcile.refresh import prior_of
from ..sdk import Context, Operation, ResourceType, Run
from ..state.model import Entry, State

_PARALLEL = 8
_MOST_BYTES = 2**20
_UNFINISHED = {"creating": "its creation did not end", "updating": "an update of it did not end"}
_HALF = "an operation on it failed half-way"


@dataclass(frozen=True)
class Probed:
    """What a probe found. at: when it began (UTC, ISO 8601); output: the last lines of one that failed; asked: it ran at all."""

    seen: Seen
    at: str
    duration_ms: int = 0
    output: str = ""
    asked: bool = True


def now() -> str:
    """Return the present time, UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def probe_all(
    types: Mapping[str, ResourceType[Any, Any]], state: State, run: Run, progress: Callable[[str], None]
) -> list[Probed]:
    """Run the probe of every resource that has one, and return what was seen of each, by address; what a probe raises is told.

    Raises:
        Interrupted, KeyboardInterrupt: the user stopped it. Probes that run are asked to end, and none is left running.
    """
    pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="audit")
    try:
        asked = [
            pool.submit(_probe, state.entries[address], types[state.entries[address].type], run, progress)
            for address in sorted(state.entries)
        ]
        found = [one.result() for one in asked]
    except BaseException:
        run.abort.set()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    return [*found, *(one for address in sorted(state.entries) for one in _deposed(state.entries[address], types))]


def _probe(entry: Entry, kind: ResourceType[Any, Any], run: Run, progress: Callable[[str], None]) -> Probed:
    seen, at = Seen(entry.address, kind.traits(entry.spec)), now()
    if entry.status != "ok":
        return Probed(replace(seen, reason=_UNFINISHED.get(entry.status, _HALF)), at, asked=False)
    action = kind.operations.get(EVIDENCE)
    if action is None:
        return Probed(seen, at, asked=False)
    if run.abort.is_set():
        raise Interrupted("the audit was stopped")
    progress(entry.address)
    started = time.monotonic()
    seen, output = _asked(action, entry, seen, run, progress)
    return Probed(seen, at, round((time.monotonic() - started) * 1000), output)


def _asked(action: Operation, entry: Entry, seen: Seen, run: Run, progress: Callable[[str], None]) -> tuple[Seen, str]:
    """Return what was seen, and the last lines of a probe that failed."""
    ctx = Context(run, entry.address, generation=entry.generation, on_progress=lambda text: progress(f"{entry.address}: {text}"))
    try:
        told = observations_of(action(ctx, prior_of(entry), {}))
        size = len(json.dumps([one.value for one in told], allow_nan=False, ensure_ascii=False).encode())
        if size > _MOST_BYTES:
            raise LlmdeployError(f"it told {size} bytes, which no facts have")
        return replace(seen, observations=told), ""
    except LlmdeployError as error:
        if run.abort.is_set():
            raise
        return replace(seen, reason=error.message), error.tail if isinstance(error, CommandFailed) else ""
    except Exception as error:  # a bug of one probe must not take away what the others see
        return replace(seen, reason=f"its probe broke ({type(error).__name__}: {error}); please report it"), ""


def _deposed(entry: Entry, types: Mapping[str, ResourceType[Any, Any]]) -> list[Probed]:
    """Return the objects that were replaced and are not gone yet: no probe looks at them, and they may hold data."""
    kind, reason = types[entry.type], "it was replaced and is not gone yet; nobody looked at it"
    return [
        Probed(Seen(f"{entry.address} ({old.id or 'without an id'})", kind.traits(old.spec), reason=reason), now(), asked=False)
        for old in entry.deposed
    ]
