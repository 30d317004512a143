from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.errors import StackError
from llmdeploy.machine import MachineType, Placement, Slot
from llmdeploy.manifest import Manifest, ModelFacts, WeightFile
from llmdeploy.prices import Price
from llmdeploy.sizing import Sizing, SizingRequest, choose
from tests.sizing.world import GIB, VLLM, machine

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


def size(config: dict[str, Any] = CONFIG, **changed: Any) -> Sizing:
    wanted: dict[str, Any] = {"context": 1000, "concurrency": 3, "manifest": manifest()}
    return choose(SizingRequest(ModelFacts("m", config), **{**wanted, **changed}), VLLM)


def plain(name: str, memory_gib: float = 0, usd: float | None = None, available: int | None = None) -> MachineType:
    price = None if usd is None else Price(usd, "hour", "a test")
    return MachineType(name, None, 0, 0, memory_bytes=int(memory_gib * GIB), price=price, available=available)


def test_the_kv_cache_holds_every_request_in_whole_blocks() -> None:
    found = size()
    assert found.kv_cache_bytes == (3 * 8 + 1) * 128 * PER_TOKEN
    assert (found.max_model_len, found.max_num_seqs, found.replicas) == (1000, 3, 1)
    assert (found.device, found.gpu, found.gpus_per_machine, found.machines_per_replica) == ("cpu", None, 0, 1)
    assert found.placement == Placement()


def test_memory_and_disk_are_sums() -> None:
    found = size()
    assert found.weight_bytes == 5_000_000
    assert found.memory_bytes == 5_000_000 + found.kv_cache_bytes + VLLM.overhead_bytes("cpu")
    assert found.disk_bytes == 5_000_640 + VLLM.runtime_disk_bytes("cpu")
    assert (found.memory.total, found.memory.free, found.memory.headroom) == (0, 0, 0)


def test_the_explanation_says_the_arithmetic() -> None:
    assert size().explanation == (
        "weights: 4.8 MiB",
        "KV cache: 3 requests x 8 blocks of 128 tokens (1,000 tokens each) + 1 = 25 blocks; x 128 tokens x 2,048 bytes = 6.2 MiB",
        "memory: 4.8 MiB weights + 6.2 MiB KV cache + 1.5 GiB engine = 1.5 GiB",
        "disk: 4.8 MiB model files + 1.7 GiB engine = 1.7 GiB",
    )


def test_the_arithmetic_of_a_window_is_told_besides() -> None:
    window = {**CONFIG, "model_type": "gemma2", "sliding_window": 256}
    sentences = size(window, context=4000).explanation
    assert sentences[1].startswith("KV cache: 3 requests x ")
    assert sentences[2].startswith("KV cache of one request: ")
    assert "window of 256" in sentences[2]


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
    with pytest.raises(StackError, match=r"model.quant: .*fp8"):
        size(quant="fp8")
    with pytest.raises(StackError, match=r"/models/m holds no .safetensors file"):
        size(manifest=manifest(FILES[:1]))


def test_main_memory_that_is_known_must_hold_every_process() -> None:
    assert size(machines=(plain("big", 4),)).placement.count == 1
    with pytest.raises(StackError) as error:
        size(machines=(plain("small", 1),))
    assert "small: 1 replica of 4.8 MiB weights + 6.2 MiB KV cache + 1.5 GiB engine = 1.5 GiB of memory" in str(error.value)
    assert "the machine has 1.0 GiB" in str(error.value)
    tight = plain("tight", 1.75)
    with pytest.raises(StackError, match=r"what fits: context: 3K; concurrency: \d+") as nearest:
        size(machines=(tight,), context=4000, concurrency=8 * 4)
    offered = int(str(nearest.value).split("concurrency: ")[1].split(")")[0])
    assert size(machines=(tight,), context=4000, concurrency=offered).max_num_seqs == offered
    with pytest.raises(StackError):
        size(machines=(tight,), context=4000, concurrency=offered + 1)
    with pytest.raises(StackError, match="2 replicas of"):
        size(machines=(plain("one", 2, available=1),), replicas=2)


def test_replicas_are_spread_over_own_machines() -> None:
    found = size(machines=(plain("host", available=2),), replicas=3)
    assert found.placement.count == 2
    assert found.placement.slots == (Slot(0, 0), Slot(1, 1), Slot(0, 2))
    assert size(replicas=2).placement == Placement(None, 1, (Slot(0, 0), Slot(0, 1)))


def test_the_cheapest_rented_machine() -> None:
    found = size(machines=(plain("b", 8, 0.5), plain("a", 4, 0.2), plain("unpriced", 8), plain("small", 1, 0.1)), replicas=2)
    assert (found.placement.type and found.placement.type.name, found.placement.count) == ("a", 2)
    assert [one.machine.name for one in found.candidates] == ["a", "b", "unpriced", "small"]


def test_none_is_the_cpu_even_where_there_are_gpus() -> None:
    found = size(gpu="none", machines=(plain("host", 8, available=1), machine("l40s", 1, available=1)))
    assert found.gpu is None
    with pytest.raises(StackError, match=r"hardware.gpu: every machine here has a GPU"):
        size(gpu="none", machines=(machine("l40s", 1),))


def test_a_float32_checkpoint_is_half_in_memory() -> None:
    found = size({**CONFIG, "torch_dtype": "float32"})
    assert (found.weight_bytes, found.disk_bytes) == (2_500_000, 5_000_640 + VLLM.runtime_disk_bytes("cpu"))
