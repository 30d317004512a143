"""Every example plans as its `plan.txt` says; the README's picture is the laptop example's plan; the README's Python is its curl.

`LLMDEPLOY_UPDATE_GOLDEN=1` writes the expected files anew.
"""

from __future__ import annotations

import io
import os
from contextlib import chdir
from datetime import date
from pathlib import Path

import pytest

from llmdeploy.cli.session import Wish, open_session, planning
from llmdeploy.desired import desire
from llmdeploy.views.human import plan_lines
from llmdeploy.views.screen import Lines, Screen, wrap
from tests.support import ROOT

EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/**/stack.yaml"))
WIDTH = 110
TODAY = date(2026, 11, 30)
"""Against which the age of the catalogue counts, so that the expected plans do not grow old."""


def plan_of(folder: Path, fresh: Path) -> Lines:
    """Return the plan of an example before anything was applied."""
    (fresh / "stack.yaml").write_text((folder / "stack.yaml").read_text())
    with chdir(fresh):  # findings name the stack file as a user in its folder sees it
        session = open_session(Path("."))
        desired = desire(session.inputs, session.registry, "off", today=TODAY)
        with planning(session, desired, Wish(offline=True)) as (plan, _):
            return list(plan_lines(plan))


def check(path: Path, content: str) -> None:
    """Compare with the expected file, or write it."""
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(content)
    assert path.read_text() == content, f"{path}: run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_examples_plan_as_expected(folder: Path, tmp_path: Path) -> None:
    screen = Screen(text := io.StringIO(), {"COLUMNS": str(WIDTH)})
    screen.write(plan_of(folder, tmp_path))
    check(folder / "plan.txt", text.getvalue())
    assert (folder / "README.md").exists()


def test_the_readmes_picture_is_the_laptops_plan(tmp_path: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", _environ=colours
    )
    console.print(Text("$ llmdeploy plan examples/laptop", style="bold"))
    for whole in plan_of(ROOT / "examples/laptop", tmp_path):
        for piece in wrap(whole, WIDTH):
            console.print(Text.assemble(*piece.parts), soft_wrap=True)
    check(ROOT / "docs/plan.svg", console.export_svg(title="llmdeploy", unique_id="plan"))
