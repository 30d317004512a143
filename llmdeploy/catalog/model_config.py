"""A Hugging Face `config.json` made from a row of the catalogue, so that known models and folders are sized in one way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NotRequired, TypedDict


class SlidingWindow(TypedDict):
    """Layers that see only the last `window_tokens`, among layers that see everything."""

    window_tokens: int
    sliding_layers: int
    full_layers: int


class LatentAttention(TypedDict):
    """Multi-head latent attention: one compressed vector per layer and token stands for all heads."""

    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


class Experts(TypedDict):
    """A mixture of experts; the first `first_dense_layers` layers have none."""

    count: int
    per_token: int
    shared: int
    intermediate: int
    first_dense_layers: NotRequired[int]


class Vision(TypedDict):
    """A vision tower: SigLIP, whose output is projected to the hidden size of the text model."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    image_pixels: int
    patch_pixels: int


class Architecture(TypedDict):
    """What sizing needs to know of a model. `intermediate` is left out where every layer is a mixture of experts."""

    kind: Literal["dense", "dense-hybrid-swa", "moe", "moe-hybrid-swa", "moe-mla"]
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tie_word_embeddings: bool
    max_context_tokens: int
    intermediate: NotRequired[int]
    sliding_window: NotRequired[SlidingWindow]
    latent_attention: NotRequired[LatentAttention]
    experts: NotRequired[Experts]
    vision: NotRequired[Vision]


_EXPERTS: Final[Mapping[str, tuple[str, str]]] = {
    "mixtral": ("num_local_experts", "intermediate_size"),
    "gpt_oss": ("num_local_experts", "intermediate_size"),
    "deepseek_v3": ("n_routed_experts", "moe_intermediate_size"),
}
"""model_type -> how its config.json calls the number of experts and their size; others: as Qwen 3 does."""


def config_of(facts: Architecture, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decoded config.json.

    more: its entries that do not follow from the architecture: `architectures`, `model_type`, `quantization_config`, ...
    """
    text = {
        "hidden_size": facts["hidden"],
        "max_position_embeddings": facts["max_context_tokens"],
        "num_attention_heads": facts["heads"],
        "num_hidden_layers": facts["layers"],
        "num_key_value_heads": facts["kv_heads"],
        "vocab_size": facts["vocab"],
        **({"intermediate_size": facts["intermediate"]} if "intermediate" in facts else {}),
        **_attention(facts),
        **_windows(facts),
        **_experts(facts, str(more.get("model_type", ""))),
    }
    common = {"tie_word_embeddings": facts["tie_word_embeddings"], "torch_dtype": "bfloat16"}
    if "vision" not in facts:
        return {**text, **common, **more}
    outer = {name: more[name] for name in ("architectures", "model_type") if name in more}
    inner = {name: value for name, value in more.items() if name not in outer}
    text_type = f"{more['model_type']}_text" if "model_type" in more else "text"
    parts = {"text_config": {**text, **inner, "model_type": text_type}, "vision_config": _vision(facts["vision"])}
    return {**common, **outer, **parts}


def _attention(facts: Architecture) -> Mapping[str, Any]:
    """Return the shape of a head; latent attention has no single one."""
    return dict(facts["latent_attention"]) if "latent_attention" in facts else {"head_dim": facts["head_dim"]}


def _windows(facts: Architecture) -> Mapping[str, Any]:
    """Return which layers slide: all but the last of each group of equal length, and what is left of a group at the end."""
    if "sliding_window" not in facts:
        return {}
    window = facts["sliding_window"]
    group = facts["layers"] // window["full_layers"] if window["full_layers"] else facts["layers"] + 1
    kinds = ["full_attention" if (layer + 1) % group == 0 else "sliding_attention" for layer in range(facts["layers"])]
    return {"sliding_window": window["window_tokens"], "layer_types": kinds}


def _experts(facts: Architecture, model_type: str) -> Mapping[str, Any]:
    if "experts" not in facts:
        return {}
    experts = facts["experts"]
    count, size = _EXPERTS.get(model_type, ("num_experts", "moe_intermediate_size"))
    entries = {count: experts["count"], size: experts["intermediate"], "num_experts_per_tok": experts["per_token"]}
    if experts["shared"]:
        entries |= {"n_shared_experts": experts["shared"]}
    if "first_dense_layers" in experts:
        entries |= {"first_k_dense_replace": experts["first_dense_layers"]}
    return entries


def _vision(vision: Vision) -> Mapping[str, Any]:
    return {
        "hidden_size": vision["hidden"],
        "image_size": vision["image_pixels"],
        "intermediate_size": vision["intermediate"],
        "model_type": "siglip_vision_model",
        "num_attention_heads": vision["heads"],
        "num_hidden_layers": vision["layers"],
        "patch_size": vision["patch_pixels"],
    }
