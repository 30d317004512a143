from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.errors import NotBuilt, StackError
from llmdeploy.manifest import Manifest, WeightFile
from llmdeploy.serving import engine
from llmdeploy.sizing import Sizing, choose

CONFIG = {
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 4096,
}
PER_TOKEN = 2 * 4 * 2 * 64 * 2
FILES = (
    WeightFile(path="config.json", size_bytes=640, sha256="a"),
    WeightFile(path="model-1.safetensors", size_bytes=3_000_000, sha256="b"),
    WeightFile(path="model-2.safetensors", size_bytes=2_000_000, sha256="c"),
)


def manifest(files: tuple[WeightFile, ...] = FILES) -> Manifest:
    return Manifest(kind="folder", location="/models/m", revision="1", files=files)


def size(**changed: Any) -> Sizing:
    wanted: dict[str, Any] = {
        "context": 1000,
        "concurrency": 3,
        "replicas": 1,
        "config": CONFIG,
        "manifest": manifest(),
        "gpu": None,
        "quant": "auto",
        "engine": engine("vllm"),
    }
    return choose(**{**wanted, **changed})


def test_the_kv_cache_holds_every_request_in_whole_blocks() -> None:
    found = size()
    assert found.kv_cache_bytes == (3 * 8 + 1) * 128 * PER_TOKEN
    assert (found.max_model_len, found.max_num_seqs, found.replicas) == (1000, 3, 1)
    assert (found.gpu, found.gpus_per_machine, found.machines_per_replica) == (None, 0, 1)


def test_memory_and_disk_are_sums() -> None:
    found = size()
    assert found.weight_bytes == 5_000_000
    assert found.memory_bytes == 5_000_000 + found.kv_cache_bytes + engine("vllm").overhead_bytes("cpu")
    assert found.disk_bytes == 5_000_640 + engine("vllm").runtime_disk_bytes("cpu")


def test_the_explanation_says_the_arithmetic() -> None:
    assert size().explanation == (
        "weights: 4.8 MiB",
        "KV cache: 3 requests x 8 blocks of 128 tokens (1,000 tokens each) + 1 = 25 blocks; x 128 tokens x 2,048 bytes = 6.2 MiB",
        "memory: 4.8 MiB weights + 6.2 MiB KV cache + 1.5 GiB engine = 1.5 GiB",
        "disk: 4.8 MiB model files + 1.7 GiB engine = 1.7 GiB",
    )


@given(context=st.integers(1, 4096), concurrency=st.integers(1, 512))
def test_it_always_fits_and_never_wastes_more_than_a_block_per_request(context: int, concurrency: int) -> None:
    tokens = size(context=context, concurrency=concurrency).kv_cache_bytes // PER_TOKEN
    assert context * concurrency + 128 <= tokens < (context + 128) * concurrency + 129


def test_more_context_than_the_model_has_names_both_numbers() -> None:
    with pytest.raises(StackError, match=r"model.context: 8,192 tokens are more than the 4,096"):
        size(context=8192)


def test_a_model_without_a_limit_is_not_limited() -> None:
    config = {name: value for name, value in CONFIG.items() if name != "max_position_embeddings"}
    assert size(context=8192, config=config).max_model_len == 8192


def test_what_cannot_be_served_is_an_error() -> None:
    with pytest.raises(NotBuilt, match=r"hardware\.gpu: l40s"):
        size(gpu="l40s")
    with pytest.raises(StackError, match=r"model.quant: .*no kernels for fp8"):
        size(quant="fp8")
    with pytest.raises(StackError, match=r"/models/m holds no .safetensors file"):
        size(manifest=manifest(FILES[:1]))
