from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from llmdeploy.errors import StackError
from llmdeploy.stack.explain import models_in
from llmdeploy.stack.model import Stack
from llmdeploy.stack.schema import json_schema
from llmdeploy.stack.starter import starter
from llmdeploy.stack.terms import mapping, members

from .support import HEAD, PROVIDERS, load_text
from .test_fuzz import GOOD

SCHEMA = json_schema(PROVIDERS)
VALIDATOR = Draft202012Validator(SCHEMA)


def errors(text: str) -> list[str]:
    found: Iterator[Any] = VALIDATOR.iter_errors(yaml.safe_load(text))  # pyright: ignore[reportUnknownMemberType] jsonschema's stubs
    return [str(error.message) for error in found]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        GOOD,
        starter(name="demo", model="tiny-random", provider="local", compliance=["gdpr"], region="no"),
        HEAD + "engine: sglang\ncompliance: [hipaa]\n",
        HEAD + "variables: {n: 2, k: 8K, b: true}\nreplicas: ${var.n}\nstorage: {key: 'file:${env:KEY}'}\n",
        HEAD.replace("tiny-random", "m, context: '${var.k}'") + "variables: {k: 8K}\n",
        HEAD.replace("{local: {}}", "{rack: {machines: [{address: a, port: '${var.p}'}]}}") + "variables: {p: 2}\n",
    ],
)
def test_good_files_fit(tmp_path: Path, text: str) -> None:
    assert errors(text) == []
    load_text(tmp_path, text, environ={"KEY": "k"})


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "replica: 2\n",
        HEAD + "replicas: 0\n",
        HEAD + "replicas: two\n",
        HEAD + "engine: vlm\n",
        HEAD + "compliance: [hippa]\n",
        HEAD + "gateway: {tls: {cert: 'file:a'}}\n",
        HEAD + "storage: {key: hunter2}\n",
        HEAD + "keys: [{name: a}]\n",
        HEAD + "variables: {a-b: 1}\n",
        HEAD.replace("tiny-random", "m, context: 32k"),
        HEAD.replace("local: {}", "local: {a: 1}"),
        HEAD.replace("local", "aws"),
        HEAD.replace("{local: {}}", "{}"),
        HEAD.replace("{local: {}}", "{rack: {machines: [{}]}}"),
    ],
)
def test_what_the_schema_refuses_the_loader_refuses(tmp_path: Path, text: str) -> None:
    assert errors(text)
    with pytest.raises(StackError):
        load_text(tmp_path, text)


def test_no_pydantic_titles_and_every_reference_resolves() -> None:
    def parts(schema: object) -> Iterator[Mapping[str, Any]]:
        inner = mapping(schema)
        if inner is not None:
            yield inner
        for _, part in members(schema):
            yield from parts(part)

    references = {part["$ref"] for part in parts(SCHEMA) if isinstance(part.get("$ref"), str)}
    assert references <= {f"#/$defs/{name}" for name in SCHEMA["$defs"]}
    assert [part["title"] for part in parts(SCHEMA) if isinstance(part.get("title"), str)] == ["llmdeploy stack file"]


def test_every_key_is_described() -> None:
    seen: set[type[BaseModel]] = set()
    waiting: list[type[BaseModel]] = [Stack]
    while waiting:
        model = waiting.pop()
        if model in seen or model is BaseModel:
            continue
        seen.add(model)
        assert model.__doc__
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            waiting += models_in(field.annotation)
    assert len(seen) > 15
