"""Machines and their GPUs, as the catalogue or an operator describes them, and where the parts of a stack run on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .prices import Confidence, Price


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU.

    name: its short name, as in the stack file. capability: CUDA compute capability, (major, minor); None where there is no CUDA.
    memory_bytes: what the driver reports as total, before any context. bandwidth: bytes per second of its memory. flops: dense
    floating-point (or integer) operations per second by number format ("bf16", "fp16", "fp8", "int8", "fp4"); a format that is
    missing has no hardware. link: bytes per second of NVLink, 0 without. watts: its power limit.
    """

    name: str
    title: str
    architecture: str
    capability: tuple[int, int] | None
    memory_bytes: int
    bandwidth: float
    flops: Mapping[str, float]
    link: float = 0.0
    watts: int = 0
    source: str = ""
    as_of: str = ""
    confidence: Confidence = "unverified"
    notes: str = ""


@dataclass(frozen=True)
class MachineType:
    """A kind of machine that can be rented, or the machines of one kind that somebody owns.

    name: instance type, or a word for owned ones. gpus: GPUs of one machine. gpu_memory_bytes: of one GPU as this machine reports
    it (a cloud may report less than the card has). memory_bytes: main memory, 0 when not known. local_disk_bytes: instance store.
    price: USD per hour of one machine, None when there is none. available: how many there are, None for as many as wanted.
    members: names of owned machines, in the order in which they are used. region and zones: where it can be had. network: its
    bandwidth, in the provider's words. fabric_interfaces: network interfaces that machines of one replica can share without the
    kernel between them, 0 without.
    """

    name: str
    gpu: Gpu | None
    gpus: int
    gpu_memory_bytes: int
    vcpus: int = 0
    memory_bytes: int = 0
    local_disk_bytes: int = 0
    price: Price | None = None
    available: int | None = None
    members: tuple[str, ...] = ()
    region: str = ""
    zones: tuple[str, ...] = ()
    network: str = ""
    fabric_interfaces: int = 0


@dataclass(frozen=True)
class Quotes:
    """What a provider asks for in one region today.

    source: what was asked, in words. machines: with their price on demand, None for one that is not sold so. prices: of all else,
    by name; of machines that may be taken away under the name of their price on demand and `.spot`.
    """

    region: str
    source: str
    machines: tuple[MachineType, ...]
    prices: Mapping[str, Price]


@dataclass(frozen=True)
class Slot:
    """Where one part of a replica runs.

    machine: index among the stack's machines. replica: index of the replica. rank: which of the replica's machines this is (0
    answers requests). gpus: indices of the GPUs on that machine, empty for the CPU.
    """

    machine: int = 0
    replica: int = 0
    rank: int = 0
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Placement:
    """The machines of a stack: their kind, how many, and what runs where. type is None for a provider's one and only machine."""

    type: MachineType | None = None
    count: int = 1
    slots: tuple[Slot, ...] = field(default=(Slot(),))

    def on(self, machine: int) -> tuple[Slot, ...]:
        """Return the slots of one machine."""
        return tuple(slot for slot in self.slots if slot.machine == machine)
