"""The kinds of machines that providers rent out, from `instances.json`: what is in them, where they can be had, for how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from ..machine import Gpu, MachineType
from ..prices import Confidence, Price
from .shipped import table

UNIT = "hour"
SPOT = ".spot"
"""What the name of a price ends with that is paid for a machine that may be taken away."""


class Basis(TypedDict):
    """Where prices come from, as of when (YYYY-MM-DD, "" when that is not known), and how well they are known."""

    source: str
    as_of: str
    confidence: Confidence


class Disks(TypedDict):
    """Disks of the machine itself, all of one size: 10^9 bytes each."""

    count: int
    gb: int


class InstancePrice(TypedDict):
    """A price on demand, and the key of what it rests on."""

    usd_per_hour: float
    basis: str


class Hardware(TypedDict):
    """What is in a machine, and where it can be had: region -> zones.

    gpu: name of the GPU. gpus: whole GPUs. gpu_memory_mib: of one, as the provider's API has it; left out: what the GPU has.
    network: its bandwidth in the provider's words. fabric_interfaces: that go around the kernel.
    """

    gpu: str
    gpus: int
    gpu_memory_mib: NotRequired[int]
    vcpus: int
    memory_gib: int
    local_disks: NotRequired[list[Disks]]
    network: NotRequired[str]
    fabric_interfaces: NotRequired[int]
    zones: dict[str, list[str]]


class OwnInstance(Hardware):
    """One kind of machine, as users may add it. usd_per_hour, spot_usd_per_hour: by region; left out: not known."""

    usd_per_hour: NotRequired[dict[str, float]]
    spot_usd_per_hour: NotRequired[dict[str, float]]


class InstanceRow(Hardware):
    """One kind of machine. prices: by region, where they are known. left_out: why it is no offer."""

    prices: dict[str, InstancePrice]
    left_out: NotRequired[str]


class ProviderInstances(TypedDict):
    """The machines of one provider. price_prefix: how the names of their prices begin. bases: what prices rest on."""

    price_prefix: str
    source: str
    bases: dict[str, Basis]
    types: dict[str, InstanceRow]


def providers() -> Mapping[str, ProviderInstances]:
    """Return the tables that are shipped, by provider."""
    return table("instances")["providers"]


def shipped(provider: ProviderInstances, region: str, gpus: Mapping[str, Gpu]) -> dict[str, MachineType]:
    """Return what a table offers in a region, by name, with the price on demand. gpus: by name."""
    machines: dict[str, MachineType] = {}
    for name, row in provider["types"].items():
        if "left_out" in row or region not in row["zones"]:
            continue
        price = row["prices"].get(region)
        paid = _paid(price, provider["bases"][price["basis"]]) if price else None
        machines[name] = machine_of(name, row, region, gpus, paid)
    return machines


def _paid(price: InstancePrice, basis: Basis) -> Price:
    return Price(price["usd_per_hour"], UNIT, basis["source"], basis["as_of"], basis["confidence"])


def machine_of(name: str, row: Hardware, region: str, gpus: Mapping[str, Gpu], price: Price | None) -> MachineType:
    """Return the machine of a row in one region.

    The memory of a GPU is the smaller of what the provider's API and CUDA say: the first may count what the driver keeps.
    """
    gpu = gpus[row["gpu"]]
    said = row.get("gpu_memory_mib", 0) * 2**20
    return MachineType(
        name=name,
        gpu=gpu,
        gpus=row["gpus"],
        gpu_memory_bytes=min(said or gpu.memory_bytes, gpu.memory_bytes),
        vcpus=row["vcpus"],
        memory_bytes=row["memory_gib"] * 2**30,
        local_disk_bytes=sum(disks["count"] * disks["gb"] for disks in row.get("local_disks", ())) * 10**9,
        price=price,
        region=region,
        zones=tuple(row["zones"][region]),
        network=row.get("network", ""),
        fabric_interfaces=row.get("fabric_interfaces", 0),
    )
