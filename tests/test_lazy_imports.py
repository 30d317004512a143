"""What a command imports, told by a fresh process: a start must stay cheap, and a machine that only validates needs no cloud."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.cli.lab import environment, write_stack

LAPTOP = Path(__file__).parents[1] / "examples" / "laptop" / "stack.yaml"
REMOTE = frozenset({"boto3", "botocore", "paramiko", "fabric", "invoke"})
DRAWING = frozenset({"rich", "jinja2"})
SECRET = frozenset({"cryptography", "nacl", "bcrypt"})
PROGRAM = """
import json, sys
from llmdeploy.__main__ import main
code = main(json.loads(sys.argv[1]))
json.dump({"code": code, "modules": sorted(sys.modules)}, sys.stderr)
"""


def modules_after(arguments: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> set[str]:
    """Return the names of all modules that one command has imported when it is done."""
    program = [sys.executable, "-c", PROGRAM, json.dumps(arguments)]
    done = subprocess.run(program, cwd=folder, env=environ, capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stderr)
    assert told["code"] == 0, done.stdout
    return set(told["modules"])


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    shutil.copy(LAPTOP, tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_imports_typer_and_nothing_else_of_weight(tmp_path: Path, arguments: list[str]) -> None:
    modules = modules_after(arguments, tmp_path)
    assert "typer" in modules
    assert sorted(modules & (REMOTE | DRAWING | SECRET | {"pydantic", "pydantic_core", "yaml"})) == []
    ours = {name for name in modules if name.startswith("llmdeploy")}
    assert ours == {"llmdeploy", "llmdeploy.__main__", "llmdeploy.cli", "llmdeploy.cli.root", "llmdeploy.errors"}


@pytest.mark.parametrize("verb", ["validate", "plan", "apply", "keys", "logs"])
def test_help_of_a_verb_loads_no_library_of_machines(tmp_path: Path, verb: str) -> None:
    assert sorted(modules_after([verb, "--help"], tmp_path) & (REMOTE | DRAWING | SECRET)) == []


@pytest.mark.parametrize("arguments", [["validate"], ["validate", "--format", "json"]])
def test_validate_imports_only_what_leads_from_the_file_to_the_graph(laptop: Path, arguments: list[str]) -> None:
    modules = modules_after(arguments, laptop)
    assert "llmdeploy_host.host_gateway" in modules, "the graph was not laid out"
    assert sorted(modules & (REMOTE | DRAWING | SECRET)) == []
    unneeded = ("llmdeploy.workflow", "llmdeploy.state", "llmdeploy.reconcile", "llmdeploy.plan", "llmdeploy.event")
    assert sorted(name for name in modules if name.startswith(unneeded)) == []
    assert sorted(modules & {"llmdeploy_host._gateway_config", "llmdeploy_host._x509", "tarfile", "concurrent.futures"}) == []


def test_a_provider_that_the_stack_does_not_name_is_not_loaded(tmp_path: Path) -> None:
    write_stack(tmp_path)
    modules = modules_after(["validate"], tmp_path, environment())
    assert "things_provider" in modules
    assert sorted(name for name in modules if name.startswith("llmdeploy_host")) == []


def test_a_plugin_of_pydantic_is_not_searched_for(tmp_path: Path) -> None:
    about = tmp_path / "spy-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: spy\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pydantic]\nspy = spy:plugin\n")
    (tmp_path / "spy.py").write_text("plugin = None\n")
    write_stack(tmp_path)
    environ = environment()
    environ["PYTHONPATH"] += f":{tmp_path}"
    assert "spy" not in modules_after(["validate"], tmp_path, environ)


@pytest.mark.parametrize("arguments", [["plan"], ["plan", "--format", "json"]])
def test_a_first_plan_needs_no_library_of_machines(laptop: Path, arguments: list[str]) -> None:
    modules = modules_after(arguments, laptop)
    assert "llmdeploy.reconcile.diff" in modules, "nothing was planned"
    assert sorted(modules & {"llmdeploy.reconcile.apply", "llmdeploy.event", "concurrent.futures"}) == []
    assert sorted(modules & (REMOTE | DRAWING | SECRET)) == []
