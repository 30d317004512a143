"""The policy script, on plan documents that the real views and the real command line made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli import lab
from tests.examples_ci.runner import CI
from tests.support import ROOT

Document = dict[str, Any]
POLICY = CI / "policy.py"
GOLDEN = ROOT / "tests" / "golden" / "views"


def judge(tmp_path: Path, document: Document | str, labels: str = "") -> tuple[int, str]:
    """Return the exit code and what was printed."""
    path = tmp_path / "plan.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    # -I: nothing but Python itself, as on a runner that has no packages
    done = subprocess.run(
        [sys.executable, "-I", str(POLICY), str(path), "--labels", labels],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def golden(name: str) -> Document:
    """Return a plan document of the views' golden files."""
    return json.loads((GOLDEN / f"plan-{name}.json").read_text())


@pytest.mark.parametrize("name", ["fresh", "changed", "destroyed"])
def test_what_the_views_print_can_be_judged(name: str, tmp_path: Path) -> None:
    code, text = judge(tmp_path, golden(name))
    assert code in (0, 1), text
    assert "policy: " in text


@pytest.mark.parametrize("example", ["laptop", "office"])
def test_the_examples_pass(example: str, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text((ROOT / "examples" / example / "stack.yaml").read_text())
    planned = lab.run(tmp_path, "plan", "--format", "json")
    assert planned.returncode == 0, planned.stderr
    assert judge(tmp_path, planned.stdout) == (0, "policy: nothing against it\n")


def change(document: Document, actions: list[str], **traits: Any) -> Document:
    """Return the document with its first resource changed so."""
    first: Document = document["resource_changes"][0]
    return {
        **document,
        "resource_changes": [
            {**first, "change": {**first["change"], "actions": actions}, "traits": {**first["traits"], **traits}}
        ],
    }


FLOW = {"what": "telemetry", "to": "example.com", "region": "us-east-1"}


@pytest.mark.parametrize(
    ("actions", "traits", "finding"),
    [
        (["delete"], {"at_rest": "encrypted"}, "holds data and would be deleted"),
        (["delete"], {"retention_days": 30}, "holds data and would be deleted"),
        (["delete", "create"], {"at_rest": "plain"}, "holds data and would be replaced"),
        (["create", "delete"], {"at_rest": "plain"}, "holds data and would be replaced"),
        (["create"], {"exposure": "public"}, "would be open to the internet"),
        (["no-op"], {"exposure": "public"}, "would be open to the internet"),
        (["create"], {"region": "us-east-1"}, "would lie in us-east-1 (allowed: de, eu-central-1, eu-west-1)"),
        (["update"], {"data_flows": [FLOW]}, "would send telemetry to example.com in us-east-1"),
        (["update"], {"pinned": False}, "is not pinned"),
    ],
)
def test_each_rule_refuses(actions: list[str], traits: Document, finding: str, tmp_path: Path) -> None:
    code, text = judge(tmp_path, change(golden("changed"), actions, **traits))
    assert code == 1
    assert f"host.local: {finding}" in text
    assert "policy: 1 against it" in text


@pytest.mark.parametrize(
    ("actions", "traits", "labels"),
    [
        (["delete"], {}, ""),
        (["delete"], {"at_rest": "encrypted"}, "later,allow-data-loss"),
        (["delete"], {"exposure": "public", "region": "us-east-1", "pinned": False}, ""),
        (["update"], {"at_rest": "encrypted", "retention_days": 30}, ""),
        (["create"], {"region": "eu-west-1", "exposure": "private", "pinned": True}, ""),
        (["create"], {"data_flows": [{**FLOW, "region": None}]}, ""),
        (["create"], {"exposure": "host"}, ""),
    ],
)
def test_each_rule_lets_pass(actions: list[str], traits: Document, labels: str, tmp_path: Path) -> None:
    assert judge(tmp_path, change(golden("changed"), actions, **traits), labels) == (0, "policy: nothing against it\n")


@pytest.mark.parametrize("broken", [{"errored": True}, {"format_version": "2.0"}], ids=str)
def test_a_refused_plan_and_a_newer_format_are_not_let_pass(broken: Document, tmp_path: Path) -> None:
    code, text = judge(tmp_path, {**golden("fresh"), **broken})
    assert (code, "policy:" in text) == (2, False)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", "7"])
def test_what_is_no_plan_is_not_let_pass(text: str, tmp_path: Path) -> None:
    code, answer = judge(tmp_path, text)
    assert (code, "policy:" in answer) == (2, False)
