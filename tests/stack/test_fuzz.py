"""No input makes anything but a `StackError`, and none takes long."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdeploy.errors import StackError
from llmdeploy.stack.model import Stack
from llmdeploy.stack.reading import MAX_BYTES

from ..support import ROOT
from .bad_files import BAD_FILES, Bad
from .support import HEAD, load_text
from .test_load import WHOLE

QUIET = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=150,
)

GOOD = WHOLE.replace("{aws: {anything: [1, 2]}}", "{local: {}}").replace(", instance_type: g6e.12xlarge, market: spot", "")
PARTS = sorted({*Stack.model_fields, "id", "quant", "context", "name", "local", "rack", "machines", "port", "tls", "s3", "args"})
WORDS = ["${var.x}", "${env:X}", "${", "$${", "32K", "32k", "yes", "1e3", "0123", "env:X", "none", "auto", "spot"]

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=20))
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(PARTS) | st.text(max_size=8), inner, max_size=6),
    max_leaves=30,
)


def survives(folder: Path, text: str | bytes, **more: Any) -> None:
    said = "nothing"
    try:
        load_text(folder, text, **more)
    except StackError as error:
        said = str(error)
    assert said
    assert "Input should" not in said


@QUIET
@given(st.binary(max_size=400))
def test_bytes(tmp_path: Path, content: bytes) -> None:
    survives(tmp_path, content)


@QUIET
@given(st.text(max_size=400))
def test_text(tmp_path: Path, text: str) -> None:
    survives(tmp_path, text.encode("utf-8", "surrogatepass"))


@QUIET
@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,<= \n\t~\\0123456789._$e", max_size=200))
def test_yaml_punctuation(tmp_path: Path, text: str) -> None:
    survives(tmp_path, text)


@QUIET
@given(st.dictionaries(st.sampled_from(PARTS), trees, max_size=12))
def test_trees(tmp_path: Path, tree: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"version": 1, "name": "demo", "model": {"id": "m"}, "provider": {"local": {}}, **tree}
    survives(tmp_path, yaml.safe_dump(whole, allow_unicode=True).encode("utf-8", "surrogatepass"))


@QUIET
@given(st.randoms(use_true_random=False))
def test_mutated_good_file(tmp_path: Path, chance: random.Random) -> None:
    text = GOOD
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        length = chance.choice([0, 1, 1, 5, 40])
        text = text[:at] + chance.choice(["", " ", "\n", "\t", ":", "- ", "x", *WORDS, *PARTS]) + text[at + length :]
    survives(tmp_path, text)


@QUIET
@given(st.dictionaries(st.sampled_from(["a", "b"]) | st.text(max_size=5), st.text(max_size=40)))
def test_variables(tmp_path: Path, variables: dict[str, str]) -> None:
    text = GOOD.replace("variables: {", "variables: {a: 1, b: 2, ").replace("name: support-chat", "name: x${var.a}${var.b}")
    survives(tmp_path, text, variables=variables)


@QUIET
@given(st.text(max_size=40))
def test_environment(tmp_path: Path, value: str) -> None:
    survives(tmp_path, GOOD + "\n", environ={"X": value})
    survives(tmp_path, GOOD.replace("eu-central-1", "${env:X}").replace("file:key", "${env:X}"), environ={"X": value})


@pytest.mark.parametrize("bad", [bad for bad in BAD_FILES if len(bad.text) < 10_000], ids=lambda bad: bad.name)
def test_every_beginning_of_a_bad_file(tmp_path: Path, bad: Bad) -> None:
    step = max(1, len(bad.text) // 20)
    for end in range(0, len(bad.text), step):
        survives(tmp_path, bad.text[:end])


def filled(head: str, unit: str, tail: str = "") -> str:
    """A file of almost the largest size."""
    return head + unit * ((MAX_BYTES - len(head) - len(tail)) // len(unit)) + tail


WORST = {
    "dense list": filled(HEAD + "x: [", "1,"),
    "keys": HEAD + "".join(f"k{number}:\n" for number in range(49_000)),
    "long keys": HEAD + "".join(f"{'x' * 900}{number}:\n" for number in range(1100)),
    "words": filled(HEAD + "region: ", "a "),
    "open interpolations": filled(HEAD + "region: '", "${", "'"),
    "one key again and again": HEAD + "k: 1\n" * 49_000,
    "flags": HEAD + "engine: {args: {" + ",".join(f"a_{number}: 1" for number in range(40_000)) + "}}\n",
    "constraints": filled(HEAD + "required_version: '", ">=1,", "'"),
    "undefined variables": HEAD
    + "variables: {"
    + ",".join(f"v{number}: 1" for number in range(20_000))
    + "}\nkeys: ["
    + ",".join(f"'${{var.w{number}}}'" for number in range(20_000))
    + "]\n",
}


@pytest.mark.integration
@pytest.mark.parametrize("name", WORST)
def test_the_worst_files_cost_little(tmp_path: Path, name: str) -> None:
    """In a process with 600 MB of address space and 30 seconds of processor time."""
    (tmp_path / "stack.yaml").write_text(WORST[name])
    code = (
        "import resource, sys, pathlib\n"
        "resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (30, 30))\n"
        "from llmdeploy.errors import StackError\n"
        "from llmdeploy.stack.load import load\n"
        "try: load(pathlib.Path(sys.argv[1]), providers={}, variables={}, environ={}, version='1')\n"
        "except StackError as error: print(len(str(error)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT)
    assert 0 < int(done.stdout) < 50_000


def test_the_good_file_is_good(tmp_path: Path) -> None:
    assert load_text(tmp_path, GOOD).stack.name == "support-chat"
