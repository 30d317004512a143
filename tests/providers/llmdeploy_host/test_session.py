"""Scripts on this machine: who listens to their progress may give up, and who may run them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from llmdeploy.sdk import Identity, ProviderError, Run
from llmdeploy_host._connection import Connection
from llmdeploy_host._session import session

from .keys_lab import run_in


def test_a_listener_that_gives_up_ends_the_script_with_its_own_error(tmp_path: Path) -> None:
    def closed(_line: str) -> None:
        raise BrokenPipeError("nobody reads on")

    started = time.monotonic()
    with pytest.raises(BrokenPipeError, match="nobody reads on"):
        session(run_in(tmp_path), Connection()).run("echo '::progress one'; exec sleep 60", on_progress=closed)
    assert time.monotonic() - started < 30


def test_without_root_and_sudo_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    run = Run(Identity("demo", None), tmp_path, {"PATH": str(tmp_path)})
    with pytest.raises(ProviderError, match="needs root, and sudo is not installed"):
        session(run, Connection()).run("true")
