"""The rules of the KV cache. What the real engine reports for every kind of model is compared in tests/e2e/test_kv_cache.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.catalog import Catalog
from llmdeploy.diagnostics import Diagnostic
from llmdeploy.errors import StackError
from llmdeploy.manifest import ModelFacts
from llmdeploy.serving import KvLayout, KvRequest, Parallel
from llmdeploy.serving.attention import architecture
from llmdeploy.serving.vllm import VLLM
from tests.serving.gpus import A100, B200, H100
from tests.serving.tiny_models import LLAMA, MIB, TINY_MODELS, config

CATALOG = Catalog.load(None)


def layout(fields: Mapping[str, Any], request: KvRequest) -> KvLayout:
    return VLLM.kv_layout(ModelFacts("m", fields), request)


# --- the published study: 256 MiB of cache, what vLLM 0.32 reported ------------------------------------------------------------

DENSE = {**LLAMA, "num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 64}
QWEN3 = config("qwen3", "Qwen3ForCausalLM", num_hidden_layers=5, num_key_value_heads=4, head_dim=128, hidden_size=128)
DEEPSEEK = config("deepseek_v2", "DeepseekV2ForCausalLM", num_hidden_layers=3, kv_lora_rank=512, qk_rope_head_dim=64)
GEMMA3 = config("gemma3_text", "Gemma3ForCausalLM", num_hidden_layers=12, num_key_value_heads=2, head_dim=64, sliding_window=512)


@pytest.mark.parametrize(
    ("fields", "context", "kv_bytes", "step", "block_tokens", "blocks", "tokens"),
    [
        (DENSE, 2048, 2, 2048, 128, 1024, 131_072),
        (DENSE, 2048, 2, 2048, 32, 4096, 131_072),
        (DENSE, 2048, 1, 2048, 32, 8192, 262_144),
        (DENSE, 1000, 4, 2048, 32, 2048, 64_000),
        (QWEN3, 4096, 2, 2048, 32, 819, 26_208),
        (DEEPSEEK, 4096, 2, 2048, 16, 4854, 77_664),
        (GEMMA3, 2048, 2, 512, 32, 8192, 73_262),
    ],
)
def test_blocks_and_tokens_that_the_engine_reported(
    monkeypatch: pytest.MonkeyPatch,
    fields: Mapping[str, Any],
    context: int,
    kv_bytes: int,
    step: int,
    block_tokens: int,
    blocks: int,
    tokens: int,
) -> None:
    # The study asked for its own block size, which a stack file cannot.
    monkeypatch.setattr("llmdeploy.serving.vllm_kv.CPU_BLOCK_TOKENS", block_tokens)
    found = layout(fields, KvRequest(context, step, kv_bytes))
    assert (found.block_tokens, found.blocks(256 * MIB), found.tokens(256 * MIB)) == (block_tokens, blocks, tokens)


def test_one_gibibyte_of_a_server() -> None:
    assert layout(DENSE, KvRequest(2048, 2048)).tokens(1024 * MIB) == 524_288


# --- bytes of a token -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        (LLAMA, 2 * 4 * 2 * 32),
        ({name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}, 2 * 4 * 4 * 32),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 256}, 2 * 2 * 4 * 64),
        ({"n_layer": 2, "n_head": 4, "n_embd": 256}, 2 * 2 * 4 * 64),
        ({"text_config": dict(LLAMA), "hidden_size": 1}, 2 * 4 * 2 * 32),
        (
            {"model_type": "falcon", "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 128, "multi_query": True},
            192,
        ),
        (
            {"model_type": "falcon", "n_layer": 3, "n_head": 8, "hidden_size": 256, "num_kv_heads": 2, "multi_query": True}
            | {"new_decoder_architecture": True},
            3 * 2 * 2 * 32,
        ),
        ({"model_type": "dbrx", "n_layers": 2, "n_heads": 8, "d_model": 256, "attn_config": {"kv_n_heads": 2}}, 2 * 2 * 2 * 32),
        (
            {"model_type": "chatglm", "num_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "multi_query_group_num": 2},
            128,
        ),
    ],
)
def test_bytes_of_a_token(fields: Mapping[str, Any], numbers: int) -> None:
    assert layout(fields, KvRequest(1024, 2048)).token_bytes == 2 * numbers


@pytest.mark.parametrize(
    ("name", "token_bytes"),
    [
        ("llama-3.3-70b-instruct", 327_680),
        ("llama-3.1-8b-instruct", 131_072),
        ("phi-3.5-mini-instruct", 393_216),
        ("qwen3-32b", 262_144),
        ("deepseek-v3", 70_272),
    ],
)
def test_bytes_of_a_token_of_well_known_models(name: str, token_bytes: int) -> None:
    facts = CATALOG.facts(name)
    assert facts is not None
    assert VLLM.kv_layout(facts, KvRequest(4096, 2048)).token_bytes == token_bytes


def test_a_published_text_config_leaves_out_what_its_class_has_by_default() -> None:
    # As google/gemma-3-4b-it is published.
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}
    made = architecture({"model_type": "gemma3", "text_config": text})
    assert (made.heads, made.kv_heads, made.head_dim, len(made.layers)) == (8, 4, 256, 34)


# --- splits ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "stages", "sizes"),
    [
        (80, 1, [80]),
        (80, 4, [20, 20, 20, 20]),
        (61, 2, [31, 30]),
        (61, 4, [15, 15, 16, 15]),
        (126, 4, [31, 32, 32, 31]),
        (62, 4, [15, 16, 16, 15]),
        (7, 3, [2, 3, 2]),
    ],
)
def test_pipeline_stages(layers: int, stages: int, sizes: list[int]) -> None:
    found = Parallel(pipeline=stages).stages(layers)
    assert [len(stage) for stage in found] == sizes
    assert [i for stage in found for i in stage] == list(range(layers))


def test_heads_are_divided_and_repeated_and_latent_vectors_are_on_every_gpu() -> None:
    def block(fields: Mapping[str, Any], tensor: int) -> int:
        return layout(fields, KvRequest(4096, 2048, parallel=Parallel(tensor), device="cuda", gpu=H100)).block_bytes

    assert block(LLAMA, 2) * 2 == block(LLAMA, 1)
    assert block(LLAMA, 4) == block(LLAMA, 2)
    assert block(DEEPSEEK, 4) == block(DEEPSEEK, 1)


def test_the_stage_with_the_most_layers_counts() -> None:
    request = KvRequest(4096, 2048, device="cuda", gpu=H100)
    whole = layout({**LLAMA, "num_hidden_layers": 7}, request)
    split = layout({**LLAMA, "num_hidden_layers": 7}, replace(request, parallel=Parallel(pipeline=3)))
    assert split.block_bytes * 7 == whole.block_bytes * 3


def test_a_window_holds_the_tokens_of_all_steps_under_way() -> None:
    fields = config("mistral", "MistralForCausalLM", sliding_window=1024)

    def held(**changes: Any) -> int:
        return layout(fields, replace(KvRequest(65536, 2048, device="cuda", gpu=H100), **changes)).request_blocks

    assert held() == (1023 + 2 * 2048 + 15) // 16 + 1
    assert held(parallel=Parallel(pipeline=2)) == (1023 + 3 * 2048 + 15) // 16 + 1
    assert held(device="cpu", gpu=None) == (1023 + 2048 + 127) // 128 + 1
    assert held(batched_tokens=4096) == (1023 + 2 * 4096 + 15) // 16 + 1


@pytest.mark.parametrize(("gpu", "tokens"), [(A100, 16), (H100, 16), (B200, 32)])
def test_blocks_of_latent_attention_are_those_of_the_gpus_backend(gpu: Any, tokens: int) -> None:
    assert layout(DEEPSEEK, KvRequest(4096, 2048, device="cuda", gpu=gpu)).block_tokens == tokens
    assert layout(LLAMA, KvRequest(4096, 2048, device="cuda", gpu=gpu)).block_tokens == 16


def test_a_state_does_not_grow_and_takes_less_when_nothing_is_cached_between_requests() -> None:
    fields = TINY_MODELS["nemotron h"].config
    cached = [layout(fields, KvRequest(context, 2048)) for context in (4096, 8192)]
    assert cached[1].request_blocks - cached[0].request_blocks == 4096 // cached[0].block_tokens
    plain = layout(fields, KvRequest(4096, 2048, args={"enable-prefix-caching": False}))
    assert cached[0].request_blocks - plain.request_blocks == 3 * 2


# --- refusals -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_size": 3}, "no num_hidden_layers or n_layer"),
        ({"num_hidden_layers": 3}, "no num_attention_heads or n_head, no hidden_size or head_dim, without"),
        ({"num_hidden_layers": 3, "num_attention_heads": 2}, "no hidden_size or head_dim, without"),
        (
            {**LLAMA, "model_type": "new", "layer_types": ["warp"] * 4},
            '"warp" (layer_types) is not known for',
        ),
        ({**LLAMA, "model_type": "new", "kv_lora_rank": 512}, '"kv_lora_rank", and of model_type "new"'),
        ({**LLAMA, "model_type": "new", "mamba_d_state": 16}, '"mamba_d_state"'),
        ({**DEEPSEEK, "model_type": "deepseek_v32", "index_topk": 2048}, '"index_topk"'),
        ({**DEEPSEEK, "qk_rope_head_dim": None}, "no qk_rope_head_dim"),
        ({**LLAMA, "num_key_value_heads": [1, 2, 2, 4]}, "num_key_value_heads is a list"),
        ({**LLAMA, "v_head_dim": 64}, "v_head_dim 64, head_dim 32"),
        ({**LLAMA, "model_type": "nemotron-nas", "num_hidden_layers": 2}, "trust_remote_code"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-decoder"),
        (
            config("qwen2", "Qwen2ForCausalLM", use_sliding_window=True, sliding_window=64, max_window_layers=2),
            "max_window_layers",
        ),
        ({**TINY_MODELS["nemotron h"].config, "hybrid_override_pattern": "M-MX-M"}, 'a layer of the kind "X" is not known'),
        ({**TINY_MODELS["nemotron h"].config, "hybrid_override_pattern": "MMMMMM"}, "no layer of the model has attention"),
        ({k: v for k, v in TINY_MODELS["jamba"].config.items() if k != "mamba_d_state"}, "no mamba_d_state"),
        ({k: v for k, v in TINY_MODELS["lfm 2"].config.items() if k != "layer_types"}, "no layer_types or full_attn_idxs"),
    ],
)
def test_what_cannot_be_sized_is_told_exactly(fields: Mapping[str, Any], words: str) -> None:
    with pytest.raises(StackError) as error:
        layout(fields, KvRequest(1024, 2048))
    assert words in error.value.message
    found = error.value.diagnostics[0]
    assert isinstance(found, Diagnostic)
    assert found.path == "model.id"
    assert found.hint


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 0}, 0),
        ({"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 4}, 0),
        ({"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 0}, 4096),
    ],
)
def test_qwen_has_a_window_only_when_it_is_switched_on(fields: Mapping[str, Any], window: int) -> None:
    made = architecture(config("qwen2", "Qwen2ForCausalLM", **fields))
    assert {getattr(cache, "window", None) for cache in made.caches} == {window}


# --- whatever the model ---------------------------------------------------------------------------------------------------------

MODELS = [model.config for model in TINY_MODELS.values()]
SHAPES = st.sampled_from([Parallel(), Parallel(2), Parallel(1, 2), Parallel(2, 2)])


@given(st.sampled_from(MODELS), st.integers(1, 8000), st.integers(0, 3000), st.integers(1, 16384), SHAPES, st.booleans())
def test_a_longer_request_never_takes_less(
    fields: Mapping[str, Any], context: int, more: int, step: int, parallel: Parallel, cuda: bool
) -> None:
    request = KvRequest(context, step, parallel=parallel, device="cuda" if cuda else "cpu", gpu=H100 if cuda else None)
    short, long = layout(fields, request), layout(fields, replace(request, context=context + more))
    assert 0 < short.bytes_for(1) <= long.bytes_for(1)
    assert short.block_bytes == long.block_bytes
    assert short.token_bytes >= 0


@given(st.sampled_from(MODELS), st.integers(1, 100_000), st.integers(1, 16384), st.integers(1, 500), SHAPES)
def test_what_is_reserved_holds_every_request(
    fields: Mapping[str, Any], context: int, step: int, requests: int, parallel: Parallel
) -> None:
    found = layout(fields, KvRequest(context, step, parallel=parallel, device="cuda", gpu=H100))
    reserved = found.bytes_for(requests)
    assert found.requests(reserved) == requests
    assert found.requests(reserved - 1) == requests - 1
    assert found.tokens(reserved) >= requests * context
    assert found.tokens(0) == found.requests(0) == found.blocks(-5) == 0


@given(st.sampled_from(MODELS), st.integers(16, 8000), st.sampled_from([2, 4]))
def test_more_gpus_never_need_more_on_each(fields: Mapping[str, Any], context: int, parts: int) -> None:
    one = layout(fields, KvRequest(context, 2048, device="cuda", gpu=H100))
    for parallel in (Parallel(parts), Parallel(1, parts)):
        assert layout(fields, KvRequest(context, 2048, parallel=parallel, device="cuda", gpu=H100)).block_bytes <= one.block_bytes


def test_the_arithmetic_is_told() -> None:
    text = layout(TINY_MODELS["gemma 3"].config, KvRequest(4096, 1024)).arithmetic
    assert text == (
        "6 x window of 256: 11 blocks of 128 tokens + attention: 32 blocks of 128 tokens"
        " = 98 blocks of 65,536 bytes for 4,096 tokens"
    )
