from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence

import pytest

from llmdeploy.errors import CommandFailed
from llmdeploy.event import Done, Event, Failed, Note, Progress, Skipped, Started
from llmdeploy.views.events import EventView, PlainEvents
from llmdeploy.views.events_json import JsonEvents
from llmdeploy.views.events_live import LiveEvents
from llmdeploy.views.screen import Screen
from tests.views import plans
from tests.views.test_screen import Terminal

AT = "2026-01-02T03:04:05.678+00:00"
EVENTS: Sequence[Event] = (
    Started("host.a", "create", AT),
    Done("host.a", "create", 0.2, AT),
    Started("engine.a", "create", AT),
    Progress("engine.a", "downloads torch", 3.0, AT),
    Progress("engine.a", "", 75.0, AT),
    Note("Stopping after what runs now.", AT),
    Failed("engine.a", "create", "the engine died", "give it more memory", "Traceback\nMemoryError", 80.0, AT),
    Skipped("gateway.a", "create", "engine.a", AT),
    Skipped("key.a", "delete", "", AT),
)


def play(view: EventView) -> None:
    with view:
        for event in EVENTS:
            view(event)
    view.finish()


def test_plain() -> None:
    out, errors = io.StringIO(), io.StringIO()
    play(PlainEvents(Screen(out, {}), Screen(errors, {})))
    assert out.getvalue().splitlines() == [
        "host.a: Creating...",
        "host.a: Created [0s]",
        "engine.a: Creating...",
        "engine.a: downloads torch [3s]",
        "engine.a: Still creating... downloads torch [1m15s]",
        "Stopping after what runs now.",
        "engine.a: Failed [1m20s]",
    ]
    assert errors.getvalue().splitlines() == [
        "",
        "Error: engine.a: the engine died",
        "  | Traceback",
        "  | MemoryError",
        "  Hint: give it more memory",
        "  Skipped because engine.a failed: gateway.a",
    ]


def test_live_keeps_what_ended_and_tells_failures_once() -> None:
    out, errors = Terminal(), io.StringIO()
    play(LiveEvents(Screen(out, {"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}), Screen(errors, {})))
    assert "host.a" in out.getvalue()
    assert ": Created [0s]" in out.getvalue()
    assert out.getvalue().count("the engine died") == 0
    assert errors.getvalue().count("the engine died") == 1


def test_json_lines_have_the_shape_of_terraform() -> None:
    out = io.StringIO()
    view = JsonEvents(Screen(out, {"COLUMNS": "40"}))
    view.plan(plans.changed())
    play(view)
    view.done("apply", plans.changed().counts, "Done.", {"endpoint": "https://x"})
    lines = [json.loads(text) for text in out.getvalue().splitlines()]
    assert all({"@level", "@message", "@timestamp", "type"} <= set(one) for one in lines)
    assert [one["type"] for one in lines] == [
        "version",
        "resource_drift", "resource_drift",
        "planned_change", "planned_change", "planned_change", "planned_change", "planned_change",
        "change_summary",
        "apply_start", "apply_complete",
        "apply_start", "apply_progress", "apply_progress",
        "log",
        "apply_errored", "diagnostic",
        "apply_skipped", "apply_skipped",
        "change_summary", "outputs",
    ]  # fmt: skip
    summary = next(one for one in lines if one["type"] == "change_summary")
    assert summary["changes"] == {"add": 0, "change": 2, "replace": 1, "remove": 2, "import": 0, "operation": "plan"}
    diagnostic = next(one for one in lines if one["type"] == "diagnostic")["diagnostic"]
    assert diagnostic == {
        "severity": "error",
        "summary": "the engine died",
        "detail": "give it more memory",
        "address": "engine.a",
        "tail": "Traceback\nMemoryError",
    }
    assert next(one for one in lines if one["type"] == "apply_start")["@timestamp"] == AT


def test_json_errors_carry_hint_and_tail() -> None:
    out = io.StringIO()
    JsonEvents(Screen(out, {})).error(CommandFailed("it failed", status=1, tail="why", hint="mend it"))
    found = json.loads(out.getvalue().splitlines()[-1])
    assert found["@level"] == "error"
    assert found["diagnostic"] == {"severity": "error", "summary": "it failed", "detail": "mend it", "tail": "why"}


class Gone(io.StringIO):
    """A pipe whose reader went away."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("make", [PlainEvents, JsonEvents, LiveEvents])
def test_an_output_that_went_away_stops_no_apply(make: Callable[..., EventView]) -> None:
    screen = Screen(Gone(), {})
    play(make(screen) if make is JsonEvents else make(screen, screen))
