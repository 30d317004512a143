from __future__ import annotations

import math
from typing import Any, NotRequired, get_origin, get_type_hints, is_typeddict

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmdeploy.catalog import models, tiny_random


def check(value: Any, kind: Any, where: str) -> None:
    """Hold a decoded value to its type, strictly: no missing key, no unknown key, no other type."""
    if not is_typeddict(kind):
        TypeAdapter(kind, config=ConfigDict(strict=True)).validate_python(value)
        return
    marked = get_type_hints(kind, include_extras=True)  # __required_keys__ does not see through postponed annotations
    required = {name for name, inner in marked.items() if get_origin(inner) is not NotRequired}
    assert required <= set(value) <= set(marked), where
    for name, inner in get_type_hints(kind).items():
        if name in value:
            check(value[name], inner, f"{where}.{name}")


def test_names_are_sorted_and_hold_every_row() -> None:
    names = models.names()
    assert list(names) == sorted(names)
    assert len(names) == 27
    assert {"tiny-random", "llama-3.3-70b-instruct", "deepseek-v3", "gpt-oss-120b"} <= set(names)


def test_an_unknown_name_is_none() -> None:
    assert models.model("gpt-5") is None


def test_the_catalogue_is_dated() -> None:
    assert models.as_of() == "2026-11-20"


@pytest.mark.parametrize("name", models.names())
def test_every_row_is_whole(name: str) -> None:
    row = models.model(name)
    assert row is not None
    check(row, models.CatalogModel, name)
    assert row["source"]
    assert row["license"]
    assert row["hf_id"] is None or row["hf_id"].count("/") == 1
    assert 0 < row["parameters"]["active"] <= row["parameters"]["total"]
    facts = row["architecture"]
    assert ("experts" in facts) == facts["kind"].startswith("moe")
    assert "experts" in facts or row["parameters"]["active"] == row["parameters"]["total"]
    assert ("sliding_window" in facts) == facts["kind"].endswith("swa")
    if "sliding_window" in facts:
        window = facts["sliding_window"]
        assert window["sliding_layers"] + window["full_layers"] == facts["layers"]


def test_a_row_with_an_unknown_or_a_wrong_fact_is_refused() -> None:
    row = models.model("tiny-random")
    assert row is not None
    with pytest.raises(AssertionError, match="the row"):
        check({**row, "color": "red"}, models.CatalogModel, "the row")
    with pytest.raises(ValidationError):
        check({**row, "architecture": {**row["architecture"], "layers": "4"}}, models.CatalogModel, "the row")


@pytest.mark.parametrize(
    ("name", "kv_bytes", "weights_gib"),
    [
        ("llama-3.3-70b-instruct", 327680, 131.42),
        ("qwen3-32b", 262144, 61.02),
        ("phi-3.5-mini-instruct", 393216, 7.12),
        ("mixtral-8x7b-instruct-v0.1", 131072, 86.99),
        ("deepseek-v3", 70272, 1249.88),
        ("gemma-3-27b-it", 507904, 50.31),
    ],
)
def test_published_figures_follow_from_the_rows(name: str, kv_bytes: int, weights_gib: float) -> None:
    row = models.model(name)
    assert row is not None
    assert models.kv_bytes_per_token_bf16(row) == kv_bytes
    assert round(models.weights_bytes_bf16(row) / 2**30, 2) == weights_gib


def test_dense_parameter_counts_follow_from_the_architecture() -> None:
    rows = [row for name in models.names() if (row := models.model(name)) and row["architecture"]["kind"].startswith("dense")]
    assert len(rows) == 21
    for row in rows:
        _check_parameter_count(row)


def _check_parameter_count(row: models.CatalogModel) -> None:
    facts = row["architecture"]
    intermediate = facts.get("intermediate")
    assert intermediate is not None
    attention = facts["hidden"] * facts["head_dim"] * (2 * facts["heads"] + 2 * facts["kv_heads"])
    layers = facts["layers"] * (attention + 3 * facts["hidden"] * intermediate)
    embeddings = facts["vocab"] * facts["hidden"] * (1 if facts["tie_word_embeddings"] else 2)
    assert row["parameters"]["total"] == pytest.approx(layers + embeddings, rel=0.001)


def test_tiny_random_agrees_with_the_files_it_stands_for() -> None:
    row = models.model("tiny-random")
    assert row is not None
    facts = row["architecture"]
    assert row["hf_id"] is None
    assert row["parameters"]["total"] == sum(math.prod(shape) for shape in tiny_random.shapes().values())
    assert (facts["layers"], facts["hidden"]) == (tiny_random.LAYERS, tiny_random.HIDDEN)
    assert facts.get("intermediate") == tiny_random.INTERMEDIATE
    assert (facts["heads"], facts["kv_heads"], facts["head_dim"]) == (
        tiny_random.HEADS,
        tiny_random.KV_HEADS,
        tiny_random.HEAD_DIM,
    )
    assert (facts["vocab"], facts["max_context_tokens"]) == (tiny_random.VOCAB, tiny_random.MAX_CONTEXT_TOKENS)
