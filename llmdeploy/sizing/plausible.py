"""Whether the figures of a config.json can be true: everything after this multiplies and divides by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..manifest import ModelConfig
from ..resource import as_mapping
from ..serving import stack_error
from ..serving.config_fields import text_fields

_COUNTED: Final = frozenset({
    "hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_attention_heads",
    "n_head", "n_heads", "num_key_value_heads", "num_kv_heads", "n_head_kv", "vocab_size", "max_position_embeddings",
    "n_positions", "max_seq_len", "seq_length", "max_sequence_length",
})  # fmt: skip
"""What every language model has at least one of."""

_SIZED: Final = frozenset({
    "head_dim", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "kv_lora_rank", "q_lora_rank", "intermediate_size",
    "ffn_dim", "ffn_hidden_size", "n_inner", "moe_intermediate_size", "shared_expert_intermediate_size", "num_local_experts",
    "n_routed_experts", "num_experts", "n_shared_experts", "num_experts_per_tok", "num_nextn_predict_layers",
    "num_kv_shared_layers", "first_k_dense_replace", "max_window_layers", "sliding_window",
})  # fmt: skip
"""What some models have none of."""

_LAYERS: Final = frozenset({
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_nextn_predict_layers", "num_kv_shared_layers",
})  # fmt: skip
_MOST_LAYERS: Final = 10_000
_MOST: Final = 2**31
"""Far above every model that there is: more is a slip of the keyboard, or somebody who wants this machine to count for days."""


def check_figures(config: ModelConfig) -> None:
    """Look at every whole number that sizes are counted from.

    Raises:
        StackError: one of them can be no figure of a model; names it and what it is.
    """
    _check(text_fields(config), "")
    _check(as_mapping(config.get("vision_config")) or {}, "vision_config.", least=0)


def _check(fields: Mapping[str, Any], prefix: str, least: int = 1) -> None:
    for name, value in fields.items():
        if not isinstance(value, int) or name not in _COUNTED | _SIZED:
            continue
        low, most = least if name in _COUNTED else 0, _MOST_LAYERS if name in _LAYERS else _MOST
        if not low <= value <= most:
            said = f"{value:,}" if abs(value) < 10 * _MOST else "a number of more than ten digits"
            raise stack_error(
                "model.id",
                f"config.json of the model says {prefix}{name}: {said}, which no model has",
                hint=f"a whole number from {low} to {most}",
            )
