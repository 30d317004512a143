"""A pipeline whose jobs share nothing but a bucket and the plan file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.lab import run, write_stack
from tests.lab.object_store import REGION, ObjectStore


@pytest.fixture
def server(store_server: ObjectStore) -> ObjectStore:
    return store_server


@pytest.fixture
def bucket(bucket_name: str) -> str:
    return bucket_name


def checkout(folder: Path, text: str) -> Path:
    """Write the stack file as a fresh checkout has it; the bucket comes from a variable."""
    path = write_stack(folder, text=text)
    state = f'state: {{s3: {{bucket: "${{var.bucket}}", region: {REGION}}}}}\nvariables: {{bucket: none}}\n'
    path.write_text(path.read_text() + state)
    return folder


@pytest.mark.timeout(180)
def test_plan_here_and_apply_there(tmp_path: Path, server: ObjectStore, bucket: str) -> None:
    def cli(folder: Path, *words: str, code: int = 0) -> str:
        done = run(folder, *words, environ=server.environ)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    here, there = checkout(tmp_path / "here", "hello"), checkout(tmp_path / "there", "hello")
    cli(here, "plan", "--var", f"bucket={bucket}", "--out", "p.plan")
    shutil.copy(here / "p.plan", there / "p.plan")
    assert "2 to create" in cli(there, "show", "p.plan")
    assert "Done: 2 created" in cli(there, "apply", "p.plan")
    assert (there / "world" / "one").read_text() == "hello"
    assert not (there / ".llmdeploy" / "state.json").exists()
    # The other checkout holds the same plan; the bucket knows that it was applied.
    assert "p.plan is stale: something was applied since" in cli(here, "apply", "p.plan", code=1)
    assert not (here / "world").exists()
