"""What the tests of the provider `hosts` share: a stack of two machines, as sizing would place it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from llmdeploy.registry import Registry
from llmdeploy.sdk import (
    GatewayRequest,
    Gpu,
    HasInventory,
    Health,
    KeyRequest,
    LayoutRequest,
    Placement,
    Policy,
    ProcessSpec,
    ServingRequest,
    Slot,
    StorageRequest,
)
from llmdeploy.stack.load import Loaded, load
from llmdeploy_host import hosts
from llmdeploy_host._hosts_config import HostsConfig

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIM3wTqFc2iVYGLB1ZyBGGkLdRYzk8EnZ5Wzq0VbXk2r"
L40S = Gpu("l40s", "NVIDIA L40S", "Ada", (8, 9), 48 * 10**9, 864e9, {"bf16": 362e12})
GPUS = {"l40s": L40S, "l4": replace(L40S, name="l4", title="NVIDIA L4", memory_bytes=24 * 10**9)}
RACK: list[dict[str, Any]] = [
    {"address": f"10.0.0.{last}", "name": name, "user": "ops", "host_key": HOST_KEY, "gpus": {"type": "l40s", "count": 2}}
    for last, name in ((11, "gpu1"), (12, "gpu2"))
]
DISK = StorageRequest("luks2", "/dev/disk/by-id/nvme-data0", "auto", "env:VOLUME_KEY", "erase", ("S4EVNX0R",))
TLS = GatewayRequest("llm.example.com", 443, "file:chain.pem", "file:key.pem", "x-session-id", 30)
KEY = KeyRequest("support", "support", None, 600, 32, 90, allow_fallback=False)


def config(*members: dict[str, Any]) -> HostsConfig:
    """Return the body of `hosts`."""
    return HostsConfig.model_validate(list(members))


def load_hosts(folder: Path, body: str) -> Loaded:
    """Load a stack file whose machines are `body`, which stands from line 6 on."""
    text = f"version: 1\nname: demo\nmodel: {{id: tiny-random}}\nprovider:\n  hosts:\n{body}"
    (folder / "stack.yaml").write_text(text)
    configs = Registry({"hosts": hosts}).configs()
    return load(folder, providers=configs, variables={}, var_files=(), environ={}, version="0.1.0")


def request(members: list[dict[str, Any]] = RACK, **changes: Any) -> LayoutRequest:
    """Return a request for one replica on both GPUs of each machine, in containers, its files not known yet."""
    body = config(*members)
    (kind,) = cast("HasInventory", hosts).inventory(body, "de", GPUS)
    count = len(members)
    process = ProcessSpec(
        argv=("vllm", "serve", "{weights}"), health=Health(path="/health", ready_path="/v1", ready_body="{}"), memory_bytes=1
    )
    return replace(
        LayoutRequest(
            stack="demo",
            config=body,
            region="de",
            replicas=count,
            machines_per_replica=1,
            gpu="l40s",
            gpus_per_machine=2,
            policy=Policy(),
            serving=ServingRequest(
                "vllm",
                "0.32.0",
                "container",
                "",
                process,
                None,
                "demo",
                image="vllm/vllm-openai:v0.32.0",
                repository="acme/chat-70b",
            ),
            storage=DISK,
            gateway=TLS,
            keys=(KEY,),
            placement=Placement(kind, count, tuple(Slot(index, index, 0, (0, 1)) for index in range(count))),
        ),
        **changes,
    )
