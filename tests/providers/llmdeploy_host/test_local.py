"""The provider `local`: what it lays out, what it refuses, what it imports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from llmdeploy.sdk import (
    GatewayRequest,
    Health,
    Identity,
    LayoutRequest,
    Manifest,
    NotBuilt,
    Policy,
    Prior,
    ProcessSpec,
    Ref,
    ServingRequest,
    StorageRequest,
)
from llmdeploy_host import local
from tests.support import ROOT

STORAGE = StorageRequest("auto", None, None, None, "erase")


def _request(**changes: Any) -> LayoutRequest:
    process = ProcessSpec(argv=("serve",), health=Health(path="/health", ready_path="/v1", ready_body="{}"), memory_bytes=1)
    manifest = Manifest(kind="generated", location="tiny-random", revision="1", files=())
    request = LayoutRequest(
        stack="demo",
        config=local.Config(),
        region=None,
        replicas=1,
        machines_per_replica=1,
        gpu=None,
        gpus_per_machine=0,
        policy=Policy(),
        serving=ServingRequest("vllm", "0.32.0", "venv", "", process, manifest, "demo"),
        storage=STORAGE,
        gateway=GatewayRequest(None, 8443, None, None, "x-session-id", 30),
        keys=(),
    )
    return replace(request, **changes)


def test_layout_is_one_machine() -> None:
    fragment = local.layout(_request())
    (host,) = fragment.resources
    (machine,) = fragment.machines
    assert (host.address, host.provider) == ("host.local", "local")
    assert (machine.key, machine.host) == ("local", Ref("host.local", "connection"))
    assert (fragment.front, fragment.custody, fragment.hardened, fragment.serves) == ("localhost", True, False, False)
    known = local.types["host"].predict(host.values, Identity("demo", None))
    assert known["connection"]["transport"] == "local"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"replicas": 2}, "one replica, the stack file asks for 2"),
        ({"machines_per_replica": 2}, "needs 2 for each replica"),
        ({"gpu": "l40s"}, "CPU only so far, not on l40s"),
        ({"storage": replace(STORAGE, encryption="luks2")}, "luks2 is not built"),
        ({"storage": replace(STORAGE, on_destroy="keep")}, r"storage\.on_destroy: keep is not built"),
        ({"storage": replace(STORAGE, device="/dev/vdb")}, r"storage\.device is not built"),
    ],
)
def test_what_is_not_built_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NotBuilt, match=sentence):
        local.layout(_request(**changes))


@pytest.mark.parametrize("region", [None, "DE"])
def test_the_machine_stands_where_the_stack_file_says_and_a_move_is_no_change(region: str | None) -> None:
    (host,) = local.layout(_request(region=region)).resources
    kind = local.types["host"]
    values = kind.spec.model_validate(dict(host.values)).tree()
    assert kind.traits(values).region == region
    assert kind.traits(values).machine
    before = {name: value for name, value in values.items() if name != "region"}
    assert kind.plan(Prior("host.local", "id", before, {}), values).action == "no-op"


@pytest.mark.parametrize("gpu", [None, "auto", "cpu"])
def test_cpu_is_accepted(gpu: str | None) -> None:
    assert local.layout(_request(gpu=gpu)).machines


def test_there_is_nothing_to_configure() -> None:
    assert local.Config.model_validate({})
    with pytest.raises(ValidationError):
        local.Config.model_validate({"address": "10.0.0.1"})


def test_types_are_those_of_the_modules() -> None:
    assert {"host", "host_home", "host_packages", "host_supervisor", "host_volume"} <= set(local.types)
    assert all(name == kind.name for name, kind in local.types.items())


def test_reading_the_types_imports_nothing_heavy() -> None:
    code = (
        "import sys, llmdeploy_host; llmdeploy_host.local.types\n"
        "heavy = {'jinja2', 'cryptography', 'paramiko', 'fabric', 'boto3', 'rich', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"
