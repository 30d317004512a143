"""What tests share: how a missing tool is handled."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def require_tool(*names: str, how: str = "apt-get install it") -> None:
    """Skip by name when a program is missing; fail instead when LLMDEPLOY_REQUIRE_ALL=1. how: to get it."""
    missing = [name for name in names if shutil.which(name) is None and not Path(name).exists()]
    if not missing:
        return
    sentence = f"needs {', '.join(missing)}: {how}"
    if os.environ.get("LLMDEPLOY_REQUIRE_ALL") == "1":
        pytest.fail(sentence)
    pytest.skip(sentence)


def require_root() -> None:
    """Skip when not root; fail instead when LLMDEPLOY_REQUIRE_ALL=1."""
    if os.geteuid() == 0:
        return
    if os.environ.get("LLMDEPLOY_REQUIRE_ALL") == "1":
        pytest.fail("needs root")
    pytest.skip("needs root")
