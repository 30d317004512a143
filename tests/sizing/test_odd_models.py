"""Models that nobody listed: they are sized, or what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.errors import StackError
from llmdeploy.manifest import ModelFacts
from llmdeploy.sizing import choose
from llmdeploy.sources.folder import read_folder
from tests.sizing.world import GIB, VLLM, machine, request

PLAIN = {
    "architectures": ["TomorrowForCausalLM"],
    "model_type": "tomorrow",
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 8192,
    "vocab_size": 64000,
    "torch_dtype": "bfloat16",
}
L40S = machine("l40s", 1, 1.0)


def test_an_architecture_of_tomorrow_is_sized_and_says_that_it_was_counted() -> None:
    found = choose(request(ModelFacts("m", PLAIN), L40S), VLLM)
    assert found.weight_bytes == pytest.approx(2 * found.parameters.total)
    assert found.layout.token_bytes == 2 * 24 * 4 * 128 * 2
    assert found.warnings == (
        "architecture TomorrowForCausalLM is not one that was checked: its parameters were counted from config.json",
    )


def test_its_files_are_believed_more_than_its_fields() -> None:
    found = choose(request(ModelFacts("m", PLAIN, weight_bytes=9 * GIB), L40S), VLLM)
    assert found.weight_bytes == 9 * GIB
    narrow = choose(request(ModelFacts("m", PLAIN, weight_bytes=9 * GIB), L40S, quant="fp8_per_tensor"), VLLM)
    # Embeddings and head stay in 16 bits.
    assert 4.5 * GIB < narrow.weight_bytes < 5.5 * GIB


def test_a_model_inside_another_is_sized() -> None:
    nested = {"architectures": ["TomorrowForImages"], "model_type": "eyes", "text_config": PLAIN, "torch_dtype": "bfloat16"}
    found = choose(request(ModelFacts("m", nested), L40S), VLLM)
    assert found.layout == choose(request(ModelFacts("m", PLAIN), L40S), VLLM).layout


def test_half_of_a_model_in_recurrent_layers_is_sized_by_its_files() -> None:
    jamba = {
        **PLAIN,
        "model_type": "jamba",
        "architectures": ["JambaForCausalLM"],
        "mamba_expand": 2,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
    }
    found = choose(request(ModelFacts("m", jamba, weight_bytes=6 * GIB), L40S), VLLM)
    assert found.weight_bytes == 6 * GIB
    assert found.parameters.total == 3 * GIB
    with pytest.raises(StackError, match=r"JambaForCausalLM: config.json describes layers of another kind \(mamba_d_conv"):
        choose(request(ModelFacts("m", jamba), L40S), VLLM)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "config.json"),
        (
            {"architectures": ["TomorrowForCausalLM"], "num_hidden_layers": 24},
            "architecture TomorrowForCausalLM: config.json has no",
        ),
        ({name: value for name, value in PLAIN.items() if name != "intermediate_size"}, "no intermediate_size or ffn_dim"),
        ({**PLAIN, "num_experts": 16}, "no num_experts_per_tok"),
    ],
    ids=["empty", "layers only", "no inner width", "experts without a choice"],
)
def test_what_is_missing_is_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(StackError) as error:
        choose(request(ModelFacts("m", config), L40S), VLLM)
    assert says in str(error.value)
    assert "model.id" in str(error.value)


def test_files_without_a_kv_cache_that_can_be_sized_say_so() -> None:
    config = {"architectures": ["TomorrowForCausalLM"], "hidden_size": 64}
    with pytest.raises(StackError, match=r"no num_attention_heads or .*KV cache cannot be sized"):
        choose(request(ModelFacts("m", config, weight_bytes=GIB), L40S), VLLM)


def test_a_folder_of_such_a_model_is_sized(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "BF16", "shape": [512], "data_offsets": [0, 1024]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(1024))
    (tmp_path / "config.json").write_text(json.dumps({**PLAIN, "num_hidden_layers": 1}))
    manifest, config = read_folder(tmp_path, cache=tmp_path / "digests.json", safetensors_only=True, on_progress=print)
    found = choose(request(ModelFacts("m", config), L40S, manifest=manifest), VLLM)
    assert found.weight_bytes == 1024 + 8 + len(header)
    assert found.disk_bytes == manifest.size_bytes + VLLM.runtime_disk_bytes("cuda")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads: 0"),
        ({"num_key_value_heads": -4}, "num_key_value_heads: -4"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: 1,000,000,000"),
        ({"hidden_size": 10**30}, "hidden_size: a number of more than ten digits"),
        ({"max_position_embeddings": -5}, "max_position_embeddings: -5"),
        ({"sliding_window": -4}, "sliding_window: -4"),
        ({"vision_config": {"hidden_size": -1}}, "vision_config.hidden_size: -1"),
        ({"text_config": {**PLAIN, "vocab_size": 0}}, "vocab_size: 0"),
    ],
)
def test_a_figure_that_no_model_has_is_named(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(StackError) as error:
        choose(request(ModelFacts("m", {**PLAIN, **changed}, weight_bytes=GIB), L40S), VLLM)
    assert f"config.json of the model says {says}, which no model has" in str(error.value)
    assert "model.id" in str(error.value)


def test_a_number_format_that_nothing_knows_is_no_matter_of_machines() -> None:
    config = {**PLAIN, "quantization_config": {"quant_method": "zip"}}
    with pytest.raises(StackError) as error:
        choose(request(ModelFacts("m", config, weight_bytes=GIB), L40S, machine("l4", 1, 0.8)), VLLM)
    assert str(error.value).startswith('error: model.quant: m: the checkpoint is quantized with "zip"')


def test_a_format_that_cannot_be_made_is_refused_with_one_that_can() -> None:
    with pytest.raises(StackError) as error:
        choose(request(ModelFacts("m", PLAIN), L40S, machine("l4", 1, 0.8), quant="gptq"), VLLM)
    assert str(error.value).startswith("error: model.quant: m: the checkpoint is not quantized: vLLM does not make gptq at load")
    assert "what fits: quant: bf16 on 1 x 1xl4" in str(error.value)
