"""Sizing for the CPU: one process with exactly the KV cache that its requests need."""

from __future__ import annotations

from ..diagnostics import nearest
from ..machine import MachineType, Placement, Slot
from ..serving import Engine, stack_error
from ..serving.model import KvLayout, KvRequest, Quantization
from .model import Candidate, Loaded, Memory, SizingRequest
from .parameters import parameters_of
from .text import plural, size
from .weights import Weights, weights_of

OWN = MachineType(name="", gpu=None, gpus=0, gpu_memory_bytes=0)
"""The one and only machine of a provider that describes none."""


def is_for_cpu(request: SizingRequest) -> bool:
    """Whether the stack is served on CPU: asked for, or there is no GPU at all and none is asked for."""
    has_gpus = any(machine.gpu is not None for machine in request.machines)
    return request.gpu == "none" or (request.gpu == "auto" and not has_gpus)


def cpu_candidates(request: SizingRequest, engine: Engine) -> tuple[Candidate, ...]:
    """Return one candidate for each kind of machine without a GPU: what fits first, then the cheapest.

    Raises:
        StackError: the model cannot be served on CPU, or there is no machine without a GPU.
    """
    facts = request.facts
    quantization = engine.quantize(facts, request.quant, None)
    batched = engine.batched_tokens(request.concurrency, None, request.args)
    layout = engine.kv_layout(facts, KvRequest(request.context, batched, quantization.kv_bytes, args=request.args))
    weights = cpu_weights(request, quantization)
    found = [_candidate(request, machine, weights, layout, engine.overhead_bytes("cpu"), batched) for machine in _kinds(request)]
    return tuple(sorted(found, key=_rank))


def cpu_weights(request: SizingRequest, quantization: Quantization) -> Weights:
    """Return the weights as the process loads them."""
    return weights_of(request.facts, parameters_of(request.facts), quantization, request.manifest)


def cpu_placement(one: Candidate, replicas: int) -> Placement:
    """Return what runs where: replicas are spread evenly."""
    kind = None if one.machine is OWN else one.machine
    return Placement(kind, one.machines, tuple(Slot(replica % one.machines, replica) for replica in range(replicas)))


def _kinds(request: SizingRequest) -> list[MachineType]:
    if not request.machines:
        return [OWN]
    found = [machine for machine in request.machines if machine.gpu is None]
    if not found:
        raise stack_error("hardware.gpu", "every machine here has a GPU", hint="leave gpu out, or name one of them")
    named = [machine for machine in found if request.instance_type in (None, machine.name)]
    if not named:
        hint = nearest(str(request.instance_type), [machine.name for machine in found])
        raise stack_error("hardware.instance_type", f"{request.instance_type} is no machine without a GPU", hint=hint)
    return named


def _candidate(
    request: SizingRequest, machine: MachineType, weights: Weights, layout: KvLayout, overhead: int, batched: int
) -> Candidate:
    machines = 1 if machine is OWN else min(request.replicas, machine.available or request.replicas)
    shared = -(-request.replicas // machines)
    needed = layout.bytes_for(request.concurrency)
    process = weights.total + needed + overhead
    memory = Memory(machine.memory_bytes, machine.memory_bytes or process, weights.total, overhead, needed, needed)
    reason = ""
    if machine.memory_bytes and shared * process > machine.memory_bytes:
        reason = (
            f"{plural(shared, 'replica')} of {size(weights.total)} weights + {size(needed)} KV cache + {size(overhead)} engine"
            f" = {size(shared * process)} of memory, the machine has {size(machine.memory_bytes)}"
        )
    return Candidate(
        machine,
        weights.quantization.name,
        machines=machines,
        shared=shared,
        reason=reason,
        loaded=Loaded(weights.quantization, memory, layout, batched),
    )


def _rank(one: Candidate) -> tuple[bool, bool, float, str]:
    return not one.fits, one.usd_per_hour is None, one.usd_per_hour or 0.0, one.machine.name
