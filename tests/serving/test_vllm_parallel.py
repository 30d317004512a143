"""How models are split over GPUs, and what is taken on each beside weights and KV cache."""

from __future__ import annotations

from typing import Any

import pytest

from llmdeploy.catalog import Catalog
from llmdeploy.manifest import ModelFacts
from llmdeploy.serving import Parallel
from llmdeploy.serving.vllm import VLLM
from tests.serving.gpus import B200, GIB, H100
from tests.serving.tiny_models import LLAMA, TINY_MODELS

CATALOG = Catalog.load(None)


def facts(name: str) -> ModelFacts:
    found = CATALOG.facts(name)
    assert found is not None
    return found


def tiny(**fields: Any) -> ModelFacts:
    return ModelFacts("m", {**LLAMA, "intermediate_size": 1024, "num_attention_heads": 8, **fields})


def problem(model: ModelFacts, parallel: Parallel, quant: str = "auto") -> str:
    return VLLM.parallel_problem(model, parallel, VLLM.quantize(model, quant, H100))


@pytest.mark.parametrize(
    "parallel", [Parallel(), Parallel(2), Parallel(4), Parallel(8), Parallel(2, 4), Parallel(8, 2, machines=2)]
)
def test_llama_70b_is_split_in_many_ways(parallel: Parallel) -> None:
    assert problem(facts("llama-3.3-70b-instruct"), parallel) == ""


@pytest.mark.parametrize(
    ("model", "parallel", "sentence"),
    [
        (facts("llama-3.3-70b-instruct"), Parallel(3), "64 attention heads cannot be divided by 3 GPUs"),
        (facts("phi-4"), Parallel(4), "10 key-value heads can neither be divided by 4 GPUs nor repeated evenly on them"),
        (facts("qwen2.5-7b-instruct"), Parallel(8), "28 attention heads cannot be divided by 8 GPUs"),
        (tiny(), Parallel(1, 5), "4 layers cannot be divided into 5 pipeline stages"),
        (tiny(), Parallel(2, 1, machines=4), "2 GPUs cannot be divided evenly over 4 machines"),
        (tiny(intermediate_size=1023), Parallel(2), "intermediate_size 1023 cannot be divided by 2 GPUs"),
        (tiny(moe_intermediate_size=129), Parallel(2), "moe_intermediate_size 129 cannot be divided by 2 GPUs"),
        (
            ModelFacts("m", {**TINY_MODELS["qwen 3 next"].config, "linear_num_key_heads": 3}),
            Parallel(2),
            "3 heads of the recurrent layers (linear_num_key_heads) cannot be divided by 2 GPUs",
        ),
        (
            ModelFacts("m", {**TINY_MODELS["nemotron h"].config, "n_groups": 3}),
            Parallel(2),
            "3 groups of the recurrent layers (n_groups) cannot be divided by 2 GPUs",
        ),
        (ModelFacts("m", TINY_MODELS["gemma 3n"].config), Parallel(1, 2), "cannot divide models of the kind gemma3n_text"),
    ],
)
def test_impossible_splits_are_told(model: ModelFacts, parallel: Parallel, sentence: str) -> None:
    assert sentence in problem(model, parallel)


def test_few_key_value_heads_are_repeated_when_that_comes_out_even() -> None:
    assert problem(facts("qwen3-235b-a22b"), Parallel(8)) == ""
    assert problem(facts("phi-4"), Parallel(2)) == ""


def test_latent_attention_has_no_rule_for_key_value_heads() -> None:
    assert problem(facts("deepseek-v3"), Parallel(8)) == ""
    assert problem(facts("deepseek-v3"), Parallel(16, machines=2)) == ""


def test_scales_of_several_parameters_are_not_torn_apart() -> None:
    model = tiny(intermediate_size=768, quantization_config={"quant_method": "awq", "group_size": 128})
    assert problem(model, Parallel(2)) == ""
    assert problem(model, Parallel(4)) == (
        "the heads' width 256 on 4 GPUs is 64 on each, which is no multiple of 128: so many awq parameters share a scale"
    )
    assert problem(tiny(intermediate_size=768), Parallel(4), "fp8_per_block") != ""
    assert problem(tiny(intermediate_size=768), Parallel(4), "fp8_per_tensor") == ""


def test_experts_with_block_scales_do_not_fit_eight_gpus() -> None:
    # 1,536 on 8 GPUs is 192: what is published as FP8 for this model has blocks of 128.
    assert "moe_intermediate_size 1536 on 8 GPUs is 192" in problem(facts("qwen3-235b-a22b"), Parallel(8), "fp8")
    assert problem(facts("qwen3-235b-a22b"), Parallel(4), "fp8") == ""


def test_gpt_oss_is_padded() -> None:
    assert problem(facts("gpt-oss-120b"), Parallel(8)) == ""


# --- what is taken beside weights and cache -------------------------------------------------------------------------------------


def test_overhead_is_the_planning_value() -> None:
    model = facts("llama-3.3-70b-instruct")
    assert VLLM.gpu_overhead_bytes(model, Parallel(), 2048) == 2.5 * GIB
    assert VLLM.gpu_overhead_bytes(model, Parallel(2), 2048) == 2.5 * GIB
    assert VLLM.gpu_overhead_bytes(model, Parallel(4), 2048) == 3.5 * GIB
    assert VLLM.gpu_memory_fraction() == 0.92


def test_larger_steps_take_more_and_more_gpus_share_it() -> None:
    model = facts("llama-3.3-70b-instruct")
    small, large = (VLLM.gpu_overhead_bytes(model, Parallel(), VLLM.batched_tokens(1, gpu, {})) for gpu in (H100, B200))
    assert 2.5 * GIB < small < large < 8 * GIB
    assert VLLM.gpu_overhead_bytes(model, Parallel(2), 16384) < VLLM.gpu_overhead_bytes(model, Parallel(1), 16384)


def test_a_token_that_goes_through_many_experts_takes_the_room_of_all() -> None:
    dense, mixture = tiny(), tiny(num_local_experts=8, num_experts_per_tok=2)
    assert VLLM.gpu_overhead_bytes(mixture, Parallel(), 8192) > VLLM.gpu_overhead_bytes(dense, Parallel(), 8192)


@pytest.mark.parametrize("name", CATALOG.model_names())
def test_every_model_of_the_catalogue_can_be_served_on_one_gpu(name: str) -> None:
    model = facts(name)
    assert problem(model, Parallel()) == ""
    assert VLLM.gpu_overhead_bytes(model, Parallel(), 8192) >= 2.5 * GIB
