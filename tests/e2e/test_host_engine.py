"""`host_engine` runs the real vLLM: it serves over its socket, comes back when killed, and nobody else reaches it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdeploy.sdk import CommandFailed, Prior
from llmdeploy.serving import RenderRequest
from llmdeploy.serving.vllm import VLLM
from llmdeploy.state.model import Entry, State
from llmdeploy_host import _service, host_engine
from llmdeploy_host._host_type import locked
from llmdeploy_host._session import run_script
from llmdeploy_host.host_engine import EngineOutputs
from tests.e2e.engine_lab import CANARY, HOST, Machine, rendered, running_engine, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PROMPT = "canaryOfAPrompt0123456789"
TCP_LISTEN = "0A"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with running_engine(tmp_path_factory.mktemp("stack")) as made:
        yield made


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
    # Nobody warmed it up: a first prompt that is shorter than a tile of the processor's matrix unit must not end it.
    assert machine.ask("POST", "/v1/completions", {"model": "tiny-random", "prompt": "x", "max_tokens": 2})[0] == 200
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
