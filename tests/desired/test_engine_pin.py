"""The engine's part of the lock file: an image by its digest, what a plan makes of it, and pins that are stale.

Hub and registry are doubles, because tests cannot reach a real registry; the constant that names Docker Hub leads to the double.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmdeploy import pins
from llmdeploy.catalog import Catalog
from llmdeploy.desired import Desired, Network, desire, inputs_of, pinned
from llmdeploy.errors import LlmdeployError, StackError
from llmdeploy.pins import PinnedEngine, Pins
from llmdeploy.registry import Registry
from llmdeploy.sources import images, web
from tests.compliance.stacks import AWS, HOSTS, Lines, compliance, planned, text
from tests.sources.hub_server import HubServer, Repository
from tests.sources.registry_server import RegistryServer, index

MODEL = "llama-3.1-8b-instruct"
TAG = "vllm/vllm-openai:v0.32.0"
IMAGE = index("linux/amd64", "linux/arm64")
PINNED = f"{TAG}@{IMAGE.digest}"
HIPAA: Lines = {**AWS, "compliance": compliance("hipaa"), "region": "region: us-east-1"}
AMI = "provider: {aws: {ami: ami-0123456789abcdef0}}"
LAPTOP = "version: 1\nname: x\nmodel: {id: tiny-random, context: 1K, concurrency: 1}\nprovider: {local: {}}\n"


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(web, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    facts = Catalog.load(None).facts(MODEL)
    assert facts is not None
    files = {"config.json": json.dumps(facts.config).encode(), "model.safetensors": b"w" * 5_000}
    with HubServer({"meta-llama/Llama-3.1-8B-Instruct": Repository(files, license="llama3.1")}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def docker_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    with RegistryServer({TAG: IMAGE}, token="anybody") as running:
        monkeypatch.setattr(images, "DOCKER_HUB", running.host)
        yield running


def wanted(folder: Path, network: Network = "off") -> Desired:
    return desire(inputs_of(folder), Registry(), network)


def lock(folder: Path, stack: str) -> Pins:
    (folder / "stack.yaml").write_text(stack)
    path, found = pinned(inputs_of(folder), Registry())
    pins.write(path, found)
    return found


def relock(folder: Path, **engine: Any) -> None:
    """Change what the lock file says of the engine."""
    path = folder / pins.FILE_NAME
    found = pins.read(path)
    assert found is not None
    assert found.engine is not None
    pins.write(path, found.model_copy(update={"engine": found.engine.model_copy(update=engine)}))


def values(found: Desired, kind: str) -> list[Any]:
    return [one.values for one in found.graph if one.type == kind]


@pytest.mark.parametrize("lines", [AWS, HOSTS], ids=["aws", "hosts"])
def test_lock_pins_the_image_and_the_plan_takes_it_by_its_digest(
    docker_hub: RegistryServer, tmp_path: Path, lines: Lines
) -> None:
    assert lock(tmp_path, text(lines)).engine == PinnedEngine(
        name="vllm", version="0.32.0", runtime="container", image=TAG, image_digest=IMAGE.digest
    )
    asked = len(docker_hub.seen)
    assert {one["image"] for one in values(wanted(tmp_path), "host_engine_runtime")} == {PINNED}
    assert len(docker_hub.seen) == asked, "a plan asks no registry"


def test_a_profile_is_kept_once_everything_is_pinned(docker_hub: RegistryServer, tmp_path: Path) -> None:
    stack = text(HIPAA, {"provider": AMI})
    before = planned(tmp_path, stack, offline=False)
    assert {one.address.partition(".")[0] for one in before.of("SUP-01")} == {"host_engine_runtime", "host_weights"}
    assert before.refusals == {("SUP-01", "model")}
    after = planned(tmp_path, stack, offline=False, lock=True)
    assert after.of("SUP-01") == []
    assert after.refusals == set()
    assert after.traits("host_engine_runtime.node-0").pinned is True
    assert [one.to for one in after.traits("host_engine_runtime.node-0").data_flows] == ["registry-1.docker.io"]


def test_a_machine_image_is_not_in_the_lock_file_and_the_way_out_says_so(docker_hub: RegistryServer, tmp_path: Path) -> None:
    made = planned(tmp_path, text(HIPAA), offline=False, lock=True)
    assert [(one.address, one.refuses) for one in made.of("SUP-01")] == [("aws_image.node", True)]
    assert "a machine image is pinned in the provider's settings" in made.of("SUP-01")[0].way_out


def test_a_lock_file_from_before_there_were_digests_pins_no_image(docker_hub: RegistryServer, tmp_path: Path) -> None:
    stack = text(HIPAA, {"provider": AMI})
    lock(tmp_path, stack)
    relock(tmp_path, image=None, image_digest=None)
    made = planned(tmp_path, stack, offline=False)
    assert {one.address.partition(".")[0] for one in made.of("SUP-01")} == {"host_engine_runtime"}
    assert {one["image"] for one in values(made.desired, "host_engine_runtime")} == {TAG}


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ({"version": "0.31.0"}, r"pins vllm 0\.31\.0 \(vllm/vllm-openai:v0\.32\.0\); the stack file asks for vllm 0\.32\.0 "),
        (
            {"image": "mine/vllm:v0.32.0"},
            r"pins vllm 0\.32\.0 \(mine/vllm:v0\.32\.0\); the stack file asks for vllm 0\.32\.0 \(vllm/",
        ),
        ({"name": "other"}, r"pins other 0\.32\.0 "),
        (
            {"version": "0.31.0", "image": None, "image_digest": None},
            r"pins vllm 0\.31\.0 \(container\); the stack file asks for ",
        ),
    ],
)
def test_a_pin_of_another_engine_is_stale(
    docker_hub: RegistryServer, tmp_path: Path, engine: dict[str, Any], sentence: str
) -> None:
    stack = text(AWS, {"engine": "engine: {version: 0.32.0}"})
    lock(tmp_path, stack)
    relock(tmp_path, **engine)
    line = 1 + stack.splitlines().index("engine: {version: 0.32.0}")
    with pytest.raises(
        StackError, match=rf"stack\.yaml:{line}:19: error: engine\.version: stack\.lock\.yaml {sentence}"
    ) as caught:
        wanted(tmp_path)
    assert "llmdeploy lock" in str(caught.value)


def test_the_packages_of_an_engine_on_the_cpu_are_held_to_their_pin(tmp_path: Path) -> None:
    lock(tmp_path, LAPTOP)
    assert values(wanted(tmp_path), "host_engine_runtime")
    relock(tmp_path, requirements_sha256="0" * 64)
    with pytest.raises(
        StackError, match=r"pins other packages of vllm 0\.32\.0 \(venv\) than this version of llmdeploy installs"
    ):
        wanted(tmp_path)


def test_a_stack_that_moved_to_gpus_is_locked_anew(docker_hub: RegistryServer, tmp_path: Path) -> None:
    cpu, gpu = lock(tmp_path, LAPTOP), lock(tmp_path, text(AWS))
    pins.write(tmp_path / pins.FILE_NAME, gpu.model_copy(update={"engine": cpu.engine}))
    with pytest.raises(
        StackError, match=r"pins vllm 0\.32\.0 \(venv\); the stack file asks for vllm 0\.32\.0 \(vllm/vllm-openai"
    ):
        wanted(tmp_path)


def test_an_engine_on_the_cpu_asks_no_registry(docker_hub: RegistryServer, tmp_path: Path) -> None:
    locked = lock(tmp_path, LAPTOP).engine
    assert locked is not None
    assert (locked.runtime, locked.image, locked.image_digest) == ("venv", None, None)
    assert docker_hub.seen == []


def test_a_registry_that_cannot_be_asked_is_told_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(images, "DOCKER_HUB", host)
        with pytest.raises(LlmdeployError, match=f"cannot reach {host} for the digest of {TAG}: Connection refused") as caught:
            lock(tmp_path, text(AWS))
    assert "nothing is written" in caught.value.hint
    assert not (tmp_path / pins.FILE_NAME).exists()


def test_an_engine_version_that_nobody_knows_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"stack\.yaml:5:\d+: error: engine\.version: vLLM 0\.1\.0 is not known"):
        lock(tmp_path, LAPTOP + "engine: {version: 0.1.0}\n")
