from __future__ import annotations

import hashlib
import json
import math
import struct
import subprocess
import sys

import jinja2
import pytest

from llmdeploy.catalog import tiny_random

FILES = tiny_random.files()
TOKENIZER = json.loads(FILES["tokenizer.json"])
CONFIG = json.loads(FILES["config.json"])


def header_and_data(content: bytes) -> tuple[dict[str, dict[str, object]], bytes]:
    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__")
    return header, content[8 + size :]


def floats(name: str) -> list[float]:
    """The tensor's bfloat16 numbers: the upper halves of 32-bit floats."""
    header, data = header_and_data(FILES["model.safetensors"])
    start, end = header[name]["data_offsets"]  # type: ignore[misc]  # JSON: a list of two integers
    raw = data[start:end]
    wide = b"".join(b"\0\0" + raw[index : index + 2] for index in range(0, len(raw), 2))
    return list(struct.unpack(f"<{len(raw) // 2}f", wide))


def chat_prompt(messages: list[dict[str, str | None]], *, add_generation_prompt: bool = True) -> str:
    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)  # noqa: S701  # a prompt, not HTML
    template = environment.from_string(tiny_random.CHAT_TEMPLATE, {"raise_exception": raise_exception})
    return template.render(messages=messages, add_generation_prompt=add_generation_prompt, bos_token="<|begin|>")


def test_manifest_is_what_is_generated() -> None:
    generated = tuple((path, len(body), hashlib.sha256(body).hexdigest()) for path, body in FILES.items())
    assert tiny_random.manifest() == generated
    assert [path for path, _, _ in generated] == sorted(FILES)


def test_another_process_with_other_hash_seed_writes_the_same_bytes() -> None:
    program = (
        "import hashlib; from llmdeploy.catalog import tiny_random;"
        "print(hashlib.sha256(b''.join(tiny_random.files(7).values())).hexdigest())"
    )
    here = hashlib.sha256(b"".join(tiny_random.files(7).values())).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    assert there.stdout.strip() == here


def test_the_seed_changes_the_weights_and_nothing_else() -> None:
    other = tiny_random.files(1)
    assert {path for path in FILES if other[path] != FILES[path]} == {"model.safetensors"}


def test_safetensors_header_is_complete_and_gapless() -> None:
    header, data = header_and_data(FILES["model.safetensors"])
    position = 0
    for name, shape in tiny_random.shapes().items():
        size = math.prod(shape) * tiny_random.DTYPE_BYTES
        assert header[name] == {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    assert set(header) == set(tiny_random.shapes())
    assert len(data) == position == tiny_random.PARAMETERS * tiny_random.DTYPE_BYTES
    assert (len(FILES["model.safetensors"]) - len(data)) % 8 == 0


@pytest.mark.parametrize("name", tiny_random.shapes())
def test_weights_are_finite_and_small(name: str) -> None:
    numbers = floats(name)
    assert all(math.isfinite(number) and abs(number) <= 8 for number in numbers)
    if name.endswith("norm.weight"):
        assert set(numbers) == {1.0}
    else:
        assert len(set(numbers)) > 200
        assert abs(sum(numbers) / len(numbers)) < 0.05


def test_architecture_constants_are_those_of_the_config() -> None:
    assert CONFIG["num_hidden_layers"] == tiny_random.LAYERS
    assert CONFIG["num_attention_heads"] == tiny_random.HEADS
    assert CONFIG["num_key_value_heads"] == tiny_random.KV_HEADS
    assert CONFIG["head_dim"] == tiny_random.HEAD_DIM
    assert CONFIG["hidden_size"] == tiny_random.HIDDEN
    assert CONFIG["vocab_size"] == tiny_random.VOCAB
    assert CONFIG["max_position_embeddings"] == tiny_random.MAX_CONTEXT_TOKENS


def test_vocabulary_has_every_id_once() -> None:
    added = {token["content"]: token["id"] for token in TOKENIZER["added_tokens"]}
    ids = sorted([*TOKENIZER["model"]["vocab"].values(), *added.values()])
    assert ids == list(range(tiny_random.VOCAB))
    assert (added["<|begin|>"], added["<|end|>"]) == (CONFIG["bos_token_id"], CONFIG["eos_token_id"])


def test_only_printable_words_can_be_answered() -> None:
    bias = floats("lm_head.weight")[:: tiny_random.HIDDEN]
    spoken = {token_id for token_id, value in enumerate(bias) if value == 0}
    assert spoken == {*range(256, 376), ord("."), ord(",")}
    assert {value for token_id, value in enumerate(bias) if token_id not in spoken} == {-4.0}
    assert all(word.isascii() and word.isalpha() for word in tiny_random.WORDS)
    assert len(set(tiny_random.WORDS)) == len(tiny_random.WORDS) == 120


def test_chat_template_writes_roles() -> None:
    messages: list[dict[str, str | None]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "Again"},
    ]
    assert chat_prompt(messages) == (
        "<|begin|><|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|><|end|><|user|>Again<|end|><|assistant|>"
    )
    assert chat_prompt(messages[1:2], add_generation_prompt=False) == "<|begin|><|user|>Hi<|end|>"


def test_chat_template_refuses_an_unknown_role() -> None:
    with pytest.raises(jinja2.TemplateError, match="Unknown role: wizard"):
        chat_prompt([{"role": "wizard", "content": "Hi"}])
