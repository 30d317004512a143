from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.sdk import UNKNOWN, Health, Identity, NotBuilt, Prior, ProcessSpec, Run, Stop
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._scripts import render
from llmdeploy_host.host_engine import (
    RESOURCE,
    EngineSpec,
    Network,
    engine_service,
    probe_script,
    remove_script,
    service_name,
    start_script,
)
from tests.support import require_tool

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "host"
PATHS = Paths("support-chat-1a2b3c4d")
PROCESS = ProcessSpec(
    argv=("python", "-m", "server", "--model", "{weights}", "--uds", "{socket}", "--name", "it's {not} a token"),
    env={"HOME": "{home}", "TMPDIR": "{tmp}", "CACHE": "{cache}/deep"},
    health=Health(path="/health", ready_path="/v1/completions", ready_body='{"prompt": "it\'s"}', start_timeout_s=60),
    stop=Stop(signal="INT", timeout_s=7),
    memory_bytes=2**30,
)


def spec_of(**changed: Any) -> EngineSpec:
    wanted: dict[str, Any] = {
        "host": Connection(),
        "python": "/runtimes/x/bin/python",
        "runtime_digest": "r1",
        "weights": "/lib/volume/weights",
        "weights_digest": "w1",
        "volume": "/lib/volume",
        "process": PROCESS,
        "user": PATHS.user,
        "supervisor": "s6",
    }
    return EngineSpec(**{**wanted, **changed})


def prior_of(spec: EngineSpec, **changed: Any) -> Prior:
    outputs = {"socket": "/x", "service": "engine-0", "log": "/y", "network": "isolated"}
    return Prior("host_engine.a", "x", spec.tree(), outputs, **changed)


def test_the_process_gets_its_folders_and_its_interpreter() -> None:
    service = engine_service(PATHS, spec_of(), "isolated")
    assert service.argv == (
        "/runtimes/x/bin/python",
        *(
            "-m",
            "server",
            "--model",
            "/lib/volume/weights",
            "--uds",
            f"{PATHS.run}/engine/0.sock",
            "--name",
            "it's {not} a token",
        ),
    )
    assert service.env == {
        "HOME": "/lib/volume/engine-0/home",
        "TMPDIR": f"{PATHS.run}/work-0",
        "CACHE": "/lib/volume/engine-0/cache/deep",
    }
    assert (service.name, service.user, service.umask, service.isolate_network) == ("engine-0", PATHS.user, "077", True)
    assert (service.stop_signal, service.stop_timeout_s) == ("INT", 7)


def test_other_weights_under_the_same_path_are_another_definition() -> None:
    first, second = (engine_service(PATHS, spec_of(weights_digest=digest), "isolated") for digest in ("w1", "w2"))
    assert first != second


def test_preparation_of_each_start() -> None:
    text = engine_service(PATHS, spec_of(), "isolated").pre_start
    path = GOLDEN / "engine_pre_start.sh"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("kind", ["s6", "systemd"])
@pytest.mark.parametrize("network", ["isolated", "loopback"])
def test_scripts_pass_shellcheck(kind: str, network: Network) -> None:
    require_tool("shellcheck")
    spec = spec_of(supervisor=kind)
    scripts = (
        *(start_script(PATHS, spec, network, stop_first=stop_first) for stop_first in (False, True)),
        probe_script(PATHS, spec),
        remove_script(PATHS, spec),
        render("engine_memory.sh.j2"),
        engine_service(PATHS, spec, network).pre_start,
    )
    for script in scripts:
        checked = subprocess.run(["shellcheck", "-s", "sh", "-"], input=script, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


def test_names_for_a_service_are_made_of_any_key() -> None:
    assert service_name("node_1.a") == "engine-node-1-a"


def test_outputs_are_predicted_once_the_lineage_is_known() -> None:
    values = spec_of(key="b").tree()
    assert RESOURCE.predict(values, Identity("support-chat", None)) == {}
    predicted = RESOURCE.predict(values, Identity("support-chat", "1a2b3c4d" + 24 * "0"))
    assert predicted == {"socket": f"{PATHS.run}/engine/b.sock", "service": "engine-b"}


def test_changes_restart_in_place_and_only_another_volume_replaces() -> None:
    prior = prior_of(spec_of())
    assert RESOURCE.plan(prior, spec_of().tree()).action == "no-op"
    changed = PROCESS.model_copy(update={"argv": (*PROCESS.argv, "--more")})
    assert RESOURCE.plan(prior, spec_of(process=changed).tree()).action == "update"
    assert RESOURCE.plan(prior, spec_of(weights_digest="w2").tree()).action == "update"
    moved = RESOURCE.plan(prior, spec_of(key="b").tree())
    assert (moved.action, moved.reason) == ("replace", "the process gets another name")


@pytest.mark.parametrize(
    ("facts", "fields"),
    [
        ({"running": "yes", "wanted": "yes", "health": "200"}, []),
        ({"running": "yes", "wanted": "yes", "health": "000"}, ["health"]),
        ({"running": "yes", "health": "200"}, ["definition"]),
        ({"running": "no", "wanted": "yes", "health": "000"}, ["running"]),
        ({}, ["running"]),
    ],
)
def test_what_is_found_becomes_drift(facts: dict[str, str], fields: list[str]) -> None:
    found = RESOURCE.observe(prior_of(spec_of()), facts)
    assert found.exists
    assert [drift.field for drift in found.drift] == fields
    assert all("engine" in drift.sentence for drift in found.drift)


def preflight(tmp_path: Path, name: str, **changed: Any) -> list[str]:
    run = Run(Identity(name, "1a2b3c4d" + 24 * "0"), tmp_path, os.environ)
    return [problem.sentence for problem in RESOURCE.preflight(run, {**spec_of().tree(), **changed}, None)]


def test_preflight_knows_memory_and_the_length_of_paths(tmp_path: Path) -> None:
    assert preflight(tmp_path, "short", process=PROCESS.model_copy(update={"memory_bytes": 1}).model_dump()) == []
    (sentence,) = preflight(tmp_path, "short", process=PROCESS.model_copy(update={"memory_bytes": 2**50}).model_dump())
    assert sentence.startswith("the engine needs 1048576.0 GiB of memory and ")
    (sentence,) = preflight(tmp_path, "n" * 60, host=UNKNOWN)
    assert sentence == "the name of the stack is 21 characters too long for the paths of its sockets"


def test_secrets_in_the_environment_are_refused() -> None:
    process = PROCESS.model_copy(update={"secret_env": {"TOKEN": "env:TOKEN"}})
    with pytest.raises(NotBuilt, match="TOKEN"):
        engine_service(PATHS, spec_of(process=process), "isolated")
