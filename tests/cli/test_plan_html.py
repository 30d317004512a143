"""`plan --format html` and `show PLANFILE --format html`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli
from tests.views.html_reading import Page


def test_a_plan_is_one_page(cli: Cli) -> None:
    cli.stack(keys=("a",))
    page = Page(cli.ok("plan", "--format", "html"))
    assert "thing.one" in page.texts("span", "address")
    assert page.texts("ul", "tallies") == ["+4 to create"]


def test_a_saved_plan_gives_the_same_page_without_anything_else(cli: Cli) -> None:
    cli.stack()
    made = cli("plan", "--out", "p.plan", "--format", "html", "--detailed-exitcode")
    assert made.code == 2
    assert made.err.startswith("Saved to p.plan (id ")
    (cli.folder / "stack.yaml").unlink()
    assert cli.ok("show", "p.plan", "--format", "html") == made.out


def test_a_destroy_and_a_look_at_the_drift_are_pages_too(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    (cli.folder / "world" / "two").unlink()
    assert Page(cli.ok("plan", "--destroy", "--format", "html")).texts("p", "eyebrow") == ["Destroy plan"]
    drift = Page(cli.ok("plan", "--refresh-only", "--format", "html"))
    assert drift.texts("p", "eyebrow") == ["Drift"]
    assert drift.texts("h2")[0] == "What differs"


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_what_exists_is_no_page(cli: Cli, format: str) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    answer = cli("show", "--format", format)
    assert answer.code == 1
    assert answer.err.splitlines()[0] == f"Error: only a saved plan can be shown as {format}"
