"""The command line in this process, on a stack of the provider `things`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.__main__ import main
from tests.cli.lab import PLUGIN, write_stack


@dataclass(frozen=True)
class Answer:
    """What one command printed, and its exit code."""

    code: int
    out: str
    err: str


class Cli:
    """Runs commands in the folder of one stack."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def __call__(self, *arguments: str) -> Answer:
        self._capture.readouterr()
        code = main(arguments)
        captured = self._capture.readouterr()
        return Answer(code, captured.out, captured.err)

    def ok(self, *arguments: str) -> str:
        """Run a command that must succeed; return what it printed."""
        answer = self(*arguments)
        assert answer.code == 0, answer
        return answer.out

    def stack(self, **config: Any) -> Path:
        """Write the stack file."""
        return write_stack(self.folder, **config)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return the command line, in an empty folder."""
    monkeypatch.setattr("sys.path", [str(PLUGIN), *sys.path])
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, capsys)
