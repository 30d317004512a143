from __future__ import annotations

from pathlib import Path

import pytest

from llmdeploy.diagnostics import Diagnostic
from llmdeploy.errors import StackError

from .bad_files import BAD_FILES, Bad
from .support import load_text

SECRETS = ("hunter2", "sk-1", "AGE-SECRET", "canary")
JARGON = ("Input", "pydantic", "https://errors", "valid string", "Value error", "NoneType", "dict", "tuple", "None")


def test_there_are_many() -> None:
    assert len(BAD_FILES) >= 60
    assert len({bad.name for bad in BAD_FILES}) == len(BAD_FILES)


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_is_told_with_its_line(bad: Bad, tmp_path: Path) -> None:
    with pytest.raises(StackError) as raised:
        load_text(tmp_path, bad.text, variables=bad.variables, environ=bad.environ)
    findings = [finding for finding in raised.value.diagnostics if isinstance(finding, Diagnostic)]
    there = [str(finding) for finding in findings if (finding.place.line if finding.place else None) == bad.line]
    assert any(bad.says in text for text in there), str(raised.value)
    assert not [word for word in JARGON if word in str(raised.value)]
    assert not [word for word in SECRETS if word in str(raised.value)]
    assert [path.name for path in tmp_path.iterdir()] == ["stack.yaml"]


def test_a_provider_of_the_contract_that_is_not_installed_is_told_so(tmp_path: Path) -> None:
    text = "version: 1\nname: x\nmodel: {id: tiny-random}\nprovider: {aws: {}}\n"
    with pytest.raises(StackError, match=r'stack.yaml:4:\d+: error: .*provider "aws" is valid but not part of this version'):
        load_text(tmp_path, text)
