"""A sizing as a plain tree, for views and for other programs."""

from __future__ import annotations

from collections.abc import Sequence

from ..manifest import ModelFacts
from ..resource import Tree
from .model import Candidate, Memory, Range, Sizing, SizingRequest, Throughput
from .parameters import Parameters


def document(sizing: Sizing) -> dict[str, Tree]:
    """Return what was chosen and everything that was looked at. Bytes of memory are of one GPU, on CPU of the process."""
    request, layout, memory = sizing.request, sizing.layout, sizing.memory
    quantization, parallel = sizing.quantization, sizing.parallel
    return {
        "fits": True,
        "reason": "",
        "model": _model(request.facts, request.repository, sizing.parameters),
        "quantization": {
            "name": quantization.name,
            "made": quantization.made,
            "repository": quantization.repository or request.repository,
            "compute": quantization.compute,
            "native": quantization.native,
            "notes": list(quantization.notes),
        },
        "gpu": sizing.gpu,
        "machine": sizing.placement.type.name if sizing.placement.type else None,
        "machines": sizing.placement.count,
        "replicas": sizing.replicas,
        "machines_per_replica": sizing.machines_per_replica,
        "gpus_per_replica": sizing.gpus_per_machine * sizing.machines_per_replica,
        "tensor_parallel": parallel.tensor,
        "pipeline_parallel": parallel.pipeline,
        "context": sizing.max_model_len,
        "concurrency": sizing.max_num_seqs,
        "batched_tokens": sizing.batched_tokens,
        "memory": _memory(memory),
        "kv_cache": {
            "tokens": sizing.kv_cache_tokens,
            "requests": layout.requests(memory.cache),
            "block_tokens": layout.block_tokens,
            "token_bytes": layout.token_bytes,
        },
        "disk_bytes": sizing.disk_bytes,
        "throughput": _throughput(sizing.throughput),
        "explanation": list(sizing.explanation),
        "candidates": [_candidate(one) for one in sizing.candidates],
    }


def refused_document(request: SizingRequest, found: Sequence[Candidate], reason: str, hint: str, path: str) -> dict[str, Tree]:
    """Return the same where nothing fits: `reason` says why, `explanation` what would, and the candidates why each does not.

    path: the part of the stack file that stands in the way.
    """
    return {
        "fits": False,
        "reason": reason,
        "path": path,
        "model": _model(request.facts, request.repository, None),
        "replicas": request.replicas,
        "context": request.context,
        "concurrency": request.concurrency,
        "explanation": [hint] if hint else [],
        "candidates": [_candidate(one) for one in found],
    }


def _candidate(one: Candidate) -> dict[str, Tree]:
    """Return one way to run the stack."""
    predicted = one.loaded.throughput if one.loaded else None
    return {
        "machine": one.machine.name or None,
        "gpu": one.machine.gpu.name if one.machine.gpu else None,
        "gpus": one.gpus,
        "machines": one.machines,
        "tensor_parallel": one.parallel.tensor,
        "pipeline_parallel": one.parallel.pipeline,
        "quantization": one.quant,
        "fits": one.fits,
        "reason": one.reason,
        "usd_per_hour": one.usd_per_hour,
        "headroom_bytes": one.loaded.memory.headroom if one.loaded else None,
        "kv_tokens": one.kv_tokens,
        "requests": one.requests,
        "decode_tokens_per_s": _range(predicted.decode) if predicted else None,
    }


def _model(facts: ModelFacts, repository: str, counted: Parameters | None) -> dict[str, Tree]:
    return {
        "id": facts.id,
        "repository": repository,
        "license": facts.license,
        "commercial": facts.commercial,
        "gated": facts.gated,
        "parameters": counted.total if counted else facts.parameters,
        "active_parameters": counted.active if counted else facts.active_parameters,
        "confidence": facts.confidence,
    }


def _memory(memory: Memory) -> dict[str, Tree]:
    return {
        "total_bytes": memory.total,
        "usable_bytes": memory.usable,
        "weights_bytes": memory.weights,
        "kv_cache_bytes": memory.cache,
        "kv_needed_bytes": memory.needed,
        "overhead_bytes": memory.overhead,
        "free_bytes": memory.free,
    }


def _throughput(found: Throughput | None) -> dict[str, Tree] | None:
    if found is None:
        return None
    return {
        "prediction": True,
        "decode_tokens_per_s": _range(found.decode),
        "request_tokens_per_s": _range(found.request),
        "prefill_tokens_per_s": _range(found.prefill),
        "time_to_first_token_s": _range(found.first_token_s),
    }


def _range(one: Range) -> dict[str, Tree]:
    return {"planning": round(one.planning, 3), "bound": round(one.bound, 3)}
