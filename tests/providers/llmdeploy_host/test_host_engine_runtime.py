from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import threading
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdeploy.sdk import CommandFailed, Context, Identity, Interrupted, Prior, ReadRequest, Run
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._host_type import refresh_hosts
from llmdeploy_host.host_engine_runtime import (
    RESOURCE,
    RUNTIMES,
    RuntimeSpec,
    build_script,
    missing_sentence,
    outputs_of,
    preflight_problems,
    preflight_script,
    remove_script,
)
from tests.support import require_root, require_tool

REQUIREMENTS = "# comment\nllmdeploytestengine==1.0+cpu\nllmdeploytesthelper==2.0\n"


def spec_of(requirements: str = REQUIREMENTS) -> RuntimeSpec:
    return RuntimeSpec(host=Connection(), engine="llmdeploytestengine", version="1.0", requirements=requirements)


# --- pure -------------------------------------------------------------------------------------------------------------------


def test_the_folder_follows_from_what_is_in_it() -> None:
    first, second = outputs_of(spec_of()), outputs_of(spec_of("llmdeploytestengine==1.0+cpu\n"))
    assert first.folder == f"{RUNTIMES}/llmdeploytestengine-1.0-{first.digest[:12]}"
    assert first.python == f"{first.folder}/venv/bin/python"
    assert first.folder != second.folder


def test_outputs_are_known_before_apply() -> None:
    values = spec_of().tree()
    assert RESOURCE.predict(values, Identity("a", None)) == outputs_of(spec_of()).tree()
    assert RESOURCE.predict({**values, "requirements": object()}, Identity("a", None)) == {}


def test_changed_packages_replace_with_a_reason() -> None:
    prior = Prior("host_engine_runtime.a", "x", spec_of().tree(), {})
    change = RESOURCE.plan(prior, spec_of("llmdeploytestengine==1.0+cpu\n").tree())
    assert (change.action, change.reason) == ("replace", "another set of packages gets a folder of its own")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("python\t/usr/bin/python3\nfree_bytes\t9999999999\nindex.llmdeploytestengine\tyes\n", []),
        ("python\t/usr/bin/python3\nfree_bytes\t9999999999\n", []),
        ("python\t\nfree_bytes\t9999999999\n", ["no Python 3.11"]),
        ("python\t/usr/bin/python3\nfree_bytes\t1073741824\n", ["1.0 GiB free"]),
        (
            "python\t/usr/bin/python3\nfree_bytes\t9999999999\nindex.llmdeploytestengine\tno\n",
            ["PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"],
        ),
    ],
)
def test_preflight_says_what_is_missing(output: str, words: list[str]) -> None:
    problems = preflight_problems(output, spec_of())
    assert len(problems) == len(words)
    assert all(word in problem.sentence for word, problem in zip(words, problems, strict=True))


def test_unpinned_requirements_are_refused() -> None:
    with pytest.raises(ValueError, match="name==version"):
        build_script(Paths("a-12345678"), spec_of("torch>=2\n"))


