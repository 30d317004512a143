"""The pages about pipelines name files that are there, and name every file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples_ci.runner import CI
from tests.support import ROOT

README = CI / "README.md"


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "ci.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert links
    assert [link for link in links if not page.parent.joinpath(link).exists()] == []


def test_the_readme_names_every_file() -> None:
    files = {path.relative_to(CI).as_posix() for path in CI.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files - {"README.md"} == set(re.findall(r"\]\(([\w./-]+)\)", README.read_text())) - {"../../docs/ci.md"}


def test_the_readme_names_every_variable() -> None:
    pipelines = [*(CI / "github").glob("*.yml"), CI / "gitlab" / ".gitlab-ci.yml", CI / "gitlab" / "review.py"]
    text = "".join(path.read_text() for path in pipelines)
    set_by_people = {*re.findall(r"vars\.(\w+)", text), *re.findall(r"\$(LLMDEPLOY_\w+)", text), "REVIEW_TOKEN"}
    assert set_by_people == {"LLMDEPLOY_WHEEL", "LLMDEPLOY_PLAN_ROLE", "LLMDEPLOY_APPLY_ROLE", "AWS_REGION", "REVIEW_TOKEN"}
    assert all(f"`{name}`" in README.read_text() for name in set_by_people)
