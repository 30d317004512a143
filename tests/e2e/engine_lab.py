"""A stack on this machine with one running vLLM and no gateway: what the tests of `host_engine` stand on."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmdeploy.catalog import tiny_random
from llmdeploy.manifest import ModelFacts
from llmdeploy.sdk import Context, Identity, Prior, ProcessSpec, ReadRequest, Run
from llmdeploy.serving import KvRequest, RenderRequest
from llmdeploy.serving.vllm import VLLM
from llmdeploy_host import host_engine, host_home, host_supervisor
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._host_type import refresh_hosts
from llmdeploy_host.host_engine import EngineOutputs, EngineSpec
from llmdeploy_host.host_home import HomeSpec
from llmdeploy_host.host_supervisor import SupervisorSpec
from tests.e2e.support import engine_python, write_tiny_model
from tests.support import require_root, require_tool

HOST = Connection()
CANARY = "canaryOfTheOperator0123456789"
KV_BYTES = 2**25


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Machine:
    """A stack on this machine: home, supervisor, a plain folder as volume with the tiny model, and one running engine."""

    run: Run
    paths: Paths
    spec: EngineSpec
    outputs: EngineOutputs | None = None
    progress: list[str] = field(default_factory=list[str])

    def context(self) -> Context:
        return Context(self.run, f"host_engine.{self.spec.key}", timeout_s=500, on_progress=self.progress.append)

    def prior(self, drift: Any = ()) -> Prior:
        assert self.outputs
        return Prior(f"host_engine.{self.spec.key}", "engine", self.spec.tree(), self.outputs.tree(), drift=drift)

    def drift(self) -> tuple[Any, ...]:
        kind = host_engine.RESOURCE
        (result,) = refresh_hosts({kind.name: kind}, self.run, [ReadRequest(kind.name, self.prior())])
        assert result.exists
        assert not result.error
        return result.drift

    def inspect(self) -> dict[str, Any]:
        return dict(host_engine.RESOURCE.operations["inspect"](self.context(), self.prior(), {}).data)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        assert self.outputs
        with closing(UnixConnection(self.outputs.socket)) as connection:
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
            with connection.getresponse() as answer:
                return answer.status, answer.read().decode()

    def processes(self) -> list[int]:
        """Return what runs as the stack's user on this very machine, not on a copy of it that has the same numbers.

        A zombie runs no more: some first processes take their time to bury orphans.
        """
        listed = subprocess.run(["ps", "-u", self.paths.user, "-o", "stat=,pid="], capture_output=True, text=True, check=False)
        rows = [line.split() for line in listed.stdout.splitlines()]
        return [int(pid) for stat, pid in rows if not stat.startswith("Z") and _is_here(pid)]


def _is_here(pid: str) -> bool:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    return False


def rendered(served_name: str, *, context: int, concurrency: int) -> ProcessSpec:
    """Return the process of the tiny model, with the size of its KV cache as it is predicted."""
    model = ModelFacts("tiny-random", json.loads(tiny_random.files()["config.json"]))
    request = KvRequest(context, VLLM.batched_tokens(concurrency, None, {}))
    tokens = VLLM.kv_layout(model, request).tokens(KV_BYTES)
    return VLLM.render(
        RenderRequest(
            served_name,
            context=context,
            concurrency=concurrency,
            kv_cache_bytes=KV_BYTES,
            kv_cache_tokens=tokens,
            weight_bytes=2**23,
        )
    )


def until(condition: Callable[[], bool], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.2)


@contextmanager
def running_engine(folder: Path) -> Generator[Machine]:
    """Give a stack with a running engine; afterwards nothing of it is left. `folder` is the stack's on the operator's side."""
    require_root()
    require_tool("setpriv", "curl", "unshare", "s6-svscan")
    python = engine_python()
    run = Run(Identity("enginetest", secrets.token_hex(16)), folder, {**os.environ, "CANARY": CANARY})
    paths = Paths(run.slug)
    home_spec = HomeSpec(host=HOST, name="enginetest")
    home = host_home.RESOURCE.create(Context(run, "host_home.local"), home_spec)
    supervisor_spec = SupervisorSpec(host=HOST, home=home.lib)
    supervisor = host_supervisor.RESOURCE.create(Context(run, "host_supervisor.local"), supervisor_spec)
    volume = Path(home.lib, "volume")
    write_tiny_model(volume / "weights")
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", str(volume)], check=True)
    spec = EngineSpec(
        host=HOST,
        engine=VLLM.name,
        version=VLLM.default_version,
        python=python,
        runtime_digest="of the tests",
        weights=str(volume / "weights"),
        weights_digest="of the tests",
        volume=str(volume),
        process=rendered("tiny-random", context=2048, concurrency=4),
        user=home.user,
        supervisor=supervisor.kind,
    )
    made = Machine(run, paths, spec)
    try:
        made.outputs = host_engine.RESOURCE.create(made.context(), spec)
        yield made
        host_engine.RESOURCE.delete(made.context(), made.prior())
        assert made.processes() == []
        assert not Path(made.outputs.socket).parent.exists()
        assert [path.name for path in volume.iterdir()] == ["weights"]
    finally:
        subprocess.run(["sh", "-c", host_engine.remove_script(paths, spec)], check=False, capture_output=True)
        shutil.rmtree(volume)
        for kind, address, its_spec in (
            (host_supervisor.RESOURCE, "host_supervisor.local", supervisor_spec),
            (host_home.RESOURCE, "host_home.local", home_spec),
        ):
            kind.delete(Context(run, address), Prior(address, "x", its_spec.tree(), home.tree()))
        shutil.rmtree(paths.locks)
