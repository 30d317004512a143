"""The catalogue entry `tiny-random`: a random Llama of about 5 MB that llmdeploy writes itself, byte for byte.

It exists so that a whole deployment can be tried without a download, an account or a GPU. Its answers are noise: English
words drawn at random. Everything comes from a seed through SHAKE-128, so the digests are known before a file is written.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

LAYERS: Final = 4
HIDDEN: Final = 256
INTERMEDIATE: Final = 512
HEADS: Final = 4
KV_HEADS: Final = 2
HEAD_DIM: Final = 64
VOCAB: Final = 384
DTYPE_BYTES: Final = 2
MAX_CONTEXT_TOKENS: Final = 4096
DEFAULT_ANSWER_TOKENS: Final = 256
"""Tokens of an answer whose request names no `max_tokens`."""

SPECIAL_TOKENS: Final = (
    "<|begin|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|pad|>",
    "<|python_tag|>",
)
BEGIN_ID: Final = VOCAB - len(SPECIAL_TOKENS)
END_ID: Final = BEGIN_ID + 1

_WORD_LIST: Final = """
    the a and or but of to in on at by for from with under over near after before about into through
    is was has had will can may must not all some many few each every other new old small large long short early late
    first last good quiet bright open still slow green blue white dark light warm cold
    water river stone wood field hill road house door window table chair paper letter word name book story song
    bird horse tree leaf grass rain snow wind cloud sky sun moon star night day morning evening winter summer
    hand eye voice friend child people city garden bridge boat mountain kitchen bread apple market sea island shore lamp
    gold silver
"""
WORDS: Final = tuple(_WORD_LIST.split())
"""The words answers are made of; each is one token with a leading space, after the 256 byte tokens."""

CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% set role = 'system' if message['role'] == 'developer' else message['role'] %}"
    "{% if role not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('Unknown role: ' ~ message['role']) }}"
    "{% endif %}"
    "{{ '<|' ~ role ~ '|>' ~ (message['content'] or '') ~ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_MANIFEST_SEED_0: Final[tuple[tuple[str, int, str], ...]] = (
    ("config.json", 640, "48cdb18c0f22824301b8c2cca6ebbb05e1c29cd6deea2c1c79858dbda72238da"),
    ("generation_config.json", 118, "3e67f90438701a8b56a66ee5e4939abab5e2463890ffa46bffa170f084728d37"),
    ("model.safetensors", 5_120_584, "5a4592b5841c18b3dfaeb5d5aea69871831a928a53c00bacd651b2ac99ae9d2e"),
    ("tokenizer.json", 10_707, "96b59cae84af14ada36ee0c7fc4dbbf6c88ffddacd2c6e7a52db9f1ccc656c80"),
    ("tokenizer_config.json", 614, "cd53b88afeeb6e6e116a3ff031751b5f2ee566a415ee7e21de0e23a25157859a"),
)


def manifest() -> tuple[tuple[str, int, str], ...]:
    """Path, size in bytes and SHA-256 of every file of `files(seed=0)`, sorted by path, without generating one."""
    return _MANIFEST_SEED_0


def files(seed: int = 0) -> Mapping[str, bytes]:
    """Every file of the model by its path: the same bytes from the same seed on every Python and platform."""
    contents = {
        "config.json": config(),
        "generation_config.json": _json(_generation_config()),
        "model.safetensors": _safetensors(seed),
        "tokenizer.json": _json(_tokenizer()),
        "tokenizer_config.json": _json(_tokenizer_config()),
    }
    return MappingProxyType(dict(sorted(contents.items())))


def config() -> bytes:
    """Return `config.json`, without generating the weights."""
    return _json(_config())


def shapes() -> Mapping[str, tuple[int, ...]]:
    """Shape of every tensor by its Hugging Face name, in the order of the file."""
    layer = {
        "input_layernorm": (HIDDEN,),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "post_attention_layernorm": (HIDDEN,),
        "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
        "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
        "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    }
    tensors: dict[str, tuple[int, ...]] = {"lm_head.weight": (VOCAB, HIDDEN), "model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for index in range(LAYERS):
        tensors.update({f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()})
    tensors["model.norm.weight"] = (HIDDEN,)
    return MappingProxyType(tensors)


PARAMETERS: Final = sum(math.prod(shape) for shape in shapes().values())


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": BEGIN_ID,
        "dtype": "bfloat16",
        "eos_token_id": END_ID,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": MAX_CONTEXT_TOKENS,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": _special("<|pad|>"),
        "rms_norm_eps": 1e-05,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": VOCAB,
    }


def _generation_config() -> dict[str, object]:
    return {
        "bos_token_id": BEGIN_ID,
        "do_sample": True,
        "eos_token_id": END_ID,
        "max_new_tokens": DEFAULT_ANSWER_TOKENS,
        "pad_token_id": _special("<|pad|>"),
    }


def _tokenizer_config() -> dict[str, object]:
    return {
        "bos_token": "<|begin|>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|end|>",
        "model_max_length": MAX_CONTEXT_TOKENS,
        "pad_token": "<|pad|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _tokenizer() -> dict[str, object]:
    letters = _byte_letters()
    vocabulary = {letter: byte for byte, letter in enumerate(letters)}
    vocabulary |= {letters[ord(" ")] + word: 256 + index for index, word in enumerate(WORDS)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    begin = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(_special(token), token) for token in SPECIAL_TOKENS],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [BEGIN_ID], "tokens": ["<|begin|>"]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def _added_token(token_id: int, content: str) -> dict[str, object]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token_id, "content": content, **flags}


def _special(token: str) -> int:
    return BEGIN_ID + SPECIAL_TOKENS.index(token)


def _byte_letters() -> list[str]:
    """The printable letter that byte-level BPE writes for each byte (GPT-2's table)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    stand_ins = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)]


def _json(document: dict[str, object]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=True) + "\n").encode("ascii")


