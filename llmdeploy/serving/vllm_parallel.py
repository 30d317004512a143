"""How vLLM splits a model over GPUs, and what it takes on each beside weights and KV cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..machine import Gpu
from ..manifest import ModelConfig, ModelFacts
from .attention import Latent, State, architecture
from .checkpoint import checkpoint
from .config_fields import number, text_fields
from .model import Parallel, Quantization

MEMORY_FRACTION: Final = 0.92
"""Part of a GPU's memory that vLLM takes by default, and that llmdeploy plans with."""

_GPU_OVERHEAD_BYTES: Final = 5 * 2**29
"""2.5 GiB: CUDA context, libraries, captured graphs and a step of 2,048 tokens. A planning value, not measured."""

_WIDE_OVERHEAD_BYTES: Final = 2**30
"""Buffers for the exchange between four or more GPUs. A planning value, not measured."""

_WIDE: Final = 4

SMALL_STEP_TOKENS: Final = 2048

_STEPS: Final = ((160 * 2**30, 16384), (70 * 2**30, 8192))
"""Memory of a GPU from which on vLLM computes so many tokens in one step; below, and on the A100, SMALL_STEP_TOKENS."""

_NO_STAGES: Final = frozenset({"gemma3n_text", "zamba2"})
"""Kinds of models whose code cannot be split into pipeline stages (`SupportsPP`)."""

_GROUPS: Final = {"awq": 128, "gptq": 128, "int4": 128, "fp8": 128, "fp8_per_block": 128, "nvfp4": 16}
"""Parameters in a row that share a scale, where the checkpoint is not at hand. FP8 repositories may or may not have blocks."""


def batched_tokens(concurrency: int, gpu: Gpu | None, args: Mapping[str, Any]) -> int:
    """Return what the stack file says, else the engine's own default for a server and a token for every request."""
    chosen = args.get("max-num-batched-tokens")
    if isinstance(chosen, int):
        return chosen
    memory = 0 if gpu is None or "a100" in gpu.name.lower() else gpu.memory_bytes
    return max(concurrency, next((tokens for least, tokens in _STEPS if memory >= least), SMALL_STEP_TOKENS))


def gpu_overhead_bytes(model: ModelFacts, parallel: Parallel, step_tokens: int) -> int:
    """Return the planning value for one GPU: a fixed part, and what a step larger than 2,048 tokens adds.

    A step holds, for each of its tokens, four vectors of the hidden size, the query, key and value of one layer, and the two
    inner vectors of one feed-forward block, as 16-bit numbers; logits are made for the last tokens and in pieces of 1,024.
    """
    fixed = _GPU_OVERHEAD_BYTES + (_WIDE_OVERHEAD_BYTES if parallel.tensor >= _WIDE else 0)
    fields = text_fields(model.config)
    hidden = number(fields, "hidden_size", "n_embd", "d_model") or 0
    inner = max(number(fields, "intermediate_size", "ffn_hidden_size", "n_inner") or 4 * hidden, _expert_widths(fields))
    heads, dim = number(fields, "num_attention_heads", "n_head") or 0, number(fields, "head_dim") or 0
    split = 2 * inner + 3 * max(heads * dim, hidden)
    return fixed + max(0, step_tokens - SMALL_STEP_TOKENS) * 2 * (4 * hidden + split // parallel.tensor)


def parallel_problem(model: ModelFacts, parallel: Parallel, quantization: Quantization) -> str:
    """Return why the model cannot be split so, "" when it can."""
    return next(_problems(model, parallel, quantization), "")


def _problems(model: ModelFacts, parallel: Parallel, quantization: Quantization) -> Iterator[str]:
    fields = text_fields(model.config)
    layers = len(architecture(model.config).layers)
    if parallel.gpus % parallel.machines:
        yield f"{parallel.gpus} GPUs cannot be divided evenly over {parallel.machines} machines"
    if parallel.pipeline > layers:
        yield f"{layers} layers cannot be divided into {parallel.pipeline} pipeline stages"
    if parallel.pipeline > 1 and fields.get("model_type") in _NO_STAGES:
        yield f"vLLM cannot divide models of the kind {fields['model_type']} into pipeline stages"
    if parallel.tensor > 1:
        yield from _head_problems(model.config, parallel.tensor)
        yield from _width_problems(fields, parallel.tensor)
        yield from _group_problems(model.config, parallel.tensor, quantization)


def _head_problems(config: ModelConfig, parts: int) -> Iterator[str]:
    model, fields = architecture(config), text_fields(config)
    if model.heads % parts:
        yield f"{model.heads} attention heads cannot be divided by {parts} GPUs"
    latent = any(isinstance(cache, Latent) for cache in model.caches)
    if not latent and (parts % model.kv_heads if parts >= model.kv_heads else model.kv_heads % parts):
        yield f"{model.kv_heads} key-value heads can neither be divided by {parts} GPUs nor repeated evenly on them"
    if any(isinstance(cache, State) for cache in model.caches):
        for name in ("mamba_n_heads", "mamba_num_heads", "linear_num_key_heads", "linear_num_value_heads"):
            heads = number(fields, name)
            if heads and heads % parts:
                yield f"{heads} heads of the recurrent layers ({name}) cannot be divided by {parts} GPUs"
        for name in ("mamba_n_groups", "n_groups"):
            groups = number(fields, name)
            if groups and groups != 1 and groups % parts:
                yield f"{groups} groups of the recurrent layers ({name}) cannot be divided by {parts} GPUs"


def _width_problems(fields: ModelConfig, parts: int) -> Iterator[str]:
    for name, width in _widths(fields):
        if width % parts:
            yield f"{name} {width} cannot be divided by {parts} GPUs"


def _group_problems(config: ModelConfig, parts: int, quantization: Quantization) -> Iterator[str]:
    """Scales that belong to several parameters cannot be torn apart."""
    group = _group(config, quantization)
    if not group:
        return
    fields, model = text_fields(config), architecture(config)
    across = [("the heads' width", model.heads * model.head_dim)]
    if any(isinstance(cache, Latent) for cache in model.caches):
        across = [("the heads' width", model.heads * (number(fields, "v_head_dim") or group))]
    for name, width in (*across, *_widths(fields)):
        if width % parts == 0 and width // parts % group:
            yield (
                f"{name} {width} on {parts} GPUs is {width // parts} on each, which is no multiple of {group}:"
                f" so many {quantization.name} parameters share a scale"
            )


def _group(config: ModelConfig, quantization: Quantization) -> int:
    """Parameters with one scale, 0 when it does not matter; vLLM pads MXFP4."""
    if quantization.name == "mxfp4":
        return 0
    if quantization.made == "published":
        return checkpoint(config).group
    return 0 if quantization.made == "load" and quantization.name != "fp8_per_block" else _GROUPS.get(quantization.name, 0)


def _widths(fields: ModelConfig) -> Iterator[tuple[str, int]]:
    for name in ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"):
        width = number(fields, name)
        if width:
            yield name, width


def _expert_widths(fields: ModelConfig) -> int:
    """The inner width of all experts that one token goes through."""
    each, chosen = number(fields, "moe_intermediate_size"), number(fields, "num_experts_per_tok", "num_experts_per_token")
    if each is None and number(fields, "num_local_experts", "num_experts") is not None:
        each = number(fields, "intermediate_size")
    return (each or 0) * (chosen or 0)
