"""The benchmarks themselves, at their smallest and without their peer: that they run, and that a killed apply loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def table(tmp_path: Path, script: str, *arguments: str) -> dict[str, list[str]]:
    """Run a benchmark where there is no terraform; return the cells of its table by the first of each row."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "sleep"):
        (programs / name).symlink_to(f"/bin/{name}")
    done = subprocess.run(
        [sys.executable, HERE / script, *arguments],
        env={**os.environ, "PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "terraform is not on PATH: llmdeploy is measured alone" in done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.integration
def test_the_engine_benchmark_measures_every_operation(tmp_path: Path) -> None:
    rows = table(tmp_path, "engine.py", "--resources", "12", "--runs", "1")
    operations = ["plan, nothing exists", "apply", "plan, no changes", "plan, one change", "destroy"]
    assert [name for name in rows if name in operations] == operations
    assert all(float(rows[name][0]) > 0 for name in operations)


@pytest.mark.integration
def test_a_killed_apply_loses_nothing_and_calls_nothing_healthy_that_is_not_whole(tmp_path: Path) -> None:
    rows = table(tmp_path, "kill.py", "--kills", "1", "--resources", "800", "--slow-resources", "30")
    assert rows["kills that lost resources"] == ["0 of 1"]
    assert int(rows["resources reported complete"][0]) > 0
    assert rows["kills after which that happened"] == ["0 of 1"]
    assert rows["still not whole after one more apply, per kill"] == ["0"]
