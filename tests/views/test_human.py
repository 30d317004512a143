from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmdeploy.plan import Plan
from llmdeploy.views.human import NO_CHANGES, NO_DRIFT, NOTHING_TO_DESTROY, plan_lines
from llmdeploy.views.screen import wrap
from tests.support import ROOT
from tests.views import plans

GOLDEN = ROOT / "tests" / "golden" / "views"


def golden(name: str, text: str) -> None:
    """Compare with a golden file; LLMDEPLOY_UPDATE_GOLDEN=1 writes it."""
    file: Path = GOLDEN / name
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def rendered(plan: Plan, width: int | None) -> str:
    return "".join(f"{piece.plain.rstrip()}\n" for one in plan_lines(plan) for piece in wrap(one, width))


@pytest.mark.parametrize("make", plans.ALL, ids=lambda make: make.__name__)
@pytest.mark.parametrize("width", [100, 40])
def test_plan(make: Callable[[], Plan], width: int) -> None:
    golden(f"plan-{make.__name__}-{width}.txt", rendered(make(), width))


def test_no_changes_is_one_line() -> None:
    assert rendered(plans.unchanged(), 100) == f"{NO_CHANGES}\n"


def test_nothing_to_destroy_is_one_line() -> None:
    assert rendered(replace(plans.destroyed(), changes=()), 100) == f"{NOTHING_TO_DESTROY}\n"


def test_all_of_it_is_ascii() -> None:
    for make in (*plans.ALL, plans.unchanged):
        assert rendered(make(), None).isascii()


def test_what_only_connects_resources_is_not_shown_on_create() -> None:
    text = rendered(plans.fresh(), None)
    assert "user" not in text.split("host_weights.local", 1)[1].split("host_engine.local")[0]


def test_a_look_that_finds_nothing_is_one_line() -> None:
    assert rendered(replace(plans.drifted(), changes=plans.drifted().changes[1:2]), 100) == f"{NO_DRIFT}\n"


def test_several_creations_in_doubt() -> None:
    one = plans.eventful().changes[0]
    plan = replace(plans.eventful(), changes=(one, replace(one, address="thing.z")))
    assert "2 creates in doubt: thing.a, thing.z. They were sent and never answered; apply settles that first." in rendered(
        plan, None
    )


def test_a_part_without_changes_does_not_speak_for_the_whole() -> None:
    text = rendered(replace(plans.unchanged(), targets=("host.local",)), None)
    assert text == "No changes to host.local and what belongs to that. The rest was not looked at.\n"
