"""The models that llmdeploy knows by a short name, from `models.json`. Facts, not recommendations; each row names its source.

JSON, because reading YAML of that size takes longer than the rest of a `validate`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Confidence = Literal["verified", "seen", "memory"]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Parameters(_Row):
    """Number of parameters of the whole model, and of those that one token uses."""

    total: int
    active: int


class SlidingWindow(_Row):
    """Layers that see only the last `window_tokens`, among layers that see everything."""

    window_tokens: int
    sliding_layers: int
    full_layers: int


class LatentAttention(_Row):
    """Multi-head latent attention: one compressed vector per layer and token stands for all heads."""

    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


class Experts(_Row):
    """A mixture of experts; the first `first_dense_layers` layers have none."""

    count: int
    per_token: int
    shared: int
    intermediate: int
    first_dense_layers: int = 0


class Architecture(_Row):
    """What sizing needs to know of a model. `intermediate` is None where every layer is a mixture of experts."""

    kind: Literal["dense", "dense-hybrid-swa", "moe", "moe-hybrid-swa", "moe-mla"]
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tie_word_embeddings: bool
    max_context_tokens: int
    intermediate: int | None = None
    sliding_window: SlidingWindow | None = None
    latent_attention: LatentAttention | None = None
    experts: Experts | None = None


class Certainty(_Row):
    """How the architecture and the licence of a row are known.

    verified: against the source; seen: in a published text; memory: check the model's page before you rely on it.
    """

    architecture: Confidence
    license: Confidence


class CatalogModel(_Row):
    """One model.

    hf_id: its Hugging Face repository, None for one that llmdeploy writes itself. published_as: number format of the published
    weights; published_gib: their size in GiB where it does not follow from the parameters. variants: quantization -> repository
    that holds it. gated: its licence must be accepted on its page before a download.
    """

    id: str
    hf_id: str | None
    license: str
    gated: bool
    parameters: Parameters
    published_as: Literal["bfloat16", "fp8", "mxfp4"]
    published_gib: float | None = None
    architecture: Architecture
    source: str
    confidence: Certainty
    notes: str = ""
    variants: Mapping[str, str] = {}

    @property
    def weights_bytes_bf16(self) -> int:
        """Bytes of all weights with two bytes per parameter."""
        return 2 * self.parameters.total

    @property
    def kv_bytes_per_token_bf16(self) -> int:
        """Bytes of KV cache of one token over all layers, before any split, with two bytes per value."""
        facts = self.architecture
        if facts.latent_attention is not None:
            return 2 * facts.layers * (facts.latent_attention.kv_lora_rank + facts.latent_attention.qk_rope_head_dim)
        return 2 * 2 * facts.layers * facts.kv_heads * facts.head_dim


def names() -> tuple[str, ...]:
    """Return the names of all models, sorted."""
    return tuple(sorted(_rows()))


@cache
def model(model_id: str) -> CatalogModel | None:
    """Return the model called `model_id`, or None."""
    row = _rows().get(model_id)
    return None if row is None else CatalogModel.model_validate({"id": model_id, **row})


def as_of() -> str:
    """Return the date of the catalogue, as YYYY-MM-DD."""
    return str(_document()["as_of"])


def _rows() -> Mapping[str, dict[str, Any]]:
    return _document()["models"]


@cache
def _document() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("models.json").read_bytes())
