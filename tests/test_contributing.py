"""The walk-through of CONTRIBUTING.md is code that works."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from llmdeploy.sdk import Context, Identity, Prior, ReadRequest, ReadResult, Run
from llmdeploy_host._host_type import refresh_hosts
from tests.support import ROOT, require_root, require_tool


@pytest.fixture
def notice(tmp_path: Path) -> Any:
    """The module of the walk-through."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.search(r"<!-- walk-through -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    path = tmp_path / "host_notice.py"
    path.write_text(found[1])
    spec = importlib.util.spec_from_file_location("host_notice", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path) -> Generator[Run]:
    """A run of a stack that exists nowhere else."""
    one = Run(Identity("walk", uuid4().hex), tmp_path, dict(os.environ))
    yield one
    one.close()


@pytest.mark.integration
def test_the_type_of_the_walk_through_lives(notice: Any, run: Run) -> None:
    require_root()
    require_tool("flock")
    kind = notice.RESOURCE
    acked: list[str] = []
    ctx = Context(run, "host_notice.local", on_acked=acked.append)
    spec = notice.NoticeSpec.model_validate({"host": {}, "text": "ours"})
    outputs = kind.create(ctx, spec)
    assert outputs.tree() == kind.predict(spec.tree(), run.identity)
    path = Path(outputs.path)
    assert path.read_text() == "ours"
    prior = Prior("host_notice.local", acked[0], spec.model_dump(mode="json"), outputs.tree())

    def read() -> ReadResult:
        (result,) = refresh_hosts({"host_notice": kind}, run, [ReadRequest("host_notice", prior)])
        return result

    try:
        assert read() == ReadResult("host_notice.local")
        path.write_text("theirs")
        assert [drift.sentence for drift in read().drift] == ["the notice was edited by hand"]
        kind.update(ctx, prior, spec)
        assert read().drift == ()
    finally:
        kind.delete(ctx, prior)
        kind.delete(ctx, prior)
        assert not read().exists
        slug = run.slug
        for folder in (f"/var/lib/llmdeploy/{slug}", f"/run/llmdeploy/{slug}"):
            subprocess.run(["rm", "-rf", folder], check=True)
