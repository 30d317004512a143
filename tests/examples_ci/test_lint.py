"""The pipelines as text: the platforms' published schemas, a security linter, ShellCheck, and pinned actions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples_ci.runner import CI, workflow_of
from tests.support import require_tool

BIN = Path(sys.executable).parent
WORKFLOWS = sorted((CI / "github").glob("*.yml"))
PIPELINE = CI / "gitlab" / ".gitlab-ci.yml"
JsonObject = dict[str, Any]


def schema_says(path: Path, schema: str) -> str:
    """Return what is against a file by a platform's schema; "" when nothing is."""
    tool = str(BIN / "check-jsonschema")
    require_tool(tool, how="pip install -e '.[dev]'")
    done = subprocess.run([tool, "--builtin-schema", schema, path], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def zizmor_says(path: Path) -> str:
    """Return what the security linter finds in a workflow, at its strictest; "" when nothing."""
    tool = str(BIN / "zizmor")
    require_tool(tool, how="pip install -e '.[dev]'")
    argv = [tool, "--offline", "--no-progress", "--persona", "auditor", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def shellcheck_says(script: str) -> str:
    require_tool("shellcheck")
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "-"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def scripts() -> dict[str, str]:
    """Return every script of both pipelines, by its place."""
    found: dict[str, str] = {}
    for path in WORKFLOWS:
        for name, job in workflow_of(path.name)["jobs"].items():
            for index, step in enumerate(job["steps"]):
                if "run" in step:
                    found[f"{path.name} {name} {index}"] = step["run"]
    for name in ("plan", "find", "apply", "drift"):
        found[f"gitlab {name}"] = "\n".join(yaml.safe_load(PIPELINE.read_text())[name]["script"])
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_github_takes_the_workflows(path: Path) -> None:
    assert schema_says(path, "vendor.github-workflows") == ""
    assert zizmor_says(path) == ""


def test_gitlab_takes_the_pipeline() -> None:
    assert schema_says(PIPELINE, "vendor.gitlab-ci") == ""


@pytest.mark.parametrize(
    ("old", "new", "audit"),
    [
        (r"@[0-9a-f]{40} # v\S+", "@v7", "unpinned-uses"),
        (r"persist-credentials: false", "fetch-depth: 1", "artipacked"),
        (r"permissions: \{\}\n", "permissions: write-all\n", "excessive-permissions"),
        (r'PULL_REQUEST/comments"', '${{ github.event.pull_request.title }}/comments"', "template-injection"),
        (r"on:\n  pull_request:", "on:\n  pull_request_target:", "dangerous-triggers"),
    ],
)
def test_the_security_linter_would_see(old: str, new: str, audit: str, tmp_path: Path) -> None:
    text, count = re.subn(old, lambda _: new, (CI / "github" / "plan.yml").read_text())
    assert count, f"plan.yml has no {old}"
    (tmp_path / "plan.yml").write_text(text)
    assert audit in zizmor_says(tmp_path / "plan.yml")


@pytest.mark.parametrize(
    ("path", "schema", "old", "new"),
    [
        (CI / "github" / "apply.yml", "vendor.github-workflows", "needs: find", "need: find"),
        (PIPELINE, "vendor.gitlab-ci", "resource_group: production", "resource_group: []"),
    ],
)
def test_the_schemas_would_see(path: Path, schema: str, old: str, new: str, tmp_path: Path) -> None:
    text = path.read_text()
    assert old in text
    (tmp_path / path.name).write_text(text.replace(old, new))
    assert schema_says(tmp_path / path.name, schema)


@pytest.mark.parametrize("place", scripts())
def test_scripts_pass_shellcheck(place: str) -> None:
    assert shellcheck_says(scripts()[place]) == ""


def test_actions_are_pinned_by_commit_and_say_their_version() -> None:
    uses = [line.strip() for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert uses
    for line in uses:
        assert re.fullmatch(r"- uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    pins = {line.partition("@")[0]: line for line in uses}
    assert set(uses) == set(pins.values()), "one action, one version"


def test_no_key_is_stored() -> None:
    """No cloud key as a secret of the platform, and only one token at all: GitLab's own, for notes."""
    text = "".join(path.read_text() for path in [*WORKFLOWS, PIPELINE])
    assert not re.search(r"secrets\.|aws-access-key|AWS_(SECRET_)?ACCESS_KEY", text)
    assert "id-token: write" in text
    assert "id_tokens:" in text


def test_only_the_job_that_applies_may_become_the_role_that_changes_things() -> None:
    jobs = {f"{path.name} {name}": job for path in WORKFLOWS for name, job in workflow_of(path.name)["jobs"].items()}
    changing = [name for name, job in jobs.items() if "LLMDEPLOY_APPLY_ROLE" in str(job)]
    assert changing == ["apply.yml apply"]
    assert jobs["apply.yml apply"]["environment"] == "production"
    document: JsonObject = yaml.safe_load(PIPELINE.read_text())
    assert [name for name, job in document.items() if "LLMDEPLOY_APPLY_ROLE" in str(job)] == ["apply"]
    assert document["apply"]["when"] == "manual"
