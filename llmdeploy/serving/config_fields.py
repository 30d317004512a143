"""Entries of config.json: architectures call the same thing differently, and leave out what their class has by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import StackError
from ..manifest import ModelConfig
from ..resource import as_mapping
from .model import stack_error


def text_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the entries of config.json that describe the language model, those of `text_config` first."""
    text = as_mapping(config.get("text_config")) or {}
    kind = str(text.get("model_type", ""))
    present = {name: value for name, value in text.items() if value is not None}
    return {**config, **_LEFT_OUT.get(kind, {}), **present}


def number(fields: ModelConfig, *names: str) -> int | None:
    """Return the first of `names` that is a whole number; architectures call the same thing differently."""
    found = (fields.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def need(fields: ModelConfig, *names: str) -> int:
    """Return the first of `names` that is a whole number. Raises StackError naming them when there is none."""
    value = number(fields, *names)
    if value is None:
        raise missing(*names)
    return value


def missing(*names: str, every: bool = False) -> StackError:
    """Return the error that config.json has none of `names`; every: that it needs all of them."""
    said = ", no ".join(names) if every else " or ".join(names)
    return stack_error(
        "model.id",
        f"config.json of the model has no {said}, without which its KV cache cannot be sized",
        hint="is it a text model in the Hugging Face format?",
    )


_LEFT_OUT: Final[Mapping[str, Mapping[str, Any]]] = {
    "gemma3_text": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 4096,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
    },
    "gemma3n_text": {
        "hidden_size": 2048,
        "num_hidden_layers": 35,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "sliding_window": 512,
        "num_kv_shared_layers": 15,
        "vocab_size": 262400,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    "gemma4_text": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 30,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 512,
        "vocab_size": 262144,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
    },
    "qwen3_5_text": {"linear_conv_kernel_dim": 4, "full_attention_interval": 4},
    "qwen3_5_moe_text": {"linear_conv_kernel_dim": 4, "full_attention_interval": 4},
}
"""A `text_config` leaves out what equals the default of its class; these are the defaults (Transformers 5.19)."""
