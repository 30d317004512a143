"""The models that llmdeploy knows by a short name, from `models.json`. Facts, not recommendations; each row names its source.

The rows are typed dicts and the file is JSON, because `validate` would otherwise spend more time on YAML and on building models
than on the user's own file. The file is llmdeploy's own: a test holds it to these types, strictly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

Confidence = Literal["verified", "seen", "memory"]
"""verified: against the source; seen: in a published text; memory: check the model's page before you rely on it."""


class Parameters(TypedDict):
    """Number of parameters of the whole model, and of those that one token uses."""

    total: int
    active: int


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


class Certainty(TypedDict):
    """How well the architecture and the licence of a row are known."""

    architecture: Confidence
    license: Confidence


class CatalogModel(TypedDict):
    """One model.

    hf_id: its Hugging Face repository, None for one that llmdeploy writes itself. published_as: number format of the published
    weights; published_gib: their size in GiB where it does not follow from the parameters. variants: quantization -> repository
    that holds it. gated: its licence must be accepted on its page before a download.
    """

    hf_id: str | None
    license: str
    gated: bool
    parameters: Parameters
    published_as: Literal["bfloat16", "fp8", "mxfp4"]
    published_gib: NotRequired[float]
    architecture: Architecture
    source: str
    confidence: Certainty
    notes: NotRequired[str]
    variants: NotRequired[Mapping[str, str]]


def weights_bytes_bf16(row: CatalogModel) -> int:
    """Return the bytes of all weights with two bytes per parameter."""
    return 2 * row["parameters"]["total"]


def kv_bytes_per_token_bf16(row: CatalogModel) -> int:
    """Return the bytes of KV cache of one token over all layers, before any split, with two bytes per value."""
    facts = row["architecture"]
    if "latent_attention" in facts:
        latent = facts["latent_attention"]
        return 2 * facts["layers"] * (latent["kv_lora_rank"] + latent["qk_rope_head_dim"])
    return 2 * 2 * facts["layers"] * facts["kv_heads"] * facts["head_dim"]


def names() -> tuple[str, ...]:
    """Return the names of all models, sorted."""
    return tuple(sorted(_document()["models"]))


def model(model_id: str) -> CatalogModel | None:
    """Return the model called `model_id`, or None."""
    return _document()["models"].get(model_id)


def as_of() -> str:
    """Return the date of the catalogue, as YYYY-MM-DD."""
    return str(_document()["as_of"])


@cache
def _document() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("models.json").read_bytes())
