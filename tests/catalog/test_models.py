from __future__ import annotations

import math
from typing import Any

import pytest

from llmdeploy.catalog import Catalog, models, tiny_random
from llmdeploy.catalog.strict import check
from llmdeploy.serving import KvRequest, engine

CATALOG = Catalog.load(None)


def row_of(name: str) -> models.CatalogModel:
    row = models.model(name)
    assert row is not None
    return row


def config_of(name: str) -> dict[str, Any]:
    facts = CATALOG.facts(name)
    assert facts is not None
    return dict(facts.config)


def test_names_are_sorted_and_hold_every_row() -> None:
    names = CATALOG.model_names()
    assert list(names) == sorted(models.rows())
    assert len(names) == 27
    assert {"tiny-random", "llama-3.3-70b-instruct", "deepseek-v3", "gpt-oss-120b"} <= set(names)


def test_an_unknown_name_is_none() -> None:
    assert models.model("gpt-5") is None
    assert CATALOG.model("gpt-5") is None
    assert CATALOG.facts("gpt-5") is None


def test_the_table_is_dated() -> None:
    assert models.as_of() == "2026-11-30"


@pytest.mark.parametrize("name", CATALOG.model_names())
def test_every_row_is_whole(name: str) -> None:
    row = row_of(name)
    assert list(check(row, models.CatalogModel)) == []
    assert row["source"]
    assert row["license"]
    assert row["hf_id"] is None or row["hf_id"].count("/") == 1
    assert 0 < row["parameters"]["active"] <= row["parameters"]["total"]
    facts = row["architecture"]
    assert ("experts" in facts) == facts["kind"].startswith("moe")
    assert "experts" in facts or row["parameters"]["active"] == row["parameters"]["total"]
    assert ("sliding_window" in facts) == facts["kind"].endswith("swa")
    if "sliding_window" in facts:
        window = facts["sliding_window"]
        assert window["sliding_layers"] + window["full_layers"] == facts["layers"]


def test_a_row_with_an_unknown_or_a_wrong_fact_is_refused() -> None:
    row = row_of("tiny-random")
    assert [wrong.summary for wrong in check({**row, "color": "red"}, models.CatalogModel)] == ['unknown key "color"']
    wrong = {**row, "architecture": {**row["architecture"], "layers": "4"}}
    assert [one.summary for one in check(wrong, models.CatalogModel)] == ['must be a whole number, not "4"']


@pytest.mark.parametrize(
    ("name", "kv_bytes", "weights_gib"),
    [
        ("llama-3.3-70b-instruct", 327680, 131.42),
        ("qwen3-32b", 262144, 61.02),
        ("phi-3.5-mini-instruct", 393216, 7.12),
        ("mixtral-8x7b-instruct-v0.1", 131072, 86.99),
        ("deepseek-v3", 70272, 1249.88),
        ("gemma-3-27b-it", 507904, 51.1),
    ],
)
def test_published_figures_follow_from_the_rows(name: str, kv_bytes: int, weights_gib: float) -> None:
    row = row_of(name)
    facts = CATALOG.facts(name)
    assert facts is not None
    assert engine("vllm").kv_layout(facts, KvRequest(4096, 2048)).token_bytes == kv_bytes
    assert round(models.weights_bytes_bf16(row) / 2**30, 2) == weights_gib


# --- parameters: of every model, to the last one --------------------------------------------------------------------------------


