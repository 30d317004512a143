"""`host_engine` runs the real vLLM: it serves over its socket, comes back when killed, and nobody else reaches it."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.catalog import tiny_random
from llmdeploy.manifest import ModelFacts
from llmdeploy.sdk import CommandFailed, Context, Identity, Prior, ProcessSpec, ReadRequest, Run
from llmdeploy.serving import KvRequest, RenderRequest
from llmdeploy.serving.vllm import VLLM
from llmdeploy.state.model import Entry, State
from llmdeploy_host import _service, host_engine, host_home, host_supervisor
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._host_type import locked, refresh_hosts
from llmdeploy_host._session import run_script
from llmdeploy_host.host_engine import EngineOutputs, EngineSpec
from llmdeploy_host.host_home import HomeSpec
from llmdeploy_host.host_supervisor import SupervisorSpec
from tests.e2e.support import engine_python, write_tiny_model
from tests.support import require_root, require_tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HOST = Connection()
CANARY = "canaryOfTheOperator0123456789"
PROMPT = "canaryOfAPrompt0123456789"
TCP_LISTEN = "0A"
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
        """Return what runs as the stack's user. A zombie runs no more: some first processes take their time to bury orphans."""
        listed = subprocess.run(["ps", "-u", self.paths.user, "-o", "stat=,pid="], capture_output=True, text=True, check=False)
        rows = [line.split() for line in listed.stdout.splitlines()]
        return [int(pid) for stat, pid in rows if not stat.startswith("Z")]


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


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    require_root()
    require_tool("setpriv", "curl", "unshare", "s6-svscan")
    python = engine_python()
    run = Run(Identity("enginetest", secrets.token_hex(16)), tmp_path_factory.mktemp("stack"), {**os.environ, "CANARY": CANARY})
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


def test_what_was_predicted_came_true(machine: Machine) -> None:
    assert machine.outputs
    predicted = host_engine.RESOURCE.predict(machine.spec.tree(), machine.run.identity)
    assert {name: machine.outputs.tree()[name] for name in predicted} == predicted
    assert "socket" in predicted
    assert machine.drift() == ()
    told = machine.inspect()
    assert told["state"] == "ready"
    tokens = machine.spec.process.kv_cache_tokens
    assert tokens > 0
    figures = (machine.outputs.kv_cache_tokens, told["kv_cache_tokens"], told["predicted_kv_cache_tokens"])
    assert figures == (tokens, tokens, tokens), "the engine has exactly the KV cache that was predicted"
    assert (told["healthy"], told["notes"]) == (True, [])


@pytest.mark.parametrize(("promised", "code", "word"), [(1.0, 0, ""), (1.2, 1, "16.7 % less"), (0.8, 0, "25.0 % more")])
def test_status_tells_a_kv_cache_that_is_not_the_promised_one(machine: Machine, promised: float, code: int, word: str) -> None:
    assert machine.outputs
    reported = machine.spec.process.kv_cache_tokens
    predicted = int(reported * promised)
    state = machine.run.folder / ".llmdeploy" / "state.json"
    state.parent.mkdir(exist_ok=True)
    process = machine.spec.process.model_copy(update={"kv_cache_tokens": predicted})
    spec = machine.spec.model_copy(update={"process": process}).model_dump(mode="json")
    entry = Entry(
        address="host_engine.0", type="host_engine", provider="local", id="engine", spec=spec, outputs=machine.outputs.tree()
    )  # fmt: skip
    lineage = machine.run.identity.lineage
    assert lineage
    state.write_text(State(lineage, "enginetest", 1, {entry.address: entry}).to_json("0.1.0"))
    command = [sys.executable, "-m", "llmdeploy", "status", "--format"]
    asked = [
        subprocess.run([*command, form], cwd=machine.run.folder, capture_output=True, text=True, check=False)
        for form in ("human", "json")
    ]
    state.unlink()
    assert [one.returncode for one in asked] == [code, code], asked
    told = json.loads(asked[1].stdout)
    (row,) = told["resources"]
    assert (told["healthy"], row["state"]) == (code == 0, "ready")
    assert (row["details"]["kv_cache_tokens"], row["details"]["predicted_kv_cache_tokens"]) == (reported, predicted)
    shown = " ".join(asked[0].stdout.split())
    assert f"kv_cache_tokens: {reported}, predicted_kv_cache_tokens: {predicted}" in shown
    sentence = f"the engine reports {reported:,} tokens of KV cache, the plan predicted {predicted:,} ({word})"
    assert (sentence in shown) is bool(word)
    assert [note.startswith(sentence) for note in row["notes"]] == [True] * bool(word)


def test_chat_and_stream(machine: Machine) -> None:
    question = {"model": "tiny-random", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 20}
    status, answer = machine.ask("POST", "/v1/chat/completions", question)
    assert status == 200
    assert json.loads(answer)["usage"]["completion_tokens"] == 20
    status, answer = machine.ask("POST", "/v1/chat/completions", {**question, "stream": True})
    chunks = [json.loads(line.removeprefix("data: ")) for line in answer.splitlines() if line.startswith("data: {")]
    assert len(chunks) > 10
    assert chunks[-1]["usage"]["completion_tokens"] == 20, "usage is told even when the client does not ask for it"


