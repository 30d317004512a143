"""What the tests of probes share: ask one type of one resource, and run questions on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from llmdeploy.evidence import observations_of
from llmdeploy.sdk import EVIDENCE, Context, Identity, Observation, Prior, ResourceType, Run, Traits
from llmdeploy_host._connection import Connection
from llmdeploy_host._evidence import Question, ask

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def seen(kind: ResourceType[Any, Any], run: Run, prior: Prior) -> dict[str, Observation]:
    """Return what the type's probe sees of a resource, by fact, as an audit gets it; every value must fit its trait."""
    found = observations_of(kind.operations[EVIDENCE](Context(run, prior.address, timeout_s=100), prior, {}))
    assert len({one.fact for one in found}) == len(found)
    Traits.model_validate({one.fact: one.value for one in found if not one.reason})
    return {one.fact: one for one in found}


def values(found: dict[str, Observation]) -> dict[str, Any]:
    """Return fact -> value of those that could be told."""
    return {fact: one.value for fact, one in found.items() if not one.reason}


def answer(folder: Path, *questions: Question) -> dict[str, Observation]:
    """Ask this machine."""
    run = Run(Identity("lab", "1" * 32), folder, PATH)
    try:
        return {one.fact: one for one in ask(Context(run, "host.local", timeout_s=100), Connection(), questions)}
    finally:
        run.close()


def check_shell(script: str) -> None:
    """Fail with ShellCheck's words when it finds something."""
    checked = subprocess.run(["shellcheck", "-s", "sh", "-"], input=script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
