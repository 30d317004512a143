from __future__ import annotations

import json

import pytest

from llmdeploy.errors import LlmdeployError
from llmdeploy.sources import selection

LLAMA = [
    ".gitattributes", "LICENSE", "README.md", "USE_POLICY.md", "config.json", "generation_config.json",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "original/consolidated.00.pth", "original/params.json", "original/tokenizer.model",
    "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
]  # fmt: skip
INDEX = {
    selection.INDEX: json.dumps(
        {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode()
}


def weights(paths: list[str], indexes: dict[str, bytes] | None = None, *, safetensors_only: bool = True) -> list[str]:
    return selection.weights(paths, indexes or {}, where="org/name", safetensors_only=safetensors_only)


def test_configuration_is_what_serving_reads() -> None:
    assert selection.configuration(LLAMA) == [
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "tokenizer.model", "tokenizer.model.v3", "spiece.model", "qwen.tiktoken", "tekken.json", "vocab.json", "merges.txt",
        "chat_template.jinja", "chat_template.json", "additional_chat_templates/tool_use.jinja", "hf_quant_config.json",
        "preprocessor_config.json", "added_tokens.json",
    ],
)  # fmt: skip
def test_tokenizers_templates_and_quantization_are_taken(path: str) -> None:
    assert selection.configuration([path]) == [path]


@pytest.mark.parametrize(
    "path",
    [
        "README.md", ".gitattributes", "modeling_deepseek.py", "original/tokenizer.model", "model.gguf", "onnx/config.json",
        "training_args.bin", "optimizer.pt", "figure.png", "params.json", "metal/model.bin", "config.json.bak",
    ],
)  # fmt: skip
def test_nothing_else_is_taken(path: str) -> None:
    assert selection.configuration([path]) == []


def test_weights_are_those_of_the_index() -> None:
    assert weights([*LLAMA, "adapter_model.safetensors"], INDEX) == LLAMA[6:8]


def test_a_whole_file_beats_its_neighbours() -> None:
    assert weights(["model.safetensors", "model.fp16.safetensors", "consolidated.safetensors"]) == ["model.safetensors"]


def test_a_second_copy_in_the_format_of_the_maker_is_left_out() -> None:
    there = ["consolidated.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert weights(there) == there[1:]
    assert weights(there[:1]) == there[:1]


def test_subfolders_are_left_out() -> None:
    with pytest.raises(LlmdeployError, match="holds no safetensors"):
        weights(["original/model.safetensors"])


def test_pickles_are_the_last_resort() -> None:
    assert weights(["pytorch_model.bin", "training_args.bin"], safetensors_only=False) == ["pytorch_model.bin"]
    assert weights(["pytorch_model.bin", "model.safetensors"], safetensors_only=False) == ["model.safetensors"]
    with pytest.raises(LlmdeployError, match="pickles") as caught:
        weights(["pytorch_model.bin"])
    assert "safetensors" in caught.value.hint


def test_other_formats_are_named() -> None:
    with pytest.raises(LlmdeployError, match=r"org/name holds no safetensors; model\.gguf is in a format that is not served"):
        weights(["config.json", "model.gguf"], safetensors_only=False)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (b"{", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[]", "is not a JSON object"),
        (b"{}", "has no weight_map"),
        (b'{"weight_map": {}}', "names no file"),
        (b'{"weight_map": {"a": "gone.safetensors"}}', "names gone.safetensors, which is not there"),
    ],
)
def test_a_bad_index_is_told(index: bytes, sentence: str) -> None:
    with pytest.raises(LlmdeployError) as caught:
        weights(["model.safetensors"], {selection.INDEX: index})
    assert "the index of the weights of org/name" in str(caught.value)
    assert sentence in str(caught.value)
