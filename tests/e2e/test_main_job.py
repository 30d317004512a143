"""The main job on a fresh machine: the README's first command, then everything a user and an attacker would try.

The tests run in order on one machine; each leaves it as it found it, and the last one destroys.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from llmdeploy.catalog import tiny_random
from tests.lab.machine import ROOT
from tests.sources.hub_server import HubServer, Repository

from .laptop import CANARY_TOKEN, CHECKOUT, CLI, STACK, Laptop, files, packages

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

HOST_KILLS = int(os.environ.get("LLMDEPLOY_HOST_KILLS", "5"))
"""How often apply and destroy are killed. The packages and the engine's runtime are there already."""
PROMPT_CANARY = "canaryPROMPTq7x"
CHAT: dict[str, Any] = {"model": "tiny-random", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}


@pytest.fixture(scope="module", autouse=True)
def alone(shared_laptop: Laptop) -> None:
    """What other modules put beside the stack is gone before the first test."""
    shared_laptop.beside.close()


def routes() -> list[tuple[str, str]]:
    """Return (method, path) of every route of the engine's own API."""
    rows = (ROOT / "tests/golden/vllm_openapi_routes.txt").read_text().splitlines()
    return [(method, row.split()[0]) for row in rows if row for method in row.split()[1].split(",")]


