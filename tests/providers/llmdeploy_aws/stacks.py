"""Requests as the core would make them, and the graphs that they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmdeploy.blueprint import Blueprint, build
from llmdeploy.compliance.profiles import demanded_by
from llmdeploy.sdk import (
    Demand,
    Fragment,
    GatewayRequest,
    Gpu,
    Health,
    KeyRequest,
    LayoutRequest,
    MachineType,
    Manifest,
    Placement,
    Policy,
    ProcessSpec,
    ServingRequest,
    Slot,
    StorageRequest,
)
from llmdeploy_aws import aws
from llmdeploy_host import hosts

GIB = 2**30
WEIGHTS_BYTES = 16 * GIB
L40S = Gpu("l40s", "NVIDIA L40S", "Ada", (8, 9), 45_776 * 2**20, 864e9, {"bf16": 362e12})
H100 = Gpu("h100", "NVIDIA H100", "Hopper", (9, 0), 81_920 * 2**20, 3.35e12, {"bf16": 989e12}, link=450e9)
FRANKFURT = ("euc1-az1", "euc1-az2", "euc1-az3")
VIRGINIA = ("use1-az1", "use1-az4", "use1-bos1-az1", "use1-az6")

SMALL = MachineType("g6e.xlarge", L40S, 1, L40S.memory_bytes, 4, 32 * GIB, 250 * 10**9, region="eu-central-1", zones=FRANKFURT)
FOUR = MachineType("g6e.12xlarge", L40S, 4, L40S.memory_bytes, 48, 384 * GIB, 3_800 * 10**9, region="us-east-1", zones=VIRGINIA)
DISKLESS = replace(SMALL, name="gr6f.4xlarge", local_disk_bytes=0)
EIGHT = MachineType(
    "p5.48xlarge", H100, 8, H100.memory_bytes, 192, 2048 * GIB, 30_400 * 10**9, region="us-east-1", zones=VIRGINIA
)

PRINCIPAL = "arn:aws:iam::111122223333:role/support-backend"
ALICE = KeyRequest("support-backend", PRINCIPAL, None, 600, 32, 90, False)
BATCH = KeyRequest("batch", "arn:aws:iam::444455556666:user/jobs/batch", None, 60, 4, 30, False)


def one_each(count: int, gpus: int = 1) -> tuple[Slot, ...]:
    """A replica on each machine."""
    return tuple(Slot(index, index, 0, tuple(range(gpus))) for index in range(count))


def spanning(replicas: int, machines: int, gpus: int = 8) -> tuple[Slot, ...]:
    """Replicas that each need several machines."""
    cells = [(replica, rank) for replica in range(replicas) for rank in range(machines)]
    return tuple(Slot(replica * machines + rank, replica, rank, tuple(range(gpus))) for replica, rank in cells)


PROCESS = ProcessSpec(argv=("serve",), health=Health(path="/health", ready_path="/v1", ready_body="{}"), memory_bytes=1)
SERVING = ServingRequest(
    engine="vllm",
    version="0.33.0",
    runtime="container",
    requirements="",
    process=PROCESS,
    manifest=Manifest(kind="hub", location="meta-llama/Llama-3.1-8B-Instruct", revision="1" * 40, files=()),
    served_name="llama",
    image="vllm/vllm-openai:v0.33.0",
    repository="meta-llama/Llama-3.1-8B-Instruct",
    weights_bytes=WEIGHTS_BYTES,
)


def policy_of(profiles: tuple[str, ...]) -> Policy:
    """What the profiles demand, without a stack file that could contradict them."""
    demands = (Demand(name, by, "", strict=bool(by)) for name, by in demanded_by(profiles).items())
    return Policy(profiles=tuple(sorted(profiles)), demands=tuple(demands))


def request(config: Mapping[str, Any] | None = None, profiles: tuple[str, ...] = (), **changes: Any) -> LayoutRequest:
    """A stack of one machine in Frankfurt; `changes` are of the request."""
    placement: Placement = changes.get("placement", Placement(SMALL, 1, one_each(1)))
    several = placement.count > changes.get("machines_per_replica", 1)
    changes.setdefault("gateway", GatewayRequest(None, 8443, None, None, "x-session-id", 30, 9443 if several else None))
    made = LayoutRequest(
        stack="chat",
        config=aws.Config.model_validate(config or {}),
        region="eu-central-1",
        replicas=1,
        machines_per_replica=1,
        gpu="l40s",
        gpus_per_machine=1,
        policy=policy_of(profiles),
        serving=SERVING,
        storage=StorageRequest("auto", None, None, None, "erase"),
        gateway=GatewayRequest(None, 8443, None, None, "x-session-id", 30),
        keys=(ALICE,),
        placement=Placement(SMALL, 1, one_each(1)),
        disk_bytes=60 * GIB,
    )
    return replace(made, **changes)


def built(wanted: LayoutRequest) -> tuple[Fragment, Blueprint]:
    """The provider's part, and the whole graph with what the core puts on the machines."""
    fragment = aws.layout(wanted)
    return fragment, build(wanted, aws.name, fragment, {**hosts.types, **aws.types})


EXAMPLES: Mapping[str, LayoutRequest] = {
    "dev": request(),
    "two-replicas": request(
        {"public": True, "allowed_cidrs": ["203.0.113.0/24", "198.51.100.7/32"]},
        replicas=2,
        placement=Placement(DISKLESS, 2, one_each(2)),
        keys=(ALICE, BATCH),
        disk_bytes=90 * GIB,
    ),
    "hipaa": request(
        {"account_id": "111122223333", "ami": "ami-0123456789abcdef0"},
        ("hipaa",),
        region="us-east-1",
        replicas=2,
        placement=Placement(FOUR, 2, one_each(2, 4)),
    ),
    "gdpr": request(
        {"kms_key": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
        ("gdpr",),
        gateway=GatewayRequest("llm.example.com", 443, "file:chain.pem", "file:key.pem", "", 45),
        market="spot",
    ),
    "airgapped": request({}, ("airgapped",), replicas=3, placement=Placement(SMALL, 3, one_each(3))),
    "existing-vpc": request(
        {
            "vpc": {
                "id": "vpc-0123456789abcdef0",
                "subnets": {"euc1-az2": "subnet-0123456789abcdef0", "euc1-az1": "subnet-0123456789abcdef1"},
                "public_subnets": {"euc1-az1": "subnet-0123456789abcdef2"},
                "route_tables": ["rtb-0123456789abcdef0"],
            },
            "public": True,
            "allowed_cidrs": ["0.0.0.0/0"],
            "egress": "endpoints",
        },
        gateway=GatewayRequest("llm.example.com", 443, None, None, "", 30),
    ),
    "four-machines": request(
        region="us-east-1",
        replicas=2,
        machines_per_replica=2,
        gpu="h100",
        gpus_per_machine=8,
        placement=Placement(EIGHT, 4, spanning(2, 2)),
        serving=replace(SERVING, workers=(PROCESS,)),
        disk_bytes=800 * GIB,
    ),
    "cpu": request(
        placement=Placement(MachineType("m7i.4xlarge", None, 0, 0, 16, 64 * GIB, zones=FRANKFURT), 1, (Slot(),)),
        gpu=None,
        gpus_per_machine=0,
        keys=(),
    ),
}