def test_scripts_pass_shellcheck() -> None:
    require_tool("shellcheck")
    paths = Paths("a-12345678")
    scripts = [build_script(paths, spec_of()), remove_script(paths, spec_of()), preflight_script(spec_of())]
    for script in scripts:
        checked = subprocess.run(["shellcheck", "-s", "sh", "-"], input=script, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


# --- on this machine, with two tiny packages in place of an engine (a double: building the real one takes minutes) ------------


def wheel(folder: Path, name: str, version: str, body: str = "") -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": body,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,", ""]))


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Lab:
    """A package index in a folder, a wish of its own, and stacks that share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        wheel(self.wheels, "llmdeploytestengine", "1.0+cpu", "import llmdeploytesthelper\n")
        wheel(self.wheels, "llmdeploytesthelper", "2.0")
        self.spec = spec_of(f"# {uuid.uuid4()}\n{REQUIREMENTS}")
        self.outputs = outputs_of(self.spec)
        self.runs: list[Run] = []
        self.progress: list[str] = []

    def run(self) -> Run:
        environ = {
            "PATH": os.environ["PATH"],
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": "/dev/null",
        }
        run = Run(Identity("runtimetest", uuid.uuid4().hex), self.folder, environ)
        self.runs.append(run)
        return run

    def context(self, run: Run) -> Context:
        return Context(run, "host_engine_runtime.local", on_progress=self.progress.append)

    def prior(self) -> Prior:
        return Prior("host_engine_runtime.local", "x", self.spec.tree(), self.outputs.tree())

    def drift(self, run: Run) -> tuple[bool, list[str]]:
        (result,) = refresh_hosts({RESOURCE.name: RESOURCE}, run, [ReadRequest(RESOURCE.name, self.prior())])
        return result.exists, [drift.field for drift in result.drift]

    def remove(self, run: Run) -> None:
        RESOURCE.delete(self.context(run), self.prior())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    require_root()
    require_tool("setpriv", "/usr/bin/python3")
    made = Lab(tmp_path)
    yield made
    for run in made.runs:
        made.remove(run)
        shutil.rmtree(Paths(run.slug).locks)
    assert not Path(made.outputs.folder).exists()


@pytest.mark.integration
def test_it_is_built_shared_and_goes_with_its_last_owner(lab: Lab) -> None:
    first, second = lab.run(), lab.run()
    assert lab.drift(first) == (False, [])
    RESOURCE.create(lab.context(first), lab.spec)
    assert lab.drift(first) == (True, [])
    assert any(line.startswith("package 2 of 2: llmdeploytesthelper") for line in lab.progress)
    as_nobody = ["setpriv", "--reuid=65534", "--clear-groups", lab.outputs.python, "-I", "-c", "import llmdeploytestengine"]
    assert subprocess.run(as_nobody, check=False).returncode == 0
    assert lab.drift(second) == (True, ["owner"])

    lab.progress.clear()
    RESOURCE.create(lab.context(second), lab.spec)
    assert lab.progress == [], "nothing is built twice"
    lab.remove(first)
    assert lab.drift(second) == (True, [])
    lab.remove(second)
    assert not Path(lab.outputs.folder).exists()
    lab.remove(second)


@pytest.mark.integration
@pytest.mark.parametrize("damage", ["complete", "venv"])
def test_damage_is_drift_and_is_repaired(lab: Lab, damage: str) -> None:
    run = lab.run()
    RESOURCE.create(lab.context(run), lab.spec)
    path = Path(lab.outputs.folder) / damage
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert lab.drift(run)[1] == ["complete" if damage == "complete" else "python"]
    RESOURCE.update(lab.context(run), lab.prior(), lab.spec)
    assert lab.drift(run) == (True, [])


@pytest.mark.integration
def test_an_interrupted_build_goes_on(lab: Lab) -> None:
    run = lab.run()
    stop = threading.Event()

    def interrupt(message: str) -> None:
        if "package 1" in message and not stop.is_set():
            stop.set()
            run.abort.set()

    with pytest.raises(Interrupted):
        RESOURCE.create(Context(run, "host_engine_runtime.local", on_progress=interrupt), lab.spec)
    assert lab.drift(run)[1], "it was stopped before it was complete"
    run.abort.clear()
    RESOURCE.create(lab.context(run), lab.spec)
    assert lab.drift(run) == (True, [])
    assert not (Path(lab.outputs.folder) / "tmp").exists()


@pytest.mark.integration
def test_a_missing_build_is_told_in_one_sentence(lab: Lab) -> None:
    run = lab.run()
    (lab.wheels / "llmdeploytestengine-1.0+cpu-py3-none-any.whl").unlink()
    (problem,) = RESOURCE.preflight(run, lab.spec.tree(), None)
    assert problem.sentence == missing_sentence("llmdeploytestengine", "1.0+cpu")
    with pytest.raises(CommandFailed) as failed:
        RESOURCE.create(lab.context(run), lab.spec)
    assert failed.value.tail.splitlines()[-1] == problem.sentence


@pytest.mark.integration
def test_an_engine_that_cannot_be_imported_is_not_called_complete(lab: Lab) -> None:
    run = lab.run()
    (lab.wheels / "llmdeploytesthelper-2.0-py3-none-any.whl").unlink()
    wheel(lab.wheels, "llmdeploytesthelper", "2.0", "import llmdeploy_no_such_module\n")
    with pytest.raises(CommandFailed) as failed:
        RESOURCE.create(lab.context(run), lab.spec)
    assert "llmdeploy_no_such_module" in failed.value.tail
    assert "complete" in lab.drift(run)[1]
