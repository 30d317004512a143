"""What is to be sized, what it comes to, and everything that was looked at on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..machine import Gpu, MachineType, Placement
from ..manifest import Manifest, ModelFacts
from ..serving import Device
from ..serving.model import KvLayout, Parallel, Quantization
from .parameters import Parameters


@dataclass(frozen=True)
class SizingRequest:
    """What must fit, and where it may run.

    context: tokens of one request, prompt and answer. concurrency: requests in flight of one replica. quant: as in the stack
    file. gpu: name of a GPU, `auto` or `none`; count: GPUs of one replica, None to choose; instance_type: the only kind of
    machine to look at. machines: those that can be had; none, or none with a GPU, is the CPU. gpus: every GPU that is known, by
    name. region: as in the stack file. elsewhere: instance type or GPU -> regions where it can be had though not here. manifest:
    the files, when they are known. repository: where they come from. args: the engine's own options from the stack file.
    """

    facts: ModelFacts
    context: int
    concurrency: int
    replicas: int = 1
    quant: str = "auto"
    gpu: str = "auto"
    count: int | None = None
    instance_type: str | None = None
    machines: Sequence[MachineType] = ()
    gpus: Mapping[str, Gpu] = field(default_factory=dict[str, Gpu])
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    manifest: Manifest | None = None
    repository: str = ""
    region: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Memory:
    """The memory of one GPU (of the process, on CPU) in bytes.

    total: what the driver reports, 0 where it is not known. usable: what the engine may take of it. needed: KV cache for every
    request that must fit. cache: KV cache that the engine is given. weights and overhead: the rest of what it takes.
    """

    total: int
    usable: int
    weights: int
    overhead: int
    needed: int
    cache: int = 0

    @property
    def available(self) -> int:
        """What weights and overhead leave for the KV cache; negative when they do not fit themselves."""
        return self.usable - self.weights - self.overhead

    @property
    def headroom(self) -> int:
        """What is left beyond the requests that must fit; negative when they do not."""
        return self.available - self.needed

    @property
    def free(self) -> int:
        """What nobody takes, with the part that the engine leaves alone."""
        return max(0, self.total - self.weights - self.overhead - self.cache)


@dataclass(frozen=True)
class Range:
    """A predicted figure: the planning value, and the bound that physics sets."""

    planning: float
    bound: float


@dataclass(frozen=True)
class Throughput:
    """Predictions for one replica whose `requests` requests all have their full context.

    decode and request: output tokens per second of all together, and of one request that is alone. prefill: tokens of prompts
    per second. first_token_s: seconds until a prompt of full context, alone, is answered.
    """

    requests: int
    decode: Range
    request: Range
    prefill: Range
    first_token_s: Range


@dataclass(frozen=True)
class Loaded:
    """A model as it lies in the memory of one kind of GPU (of the process, on CPU), whether or not that is enough."""

    quantization: Quantization
    memory: Memory
    layout: KvLayout
    batched_tokens: int
    throughput: Throughput | None = None


@dataclass(frozen=True)
class Candidate:
    """One way to run the stack, and whether it fits.

    machine: its kind; machines: how many of them; per_replica: how many one replica spans; shared: replicas that stand on one of
    them. quant: name of the number format. reason: why it does not fit, "" when it does. loaded: None where it did not come to
    that.
    """

    machine: MachineType
    quant: str
    parallel: Parallel = field(default_factory=Parallel)
    machines: int = 1
    per_replica: int = 1
    shared: int = 1
    reason: str = ""
    loaded: Loaded | None = None

    @property
    def fits(self) -> bool:
        """Whether it holds what was asked for."""
        return not self.reason

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.parallel.gpus if self.machine.gpu else 0

    @property
    def gpus_per_machine(self) -> int:
        """GPUs of one machine that one replica uses."""
        return self.gpus // self.per_replica

    @property
    def usd_per_hour(self) -> float | None:
        """USD per hour of all machines; None without a price."""
        price = self.machine.price
        return None if price is None else price.usd * self.machines

    @property
    def kv_tokens(self) -> int:
        """Tokens of KV cache that the engine of one replica can have."""
        return self.loaded.layout.tokens(self.loaded.memory.available) if self.loaded else 0

    @property
    def requests(self) -> int:
        """Requests of full context that one replica holds at once."""
        return self.loaded.layout.requests(self.loaded.memory.available) if self.loaded else 0


@dataclass(frozen=True)
class Sizing:
    """What one stack runs on.

    gpu: name of the GPU, None for the CPU. gpus_per_machine: GPUs of one machine that one replica uses. max_model_len: tokens of
    one request. max_num_seqs: requests at once of one replica. memory: of one GPU, or of the process on CPU. file_bytes: of the
    model's files. disk_bytes: of one machine: these files and the engine. throughput: None on CPU. candidates: what was looked
    at, the chosen one first. explanation: the arithmetic in sentences. warnings: sentences that must be read.
    """

    request: SizingRequest
    device: Device
    placement: Placement
    machines_per_replica: int
    gpus_per_machine: int
    gpu: str | None
    parameters: Parameters
    quantization: Quantization
    parallel: Parallel
    layout: KvLayout
    memory: Memory
    batched_tokens: int
    file_bytes: int
    disk_bytes: int
    throughput: Throughput | None = None
    candidates: tuple[Candidate, ...] = ()
    explanation: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def replicas(self) -> int:
        """Replicas of the model."""
        return self.request.replicas

    @property
    def max_model_len(self) -> int:
        """Tokens of one request."""
        return self.request.context

    @property
    def max_num_seqs(self) -> int:
        """Requests at once of one replica."""
        return self.request.concurrency

    @property
    def kv_cache_bytes(self) -> int:
        """KV cache that the engine is given; on GPUs of each of them."""
        return self.memory.cache

    @property
    def kv_cache_tokens(self) -> int:
        """Tokens that the engine will report for it, as predicted."""
        return self.layout.tokens(self.memory.cache)

    @property
    def weight_bytes(self) -> int:
        """Weights in memory; on GPUs of the one that holds the most."""
        return self.memory.weights

    @property
    def memory_bytes(self) -> int:
        """Memory of the whole process, or of one GPU that it takes."""
        return self.memory.weights + self.memory.overhead + self.memory.cache
