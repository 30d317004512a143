from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmdeploy.sdk import UNKNOWN, Context, Health, Identity, NotBuilt, Prior, ProcessSpec, Ref, Run, Stop
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
    kv_cache_tokens=100_000,
    kv_cache_metric="server:cache{tokens}",
)
SPANNING = PROCESS.model_copy(update={"argv": (*PROCESS.argv, "--master", "{head}")})


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


# --- on GPUs, in a container, over several machines ------------------------------------------------------------------------


def contained(**changed: Any) -> EngineSpec:
    return spec_of(**{"python": None, "image": "acme/server:v1@sha256:aa", "gpu_indices": (0, 1), **changed})


def test_the_plan_of_a_container_says_how_it_is_held() -> None:
    assert RESOURCE.plan(None, contained().tree()).details == (
        "runs in a container: read-only, without capabilities, at most 4096 processes (--read-only --cap-drop ALL --security-opt "
        "no-new-privileges --pids-limit 4096)",
        "as the stack's own user, in the image's group 0 (--user UID:0)",
        "with GPU 0,1 of the machine and no other (--gpus device=0,1)",
        "its processes exchange data in memory of their own, not the machine's (--shm-size 16g)",
        "without a network: clients come through its socket (--network none)",
        "the model is mounted read-only; it can write its cache, its home, its temporary folder and its socket's, nothing else",
    )


def test_a_container_of_several_machines_is_in_their_network() -> None:
    details = RESOURCE.plan(None, contained(process=SPANNING, head=Ref("host.a", "address"), gpu_indices=()).tree()).details
    assert "in the machine's network, to reach the other machines of its replica (--network host)" in details
    assert not [sentence for sentence in details if "GPU" in sentence or "--network none" in sentence]


def test_the_plan_of_a_process_on_gpus_says_which() -> None:
    planned = RESOURCE.plan(None, spec_of(gpu_indices=(2,)).tree())
    assert planned.details == ("uses GPU 2 of the machine and no other (CUDA_VISIBLE_DEVICES=2)",)


def test_the_plan_of_a_process_on_the_cpu_and_of_one_that_stays_says_nothing_more() -> None:
    assert RESOURCE.plan(None, spec_of().tree()).details == ()
    assert RESOURCE.plan(prior_of(contained()), contained(log_retention_days=1).tree()).details == ()


def test_parts_of_a_replica_on_several_machines_talk_in_the_open() -> None:
    alone, spread = RESOURCE.traits(contained().tree()), RESOURCE.traits(contained(process=SPANNING, head="10.0.0.1").tree())
    assert (alone.in_transit, alone.exposure, alone.notes) == ("local", "none", ())
    assert (spread.in_transit, spread.exposure) == ("plain", "private")
    assert "unencrypted" in spread.notes[0]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"python": None}, "one of python and image"),
        ({"image": "acme/server:v1"}, "one of python and image"),
        ({"process": SPANNING}, "the process names the replica's first machine, and head does not say where that is"),
    ],
)
def test_a_spec_is_whole(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        spec_of(**changed)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (spec_of(gpu_indices=(0,)), "on GPUs"),
        (contained(), "on GPUs and in a container"),
        (contained(gpu_indices=(), process=SPANNING, head="10.0.0.1"), "in a container and over several machines"),
    ],
)
def test_what_cannot_be_run_yet_is_refused_before_the_first_effect(tmp_path: Path, spec: EngineSpec, what: str) -> None:
    run = Run(Identity("short", "1a2b3c4d" + 24 * "0"), tmp_path, os.environ)
    acked: list[str] = []
    sentence = f"to run an engine {what} is planned only: this version of llmdeploy cannot do it yet"
    (problem,) = RESOURCE.preflight(run, {**spec.tree(), "host": UNKNOWN, "weights": UNKNOWN}, None)
    assert problem.sentence == sentence
    with pytest.raises(NotBuilt, match=sentence):
        RESOURCE.create(Context(run, "host_engine.a", on_acked=acked.append), spec)
    assert acked == []
    with pytest.raises(NotBuilt, match=sentence):
        engine_service(PATHS, spec, "isolated")
    prior = Prior("host_engine.a", "", spec.tree(), {}, status="creating")
    assert RESOURCE.observe(prior, {}).drift == ()
    assert RESOURCE.probe(PATHS, prior) == "", "what was never started is not looked at"
