"""What a model needs and what it runs on: weights, KV cache, disk, GPUs and machines, with the arithmetic in words.

Everything here is computed from what the model's config.json, the catalogue and the engine's own rules say; nothing is asked for
over a network. Speeds are predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import StackError
from ..resource import Tree
from ..serving import Device, Engine, stack_error
from ..serving.config_fields import number, text_fields
from .cpu import cpu_candidates, cpu_placement, is_for_cpu
from .document import document, refused_document
from .evaluate import hint_of, path_of, sentence_of
from .explain import explanation
from .model import Candidate, Loaded, Memory, Range, Sizing, SizingRequest, Throughput
from .nearest import check_region, gpu_like, refusal
from .parameters import Parameters, parameters_of
from .plausible import check_figures
from .search import candidates, placement_of
from .text import size
from .weights import Weights, file_bytes, weights_of

__all__ = [
    "Candidate", "Loaded", "Memory", "Parameters", "Range", "Sizing", "SizingRequest", "Throughput",
    "choose", "document", "explore", "gpu_like", "parameters_of", "report",
]  # fmt: skip

_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")


def choose(request: SizingRequest, engine: Engine) -> Sizing:
    """Return the cheapest set of machines that holds every request of the stack, in the best number format that fits.

    Raises:
        StackError: the model cannot do it, or nothing that can be had holds it; the hint names the nearest that would fit.
    """
    request = _with_files(request)
    found = explore(request, engine)
    if not found or not found[0].fits or found[0].loaded is None:
        raise refusal(request, engine, found)
    return _sizing(request, engine, found, found[0].loaded)


def explore(request: SizingRequest, engine: Engine) -> tuple[Candidate, ...]:
    """Return all ways to run the stack, one for each kind of machine, those that fit and the cheapest first.

    Raises:
        StackError: the model cannot be served at all, wherever.
    """
    check_figures(request.facts.config)
    request = _with_files(request)
    _check_context(request.context, request.facts.config)
    check_region(request)
    return cpu_candidates(request, engine) if is_for_cpu(request) else candidates(request, engine)


def report(request: SizingRequest, engine: Engine) -> dict[str, Tree]:
    """Return the document of a sizing, whether or not anything fits: then with the reason, and why each candidate does not."""
    try:
        return document(choose(request, engine))
    except StackError as error:
        reason, hint, path = sentence_of(error), hint_of(error), path_of(error)
    try:
        found = explore(request, engine)
    except StackError:
        found = ()
    return refused_document(request, found, reason, hint, path)


def _with_files(request: SizingRequest) -> SizingRequest:
    return replace(request, facts=replace(request.facts, weight_bytes=file_bytes(request.facts, request.manifest)))


def _check_context(context: int, config: Mapping[str, Any]) -> None:
    limit = number(text_fields(config), *_CONTEXT_NAMES)
    if limit is not None and context > limit:
        raise stack_error(
            "model.context",
            f"{context:,} tokens are more than the {limit:,} that the model was made for (max_position_embeddings)",
            hint=f"at most {limit}",
        )


def _sizing(request: SizingRequest, engine: Engine, found: tuple[Candidate, ...], loaded: Loaded) -> Sizing:
    chosen, gpu = found[0], found[0].machine.gpu
    memory = loaded.memory
    if gpu is not None:
        blocks = loaded.layout.blocks(memory.available)
        memory = replace(memory, cache=blocks * loaded.layout.block_bytes)
    counted = parameters_of(request.facts)
    weights = weights_of(request.facts, counted, loaded.quantization, request.manifest)
    device: Device = "cpu" if gpu is None else "cuda"
    sizing = Sizing(
        request=request,
        device=device,
        placement=cpu_placement(chosen, request.replicas) if gpu is None else placement_of(chosen, request.replicas),
        machines_per_replica=chosen.per_replica,
        gpus_per_machine=chosen.gpus_per_machine,
        gpu=gpu.name if gpu else None,
        parameters=counted,
        quantization=loaded.quantization,
        parallel=chosen.parallel,
        layout=loaded.layout,
        memory=memory,
        batched_tokens=loaded.batched_tokens,
        file_bytes=weights.disk,
        disk_bytes=weights.disk + engine.runtime_disk_bytes(device),
        throughput=loaded.throughput,
        candidates=found,
        warnings=tuple(_warnings(chosen, weights)),
    )
    return replace(sizing, explanation=explanation(sizing, weights, engine))


def _warnings(chosen: Candidate, weights: Weights) -> Iterator[str]:
    if weights.parameters.note:
        yield weights.parameters.note
    memory = chosen.machine.memory_bytes
    if chosen.machine.gpu is not None and 0 < memory < weights.disk:
        yield (
            f"{size(weights.disk)} of model files pass through {size(memory)} of main memory on {chosen.machine.name}: that"
            " works, and every start is as slow as the disk, because they do not stay in memory"
        )
