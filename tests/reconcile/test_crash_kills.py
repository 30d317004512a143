"""The real command line, ended by real SIGKILLs while it works on a cloud that lives in another process.

`LLMDEPLOY_KILLS=200` kills that often; 60 is the number of every run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from llmdeploy.testing.cloud_provider import ENDPOINT
from llmdeploy.testing.fake_cloud import SocketCloud, cloud_process
from tests.reconcile.crash_lab import CANARY, first_nodes, second_nodes

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("LLMDEPLOY_KILLS", "60"))
PLUGIN = Path(__file__).parent.parent / "testing" / "plugin"
HABITS = {"hidden_reads": 1, "pending_reads": 2, "latency_s": 0.004}
COMMAND = (sys.executable, "-m", "llmdeploy")


class Stack:
    """A stack on a cloud process of its own."""

    def __init__(self, folder: Path, cloud: SocketCloud, socket: Path) -> None:
        self.folder = folder
        self.cloud = cloud
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.environ = {**kept, "PYTHONPATH": str(PLUGIN), "PASSWORD": CANARY, ENDPOINT: str(socket), "LC_ALL": "C.UTF-8"}

    def write(self, nodes: list[dict[str, Any]]) -> None:
        """Write the stack file."""
        provider = {"fakecloud": {"resources": nodes, "endpoint": "fake_machine.web-0#address"}}
        document = {"version": 1, "name": "demo", "model": {"id": "tiny-random"}, "provider": provider}
        (self.folder / "stack.yaml").write_text(yaml.safe_dump(document, sort_keys=False))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as the leader of its process group."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def ok(self, *arguments: str) -> str:
        """Run a command that must succeed."""
        with self.start(*arguments) as process:
            told, _ = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert CANARY not in told
        return told

    def killed(self, call: int, later_s: float, *arguments: str) -> bool:
        """Kill a command a moment after its call number `call` reached the cloud; tell whether it was still alive."""
        before = self.cloud.call("audit")["calls"]
        with self.start(*arguments) as process:
            while process.poll() is None and not self.cloud.call("await_calls", count=before + call, timeout_s=0.5):
                pass
            time.sleep(later_s)  # a random moment, nothing that is waited for
            alive = process.poll() is None
            if alive:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
        return alive

    def check(self, addresses: set[str]) -> None:
        """The world is what the stack file asks for, and nothing was made twice."""
        audit = self.cloud.call("audit")
        assert sorted(one["tags"]["llmdeploy:address"] for one in audit["objects"]) == sorted(addresses)
        assert {one["tags"]["llmdeploy:lineage"] for one in audit["objects"]} <= {self.state()["lineage"]}
        assert all(one["serving"] for one in audit["objects"])
        assert {name: made for name, made in audit["creates"].items() if made != 1} == {}
        assert not [path for path in self.folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]

    def state(self) -> dict[str, Any]:
        """Return the state, with what a killed run did last: it may be in the journal alone."""
        return json.loads(self.ok("state", "pull"))


PHASES: tuple[tuple[str, list[dict[str, Any]], int], ...] = (
    ("apply", first_nodes(), 70),
    ("apply", second_nodes(), 70),
    ("destroy", [], 25),
)
"""Verb, resources, and about how many calls it takes."""


def live(seed: int, kills: int) -> int:
    """Apply, change and destroy one stack, and again, until so many kills met a living command; return how often it ran whole."""
    random = Random(seed)
    met = whole = serial = 0
    with tempfile.TemporaryDirectory() as name:
        folder, socket = Path(name) / "stack", Path(name) / "cloud"
        folder.mkdir()
        with cloud_process(socket, HABITS, seed) as cloud:
            stack = Stack(folder, cloud, socket)
            while met < kills:
                for verb, nodes, calls in PHASES:
                    if nodes:
                        stack.write(nodes)
                    while met < kills and stack.killed(random.randrange(1, calls), random.uniform(0, 0.01), verb, "--yes"):
                        met += 1
                    stack.ok(verb, "--yes")
                    stack.check({node["address"] for node in nodes})
                    if nodes:
                        stack.ok("plan", "--detailed-exitcode")
                    assert stack.state()["serial"] > serial
                    serial = stack.state()["serial"]
                    whole += 1
    return whole


@pytest.mark.timeout(60 + 10 * KILLS)
def test_kills_at_random_moments() -> None:
    with ThreadPoolExecutor(2) as pool:
        whole = sum(pool.map(live, range(2), (KILLS // 2, KILLS - KILLS // 2)))
    print(f"{KILLS} kills, {whole} times to the end")
    assert whole >= 6
