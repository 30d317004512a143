"""Does one way to split a model over GPUs hold what was asked for, and how much is left or lacking."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor

from ..errors import StackError
from ..machine import Gpu, MachineType
from ..serving import Engine
from ..serving.attention import architecture
from ..serving.model import KvLayout, KvRequest, Parallel, Quantization
from .model import Loaded, Memory, SizingRequest, Throughput
from .parameters import Parameters, parameters_of
from .text import plural, size
from .throughput import Roofline, predicts
from .weights import Weights, weights_of


@dataclass(frozen=True)
class Fit:
    """One split on one kind of GPU. reason: why it does not hold what was asked for, "" when it does."""

    parallel: Parallel
    reason: str = ""
    loaded: Loaded | None = None


Layouts = dict[tuple[int, int, float, Parallel, tuple[int, int] | None], KvLayout | str]
"""By context, tokens of a step, bytes of a cached number, split and compute capability: the layout, or why there is none."""


@dataclass(frozen=True)
class Answers:
    """What was found out about one model, its files and the engine's options: true for every wish, so asked once.

    weights: whole, and on the fullest GPU of a split. problems: of splits, "" for none.
    """

    weights: dict[Quantization, Weights] = field(default_factory=dict[Quantization, Weights])
    on_gpu: dict[tuple[Quantization, Parallel], int] = field(default_factory=dict[tuple[Quantization, Parallel], int])
    problems: dict[tuple[Quantization, Parallel], str] = field(default_factory=dict[tuple[Quantization, Parallel], str])
    layouts: Layouts = field(default_factory=Layouts)


@dataclass
class Evaluator:
    """Answers for one request and one engine, each question once: many kinds of machine have the same GPUs."""

    request: SizingRequest
    engine: Engine
    known: Answers = field(default_factory=Answers)
    _fits: dict[tuple[str, int, Quantization, Parallel], Fit] = field(
        default_factory=dict[tuple[str, int, Quantization, Parallel], Fit], init=False
    )

    def __post_init__(self) -> None:
        self.parameters: Parameters = parameters_of(self.request.facts)

    def weights(self, quantization: Quantization) -> Weights:
        """Return the model's weights in a quantization."""
        found = self.known.weights
        if quantization not in found:
            found[quantization] = weights_of(self.request.facts, self.parameters, quantization, self.request.manifest)
        return found[quantization]

    def evaluate(self, machine: MachineType, gpu: Gpu, quantization: Quantization, parallel: Parallel) -> Fit:
        """Return whether one replica, split so over GPUs of this machine, holds every request."""
        key = (gpu.name, machine.gpu_memory_bytes, quantization, parallel)
        if key not in self._fits:
            self._fits[key] = self._evaluate(machine, gpu, quantization, parallel)
        return self._fits[key]

    def throughput(self, gpu: Gpu, parallel: Parallel, loaded: Loaded) -> Throughput | None:
        """Return how fast one replica is at the concurrency that is asked for; None when too little is known of the GPU."""
        if not predicts(gpu):
            return None
        context, kv_bytes = self.request.context, loaded.layout.read_bytes
        attention = architecture(self.request.facts.config).attention_operations(context)
        roofline = Roofline(self.weights(loaded.quantization), parallel, gpu, kv_bytes, context, attention)
        held = loaded.layout.requests(loaded.memory.available)
        return roofline.throughput(max(1, min(self.request.concurrency, held)))

    def _evaluate(self, machine: MachineType, gpu: Gpu, quantization: Quantization, parallel: Parallel) -> Fit:
        request, engine = self.request, self.engine
        if problem := self._problem(quantization, parallel):
            return Fit(parallel, problem)
        batched = engine.batched_tokens(request.concurrency, gpu, request.args)
        layout = self._layout(KvRequest(request.context, batched, quantization.kv_bytes, parallel, "cuda", gpu, request.args))
        if isinstance(layout, str):
            return Fit(parallel, layout)
        total = machine.gpu_memory_bytes
        memory = Memory(
            total=total,
            usable=floor(total * engine.gpu_memory_fraction()),
            weights=self._on_gpu(quantization, parallel),
            overhead=engine.gpu_overhead_bytes(request.facts, parallel, batched),
            needed=layout.bytes_for(request.concurrency),
        )
        reason = _reason(memory, layout, request, f"{parallel.gpus} x {gpu.name}", engine.gpu_memory_fraction(), parallel.gpus)
        return Fit(parallel, reason, Loaded(quantization, memory, layout, batched))

    def _problem(self, quantization: Quantization, parallel: Parallel) -> str:
        found, key = self.known.problems, (quantization, parallel)
        if key not in found:
            found[key] = self.engine.parallel_problem(self.request.facts, parallel, quantization)
        return found[key]

    def _on_gpu(self, quantization: Quantization, parallel: Parallel) -> int:
        found, key = self.known.on_gpu, (quantization, parallel)
        if key not in found:
            found[key] = self.weights(quantization).on_gpu(parallel)
        return found[key]

    def _layout(self, wanted: KvRequest) -> KvLayout | str:
        capability = wanted.gpu.capability if wanted.gpu else None
        found, key = self.known.layouts, (wanted.context, wanted.batched_tokens, wanted.kv_bytes, wanted.parallel, capability)
        if key not in found:
            try:
                found[key] = self.engine.kv_layout(self.request.facts, wanted)
            except StackError as error:
                found[key] = sentence_of(error)
        return found[key]


def sentence_of(error: StackError) -> str:
    """Return what went wrong in one sentence, without its place."""
    return next((str(getattr(found, "summary", "")) for found in error.diagnostics), error.message)


def hint_of(error: StackError) -> str:
    """Return what to do about it."""
    return next((str(getattr(found, "hint", "")) for found in error.diagnostics), error.hint)


def path_of(error: StackError) -> str:
    """Return the part of the stack file that it is about."""
    return next((str(getattr(found, "path", "")) for found in error.diagnostics), "")


def _reason(memory: Memory, layout: KvLayout, request: SizingRequest, gpus: str, fraction: float, count: int) -> str:
    """Return why it does not fit, with the figures of all GPUs of a replica together."""
    if memory.headroom >= 0:
        return ""
    taken = f"weights {size(count * memory.weights)} + engine {size(count * memory.overhead)}"
    usable = f"the usable {size(count * memory.usable)} ({gpus}, {fraction:.0%} of their memory)"
    if memory.available < layout.block_bytes:
        return f"{taken} are more than {usable}"
    tokens, holds = layout.tokens(memory.available), layout.requests(memory.available)
    left = f"{taken} of {usable} leave {size(count * memory.available)} = {tokens:,} tokens of KV cache"
    if holds < 1:
        return f"{left}, less than one request of {request.context:,}"
    return f"{left}: {plural(holds, 'request')} of {request.context:,} tokens at once, {request.concurrency} are wanted"
