"""The JSON of a plan and of an apply has every field that a real terraform writes, but for those that docs/json.md names."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdeploy.event import Done, Failed, Progress, Started
from llmdeploy.resource import Tree, as_mapping, as_sequence
from llmdeploy.views.document import dumps
from llmdeploy.views.events_json import JsonEvents
from llmdeploy.views.json_view import plan_document
from llmdeploy.views.screen import Screen
from tests.support import ROOT
from tests.views import plans

MAIN = """
variable "word" { default = "hello" }
resource "terraform_data" "a" { input = var.word }
resource "terraform_data" "b" {
  triggers_replace = [var.word]
  input            = terraform_data.a.output
  lifecycle { create_before_destroy = true }
}
resource "terraform_data" "c" { count = var.word == "hello" ? 1 : 0 }
resource "terraform_data" "d" {
  count = var.word == "hello" ? 0 : 1
  provisioner "local-exec" { command = "exit 1" }
}
output "o" { value = terraform_data.b.id }
check "x" {
  assert {
    condition     = var.word == "hello"
    error_message = "no"
  }
}
"""
NOT_OURS = {"terraform_version", "configuration", "relevant_attributes", "schema_version", "index", "terraform"}
"""Fields that only terraform has; docs/json.md names those of a plan."""
NOT_IN_EVENTS = {
    "id_key",
    "id_value",
    "range",
    "snippet",
    "refresh_start",
    "refresh_complete",
    "provision_start",
    "provision_progress",
    "provision_errored",
}
USERS = {"values", "before", "after", "after_unknown", "before_sensitive", "after_sensitive", "sensitive_values", "value", "type"}
"""Below these lies what a user or a provider wrote."""


def paths(document: Tree, at: str = "") -> Iterator[str]:
    """Yield the path of every field; what is named by users is a star."""
    if (sequence := as_sequence(document)) is not None:
        for item in sequence:
            yield from paths(item, f"{at}[]")
    elif (mapping := as_mapping(document)) is not None:
        named = at.endswith(("outputs", "variables", "output_changes"))
        for name, item in mapping.items():
            here = f"{at}.{'*' if named else name}".lstrip(".")
            yield here
            if name not in USERS or (name == "values" and "root_module" in item):
                yield from paths(item, here)


def missing(theirs: set[str], ours: set[str], known: set[str]) -> list[str]:
    return sorted(path for path in theirs - ours if not any(part.removesuffix("[]") in known for part in path.split(".")))


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("terraform") is None:
        pytest.skip("absent: terraform, which is only compared with")
    folder = tmp_path_factory.mktemp("terraform")
    (folder / "main.tf").write_text(MAIN)
    for words in ("init", "apply -auto-approve", "plan -var word=bye -out p"):
        answer(folder, *words.split())
    return folder


def answer(folder: Path, *words: str, code: int = 0) -> str:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    done = subprocess.run(["terraform", *words], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_plan(terraform: Path) -> None:
    theirs = set(paths(json.loads(answer(terraform, "show", "-json", "p"))))
    ours = {path for make in plans.ALL for path in paths(json.loads(dumps(plan_document(make()))))}
    assert "resource_changes[].change.replace_paths" in theirs & ours
    assert "prior_state.values.root_module.resources[].values" in theirs & ours
    assert missing(theirs, ours, NOT_OURS) == []
    told = (ROOT / "docs" / "json.md").read_text()
    assert all(f"`{name}`" in told for name in ("terraform_version", "configuration", "relevant_attributes", "schema_version"))


def test_json_lines(terraform: Path) -> None:
    lines = [json.loads(text) for text in answer(terraform, "apply", "-json", "p", code=1).splitlines()]
    out = io.StringIO()
    view = JsonEvents(Screen(out, {}))
    for make in plans.ALL:
        view.plan(make())
    view(Started("a.b", "create", "t"))
    view(Progress("a.b", "", 1.0, "t"))
    view(Done("a.b", "create", 1.0, "t"))
    view(Failed("a.b", "create", "m", "h", "", 1.0, "t"))
    view.done("apply", {}, "Done.", {"o": 1})
    theirs = {f"{one['type']}.{path}" for one in lines for path in paths(one)}
    ours = {f"{one['type']}.{path}" for one in map(json.loads, out.getvalue().splitlines()) for path in paths(one)}
    assert "apply_complete.hook.elapsed_seconds" in theirs & ours
    assert "apply_errored.hook.action" in theirs & ours
    assert missing(theirs, ours, NOT_OURS | NOT_IN_EVENTS) == [], "\n".join(missing(theirs, ours, NOT_OURS | NOT_IN_EVENTS))
