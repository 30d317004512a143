from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.diagnostics import Diagnostics
from llmdeploy.stack.starter import starter
from llmdeploy.stack.tree import parse

from ..support import ROOT
from .support import load_text

GOLDEN = ROOT / "tests" / "golden" / "stack" / "starter.yaml"


def test_it_loads_as_it_stands(tmp_path: Path) -> None:
    text = starter(name="demo", model="tiny-random", provider="local")
    loaded = load_text(tmp_path, text)
    assert (loaded.stack.name, loaded.stack.model.id, loaded.stack.provider.name) == ("demo", "tiny-random", "local")
    assert [key.name for key in loaded.stack.keys] == ["first"]
    assert loaded.warnings == ()
    assert text == GOLDEN.read_text()


def test_answers_are_written(tmp_path: Path) -> None:
    text = starter(name="demo", model="./my model", provider="local", compliance=["gdpr", "soc2"], region="no")
    stack = load_text(tmp_path, text.replace('id: "./my model"', 'id: "./my model"\n  served_name: mine')).stack
    assert (stack.model.id, stack.compliance.profiles, stack.region) == ("./my model", ("gdpr", "soc2"), "no")


@pytest.mark.parametrize("comment", ["# context: 8K", "# concurrency: 8", "# region: eu-central-1", "# compliance: [gdpr]"])
def test_what_is_commented_out_is_valid_too(tmp_path: Path, comment: str) -> None:
    text = starter(name="demo", model="tiny-random", provider="local").replace(comment, comment.removeprefix("# "))
    load_text(tmp_path, text)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_any_answer_is_read_back(answer: str) -> None:
    found = Diagnostics()
    root = parse(starter(name=answer, model="m", provider="local"), "stack.yaml", found)
    assert found.errors == []
    assert root is not None
    assert isinstance(root.value, dict)
    assert root.value["name"].value == answer.replace("${", "$${")


def test_the_package_imports_little() -> None:
    heavy = ("boto3", "botocore", "paramiko", "fabric", "rich", "typer", "jinja2", "cryptography")
    code = (
        "import sys, llmdeploy.stack.load, llmdeploy.stack.schema, llmdeploy.stack.starter\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
