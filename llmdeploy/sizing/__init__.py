"""How much of what a model needs: memory, KV cache and disk, with the arithmetic in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..diagnostics import Diagnostics
from ..errors import NotBuilt
from ..manifest import Manifest
from ..serving import Device, Engine, stack_error
from ..serving.model import first

_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


@dataclass(frozen=True)
class Sizing:
    """What one stack runs on.

    gpu: type of GPU, None for CPU. max_model_len: tokens of one request. max_num_seqs: requests at once. The byte figures are of
    one replica: KV cache, weights, memory of the whole process, disk of weights and engine. explanation: the arithmetic.
    """

    replicas: int
    machines_per_replica: int
    gpus_per_machine: int
    gpu: str | None
    max_model_len: int
    max_num_seqs: int
    kv_cache_bytes: int
    weight_bytes: int
    memory_bytes: int
    disk_bytes: int
    explanation: tuple[str, ...]


def choose(
    *,
    context: int,
    concurrency: int,
    replicas: int,
    config: Mapping[str, Any],
    manifest: Manifest,
    gpu: str | None,
    quant: str,
    engine: Engine,
) -> Sizing:
    """Return the smallest size that holds `concurrency` requests of `context` tokens each, prompt and answer together.

    config is the model's decoded config.json. Raises StackError when the model cannot do it, NotBuilt for GPUs.
    """
    if gpu is not None:
        raise NotBuilt(f"hardware.gpu: {gpu}: serving on GPUs is not built yet; leave it out to serve on CPU")
    device: Device = "cpu"
    _check_context(context, config)
    Diagnostics(list(engine.check_model(config, quant, device))).raise_if_errors()
    weight_bytes = _weight_bytes(manifest)
    per_token = engine.kv_bytes_per_token(config, engine.kv_dtype_bytes(config, quant))
    block_tokens, spare = engine.kv_block_tokens(config, device), engine.kv_spare_blocks()
    blocks_each = -(-context // block_tokens)
    blocks = concurrency * blocks_each + spare
    kv_bytes = blocks * block_tokens * per_token
    overhead = engine.overhead_bytes(device)
    memory = weight_bytes + kv_bytes + overhead
    disk = manifest.size_bytes + engine.runtime_disk_bytes(device)
    return Sizing(
        replicas=replicas,
        machines_per_replica=1,
        gpus_per_machine=0,
        gpu=None,
        max_model_len=context,
        max_num_seqs=concurrency,
        kv_cache_bytes=kv_bytes,
        weight_bytes=weight_bytes,
        memory_bytes=memory,
        disk_bytes=disk,
        explanation=(
            f"weights: {_size(weight_bytes)}",
            f"KV cache: {concurrency} requests x {blocks_each} blocks of {block_tokens} tokens"
            f" ({context:,} tokens each) + {spare} = {blocks:,} blocks;"
            f" x {block_tokens} tokens x {per_token:,} bytes = {_size(kv_bytes)}",
            f"memory: {_size(weight_bytes)} weights + {_size(kv_bytes)} KV cache + {_size(overhead)} engine = {_size(memory)}",
            f"disk: {_size(manifest.size_bytes)} model files + {_size(disk - manifest.size_bytes)} engine = {_size(disk)}",
        ),
    )


def _check_context(context: int, config: Mapping[str, Any]) -> None:
    limit = first(config, *_CONTEXT_NAMES)
    if limit is not None and context > limit:
        raise stack_error(
            "model.context",
            f"{context:,} tokens are more than the {limit:,} that the model was made for (max_position_embeddings)",
            hint=f"at most {limit}",
        )


def _weight_bytes(manifest: Manifest) -> int:
    found = [file.size_bytes for file in manifest.files if file.path.endswith(".safetensors")]
    if not found:
        raise stack_error("model.id", f"{manifest.location} holds no .safetensors file", hint="other formats can carry code")
    return sum(found)


def _size(count: int) -> str:
    """Return bytes for people, in binary units."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
