"""The contract is not bent to the host: somebody else's provider goes through plan, apply, drift and destroy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SITE = Path(__file__).with_name("site")
STACK = """\
version: 1
name: shop
model: {{id: tiny-random, context: 1K, concurrency: 2}}
provider: {{acme: {{cloud: "{cloud}", zone: {zone}}}}}
"""


class Cli:
    """Runs the real command line with the provider's package on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cloud = folder / "cloud"
        self.cloud.mkdir()
        self.write()

    def write(self, zone: str = "a") -> None:
        (self.folder / "stack.yaml").write_text(STACK.format(cloud=self.cloud, zone=zone))

    def __call__(self, *arguments: str, status: int = 0) -> str:
        environ = {**os.environ, "PYTHONPATH": str(SITE), "COLUMNS": "120"}
        argv = [sys.executable, "-m", "llmdeploy", *arguments]
        done = subprocess.run(argv, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def actions(self, *arguments: str) -> dict[str, Any]:
        document = json.loads(self("plan", "--format", "json", *arguments))
        return {change["address"]: change["change"]["actions"] for change in document["resource_changes"]}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_plan_apply_drift_destroy(cli: Cli) -> None:
    assert cli.actions() == {"acme_object.weights": ["create"], "acme_object.front": ["create"]}
    assert list(cli.cloud.iterdir()) == []
    cli("plan", "--detailed-exitcode", status=2)
    cli("apply", "--yes")
    assert sorted(path.name for path in cli.cloud.iterdir()) == ["shop-front.json", "shop-weights.json"]
    assert json.loads((cli.cloud / "shop-front.json").read_text())["content"] == "acme://a/shop-weights"
    assert cli("output", "endpoint").strip() == "acme://a/shop-front"
    assert "No changes." in cli("plan", "--detailed-exitcode")

    (cli.cloud / "shop-front.json").write_text('{"content": "graffiti"}')
    assert "somebody wrote 'graffiti' into it" in cli("plan", "--detailed-exitcode", status=2)
    (cli.cloud / "shop-weights.json").unlink()
    assert cli.actions()["acme_object.weights"] == ["create"]
    cli("apply", "--yes")
    cli("plan", "--detailed-exitcode")

    cli.write(zone="b")
    assert "objects cannot move between zones" in cli("plan")
    cli("apply", "--yes")
    assert cli("output", "endpoint").strip() == "acme://b/shop-front"
    cli("plan", "--detailed-exitcode")

    cli("destroy", "--yes")
    assert list(cli.cloud.iterdir()) == []
    assert "Nothing to destroy" in cli("destroy", "--yes")


def test_its_config_is_part_of_the_stack_files_schema(cli: Cli) -> None:
    assert "zone" in cli("schema")
    (cli.folder / "stack.yaml").write_text(STACK.format(cloud="x", zone="a").replace("zone", "zoen"))
    done = subprocess.run(
        [sys.executable, "-m", "llmdeploy", "validate"],
        cwd=cli.folder,
        env={**os.environ, "PYTHONPATH": str(SITE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "stack.yaml:4:" in done.stderr
    assert 'did you mean "zone"?' in done.stderr


def test_destroy_without_its_stack_file(cli: Cli) -> None:
    cli("apply", "--yes")
    (cli.folder / "stack.yaml").unlink()
    cli("destroy", "--yes")
    assert list(cli.cloud.iterdir()) == []
