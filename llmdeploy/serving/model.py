"""What an inference engine must tell the rest of llmdeploy: nothing outside `serving` knows a flag of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..diagnostics import Diagnostic
from ..errors import StackError
from ..machine import Gpu
from ..manifest import ModelFacts
from ..process import ProcessSpec

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Parallel:
    """How one replica is split: each layer over `tensor` GPUs, the layers over `pipeline` stages, all over `machines` machines.

    GPUs of a replica: tensor x pipeline; each machine has an equal part of them.
    """

    tensor: int = 1
    pipeline: int = 1
    machines: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline

    def stages(self, layers: int) -> tuple[range, ...]:
        """Return the layers of each pipeline stage: what is left over goes to the last stages, but not to the very last one."""
        each, over = divmod(layers, self.pipeline)
        counts = [each + (1 if 1 <= self.pipeline - 1 - stage <= over else 0) for stage in range(self.pipeline)]
        starts = [sum(counts[:stage]) for stage in range(self.pipeline)]
        return tuple(range(start, start + count) for start, count in zip(starts, counts, strict=True))


@dataclass(frozen=True)
class Quantization:
    """In which number format a model is loaded, and how the engine comes to it.

    name: as in the stack file, never `auto`. made: `published` (the checkpoint is so), `variant` (another repository, named in
    `repository`, holds it) or `load` (the engine converts while it loads: disk and transfer are those of the published one).
    linear_bytes: bytes per parameter of the layers that are quantized; other_bytes: of embeddings, head and norms, which stay.
    kv_bytes: bytes of one number in the KV cache. compute: format in which the GPU multiplies ("bf16", "fp16", "fp8", "int8",
    "fp4"), which differs from the stored one where the GPU has no such hardware. native: whether it has. flag: value of the
    engine's option, "" where it reads the format from the checkpoint. notes: sentences for the plan.
    """

    name: str
    made: Literal["published", "variant", "load"]
    linear_bytes: float
    other_bytes: float
    kv_bytes: int
    compute: str
    native: bool
    repository: str = ""
    flag: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KvRequest:
    """What the shape of a KV cache depends on, besides the model.

    context: tokens of the longest request. batched_tokens: tokens that one step of the engine computes at most. kv_bytes: bytes
    of one number. device: where it runs; gpu: which one. args: the engine's own options from the stack file, as some matter.
    """

    context: int
    batched_tokens: int
    kv_bytes: int = 2
    parallel: Parallel = Parallel()
    device: Device = "cpu"
    gpu: Gpu | None = None
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class KvLayout:
    """How the engine divides the memory of one GPU (or of the process, on CPU) into blocks of KV cache.

    block_bytes: of one block, on the GPU that needs the most. request_blocks: that a request of `context` tokens takes at its
    peak. spare_blocks: that the engine keeps for itself and that no request gets. block_tokens: tokens of one block.
    token_bytes: of one token over all layers and all GPUs of a replica when nothing slides: what published tables call "KV bytes
    per token". read_bytes: that the GPU with the most reads for the next token of a request of `context` tokens; less than its
    blocks where windows slide. arithmetic: the derivation in words.
    """

    context: int
    block_tokens: int
    block_bytes: int
    request_blocks: int
    spare_blocks: int
    token_bytes: int
    read_bytes: int
    arithmetic: str = ""

    def bytes_for(self, requests: int) -> int:
        """Return the bytes on one GPU that hold `requests` requests of `context` tokens at once."""
        return (requests * self.request_blocks + self.spare_blocks) * self.block_bytes

    def blocks(self, available_bytes: int) -> int:
        """Return the whole blocks that fit into `available_bytes` on one GPU."""
        return max(0, available_bytes // self.block_bytes)

    def tokens(self, available_bytes: int) -> int:
        """Return the tokens that the engine will report as the size of its KV cache."""
        # In floating point, as the engine does it: whole numbers give one token more now and then.
        return int(self.blocks(available_bytes) / self.request_blocks * self.context)

    def requests(self, available_bytes: int) -> int:
        """Return how many requests of `context` tokens fit at once."""
        return max(0, self.blocks(available_bytes) - self.spare_blocks) // self.request_blocks


@dataclass(frozen=True)
class RenderRequest:
    """One serving process.

    served_name: what clients pass as `model`. context: tokens of one request, prompt and answer. concurrency: requests in flight.
    kv_cache_bytes, weight_bytes: memory for the KV cache and for the weights; on GPUs of one GPU. kv_cache_tokens: the tokens
    that the engine will report for it, as predicted. quant: as in the stack file. quantization: what it comes to. rank: which
    machine of the replica this process is on. extra_args: the engine's own options from the stack file, by name without dashes.
    """

    served_name: str
    context: int
    concurrency: int
    kv_cache_bytes: int
    weight_bytes: int
    device: Device = "cpu"
    quant: str = "auto"
    seed: int = 0
    extra_args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    kv_cache_tokens: int = 0
    quantization: Quantization | None = None
    parallel: Parallel = Parallel()
    rank: int = 0
    gpu: Gpu | None = None


class Engine(Protocol):
    """One inference engine, at the versions that llmdeploy knows."""

    @property
    def name(self) -> str:
        """Name in the stack file."""
        ...

    @property
    def default_version(self) -> str:
        """The version used when the stack file names none."""
        ...

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that can be rendered."""
        ...

    @property
    def refused_args(self) -> Mapping[str, str]:
        """Options that a stack file may not set -> why. Options in neither this nor the engine's list are unknown."""
        ...

    def requirements(self, version: str, device: Device) -> str:
        """Return the pinned packages of a private environment, in pip's format. Raises StackError or NotBuilt."""
        ...

    def check_args(self, args: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
        """Return what is wrong with the stack file's `engine.args`."""
        ...

    def overhead_bytes(self, device: Device) -> int:
        """Return the memory of the process beside weights and KV cache."""
        ...

    def runtime_disk_bytes(self, device: Device) -> int:
        """Return the disk that the installed engine takes."""
        ...

    def quantize(self, model: ModelFacts, quant: str, gpu: Gpu | None) -> Quantization:
        """Return how the model is loaded as `quant` ("auto": as published) on `gpu` (None: on the CPU).

        Raises:
            StackError: the pair cannot be; the sentence says why, the hint names the nearest pair that can.
        """
        ...

    def quantizations(self, model: ModelFacts, gpu: Gpu | None) -> tuple[str, ...]:
        """Return the names that `quantize` takes for this model on this GPU, best numbers first, without `auto`."""
        ...

    def kv_layout(self, model: ModelFacts, request: KvRequest) -> KvLayout:
        """Return the shape of the KV cache. Raises StackError naming what config.json lacks."""
        ...

    def batched_tokens(self, concurrency: int, gpu: Gpu | None, args: Mapping[str, Any]) -> int:
        """Return the tokens of one step, on `gpu` (None: on the CPU): what `args` say, else what llmdeploy asks for.

        args: the engine's own options from the stack file. The shape of a sliding cache and the memory of a step depend on it.
        """
        ...

    def parallel_problem(self, model: ModelFacts, parallel: Parallel, quantization: Quantization) -> str:
        """Return why the model cannot be split so, "" when it can."""
        ...

    def gpu_overhead_bytes(self, model: ModelFacts, parallel: Parallel, batched_tokens: int) -> int:
        """Return the planning value of the memory on one GPU beside weights and KV cache."""
        ...

    def gpu_memory_fraction(self) -> float:
        """Return the part of a GPU's memory that the engine takes."""
        ...

    def image(self, version: str) -> str:
        """Return the official container image of `version` for CUDA, without a digest."""
        ...

    def leaks(self, argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
        """Return how a process with these arguments and environment could write prompts or answers down, as sentences."""
        ...

    def reports(self, argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
        """Return what a process with these arguments and environment could send to others: telemetry, traces, statistics."""
        ...

    def keeps_content(self, argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
        """Return where such a process keeps prompts longer than it needs them, outside its own memory: caches on disk, stores."""
        ...

    def bypasses(self, version: str) -> tuple[str, ...]:
        """Return the known ways around the protection of `version` of the engine, each with its advisory; of any version."""
        ...

    def render(self, request: RenderRequest) -> ProcessSpec:
        """Return the process. Raises StackError when the options are wrong, NotBuilt for a device that is not supported yet."""
        ...


def stack_error(path: str, summary: str, *, hint: str = "") -> StackError:
    """Return an error about the part `path` of the stack file; the loader adds file and line."""
    finding = Diagnostic("error", summary, None, path, hint)
    return StackError(str(finding), diagnostics=(finding,))
