"""The KV cache that is planned is the one that the real engine makes: blocks, and the tokens that it reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.catalog import Catalog
from llmdeploy.manifest import ModelFacts
from llmdeploy.serving import KvLayout, KvRequest, Parallel, engine
from llmdeploy.serving.attention import Attention, Latent, architecture
from llmdeploy.serving.vllm_quant import AT_LOAD, unable
from tests.e2e.support import ask_engine, write_tiny_model
from tests.serving.gpus import H100, gpu
from tests.serving.tiny_models import MIB, TINY_MODELS, TinyModel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

BUDGET = 64 * MIB

ENV = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
}

GPU_BUDGET = 20 * 2**30
CUDA = KvRequest(8192, 8192, device="cuda", gpu=H100)

SPLITS = {
    f"{name} on {tensor} x {pipeline}": (name, Parallel(tensor, pipeline))
    for name in (
        "llama-3.3-70b-instruct",
        "gemma-2-27b-it",
        "gemma-3-27b-it",
        "gpt-oss-120b",
        "deepseek-v3",
        "phi-4",
        "qwen3-235b-a22b",
    )
    for tensor, pipeline in ((1, 1), (2, 1), (8, 1), (2, 2), (1, 3), (4, 7))
}


def planned(model: TinyModel) -> KvLayout:
    """The layout of the cache, as sizing asks for it."""
    request = KvRequest(model.context, model.step, model.kv_bytes, args=model.args)
    return engine("vllm").kv_layout(ModelFacts("tiny", model.config), request)


def options(model: TinyModel, folder: Path) -> dict[str, Any]:
    """What the rendered command says, as far as it matters here; the weights are made up by the engine."""
    return {
        "model": str(folder),
        "max_model_len": model.context,
        "max_num_seqs": 4,
        "max_num_batched_tokens": model.step,
        "kv_cache_memory_bytes": BUDGET,
        "mamba_ssm_cache_dtype": "float32",
        "load_format": "dummy",
        "enforce_eager": True,
        "distributed_executor_backend": "uni",
        **model.options,
    }


def facts(name: str) -> ModelFacts:
    """A model of the catalogue."""
    found = Catalog.load(None).facts(name)
    assert found is not None
    return found


def workers(model: ModelFacts, parallel: Parallel) -> list[list[list[int]]]:
    """The layers of each pipeline stage, as the engine's model code describes them to its functions."""
    layers = architecture(model.config).layers
    kept: list[list[int]] = []
    for i, caches in enumerate(layers):
        for cache in caches:
            if isinstance(cache, Latent):
                kept.append([i, 0, cache.width, 0, 16])
            elif isinstance(cache, Attention):
                kept.append([i, max(1, cache.kv_heads // parallel.tensor), cache.key_dim, cache.window, 16])
    return [[layer for layer in kept if layer[0] in stage] for stage in parallel.stages(len(layers))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real engine made of every model, in one process."""
    engines: list[dict[str, Any]] = []
    for i, (name, model) in enumerate(TINY_MODELS.items()):
        folder = write_tiny_model(tmp_path_factory.mktemp(f"model{i}"), weights=False)
        (folder / "config.json").write_text(json.dumps(model.config))
        engines.append({"name": name, "options": options(model, folder)})
    shared = {"available": GPU_BUDGET, "context": CUDA.context}
    splits = [
        {"name": name, "workers": workers(facts(model), split), "in_flight": (split.pipeline + 1) * CUDA.batched_tokens, **shared}
        for name, (model, split) in SPLITS.items()
    ]
    asked = json.dumps({"engines": engines, "splits": splits})
    return json.loads(ask_engine("dump_vllm_kv.py", stdin=asked, env=ENV, timeout_s=800).splitlines()[-1])


@pytest.mark.parametrize("name", TINY_MODELS)
def test_the_engine_makes_the_blocks_and_reports_the_tokens_that_were_planned(made: dict[str, Any], name: str) -> None:
    layout = planned(TINY_MODELS[name])
    assert made["engines"][name] == {
        "blocks": layout.blocks(BUDGET),
        "tokens": layout.tokens(BUDGET),
        "block_tokens": layout.block_tokens,
    }


@pytest.mark.parametrize("name", SPLITS)
def test_models_of_the_catalogue_are_divided_as_the_engines_own_functions_do(made: dict[str, Any], name: str) -> None:
    model, parallel = SPLITS[name]
    layout = engine("vllm").kv_layout(facts(model), replace(CUDA, parallel=parallel))
    assert made["splits"][name] == {"blocks": layout.blocks(GPU_BUDGET), "tokens": layout.tokens(GPU_BUDGET)}


def test_number_formats_and_the_gpus_that_they_want_are_those_of_the_engine(made: dict[str, Any]) -> None:
    least: dict[str, int] = made["formats"]
    assert set(AT_LOAD) <= set(least)
    assert not {"gguf", "bitsandbytes", "int8"} & set(least)
    for method, capability in least.items():
        if method in ("fp8", "awq", "mxfp4", "modelopt_fp4", *AT_LOAD):
            name = {"modelopt_fp4": "nvfp4"}.get(method, method)
            assert unable(name, gpu("x", divmod(capability, 10))) == "" or name == "fp8_per_block"
            assert unable(name, gpu("x", divmod(capability - 1, 10)))
