"""docs/reference.md is generated from the code: the stack file's fields from its model, the verbs from their help.

`LLMDEPLOY_UPDATE_GOLDEN=1` writes it anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llmdeploy.catalog import Catalog
from llmdeploy.cli.root import VERBS
from llmdeploy.registry import Registry
from llmdeploy.stack.model import ProviderChoice, Stack
from tests.support import ROOT


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := inner_model(inner))), None)


def default_of(info: FieldInfo) -> str:
    """Return the default for people."""
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ((), {}) or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield one table row per field, depth first."""
    for name, info in model.model_fields.items():
        here = f"{path}{name}"
        inner = inner_model(info.annotation)
        if inner is ProviderChoice:
            yield f"| `provider` | {default_of(info)} | {info.description} |"
            continue
        yield f"| `{here}` | {default_of(info)} | {info.description} |"
        if inner:
            many = "[]" if "tuple" in str(info.annotation) else ""
            yield from fields(inner, f"{here}{many}.")


def provider_fields(name: str, config: type[BaseModel]) -> str:
    """Return the table of what `provider: {NAME: ...}` may hold."""
    listed = issubclass(config, RootModel)
    model = inner_model(config.model_fields["root"].annotation) if listed else config
    rows = "\n".join(fields(model, f"provider.{name}{'[]' if listed else ''}.")) if model else ""
    about = " ".join((config.__doc__ or "").split())
    return f"### {name}\n\n{about}" + (f"\n\n| field | default | meaning |\n|---|---|---|\n{rows}" if rows else "")


def verb_help(verb: str) -> str:
    """Return what `llmdeploy VERB --help` prints."""
    environ = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    argv = [sys.executable, "-m", "llmdeploy", verb, "--help"]
    return subprocess.run(argv, capture_output=True, text=True, env=environ, check=True).stdout.strip()


def reference() -> str:
    """Return the whole page."""
    rows = "\n".join(fields(Stack))
    verbs = "\n\n".join(f"### {verb}\n\n```text\n{verb_help(verb)}\n```" for verb in VERBS if verb != "version")
    providers = "\n\n".join(provider_fields(name, config) for name, config in sorted(Registry().configs().items()))
    names = ", ".join(f"`{name}`" for name in Registry().names())
    return "\n\n".join(
        (
            "# Reference",
            "Generated from the code; `tests/test_docs.py` holds it there.",
            f"Providers of this version: {names}.",
            f"## The stack file\n\n| field | default | meaning |\n|---|---|---|\n{rows}",
            f"## The providers\n\n{providers}",
            f"## The verbs\n\n{verbs}\n",
        )
    )


def test_the_reference_says_what_the_code_does() -> None:
    path = ROOT / "docs/reference.md"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(reference())
    assert path.read_text() == reference(), "run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"


def test_the_rows_of_ones_own_that_the_docs_show_are_taken(tmp_path: Path) -> None:
    text = (ROOT / "docs/catalog.md").read_text()
    (tmp_path / "catalog.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    catalog = Catalog.load(tmp_path)
    assert catalog.prices("aws", "eu-central-1")["ec2.g7e.2xlarge"].usd == 4.20
    assert catalog.hosted["our-contract"].output == 12.00
    assert "g9.2xlarge" in {machine.name for machine in catalog.machines("aws", "eu-central-1")}
