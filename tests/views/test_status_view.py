"""How everything is: what a type says of itself is shown, and counts."""

from __future__ import annotations

from typing import Any

import pytest

from llmdeploy.change import Drift
from llmdeploy.sdk import ReadResult
from llmdeploy.state.model import Entry, State
from llmdeploy.views.status_view import Health, status_document, status_lines

ENTRY = Entry(address="thing.one", type="thing", provider="things", id="1")
STATE = State("1" * 32, "demo", entries={ENTRY.address: ENTRY})
SENTENCE = "it holds 5, the plan predicted 9"


def health(drift: tuple[Drift, ...] = (), **told: Any) -> Health:
    return Health.of(ENTRY, ReadResult(ENTRY.address, drift=drift), {"state": "ready", **told})


def shown(one: Health) -> list[str]:
    return [line.plain for line in status_lines(STATE, [one], 100)]


def test_what_is_well_needs_no_sentence() -> None:
    one = health(tokens=5)
    assert one.healthy
    assert shown(one) == ["RESOURCE   STATE  DETAILS", "thing.one  ready  tokens: 5"]


@pytest.mark.parametrize("well", [True, False])
def test_a_note_is_told_whether_or_not_it_is_well(well: bool) -> None:
    one = health(tokens=5, healthy=well, notes=[SENTENCE])
    assert one.healthy is well
    assert shown(one)[2:] == ["", f"thing.one: {SENTENCE}"]
    document = status_document(STATE, [one])
    (row,) = document["resources"]
    assert (document["healthy"], row["state"], row["details"], row["notes"]) == (well, "ready", {"tokens": 5}, (SENTENCE,))


def test_a_note_comes_after_the_drift() -> None:
    lines = shown(health((Drift("text", "it was edited"),), healthy=True, notes=[SENTENCE]))
    assert lines[-2:] == [f"thing.one: it was edited; {SENTENCE}", "`llmdeploy plan` shows what would be done about it."]
