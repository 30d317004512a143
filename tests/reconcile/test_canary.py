"""No secret comes out anywhere: stored, printed, in the list of processes, or told with a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmdeploy.event import Failed
from llmdeploy.testing.cloud import FakeCloud
from llmdeploy.testing.cloud_provider import ENDPOINT
from llmdeploy.testing.fake_cloud import SocketCloud, cloud_process
from tests.reconcile.crash_lab import Lab, LocalWorld
from tests.reconcile.test_crash_kills import COMMAND, PLUGIN

CANARY = "canary-of-a-file-77b1"
NODES: list[dict[str, Any]] = [
    {"address": "fake_machine.a", "values": {"password": "file:secret.txt"}},
    {"address": "fake_machine.b", "values": {"password": "file:secret.txt"}, "after": ["fake_machine.a"]},
    {"address": "fake_bucket.c", "values": {"bucket": "ccc", "password": "file:secret.txt"}, "after": ["fake_machine.b"]},
]


class Stack:
    """A stack whose secrets lie in a file."""

    def __init__(self, folder: Path, cloud: SocketCloud, socket: Path) -> None:
        self.folder = folder
        self.cloud = cloud
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.environ = {**kept, "PYTHONPATH": str(PLUGIN), ENDPOINT: str(socket)}
        (folder / "secret.txt").write_text(CANARY + "\n")
        self.write(NODES)

    def write(self, nodes: list[dict[str, Any]]) -> None:
        provider = {"fakecloud": {"resources": nodes}}
        document = {"version": 1, "name": "demo", "model": {"id": "tiny-random"}, "provider": provider}
        (self.folder / "stack.yaml").write_text(yaml.safe_dump(document))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        argv = [*COMMAND, *arguments]
        return subprocess.Popen(
            argv, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True,
            start_new_session=True,
        )  # fmt: skip

    def says(self, *arguments: str) -> str:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return out + err

    def files(self) -> dict[str, bytes]:
        """Return every file but the secret's own."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name != "secret.txt")
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    folder = tmp_path / "stack"
    folder.mkdir()
    with cloud_process(tmp_path / "cloud", {"latency_s": 0.005, "pending_reads": 2}) as cloud:
        yield Stack(folder, cloud, tmp_path / "cloud")


def processes() -> Iterator[bytes]:
    """Yield the arguments and the environment of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                yield (folder / name).read_bytes()
            except OSError:
                continue


@pytest.mark.integration
def test_a_canary_in_every_secret_field_shows_up_nowhere(stack: Stack) -> None:
    told = [stack.says("plan"), stack.says("plan", "--format", "json"), stack.says("plan", "--out", "saved.plan")]
    with stack.start("apply", "--yes", "--format", "jsonl") as process:
        assert stack.cloud.call("await_calls", count=stack.cloud.call("audit")["calls"] + 12, timeout_s=60)
        assert not [seen for seen in processes() if CANARY.encode() in seen]
        os.killpg(process.pid, signal.SIGKILL)
        told += process.communicate(timeout=60)
    assert "journal.jsonl" in " ".join(stack.files()), "it was killed at work"
    half = stack.files()
    told += [stack.says("plan"), stack.says("apply", "--yes", "--format", "jsonl")]
    stack.write([{**node, "values": {**node["values"], "size": 2}} if "machine" in node["address"] else node for node in NODES])
    told += [stack.says("apply", "--yes"), stack.says("show", "--format", "json"), stack.says("state", "list")]
    (stack.folder / "secret.txt").write_text(f"another-{CANARY}\n")
    told += [stack.says("plan"), stack.says("apply", "--yes"), stack.says("plan", "--detailed-exitcode")]
    whole = stack.files()
    told += [stack.says("destroy", "--yes")]

    assert "the password behind file:secret.txt is another one" in told[-4]
    assert "No changes" in told[-2]
    assert stack.cloud.call("audit")["objects"] == []
    assert not [text for text in told if CANARY in text]
    files = {**{f"half/{name}": data for name, data in half.items()}, **whole, **stack.files()}
    assert {"saved.plan", ".llmdeploy/state.json", ".llmdeploy/state.json.backup"} <= set(files)
    assert not [name for name, data in files.items() if CANARY.encode() in data]
    assert CANARY not in json.dumps(stack.cloud.call("audit"))


def test_a_bug_of_a_provider_tells_its_traceback_without_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug happens while the secret is in a local variable of the frames above."""
    lab, world = Lab(tmp_path, monkeypatch), LocalWorld(FakeCloud())
    call = world.cloud.call
    seen: list[str] = []

    def broken(name: str, /, **arguments: Any) -> Any:
        if arguments.get("part") == "password":
            seen.append(arguments["value"])
            raise ZeroDivisionError("a bug")
        return call(name, **arguments)

    world.cloud.call = broken  # pyright: ignore[reportAttributeAccessIssue] - a bug, made on purpose
    ran = lab.apply(world, lab.wish({"address": "fake_bucket.a", "values": {"bucket": "aaa", "password": "env:PASSWORD"}}))
    (failed,) = [event for event in ran.events if isinstance(event, Failed)]
    assert "ZeroDivisionError: a bug" in failed.tail
    (secret,) = seen
    assert not [event for event in ran.events if secret in repr(event)]
    assert not [name for name, data in world.content().items() if secret.encode() in data]