def _safetensors(seed: int) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    tensors: list[bytes] = []
    offset = 0
    for name, shape in shapes().items():
        tensor = _tensor(seed, name, shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + len(tensor)]}
        tensors.append(tensor)
        offset += len(tensor)
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    # The format wants the tensors to start at a multiple of eight.
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *tensors])


# A bfloat16 is two bytes, the low one first. With a random low byte these high bytes give either sign and a magnitude
# spread evenly in octaves: 1/32 to 1/8 (which keeps the variance of a sum over 256 inputs near one), or a quarter of that.
_UNIT_GAIN: Final = bytes((0x3D, 0xBD)) * 128
_QUARTER_GAIN: Final = bytes((0x3C, 0xBC)) * 128
_ZERO, _ONE, _EIGHT, _MINUS_FOUR = b"\x00\x00", b"\x80\x3f", b"\x00\x41", b"\x80\xc0"


def _tensor(seed: int, name: str, shape: tuple[int, ...]) -> bytes:
    if len(shape) == 1:
        return _ONE * shape[0]
    rows, columns = shape
    residual = name.endswith(("o_proj.weight", "down_proj.weight"))
    stream = hashlib.shake_128(f"llmdeploy tiny-random {seed} {name}".encode()).digest(2 * rows * columns)
    tensor = bytearray(stream)
    tensor[1::2] = stream[1::2].translate(_QUARTER_GAIN if residual else _UNIT_GAIN)
    # Dimension 0 of the residual stream is a constant, so that column 0 of the output layer is a bias. It keeps byte and
    # special tokens out of the answers: they are always printable and always as long as asked for.
    if residual:
        tensor[: DTYPE_BYTES * columns] = _ZERO * columns
    if name == "model.embed_tokens.weight":
        _fill_column_0(tensor, [_EIGHT] * rows, columns)
    if name == "lm_head.weight":
        _fill_column_0(tensor, list(_output_bias()), columns)
    return bytes(tensor)


def _output_bias() -> Iterator[bytes]:
    spoken = {*range(256, 256 + len(WORDS)), ord("."), ord(",")}
    return (_ZERO if token_id in spoken else _MINUS_FOUR for token_id in range(VOCAB))


def _fill_column_0(tensor: bytearray, values: list[bytes], columns: int) -> None:
    joined = b"".join(values)
    tensor[0 :: DTYPE_BYTES * columns] = joined[0::2]
    tensor[1 :: DTYPE_BYTES * columns] = joined[1::2]