ALLOWED = {("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("GET", "/v1/models"), ("POST", "/v1/responses")}


def test_the_readme_command_shows_plan_preflight_progress_and_outputs(laptop: Laptop) -> None:
    printed = laptop.printed
    long_steps = ("host_packages.local", "host_engine_runtime.local", "host_weights.local", "host_engine.local")
    for word in ("to create", "reflight", *long_steps):
        assert word in printed
    for name in ("endpoint", "base_url", "model", "ca_file", "keys.me.file"):
        assert name in printed
    assert "noise" in printed, "the output says that the model answers noise"
    outputs = laptop.json("output")
    assert outputs["base_url"] == outputs["endpoint"] + "/v1"
    assert oct(laptop.machine.path(outputs["keys"]["me"]["file"]).stat().st_mode & 0o777) == "0o600"


def test_a_second_plan_has_no_changes(laptop: Laptop) -> None:
    printed = laptop.cli("plan --detailed-exitcode")
    assert "No changes." in printed


def test_the_engine_has_the_kv_cache_that_the_plan_predicted(laptop: Laptop) -> None:
    predicted = laptop.json("plan")["sizing"]["kv_cache"]["tokens"]
    told = {one["address"]: one for one in laptop.json("status")["resources"]}["host_engine.local"]
    assert predicted > 0
    assert (told["details"]["kv_cache_tokens"], told["details"]["predicted_kv_cache_tokens"]) == (predicted, predicted)
    assert told["notes"] == []


def test_openai_client_and_the_log_agree_on_tokens(laptop: Laptop) -> None:
    client = laptop.openai()
    assert [model.id for model in client.models.list()] == ["tiny-random"]
    messages: Any = [{"role": "user", "content": PROMPT_CANARY}]
    answer = client.chat.completions.create(model="tiny-random", messages=messages, max_tokens=12)
    streamed = list(
        client.chat.completions.create(
            model="tiny-random", messages=messages, max_tokens=20, stream=True, stream_options={"include_usage": True}
        )
    )
    plain = client.completions.create(model="tiny-random", prompt=PROMPT_CANARY, max_tokens=7)
    assert len([chunk for chunk in streamed if chunk.choices]) > 10
    laptop.answers += [answer.choices[0].message.content or "", plain.choices[0].text]
    usages = [answer.usage, streamed[-1].usage, plain.usage]
    seen = [(usage.prompt_tokens, usage.completion_tokens) for usage in usages if usage]
    assert [out for _, out in seen] == [12, 20, 7]
    deadline = time.monotonic() + 20
    logged: list[tuple[int, int]] = []
    lines: list[dict[str, Any]] = []
    while time.monotonic() < deadline and logged != seen:
        lines = [line for line in laptop.gateway_log() if line["tokens_out"]]
        logged = [(line["tokens_in"], line["tokens_out"]) for line in lines][-3:]
    assert logged == seen
    assert {line["principal"] for line in lines} == {"me"}


def test_without_a_good_key_every_allowed_path_is_401(laptop: Laptop) -> None:
    wrong = "llmd_live_" + "a" * 20
    with laptop.http() as client:
        for headers in ({}, {"authorization": f"Bearer {wrong}"}, {"authorization": "Basic abc"}, {"x-api-key": laptop.key()}):
            for method, path in ALLOWED:
                assert client.request(method, path, headers=headers, body=CHAT).status_code == 401, (method, path)


def test_every_other_route_of_the_engine_is_404(laptop: Laptop) -> None:
    headers = {"authorization": f"Bearer {laptop.key()}"}
    closed = [route for route in routes() if route not in ALLOWED and route != ("POST", "/v1/embeddings")]
    assert len(closed) > 15
    extra = [("POST", path) for path in ("/invocations", "/tokenize", "/v1/load_lora_adapter")]
    extra += [("GET", path) for path in ("/metrics", "/docs", "/openapi.json")]
    with laptop.http() as client:
        for method, path in closed + extra:
            assert client.request(method, path, headers=headers).status_code in (404, 405), (method, path)
        for method, path in extra:
            assert client.request(method, path, headers=headers).status_code == 404, path
        for path in ("//v1/models", "/v1/../metrics", "/v1/models%2f", "/v1/models/"):
            assert client.request("GET", path, headers=headers).status_code == 404, path


def test_only_the_gateway_listens_and_the_socket_is_private(laptop: Laptop) -> None:
    machine = laptop.machine
    pids = {process.pid: process.command for process in machine.processes()}
    own = os.readlink("/proc/self/ns/net")
    exposed = [command for pid, command in pids.items() if "vllm" in command and os.readlink(f"/proc/{pid}/ns/net") == own]
    assert exposed == [], "the engine lives in a network namespace of its own"
    assert any("vllm" in command for command in pids.values())
    socket = machine.run(f"find /run/llmdeploy/{laptop.slug()} -name '*.sock' -path '*engine*'").strip()
    assert socket
    ask = f"curl -s -m 5 --unix-socket {socket} http://engine/v1/models"
    assert "tiny-random" in machine.run(ask)
    refused = machine.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups {ask} || echo refused-$?")
    assert refused.strip() == "refused-7"


def test_prompts_and_answers_are_nowhere(laptop: Laptop) -> None:
    slug = laptop.slug()
    places = f"/var/log /var/lib/llmdeploy/{slug} /run/llmdeploy /tmp {STACK}/.llmdeploy /dev/shm"
    engine_log = laptop.cli("logs host_engine.local -n 2000")
    assert engine_log
    assert all(len(answer) > 10 for answer in laptop.answers)
    for text in (PROMPT_CANARY, *laptop.answers):
        found = laptop.machine.run(f"grep -rlaF -f - {places} 2>/dev/null || true", stdin=text.strip().splitlines()[0] + "\n")
        assert found.strip() == "", text
        assert text not in engine_log


def test_secrets_are_nowhere_but_in_custody(laptop: Laptop) -> None:
    machine, folder = laptop.machine, f"{STACK}/.llmdeploy"
    custody = {path.name: path.read_bytes().strip() for path in machine.path(f"{folder}/secrets").iterdir()}
    assert {"ca.key", "volume.key"} <= custody.keys()
    secrets = {"hf token": CANARY_TOKEN.encode(), "api key": laptop.key().encode(), "volume key": custody["volume.key"]}
    secrets["ca key"] = max(custody["ca.key"].splitlines(), key=len)
    for process in machine.processes():
        for name in ("cmdline", "environ"):
            content = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert not [secret for secret, value in secrets.items() if value in content], (process, name)
    seen = laptop.printed + laptop.cli("plan") + laptop.cli("plan --format json") + laptop.cli("show --format json")
    assert not [secret for secret, value in secrets.items() if value.decode() in seen]
    holders = {"api key": {f"{folder}/keys/me.key"}, "volume key": {f"{folder}/secrets/volume.key"}, "hf token": set[str]()}
    holders["ca key"] = {f"{folder}/secrets/ca.key"}
    for secret, value in secrets.items():
        places = f"{folder} /var/lib/llmdeploy /var/log /run /tmp /etc"
        found = machine.run(f"grep -rlaF -f - {places} 2>/dev/null || true", stdin=value.decode() + "\n").split()
        assert set(found) == holders[secret], secret


def test_the_backing_folder_holds_neither_names_nor_bytes(laptop: Laptop) -> None:
    lib = laptop.machine.path(f"/var/lib/llmdeploy/{laptop.slug()}")
    weights = (lib / "volume/weights/model.safetensors").read_bytes()
    raw = [path for path in (lib / "volume.enc").rglob("*") if path.is_file()]
    assert raw
    assert not [path for path in raw if "safetensors" in path.name or "config.json" in path.name]
    assert not [path for path in raw if weights[1000:1064] in path.read_bytes()]


def read_stream(laptop: Laptop, started: threading.Event, chunks: list[str], tokens: int) -> None:
    """Stream one long answer."""
    stream = laptop.openai().chat.completions.create(
        model="tiny-random", messages=[{"role": "user", "content": "x"}], max_tokens=tokens, stream=True
    )
    for chunk in stream:
        started.set()
        if chunk.choices:
            chunks.append(chunk.choices[0].finish_reason or "")


@pytest.fixture
def stack_file(laptop: Laptop) -> Iterator[Path]:
    """The stack file, put back afterwards."""
    path = laptop.machine.path(f"{STACK}/stack.yaml")
    text = path.read_text()
    yield path
    path.write_text(text)


def test_adding_and_removing_a_key(laptop: Laptop, stack_file: Path) -> None:
    original = stack_file.read_text()
    stack_file.write_text(original + "  - name: guest\n    principal: guest\n")
    laptop.cli("apply --yes")
    guest = laptop.key("guest")
    with laptop.http() as client:
        assert client.get("/v1/models", headers={"authorization": f"Bearer {guest}"}).status_code == 200
        started, chunks = threading.Event(), list[str]()
        reader = threading.Thread(target=read_stream, args=(laptop, started, chunks, 1500))
        reader.start()
        assert started.wait(60)
        stack_file.write_text(original)
        laptop.cli("apply --yes")
        deadline = time.monotonic() + 1.0
        status = 200
        while status != 401 and time.monotonic() < deadline:
            status = client.get("/v1/models", headers={"authorization": f"Bearer {guest}"}).status_code
        assert status == 401
        reader.join(120)
        assert chunks[-1] == "length", "the open stream went on to its end"
    assert "No changes." in laptop.cli("plan --detailed-exitcode")


def test_rotate_and_revoke(laptop: Laptop) -> None:
    old = laptop.key()
    laptop.cli("keys rotate me --overlap 1h")
    new = laptop.key()
    assert new != old

    def status(key: str) -> int:
        with laptop.http() as client:
            return client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code

    assert (status(old), status(new)) == (200, 200)
    (row,) = laptop.json("keys list")
    old_id = next(one["key_id"] for one in row["credentials"] if one["key_id"] in old)
    laptop.cli(f"keys revoke me --key-id {old_id} --yes")
    assert (status(old), status(new)) == (401, 200)
    with laptop.http() as client:
        for method, path in ALLOWED:
            assert client.request(method, path, headers={"authorization": f"Bearer {old}"}, body=CHAT).status_code == 401, path
    assert "No changes." in laptop.cli("plan --detailed-exitcode")


def test_context_changes_as_the_plan_says(laptop: Laptop, stack_file: Path) -> None:
    stack_file.write_text(stack_file.read_text().replace("context: 2K", "context: 1K"))
    change = next(c for c in laptop.json("plan")["resource_changes"] if c["address"] == "host_engine.local")
    assert change["change"]["actions"] == ["update"]
    laptop.cli("apply --yes")
    with laptop.http() as client:
        models = client.get("/v1/models", headers={"authorization": f"Bearer {laptop.key()}"}).json()
    assert models["data"][0]["max_model_len"] == 1024
    assert "No changes." in laptop.cli("plan --detailed-exitcode")


def test_drift_is_named_and_repaired(laptop: Laptop) -> None:
    machine, slug = laptop.machine, laptop.slug()
    lib = f"/var/lib/llmdeploy/{slug}"
    weights = machine.path(f"{lib}/volume/weights/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[5000] ^= 0xFF
    weights.write_bytes(content)
    config = next(machine.path(lib).rglob("haproxy.cfg"))
    config.write_text(config.read_text() + "\n# mine\n")
    for process in machine.processes():
        if "s6-svscan" in process.command or "vllm" in process.command or "s6-supervise" in process.command:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    named = laptop.cli("plan --detailed-exitcode", status=2)
    for address in ("host_weights.local", "host_gateway.local", "host_supervisor.local", "host_engine.local"):
        assert address in named
    assert "model.safetensors" in named
    assert "haproxy.cfg" in named
    laptop.cli("apply --yes")
    assert "No changes." in laptop.cli("plan --detailed-exitcode")

    machine.run(f"umount -l {lib}/volume")
    named = laptop.cli("plan --detailed-exitcode", status=2)
    assert "not mounted" in named
    laptop.cli("apply --yes")
    assert "No changes." in laptop.cli("plan --detailed-exitcode")
    assert laptop.openai().models.list().data


def test_the_engine_comes_back_when_it_dies(laptop: Laptop) -> None:
    main = min(process.pid for process in laptop.machine.processes() if "vllm" in process.command and "python" in process.command)
    os.kill(main, signal.SIGKILL)
    client, deadline = laptop.openai(), time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            client.chat.completions.create(model="tiny-random", messages=[{"role": "user", "content": "x"}], max_tokens=1)
            break
        except openai.APIStatusError:
            time.sleep(1)  # the engine needs half a minute to start; nothing to wait on from outside
    assert laptop.cli("status")


def second_stack(laptop: Laptop, name: str, port: int, extra: str = "") -> str:
    """Write another stack on the same machine; return its folder."""
    folder = f"/root/{name}"
    text = laptop.machine.path(f"{STACK}/stack.yaml").read_text().replace("name: laptop", f"name: {name}")
    laptop.machine.path(folder).mkdir(exist_ok=True)
    laptop.machine.path(f"{folder}/stack.yaml").write_text(f"{text}\ngateway: {{port: {port}}}\n{extra}")
    return folder


def test_a_failed_apply_converges_with_the_corrected_file(laptop: Laptop) -> None:
    folder = second_stack(laptop, "second", 18443, "engine: {name: vllm, args: {chat-template: /nowhere/template.jinja}}\n")
    printed = laptop.cli("apply --yes", folder=folder, status=1)
    assert "template.jinja" in printed, "the last lines of the engine's log are shown"
    second_stack(laptop, "second", 18443)
    laptop.cli("apply --yes", folder=folder)
    assert "No changes." in laptop.cli("plan --detailed-exitcode", folder=folder)
    assert laptop.openai().models.list().data, "two stacks live on one machine"
    with laptop.http(folder) as client:
        key = laptop.key("me", folder)
        assert client.post("/v1/chat/completions", body=CHAT, headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert client.get("/v1/models", headers={"authorization": f"Bearer {laptop.key()}"}).status_code == 401
    laptop.cli("destroy --yes", folder=folder)
    assert laptop.openai().models.list().data, "the other stack did not notice"


def test_a_gated_model_of_a_hub_is_locked_brought_and_served(laptop: Laptop) -> None:
    """From a server that speaks the hub's API, with a token that must be nowhere afterwards; then from a folder."""
    folder = second_stack(laptop, "hub", 38443)
    stack = laptop.machine.path(f"{folder}/stack.yaml")
    stack.write_text(stack.read_text().replace("id: tiny-random", "id: acme/tiny"))
    repository = Repository(tiny_random.files(seed=7), gated="manual")
    with HubServer({"acme/tiny": repository}, token=CANARY_TOKEN) as hub:
        environ = {"HF_ENDPOINT": hub.endpoint}
        assert "token" in laptop.cli("lock", folder=folder, environ={**environ, "HF_TOKEN": "hf_wrong"}, status=1).lower()
        laptop.cli("lock", folder=folder, environ=environ)
        asked = len(hub.seen)
        laptop.cli("plan", folder=folder, environ=environ)
        assert len(hub.seen) == asked, "a locked model is planned without the hub"
        laptop.cli("apply --yes", folder=folder, environ=environ)
    with laptop.http(folder) as client:
        key = laptop.key("me", folder)
        body = {**CHAT, "model": "tiny"}
        assert client.post("/v1/chat/completions", body=body, headers={"authorization": f"Bearer {key}"}).status_code == 200
    places = f"{folder} /var/lib/llmdeploy /var/log /run /tmp /etc"
    assert laptop.machine.run(f"grep -rlaF -f - {places} 2>/dev/null || true", stdin=CANARY_TOKEN + "\n").strip() == ""
    model = laptop.machine.path(f"{folder}/model")
    model.mkdir()
    for name, content in tiny_random.files(seed=8).items():
        (model / name).write_bytes(content)
    stack.write_text(stack.read_text().replace("id: acme/tiny ", "served_name: tiny\n  id: ./model "))
    assert "llmdeploy lock" in laptop.cli("plan", folder=folder, status=1), "the lock file is of another model"
    laptop.cli("lock", folder=folder)
    laptop.cli("apply --yes", folder=folder)
    assert "No changes." in laptop.cli("plan --detailed-exitcode", folder=folder)
    laptop.cli("destroy --yes", folder=folder)


def killed(laptop: Laptop, command: str, folder: str, after_s: float) -> bool:
    """Run a command and end it with SIGKILL; False when it ended by itself before."""
    running = subprocess.Popen(
        laptop.machine.command(f"exec setsid {CLI} {command} --yes", {"COLUMNS": "120"}, folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        running.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        for process in laptop.machine.processes():
            if f"{CLI} {command}" in process.command:
                os.killpg(os.getpgid(process.pid), signal.SIGKILL)
        running.wait(timeout=30)
        return True
    return False


@pytest.mark.timeout(180 + 60 * HOST_KILLS)
def test_kills_of_apply_and_destroy_converge(laptop: Laptop) -> None:
    folder = second_stack(laptop, "killed", 28443)
    moments = random.Random(20261121)
    command, kills = "apply", 0
    while kills < HOST_KILLS:
        if killed(laptop, command, folder, moments.uniform(0.5, 12)):
            kills += 1
        else:
            command = "destroy" if command == "apply" else "apply"
    laptop.cli("apply --yes", folder=folder)
    assert "No changes." in laptop.cli("plan --detailed-exitcode", folder=folder)
    with laptop.http(folder) as client:
        key = laptop.key("me", folder)
        assert client.post("/v1/chat/completions", body=CHAT, headers={"authorization": f"Bearer {key}"}).status_code == 200
    stacks = laptop.machine.run("ls /var/lib/llmdeploy").split()
    assert len([name for name in stacks if name.startswith("killed-")]) == 1
    laptop.cli("destroy --yes", folder=folder)


def test_destroy_leaves_nothing(laptop: Laptop) -> None:
    machine = laptop.machine
    slug = laptop.slug()
    laptop.cli("destroy --yes --keep-weights")
    assert machine.path(f"/var/lib/llmdeploy/{slug}/volume/weights/model.safetensors").exists()
    laptop.cli("destroy --yes")
    assert "Nothing to destroy" in laptop.cli("destroy --yes")
    assert [process.command for process in machine.processes()] == []
    assert "llmdeploy" not in machine.run("cat /proc/mounts")
    assert machine.run("getent passwd; getent group") == laptop.users_before
    assert packages(machine) - laptop.packages_before == frozenset()
    assert laptop.packages_before - packages(machine) == frozenset()
    assert sorted(files(machine) - laptop.files_before) == []
    assert machine.path(f"{CHECKOUT}/README.md").exists()
    state = json.loads(machine.path(f"{STACK}/.llmdeploy/state.json").read_text())
    assert state["resources"] == []
    assert state["serial"] > 0