def attention(config: dict[str, Any]) -> int:
    """Parameters of one attention block, as the published implementation of the family has it."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if "kv_lora_rank" in config:
        query, latent = config["q_lora_rank"], config["kv_lora_rank"]
        nope, rope, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
        down = hidden * query + query + hidden * (latent + rope) + latent
        return down + query * heads * (nope + rope) + latent * heads * (nope + value) + heads * value * hidden
    kv, size, family = config["num_key_value_heads"], config["head_dim"], config["model_type"]
    matrices = hidden * size * (2 * heads + 2 * kv)
    biases = size * (heads + 2 * kv) if family in ("qwen2", "gpt_oss") else 0
    norms = 2 * size if family in ("qwen3", "qwen3_moe", "gemma3_text") else 0
    sinks_and_output_bias = heads + hidden if family == "gpt_oss" else 0
    return matrices + biases + norms + sinks_and_output_bias


def feed_forward(config: dict[str, Any], layer: int, *, used: bool) -> int:
    """Parameters of one feed-forward block; used: only those that one token uses."""
    hidden, family = config["hidden_size"], config["model_type"]
    count = next((config[name] for name in ("num_local_experts", "num_experts", "n_routed_experts") if name in config), 0)
    if not count or layer < config.get("first_k_dense_replace", 0):
        return 3 * hidden * config["intermediate_size"]
    size = config.get("moe_intermediate_size") or config["intermediate_size"]
    expert = 3 * hidden * size + (2 * size + hidden if family == "gpt_oss" else 0)
    router = count * hidden + (count if family in ("gpt_oss", "deepseek_v3") else 0)
    return router + expert * ((config["num_experts_per_tok"] if used else count) + config.get("n_shared_experts", 0))


def vision(config: dict[str, Any], hidden: int) -> int:
    """Parameters of a SigLIP tower and of its projection to `hidden`."""
    width, inner, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    patches = (config["image_size"] // patch) ** 2
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    embeddings = 3 * patch * patch * width + width + patches * width
    return config["num_hidden_layers"] * layer + embeddings + 2 * width + width * hidden + width


def count(config: dict[str, Any], *, used: bool = False) -> int:
    """Parameters of a model, from its config.json alone."""
    text = config.get("text_config", config)
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    norms = 4 if text["model_type"] in ("gemma2", "gemma3_text") else 2
    blocks = sum(attention(text) + norms * hidden + feed_forward(text, layer, used=used) for layer in range(layers))
    embeddings = text["vocab_size"] * hidden * (1 if config["tie_word_embeddings"] else 2)
    return blocks + hidden + embeddings + (vision(config["vision_config"], hidden) if "vision_config" in config else 0)


@pytest.mark.parametrize("name", CATALOG.model_names())
def test_parameters_follow_from_the_config_to_the_last_one(name: str) -> None:
    config, row = config_of(name), row_of(name)
    assert count(config) == row["parameters"]["total"]
    assert count(config, used=True) == row["parameters"]["active"]


def test_the_bytes_of_gpt_oss_follow_from_its_number_formats() -> None:
    for name in ("gpt-oss-20b", "gpt-oss-120b"):
        config, row = config_of(name), row_of(name)
        hidden, size = config["hidden_size"], config["intermediate_size"]
        experts = config["num_hidden_layers"] * config["num_local_experts"] * 3 * hidden * size
        assert row.get("published_bytes") == experts * (0.5 + 1 / 32) + 2 * (row["parameters"]["total"] - experts)


def test_published_bytes_are_two_per_parameter_unless_the_row_says_otherwise() -> None:
    assert {name for name in CATALOG.model_names() if "published_bytes" in row_of(name)} == {
        "deepseek-v3",
        "gpt-oss-20b",
        "gpt-oss-120b",
    }
    assert models.published_bytes(row_of("qwen3-8b")) == 2 * 8_190_735_360
    assert round(models.published_bytes(row_of("deepseek-v3")) / 2**30, 1) == 641.3


# --- config.json ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOG.model_names())
def test_every_config_names_its_class_and_its_shape(name: str) -> None:
    config = config_of(name)
    assert [kind for kind in config["architectures"] if kind.endswith(("ForCausalLM", "ForConditionalGeneration"))]
    text = config.get("text_config", config)
    shape = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
    assert all(isinstance(text[entry], int) for entry in (*shape, "max_position_embeddings"))
    assert config["torch_dtype"] == "bfloat16"


def test_sliding_layers_are_where_the_models_have_them() -> None:
    gemma2, gpt_oss = config_of("gemma-2-9b-it"), config_of("gpt-oss-20b")
    assert gemma2["layer_types"][:4] == gpt_oss["layer_types"][:4] == ["sliding_attention", "full_attention"] * 2
    assert (gemma2["sliding_window"], gpt_oss["sliding_window"]) == (4096, 128)
    gemma3 = config_of("gemma-3-27b-it")["text_config"]
    assert gemma3["layer_types"][:12] == (["sliding_attention"] * 5 + ["full_attention"]) * 2
    assert gemma3["layer_types"].count("full_attention") == 10
    assert gemma3["layer_types"][-2:] == ["sliding_attention"] * 2


def test_latent_attention_and_experts_have_the_names_of_the_real_config() -> None:
    deepseek, mixtral, qwen = config_of("deepseek-v3"), config_of("mixtral-8x7b-instruct-v0.1"), config_of("qwen3-235b-a22b")
    assert (deepseek["kv_lora_rank"], deepseek["qk_rope_head_dim"], deepseek["n_routed_experts"]) == (512, 64, 256)
    assert (deepseek["first_k_dense_replace"], deepseek["n_shared_experts"]) == (3, 1)
    assert "head_dim" not in deepseek
    assert (mixtral["num_local_experts"], mixtral["intermediate_size"]) == (8, 14336)
    assert (qwen["num_experts"], qwen["moe_intermediate_size"], qwen["num_experts_per_tok"]) == (128, 1536, 8)


def test_only_what_is_published_quantized_has_a_quantization_config() -> None:
    found = {
        name: config["quantization_config"]["quant_method"]
        for name in CATALOG.model_names()
        if (config := config_of(name)).get("quantization_config")
    }
    assert found == {"deepseek-v3": "fp8", "gpt-oss-20b": "mxfp4", "gpt-oss-120b": "mxfp4"}
    assert config_of("deepseek-v3")["quantization_config"]["weight_block_size"] == [128, 128]
    assert {name for name in CATALOG.model_names() if row_of(name)["published_as"] != "bfloat16"} == set(found)


# --- licences and variants ------------------------------------------------------------------------------------------------------


def test_licences_that_forbid_commercial_use_are_marked() -> None:
    assert {name for name in CATALOG.model_names() if row_of(name)["commercial"] is not True} == {
        "solar-10.7b-instruct",
        "mistral-large-2-instruct-2407",
    }
    facts = CATALOG.facts("solar-10.7b-instruct")
    assert facts is not None
    assert (facts.license, facts.commercial, facts.gated) == ("cc-by-nc-4.0", False, False)


def test_gated_models_are_those_of_meta_google_and_mistrals_research_licence() -> None:
    gated = {name for name in CATALOG.model_names() if row_of(name)["gated"]}
    assert all(name.startswith(("llama-3", "gemma-", "mistral-large-2")) for name in gated)
    assert len(gated) == 7


def test_variants_are_repositories_of_quantizations_that_a_stack_file_can_name() -> None:
    words = {"fp8", "int8", "int4", "awq", "gptq", "nvfp4"}
    for name in CATALOG.model_names():
        for quant, variant in row_of(name).get("variants", {}).items():
            assert quant in words, name
            assert variant["repository"].count("/") == 1, name
    facts = CATALOG.facts("llama-3.3-70b-instruct")
    assert facts is not None
    assert facts.variants["awq"] == "casperhansen/llama-3.3-70b-instruct-awq"
    assert set(facts.variants) == {"fp8", "int8", "int4", "awq", "nvfp4"}


# --- tiny-random ----------------------------------------------------------------------------------------------------------------


def test_tiny_random_agrees_with_the_files_it_stands_for() -> None:
    row = row_of("tiny-random")
    facts = row["architecture"]
    assert row["hf_id"] is None
    assert row["parameters"]["total"] == sum(math.prod(shape) for shape in tiny_random.shapes().values())
    assert (facts["layers"], facts["hidden"]) == (tiny_random.LAYERS, tiny_random.HIDDEN)
    assert facts.get("intermediate") == tiny_random.INTERMEDIATE
    assert (facts["heads"], facts["kv_heads"], facts["head_dim"]) == (
        tiny_random.HEADS,
        tiny_random.KV_HEADS,
        tiny_random.HEAD_DIM,
    )
    assert (facts["vocab"], facts["max_context_tokens"]) == (tiny_random.VOCAB, tiny_random.MAX_CONTEXT_TOKENS)


def test_the_facts_of_tiny_random_are_those_of_its_files() -> None:
    facts = CATALOG.facts("tiny-random")
    assert facts is not None
    sizes = {path: len(content) for path, content in tiny_random.files().items()}
    assert facts.weight_bytes == sizes["model.safetensors"]
    assert facts.file_bytes == sum(sizes.values())
    assert facts.config["bos_token_id"] == tiny_random.BEGIN_ID


def test_a_model_is_also_known_by_its_repository() -> None:
    catalog = Catalog.load(None)
    assert catalog.model("meta-llama/Llama-3.1-8B-Instruct") == catalog.model("llama-3.1-8b-instruct")
    facts = catalog.facts("meta-llama/Llama-3.1-8B-Instruct")
    assert facts is not None
    assert (facts.id, facts.parameters) == ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248)
    assert catalog.model("meta-llama/Llama-9") is None
