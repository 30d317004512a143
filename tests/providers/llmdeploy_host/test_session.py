"""Scripts on this machine: who listens to their progress may give up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

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
