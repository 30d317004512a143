"""The models that llmdeploy knows by a short name, from `models.json`. Facts, not recommendations; each row names its source.

The rows are typed dicts and the file is JSON, because `validate` would otherwise spend more time on YAML and on building models
than on the user's own file. The file is llmdeploy's own: a test holds it to these types, strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from ..manifest import ModelFacts
from ..prices import Confidence
from .model_config import Architecture, config_of
from .shipped import as_of as _as_of
from .shipped import table


class Parameters(TypedDict):
    """Number of parameters of the whole model, and of those that one token uses."""

    total: int
    active: int


class Certainty(TypedDict):
    """How well the architecture and the licence of a row are known."""

    architecture: Confidence
    license: Confidence


class Variant(TypedDict):
    """A repository that holds the model in another number format, and how well it is known that it does."""

    repository: str
    confidence: Confidence


class OwnModel(TypedDict):
    """One model, as users may add it.

    hf_id: its Hugging Face repository, None for one that llmdeploy writes itself. commercial: whether the licence allows
    commercial use (perhaps with conditions), None when nobody knows. gated: its licence must be accepted on its page before a
    download. published_as: number format of the published weights; published_bytes: their size where it does not follow from the
    parameters. config: entries of its config.json beside those that follow from the architecture. variants: quantization ->
    repository that holds it.
    """

    hf_id: str | None
    license: str
    commercial: bool | None
    gated: bool
    parameters: Parameters
    published_as: Literal["bfloat16", "fp8", "mxfp4"]
    published_bytes: NotRequired[int]
    architecture: Architecture
    config: NotRequired[dict[str, Any]]
    notes: NotRequired[str]
    variants: NotRequired[dict[str, Variant]]


class CatalogModel(OwnModel):
    """One model with its source, and how well it is known."""

    source: str
    confidence: Certainty


def weights_bytes_bf16(row: OwnModel) -> int:
    """Return the bytes of all weights with two bytes per parameter."""
    return 2 * row["parameters"]["total"]


def published_bytes(row: OwnModel) -> int:
    """Return the bytes of the published weight files."""
    return row.get("published_bytes") or weights_bytes_bf16(row)


def rows() -> Mapping[str, CatalogModel]:
    """Return every model that is shipped, by name."""
    return table("models")["models"]


def model(model_id: str) -> CatalogModel | None:
    """Return the shipped model called `model_id`, or published as that repository; or None."""
    return rows().get(model_id) or next((row for row in rows().values() if row["hf_id"] == model_id), None)


def as_of() -> str:
    """Return the date of the table, as YYYY-MM-DD."""
    return _as_of("models")


def facts_of(name: str, row: CatalogModel) -> ModelFacts:
    """Return what is known of a model before a file of it is fetched, in the form in which a repository's own facts come."""
    variants = {quant: one["repository"] for quant, one in row.get("variants", {}).items()}
    facts = ModelFacts(
        id=name,
        config=config_of(row["architecture"], row.get("config", {})),
        weight_bytes=published_bytes(row),
        parameters=row["parameters"]["total"],
        active_parameters=row["parameters"]["active"],
        variants=variants,
        license=row["license"],
        commercial=row["commercial"],
        gated=row["gated"],
        confidence=row["confidence"]["architecture"],
        source=row["source"],
    )
    return facts if row["hf_id"] is not None else _generated(facts)


def _generated(facts: ModelFacts) -> ModelFacts:
    """Replace what is derived by what the files say that llmdeploy writes."""
    import json
    from dataclasses import replace

    from . import tiny_random

    sizes = {path: size for path, size, _ in tiny_random.manifest()}
    config = cast("dict[str, Any]", json.loads(tiny_random.config()))
    return replace(facts, config=config, weight_bytes=sizes["model.safetensors"], file_bytes=sum(sizes.values()))
