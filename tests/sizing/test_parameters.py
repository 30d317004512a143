from __future__ import annotations

from typing import Any

import pytest

from llmdeploy.errors import StackError
from llmdeploy.manifest import ModelFacts
from llmdeploy.sizing import parameters_of
from tests.sizing.world import catalog, facts

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100, "intermediate_size": 256}
ATTENTION = 4 * 64 * 64
NORMS = 2 * 64


def count(**config: Any) -> int:
    return parameters_of(ModelFacts("m", {**SMALL, **config})).total


@pytest.mark.parametrize("name", catalog().model_names())
def test_a_count_from_config_json_alone_meets_the_published_total(name: str) -> None:
    known = facts(name)
    counted = parameters_of(ModelFacts(name, known.config))
    assert counted.known, counted.note
    assert counted.total == pytest.approx(known.parameters, rel=1e-3)
    assert counted.active == pytest.approx(known.active_parameters, rel=1e-3)


@pytest.mark.parametrize("name", catalog().model_names())
def test_a_known_total_is_met_exactly(name: str) -> None:
    known = facts(name)
    assert parameters_of(known).total == known.parameters


def test_a_gate_is_a_third_matrix() -> None:
    tables = 2 * 100 * 64
    assert count(model_type="llama") == 2 * (ATTENTION + 3 * 64 * 256 + NORMS) + tables
    assert count(model_type="gpt_neox") == 2 * (ATTENTION + 2 * 64 * 256 + NORMS) + tables
    assert count(model_type="nobody-knows", hidden_act="relu2") == count(model_type="gpt_neox")
    assert count(model_type="nobody-knows", hidden_act="silu") == count(model_type="llama")


def test_a_tied_table_counts_once() -> None:
    assert count(model_type="llama", tie_word_embeddings=True) == count(model_type="llama") - 100 * 64
    assert count(model_type="gemma2") == count(model_type="llama", tie_word_embeddings=True)
    assert count(model_type="gemma2", tie_word_embeddings=False) == count(model_type="llama")


def test_few_kv_heads_have_few_parameters() -> None:
    saved = 2 * 2 * 64 * (4 - 1) * 16
    assert count(num_key_value_heads=1) == count() - saved
    assert count(model_type="falcon", multi_query=True) == count(model_type="falcon") - saved
    grouped = count(model_type="falcon", multi_query=True, new_decoder_architecture=True, num_kv_heads=1)
    assert grouped == count(model_type="falcon") - saved


def test_head_dim_is_what_config_json_says() -> None:
    assert count(head_dim=32) == count() + 2 * ATTENTION


def test_gpt2_has_its_own_words() -> None:
    # 124,439,808 are published for the small one; biases are left out here.
    config = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
    assert parameters_of(ModelFacts("gpt2", config)).total == pytest.approx(124_439_808, rel=2e-3)


@pytest.mark.parametrize(
    ("config", "experts", "per_layer"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}, 8 * 3 * 64 * 256, 64 * 8),
        (
            {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
            8 * 3 * 64 * 32,
            64 * 8,
        ),
        (
            {
                "model_type": "qwen2_moe",
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
                "shared_expert_intermediate_size": 48,
            },
            8 * 3 * 64 * 32,
            64 * 8 + 3 * 64 * 48,
        ),
        (
            {
                "model_type": "glm4_moe",
                "n_routed_experts": 8,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
                "n_shared_experts": 2,
            },
            8 * 3 * 64 * 32,
            64 * 8 + 2 * 3 * 64 * 32,
        ),
    ],
    ids=["mixtral", "qwen3", "qwen2", "glm"],
)
def test_experts_are_found_under_their_names(config: dict[str, Any], experts: int, per_layer: int) -> None:
    counted = parameters_of(ModelFacts("m", {**SMALL, **config}))
    assert [layer.experts for layer in counted.layers] == [experts, experts]
    assert counted.total == 2 * (ATTENTION + NORMS + experts + per_layer) + 2 * 100 * 64
    assert counted.active == counted.total - 2 * experts * 6 // 8


