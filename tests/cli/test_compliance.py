"""`llmdeploy compliance show`. LLMDEPLOY_UPDATE_GOLDEN=1 writes the expected texts anew."""

from __future__ import annotations

import json
import os
import re
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.compliance import CONTROLS, PROFILES
from llmdeploy.compliance.places import Places
from llmdeploy.views.compliance_view import HOW_READ, SAYS, compliance_lines, names, shown
from llmdeploy.views.screen import Screen
from tests.cli.conftest import Cli
from tests.support import ROOT
from tests.test_lazy_imports import DRAWING, REMOTE, SECRET, modules_after

GOLDEN = ROOT / "tests" / "golden" / "compliance"
WIDTH = 100
TODAY = date(2026, 12, 24)


def text(*asked: str, width: int = WIDTH, today: date = TODAY) -> str:
    """Return what a screen shows."""
    stream = StringIO()
    Screen(stream, {"COLUMNS": str(width)}).write(compliance_lines(shown(asked, today)))
    return stream.getvalue()


def document(cli: Cli, *asked: str) -> dict[str, Any]:
    """Return what a program reads."""
    return json.loads(cli.ok("compliance", "show", *asked, "--format", "json"))


def by_id(controls: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return controls by id."""
    return {control["id"]: control for control in controls}


# --- for a person --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("all", []),
        ("profile-airgapped", ["airgapped"]),
        ("profile-eu-ai-act", ["eu-ai-act"]),
        ("controls", ["ENC-01", "RES-01", "RES-04", "AIA-03", "DPA-01"]),
    ],
)
def test_the_catalogue_is_as_expected_ascii_and_fits(name: str, asked: list[str]) -> None:
    found = text(*asked)
    assert found.isascii()
    assert max(len(line) for line in found.splitlines() if "github.com/" not in line) <= WIDTH
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert path.read_text() == found, f"{path}: run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"


def test_without_a_name_every_profile_and_every_control_is_shown_once() -> None:
    found = text(width=120)
    assert re.findall(r"^([A-Z]{2,5}-\d\d)  ", found, re.MULTILINE) == list(CONTROLS)
    assert re.findall(r"^  ([a-z0-9-]+): .*\. \d+ controls", found, re.MULTILINE) == list(PROFILES)


@pytest.mark.parametrize("asked", [(), ("hipaa",), ("ENC-01",)])
def test_the_word_stands_once_to_say_that_it_is_not_said(cli: Cli, asked: tuple[str, ...]) -> None:
    for found in (cli.ok("compliance", "show", *asked), cli.ok("compliance", "show", *asked, "--format", "json")):
        assert len(re.findall("compliant", found, re.IGNORECASE)) == 1
        assert SAYS in found.replace("\n", " ")


def test_the_command_prints_what_the_view_says(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    assert cli.ok("compliance", "show", "ENC-01") == text("ENC-01")


def test_on_a_narrow_screen_lines_wrap() -> None:
    found = text("ENC-01", width=50)
    assert len(found.splitlines()) > len(text("ENC-01").splitlines())
    assert max(len(line) for line in found.splitlines() if "github.com/" not in line) <= 50


def test_a_profile_shows_its_own_controls_and_a_control_nothing_else() -> None:
    own = re.findall(r"^([A-Z]{2,5}-\d\d)  ", text("airgapped"), re.MULTILINE)
    assert own == sorted(PROFILES["airgapped"].controls)
    assert re.findall(r"^([A-Z]{2,5}-\d\d)  ", text("ENC-01"), re.MULTILINE) == ["ENC-01"]
    assert "Tables" not in text("ENC-01")


def test_names_are_taken_in_any_case_and_order(cli: Cli) -> None:
    assert cli.ok("compliance", "show", "enc-03", "ENC-01") == cli.ok("compliance", "show", "ENC-01", "ENC-03")
    assert cli.ok("compliance", "show", "HIPAA") == cli.ok("compliance", "show", "hipaa")


def test_old_tables_are_told() -> None:
    assert "countries: member states of the European Union: as of" not in text()
    assert "countries: member states of the European Union: as of" in text(today=date(2028, 1, 1)).replace("\n    ", " ")


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("EN-01", 'did you mean "ENG-01"?'),
        ("hippa", 'did you mean "hipaa"?'),
        ("pci", 'did you mean "pci-dss"?'),
        ("nist", "valid: airgapped, eu-ai-act, gdpr, hipaa, none, pci-dss, soc2"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_one(cli: Cli, asked: str, hint: str) -> None:
    answer = cli("compliance", "show", "hipaa", asked)
    assert (answer.code, answer.out) == (1, "")
    assert f'there is no profile and no control "{asked}"' in answer.err
    assert hint in answer.err


# --- for a program -------------------------------------------------------------------------------------------------------------


def test_json_has_every_passage_with_its_status_and_source(cli: Cli) -> None:
    found = document(cli)
    assert found["format_version"] == "1.0"
    assert [one["id"] for one in found["controls"]] == list(CONTROLS)
    cited = [one for control in found["controls"] for named in control["citations"].values() for one in named]
    assert {one["status"] for one in cited} <= set(HOW_READ)
    assert all(one["ref"] and (one["source"] or one["status"] == "unverified") for one in cited)


def test_json_tells_what_the_plan_does_and_what_the_audit_proves(cli: Cli) -> None:
    controls = by_id(document(cli)["controls"])
    assert controls["ENC-01"]["plan"]["refuses_unless"] == ["encrypted"]
    assert controls["ENC-01"]["audit"]["proves"] == ["encrypted"]
    assert controls["ENC-06"]["plan"]["refuses_unless"] == []
    assert controls["ENC-06"]["plan"]["tells_unless"] == ["unreadable after destroy"]
    assert controls["RET-02"]["plan"]["forces"]
    assert controls["DPA-01"]["plan"]["asks_to_state"]
    assert controls["DPA-01"]["audit"]["proves"] == []
    assert controls["CHG-01"]["uncovered"]


def test_each_control_does_something_or_says_that_nothing_here_judges_it(cli: Cli) -> None:
    for control in document(cli)["controls"]:
        plan, audit = control["plan"], control["audit"]
        assert any([*plan.values(), *audit.values(), control["uncovered"]]), control["id"]


def test_each_profile_has_passages_or_says_that_it_has_none(cli: Cli) -> None:
    for control in document(cli)["controls"]:
        assert sorted([*control["citations"], *control["without_citation"]]) == control["profiles"], control["id"]


def test_a_control_of_the_baseline_is_of_every_profile(cli: Cli) -> None:
    controls = by_id(document(cli)["controls"])
    assert {name for name, control in controls.items() if control["baseline"]} == set(PROFILES["none"].controls)
    assert controls["LOG-01"]["profiles"] == sorted(set(PROFILES) - {"none"})
    assert controls["ENC-01"]["profiles"] == ["airgapped", "gdpr", "hipaa", "pci-dss", "soc2"]


def test_json_has_the_dated_tables_where_a_profile_is_asked_for(cli: Cli) -> None:
    found = document(cli, "gdpr")
    assert len(found["tables"]) == len(list(Places.load().parts()))
    assert {one["table"] for one in found["tables"]} >= {"countries", "adequacy decisions", "processors' regions"}
    assert "tables" not in document(cli, "RES-01")


def test_every_name_can_be_asked_for() -> None:
    assert names() == (*PROFILES, *CONTROLS)
    for name in names():
        assert shown([name], TODAY).controls


def test_it_imports_no_cloud(tmp_path: Path) -> None:
    assert sorted(modules_after(["compliance", "show"], tmp_path) & (REMOTE | DRAWING | SECRET)) == []