def test_no_address_is_fetched_for_a_client(machine: Machine) -> None:
    picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}
    question = {"model": "tiny-random", "messages": [{"role": "user", "content": [picture]}], "max_tokens": 1}
    status, _ = machine.ask("POST", "/v1/chat/completions", question)
    assert status == 400


def test_another_user_of_the_machine_cannot_reach_it(machine: Machine) -> None:
    assert machine.outputs
    path = Path(machine.outputs.socket)
    state = path.parent.stat()
    assert (state.st_mode & 0o777, path.parent.owner()) == (0o700, machine.paths.user)
    command = ["curl", "--silent", "--show-error", "--unix-socket", str(path), "http://engine/health"]
    ours = ["setpriv", f"--reuid={machine.paths.user}", f"--regid={machine.paths.user}", "--clear-groups"]
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert subprocess.run([*ours, *command], capture_output=True, check=False).returncode == 0
    refused = subprocess.run([*other, *command], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    cache = [*other, "ls", f"{machine.spec.volume}/engine-0/cache"]
    assert subprocess.run(cache, capture_output=True, check=False).returncode != 0


def listeners(pid: int) -> list[str]:
    """Hexadecimal addresses of the TCP sockets on which a process listens."""
    # ls reads on when a descriptor is closed meanwhile.
    shown = subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True, check=False).stdout
    inodes = {line.split()[-1] for line in shown.splitlines()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == TCP_LISTEN and f"socket:[{row[9]}]" in inodes]


def test_it_listens_on_no_port_that_others_could_reach(machine: Machine) -> None:
    assert machine.outputs
    pids = machine.processes()
    assert len(pids) >= 2
    addresses = [address for pid in pids for address in listeners(pid)]
    assert addresses, "the engine talks to itself over loopback; none found means that this test looks wrongly"
    assert all(address.startswith("0100007F:") for address in addresses), addresses
    outside = os.readlink("/proc/self/ns/net")
    isolated = {os.readlink(f"/proc/{pid}/ns/net") != outside for pid in pids}
    assert isolated == {machine.outputs.network == "isolated"}


def test_nothing_of_the_operator_is_in_its_environment(machine: Machine) -> None:
    for pid in machine.processes():
        assert CANARY.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_it_comes_back_whole_when_its_main_process_is_killed(machine: Machine) -> None:
    before = machine.inspect()
    old = machine.processes()
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: machine.inspect()["restarts"] > before["restarts"] and machine.inspect()["state"] == "ready")
    assert not set(old) & set(machine.processes()), "what the dead engine left behind is gone too"
    assert machine.ask("GET", "/v1/models")[0] == 200


def test_a_stopped_engine_is_drift_and_is_repaired(machine: Machine) -> None:
    stop = _service.stop_script(machine.paths, "engine-0", machine.spec.supervisor)
    run_script(machine.context(), HOST, locked(machine.paths, "test", stop))
    assert machine.processes() == []
    drift = machine.drift()
    assert [found.sentence for found in drift] == ["the engine is not running"]
    host_engine.RESOURCE.update(machine.context(), machine.prior(drift), machine.spec)
    assert machine.drift() == ()


def test_a_changed_wish_restarts_it_in_place(machine: Machine) -> None:
    process = rendered("renamed", context=1024, concurrency=2)
    wanted = machine.spec.model_copy(update={"process": process})
    change = host_engine.RESOURCE.plan(machine.prior(), wanted.tree())
    assert change.action == "update"
    machine.outputs = host_engine.RESOURCE.update(machine.context(), machine.prior(), wanted)
    machine.spec = wanted
    assert machine.drift() == ()
    models = json.loads(machine.ask("GET", "/v1/models")[1])["data"]
    assert [(model["id"], model["max_model_len"]) for model in models] == [("renamed", 1024)]


def test_the_log_is_shown_and_holds_no_prompt(machine: Machine) -> None:
    machine.progress.clear()
    host_engine.RESOURCE.operations["logs"](machine.context(), machine.prior(), {"lines": 20000})
    shown = "\n".join(machine.progress)
    assert "vLLM" in shown
    assert PROMPT not in shown
    kept = subprocess.run(
        ["grep", "-rlF", PROMPT, machine.paths.log, machine.paths.run, machine.paths.lib], capture_output=True, check=False
    )
    assert kept.stdout == b""


def test_a_failing_start_shows_the_engines_last_lines_and_is_stopped(machine: Machine) -> None:
    process = VLLM.render(RenderRequest("m", context=2048, concurrency=4, kv_cache_bytes=4096, weight_bytes=2**23))
    bad = Machine(machine.run, machine.paths, machine.spec.model_copy(update={"key": "bad", "process": process}))
    try:
        with pytest.raises(CommandFailed) as failed:
            host_engine.RESOURCE.create(bad.context(), bad.spec)
        assert "ended while it was starting" in failed.value.message
        assert "ValueError" in failed.value.tail
        bad.outputs = EngineOutputs(socket=host_engine.socket_of(machine.paths, "bad"), service="engine-bad", log="")
        assert bad.inspect()["state"] == "stopped"
    finally:
        host_engine.RESOURCE.delete(bad.context(), Prior("host_engine.bad", "x", bad.spec.tree(), {}))
    assert machine.inspect()["state"] == "ready", "its neighbour was left alone"
