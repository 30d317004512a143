"""A stack of the provider `things`, and the command line in this process or in fresh ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PLUGIN = Path(__file__).parent / "plugin"
COMMAND = (sys.executable, "-m", "llmdeploy")


def write_stack(folder: Path, *, keys: tuple[str, ...] = (), name: str = "demo", **config: Any) -> Path:
    """Write a stack file for the provider `things` with this configuration."""
    document: dict[str, Any] = {"version": 1, "name": name, "model": {"id": "tiny-random"}, "provider": {"things": config}}
    document["keys"] = [{"name": key, "principal": f"{key}@example.com"} for key in keys]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stack.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a small environment in which the provider is installed."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "PYTHONPATH": str(PLUGIN), "LC_ALL": "C.UTF-8", **(more or {})}


def run(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command in a fresh process, without a terminal."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(environ),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=60,
        check=False,
    )
