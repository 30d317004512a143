"""What each base type concludes from facts: one file per case under fixtures/TYPE/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmdeploy_host import local
from llmdeploy_host._host_type import HostType
from tests.providers.llmdeploy_host.host_lab import prior_of

FIXTURES = Path(__file__).parent / "fixtures"
TYPES = ("host", "host_home", "host_packages", "host_supervisor", "host_volume")
CASES = sorted(path for name in TYPES for path in (FIXTURES / name).glob("*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_observe(path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    kind = local.types[path.parent.name]
    assert isinstance(kind, HostType)
    result = kind.observe(prior_of(kind, kind.spec.model_validate(case["spec"]), case["outputs"]), case["facts"])
    expected: dict[str, Any] = {"exists": True, "outputs": None, "drift": [], "error": "", **case["observe"]}
    sentences = [drift.sentence for drift in result.drift]
    found = {"exists": result.exists, "outputs": result.outputs, "drift": sentences, "error": result.error}
    assert found == expected


def test_every_type_has_cases() -> None:
    assert {path.parent.name for path in CASES} == set(TYPES)
