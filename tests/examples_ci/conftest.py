"""A repository that uses the example pipelines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.lab import write_stack
from tests.examples_ci.runner import CI, Repository
from tests.support import require_tool


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Return a repository with a stack, the scripts in ci/, and one commit on main."""
    require_tool("git", "bash", "jq")
    folder = tmp_path / "repository"
    write_stack(folder, names=["one", "two"], text="hello")
    (folder / "ci").mkdir()
    for script in ("policy.py", "gitlab/review.py"):
        shutil.copy(CI / script, folder / "ci")
    repository = Repository(folder)
    repository.git("init", "--quiet", "--initial-branch", "main")
    (folder / ".gitignore").write_text(".llmdeploy/\nworld/\n__pycache__/\n")
    repository.git("add", "--all")
    repository.commit()
    return repository
