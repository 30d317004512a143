"""The real engine: where its interpreter is, and how its own parser is asked."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.catalog import tiny_random
from llmdeploy.process import ProcessSpec
from llmdeploy.sdk import Context, Identity, Prior, Run
from llmdeploy.serving import engine
from llmdeploy.serving.vllm_render import START_FILE
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host.host_engine_runtime import RESOURCE, RuntimeSpec, outputs_of

HERE = Path(__file__).resolve().parent


@cache
def engine_python() -> str:
    """Return the interpreter of an installed vLLM.

    It is the one of the virtual environment LLMDEPLOY_TEST_ENGINE_VENV, or of the runtime that a stack on this machine uses.
    Without either the test is skipped by name; with LLMDEPLOY_REQUIRE_ALL=1 the runtime is built, for as long as the tests run.
    """
    given = os.environ.get("LLMDEPLOY_TEST_ENGINE_VENV")
    if given:
        return f"{given}/bin/python"
    vllm = engine("vllm")
    version = vllm.default_version
    spec = RuntimeSpec(host=Connection(), engine="vllm", version=version, requirements=vllm.requirements(version, "cpu"))
    outputs = outputs_of(spec)
    if Path(outputs.folder, "complete").exists():
        return outputs.python
    if os.environ.get("LLMDEPLOY_REQUIRE_ALL") != "1":
        pytest.skip("needs vLLM: set LLMDEPLOY_TEST_ENGINE_VENV to a virtual environment with it")
    return _build(spec)


def _build(spec: RuntimeSpec) -> str:
    run = Run(Identity("enginetests", uuid.uuid4().hex), Path(tempfile.gettempdir()), os.environ)
    address = "host_engine_runtime.tests"
    outputs = RESOURCE.create(Context(run, address, timeout_s=1800, on_progress=print), spec)
    atexit.register(shutil.rmtree, Paths(run.slug).locks)
    prior = Prior(address, "tests", spec.tree(), outputs.tree())
    atexit.register(lambda: RESOURCE.delete(Context(run, address, timeout_s=300), prior))
    return outputs.python


def ask_engine(script: str, *, stdin: str = "", env: Mapping[str, str] | None = None, timeout_s: float = 300) -> str:
    """Run one of the scripts of this folder with the engine's interpreter and return what it prints."""
    done = subprocess.run(
        [engine_python(), "-I", str(HERE / script)],
        input=stdin,
        env={"PATH": "/usr/bin:/bin", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_PLUGINS": "", **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def write_tiny_model(folder: Path, config: Mapping[str, Any] | None = None, *, weights: bool = True) -> Path:
    """Write the catalogue's tiny model, with other entries of config.json where asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tiny_random.files().items():
        if weights or not name.endswith(".safetensors"):
            (folder / name).write_bytes(content)
    if config is not None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def filled(process: ProcessSpec, weights: Path, folder: Path) -> tuple[Sequence[str], dict[str, str]]:
    """Return the arguments after the program's name, and the environment, with every folder and file below `folder`."""
    tokens = {"weights": weights, **{name: folder / name for name in ("socket", "cache", "tmp", "home")}}

    def fill(text: str) -> str:
        for name, path in tokens.items():
            text = text.replace(f"{{{name}}}", str(path))
        return text

    for name in ("cache", "tmp", "home"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path, content in process.files.items():
        Path(fill(path)).write_text(content)
    arguments = [fill(part) for part in process.argv]
    program = arguments.index(fill(START_FILE))
    return arguments[program + 1 :], {name: fill(value) for name, value in process.env.items()}