def test_dense_layers_among_experts() -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    for which in ({"first_k_dense_replace": 1}, {"decoder_sparse_step": 2}, {"mlp_only_layers": [0]}):
        counted = parameters_of(ModelFacts("m", {**SMALL, **experts, **which}))
        assert [layer.experts > 0 for layer in counted.layers] == [False, True]
        assert counted.layers[0].split == 2 * 64 * 64 + 3 * 64 * 256


def test_an_architecture_that_nobody_listed_is_counted_and_says_so() -> None:
    counted = parameters_of(ModelFacts("m", {**SMALL, "architectures": ["NeverSeenForCausalLM"]}))
    assert counted.total == count(model_type="llama")
    assert counted.note == (
        "architecture NeverSeenForCausalLM is not one that was checked: its parameters were counted from config.json"
    )


def test_a_nested_text_config_is_read() -> None:
    nested = {"model_type": "seen-with-eyes", "text_config": {**SMALL, "model_type": "llama"}, "torch_dtype": "bfloat16"}
    assert parameters_of(ModelFacts("m", nested)).total == count(model_type="llama")


def test_a_vision_encoder_is_counted_besides() -> None:
    vision = {"hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64, "image_size": 28, "patch_size": 14}
    counted = parameters_of(ModelFacts("m", {"text_config": {**SMALL, "model_type": "llama"}, "vision_config": vision}))
    assert counted.vision == 3 * (4 * 32 * 32 + 2 * 32 * 64) + 3 * 14 * 14 * 32 + 4 * 32 + 32 * 64
    assert counted.total == count(model_type="llama") + counted.vision
    assert counted.multiplied == counted.total - counted.vision - 100 * 64


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            {"architectures": ["OddForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2},
            "architecture OddForCausalLM: config.json has no num_attention_heads or n_head or n_heads, no vocab_size, no"
            " intermediate_size or ffn_dim or ffn_hidden_size or n_inner, so its weights cannot be counted",
        ),
        (
            {**SMALL, "model_type": "odd", "num_experts": 4},
            "architecture odd: config.json has no num_experts_per_tok or experts_per_token or moe_k or moe_top_k, so",
        ),
        (
            {**SMALL, "model_type": "odd", "mamba_d_state": 16, "mamba_d_conv": 4},
            "architecture odd: config.json describes layers of another kind (mamba_d_conv, mamba_d_state), so",
        ),
        ({}, "an architecture without a name: config.json has no hidden_size or n_embd or d_model, no"),
    ],
    ids=["fields", "experts", "state space", "empty"],
)
def test_what_cannot_be_counted_says_what_is_missing(config: dict[str, Any], says: str) -> None:
    with pytest.raises(StackError) as error:
        parameters_of(ModelFacts("m", config))
    assert says in str(error.value)
    assert "their index, tells the size" in str(error.value)


def test_what_cannot_be_counted_is_sized_by_its_files() -> None:
    config = {**SMALL, "model_type": "odd", "mamba_d_state": 16, "torch_dtype": "bfloat16"}
    counted = parameters_of(ModelFacts("m", config, weight_bytes=2_000_000))
    assert counted.total == counted.active == 1_000_000
    assert counted.embedding == 6400
    assert counted.note == "architecture odd: its parameters were taken from the size of its files, not counted"


@pytest.mark.parametrize(
    ("entries", "parameters"),
    [
        ({"torch_dtype": "float32"}, 250_000),
        ({"dtype": "float16"}, 500_000),
        ({}, 500_000),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, 2_000_000),
        ({"quantization_config": {"quant_method": "fp8"}}, 1_000_000),
    ],
    ids=["float32", "float16", "unsaid", "gptq", "fp8"],
)
def test_files_hold_as_many_parameters_as_their_number_format_allows(entries: dict[str, Any], parameters: int) -> None:
    assert parameters_of(ModelFacts("m", {"model_type": "odd", **entries}, weight_bytes=1_000_000)).total == parameters


def test_files_correct_a_count() -> None:
    counted = parameters_of(ModelFacts("m", {**SMALL, "model_type": "odd"}, weight_bytes=2 * 3 * count()))
    assert counted.total == 3 * count()
    assert counted.factor == pytest.approx(3)
