"""Prints the KV caches that the real engine makes; runs with the interpreter of an installed engine.

Reads as JSON `{engines: [{name, options}], splits: [{name, workers, available, context, in_flight}]}`. An engine is started with
`options`, whose `model` is a folder of config.json and a tokenizer; weights are dummies, and one engine after another lives in
this process. A split is only computed, by the engine's own functions: `workers` lists, for each GPU, its layers as `[number,
heads, width, window, block_tokens]`, where heads 0 stands for latent attention. Prints
`{engines: {name: {blocks, tokens, block_tokens} | {error}}, splits: {name: {blocks, tokens}}, formats: {name: capability}}`,
where formats are the number formats that the engine knows and the least compute capability that each one wants.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from types import SimpleNamespace
from typing import Any


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Start an engine as the server does, and return what it says of its cache."""
    arg_utils: Any = importlib.import_module("vllm.engine.arg_utils")
    usage: Any = importlib.import_module("vllm.usage.usage_lib")
    core: Any = importlib.import_module("vllm.v1.engine.core")
    abstract: Any = importlib.import_module("vllm.v1.executor.abstract")
    parallel_state: Any = importlib.import_module("vllm.distributed.parallel_state")
    try:
        config = arg_utils.EngineArgs(**options).create_engine_config(usage.UsageContext.OPENAI_API_SERVER)
        engine = core.EngineCore(config, abstract.Executor.get_class(config), log_stats=False)
        cache = engine.vllm_config.cache_config
        found = {"blocks": cache.num_gpu_blocks, "tokens": cache.kv_cache_size_tokens, "block_tokens": cache.block_size}
        engine.shutdown()
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:2000]}
    finally:
        parallel_state.cleanup_dist_env_and_memory()
        gc.collect()
    return found


def split(case: dict[str, Any]) -> dict[str, Any]:
    """Let the engine's functions divide the memory of several GPUs."""
    utils: Any = importlib.import_module("vllm.v1.core.kv_cache_utils")
    config = _config(case)
    specs = [{f"layers.{layer[0]}": _spec(*layer[1:]) for layer in worker} for worker in case["workers"]]
    made = utils.get_kv_cache_configs(config, specs, [case["available"]] * len(specs))
    scheduler = utils.generate_scheduler_kv_cache_config(made)
    return {"blocks": scheduler.num_blocks, "tokens": utils.get_kv_cache_capacity(config, scheduler)[0]}


def _spec(heads: int, width: int, window: int, block_tokens: int) -> Any:
    interface: Any = importlib.import_module("vllm.v1.kv_cache_interface")
    bfloat16 = importlib.import_module("torch").bfloat16
    if heads == 0:
        return interface.MLAAttentionSpec(block_size=block_tokens, num_kv_heads=1, head_size=width, dtype=bfloat16)
    shape: dict[str, Any] = {"block_size": block_tokens, "num_kv_heads": heads, "head_size": width, "dtype": bfloat16}
    return interface.SlidingWindowSpec(**shape, sliding_window=window) if window else interface.FullAttentionSpec(**shape)


def _config(case: dict[str, Any]) -> Any:
    """What the functions ask a configuration for, with the values of a CUDA server."""
    layout: Any = importlib.import_module("vllm.v1.kv_cache_layout").KVCacheLayout.LBNHC
    return SimpleNamespace(
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        model_config=SimpleNamespace(max_model_len=case["context"], original_max_model_len=case["context"]),
        parallel_config=SimpleNamespace(tensor_parallel_size=1, decode_context_parallel_size=1),
        cache_config=SimpleNamespace(
            num_gpu_blocks_override=None, prefix_cache_retention_interval=0, get_resolved_kv_cache_layout=lambda: layout
        ),
        attention_config=SimpleNamespace(hisparse_config=None),
        speculative_config=None,
        max_in_flight_tokens=case["in_flight"],
        num_prefill_lookahead_tokens=0,
    )


def formats() -> dict[str, int]:
    """Return every number format with the least compute capability, as 10 x major + minor."""
    quantization: Any = importlib.import_module("vllm.model_executor.layers.quantization")
    names: list[str] = quantization.QUANTIZATION_METHODS
    return {name: quantization.get_quantization_config(name).get_min_capability() for name in names}


def main() -> None:
    """Answer for all of standard input."""
    asked = json.load(sys.stdin)
    splits = {case["name"]: split(case) for case in asked["splits"]}
    engines = {case["name"]: measure(case["options"]) for case in asked["engines"]}
    print(json.dumps({"engines": engines, "splits": splits, "formats": formats()}))


if __name__ == "__main__":
    main()
