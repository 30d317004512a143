from __future__ import annotations

from typing import Any

import pytest

from llmdeploy.errors import StackError
from llmdeploy.manifest import Manifest, ModelFacts, WeightFile
from llmdeploy.serving.model import Parallel, Quantization
from llmdeploy.sizing import parameters_of
from llmdeploy.sizing.weights import Weights, file_bytes, weights_of
from tests.sizing.world import GIB, facts

BF16 = Quantization("bf16", "published", 2, 2, 2, "bf16", native=True)
FP8 = Quantization("fp8_per_tensor", "load", 1, 2, 2, "fp8", native=True, flag="fp8_per_tensor")
INT4 = Quantization("int4", "variant", 0.516, 2, 2, "bf16", native=False, repository="somebody/int4")
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "intermediate_size": 256,
}
LINEAR = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 256
TABLE = 1000 * 64


def weights(quantization: Quantization = BF16, model: ModelFacts | None = None, **changed: Any) -> Weights:
    known = model or ModelFacts("m", {**CONFIG, **changed})
    return weights_of(known, parameters_of(known), quantization, None)


def test_files_that_are_loaded_as_published_are_exact() -> None:
    found = weights(model=ModelFacts("m", CONFIG, weight_bytes=987_654, file_bytes=990_000))
    assert (found.total, found.disk, found.exact) == (987_654, 990_000, True)
    assert found.on_gpu(Parallel()) == 987_654


def test_a_float32_checkpoint_takes_half_of_its_files() -> None:
    found = weights(model=ModelFacts("m", {**CONFIG, "torch_dtype": "float32"}, weight_bytes=1_000_000))
    assert (found.total, found.exact) == (500_000, True)


def test_a_conversion_at_load_takes_the_disk_of_the_published_files() -> None:
    found = weights(FP8, ModelFacts("m", CONFIG, weight_bytes=1_000_000, file_bytes=1_100_000))
    assert found.disk == 1_100_000
    assert 500_000 < found.total < 1_000_000
    assert not found.exact


def test_tables_and_norms_stay_in_16_bits() -> None:
    assert weights(INT4).total == round(4 * (0.516 * LINEAR + 2 * 2 * 64) + 2 * 2 * TABLE)
    assert weights(FP8).total == 4 * (LINEAR + 2 * 2 * 64) + 2 * 2 * TABLE


def test_a_70b_in_four_bits_is_37_gib() -> None:
    # Half a byte for each parameter would be 33: embeddings and head stay in 16 bits, and groups of 128 have scales.
    assert weights(INT4, facts("llama-3.3-70b-instruct")).total / GIB == pytest.approx(37.0, abs=0.2)


def test_tensor_parallelism_divides_what_it_can() -> None:
    norms = 4 * 2 * 2 * 64
    for tensor in (1, 2):
        assert weights().on_gpu(Parallel(tensor)) == (2 * 4 * LINEAR + 4 * TABLE) // tensor + norms


def test_more_ranks_than_kv_heads_hold_keys_and_values_twice() -> None:
    kv = 2 * 64 * 32
    assert weights().on_gpu(Parallel(4)) == 2 * 4 * ((LINEAR - kv) // 4 + kv // 2) + 4 * TABLE // 4 + 4 * 2 * 2 * 64


def test_latent_projections_down_are_on_every_rank() -> None:
    found = weights(model=facts("deepseek-v3", weight_bytes=None, parameters=None))
    whole = sum(layer.whole for layer in found.parameters.layers)
    assert whole == 61 * 7168 * (1536 + 512 + 64)
    assert 8 * found.on_gpu(Parallel(8)) - found.total > 7 * 2 * whole


def test_the_first_stage_has_the_table_and_the_last_the_head() -> None:
    layer = 2 * LINEAR + 2 * 2 * 64
    assert weights().on_gpu(Parallel(1, 2)) == 2 * layer + 2 * TABLE
    assert weights().on_gpu(Parallel(1, 4)) == layer + 2 * TABLE
    # A tied table is there twice as soon as its two uses are on two GPUs.
    tied = weights(tie_word_embeddings=True)
    assert tied.total == 4 * layer + 2 * TABLE
    assert tied.on_gpu(Parallel(1, 2)) == 2 * layer + 2 * TABLE


def test_a_step_reads_everything_but_the_table_that_is_only_looked_up_in() -> None:
    assert weights().read_in_a_step(Parallel(), 1) == weights().total - 2 * TABLE
    assert weights(tie_word_embeddings=True).read_in_a_step(Parallel(), 1) == weights(tie_word_embeddings=True).total


def test_more_requests_read_more_experts() -> None:
    found = weights(model=facts("mixtral-8x7b-instruct-v0.1"))
    counted = found.parameters
    one, many = found.read_in_a_step(Parallel(), 1), found.read_in_a_step(Parallel(), 1000)
    assert one == pytest.approx(2 * counted.multiplied, rel=1e-3)
    assert many == pytest.approx(2 * (counted.total - counted.embedding), rel=1e-3)
    assert one < found.read_in_a_step(Parallel(), 4) < many


def test_files_without_weights_are_no_model() -> None:
    files = (WeightFile(path="config.json", size_bytes=640, sha256="a"), WeightFile(path="x.bin", size_bytes=9, sha256="b"))
    manifest = Manifest(kind="folder", location="/models/m", revision="1", files=files)
    with pytest.raises(StackError, match=r"/models/m holds no .safetensors file"):
        file_bytes(ModelFacts("m", CONFIG), manifest)
