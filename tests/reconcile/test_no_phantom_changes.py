"""Over the whole schema of the stack file: what was applied is what the next plan finds wished for, so there is nothing to do.

The resource types are the real ones of the provider `local`, as are plan, apply, journal and state. Only their hands are tied:
what they would do to a machine is left out, and outputs that only a machine could tell are made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from llmdeploy.desired import desire, inputs_of
from llmdeploy.registry import Registry
from llmdeploy.sdk import Context, ManagedType, Prior, ReadRequest, ReadResult, ResourceType, Run, Spec
from llmdeploy.workflow import Project, apply_plan, identity_of, make_plan
from llmdeploy_host import Local

Strategy = st.SearchStrategy[dict[str, Any]]


def made_up(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """Return a value that a JSON Schema allows."""
    if "$ref" in schema:
        return made_up(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return made_up(schema["anyOf"][0], definitions)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    match schema.get("type"):
        case "object":
            return {name: made_up(part, definitions) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [made_up(schema["items"], definitions)] if schema.get("minItems") or "prefixItems" in schema else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "made-up"


def outputs_of(kind: ResourceType[Any, Any], values: Mapping[str, Any], run: Run) -> BaseModel:
    """Return what a type predicts, and something for the rest."""
    schema = kind.outputs.model_json_schema()
    return kind.outputs.model_validate({**made_up(schema, schema.get("$defs", {})), **kind.predict(values, run.identity)})


def tied(kind: ManagedType[Any, Any]) -> ManagedType[Any, Any]:
    """Return the type with hands that do nothing."""

    def create(_self: Any, ctx: Context, spec: Spec) -> BaseModel:
        ctx.acked(ctx.address)
        return outputs_of(kind, spec.model_dump(mode="json", by_alias=True), ctx.run)

    def update(_self: Any, ctx: Context, prior: Prior, spec: Spec) -> BaseModel:
        del prior
        return create(_self, ctx, spec)

    def delete(_self: Any, ctx: Context, prior: Prior) -> None:
        del ctx, prior

    parts: dict[str, Any] = {"create": create, "update": update, "delete": delete}
    return type(f"Tied{type(kind).__name__}", (type(kind),), parts)()


class Tied(Local):
    """The provider `local` without a machine."""

    def __init__(self) -> None:
        self._tied = {name: tied(kind) for name, kind in super().types.items() if isinstance(kind, ManagedType)}

    @property
    def types(self) -> Mapping[str, ResourceType[Any, Any]]:
        return self._tied

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        return [ReadResult(request.prior.address) for request in requests]


def optional(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=parts)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,6})?", fullmatch=True)
REFERENCES = st.sampled_from(["env:CANARY", "file:secret.txt"])
KEYS: Strategy = st.fixed_dictionaries(
    {"name": NAMES, "principal": st.sampled_from(["me", "arn:aws:iam::111122223333:role/support", "Grüße & Co"])},
    optional={
        "requests_per_minute": st.integers(1, 10**6),
        "concurrency": st.integers(1, 1000),
        "max_age_days": st.integers(1, 3650),
    },
)
STACKS: Strategy = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "name": NAMES,
        "model": st.fixed_dictionaries(
            {"id": st.just("tiny-random")},
            optional={
                "context": st.sampled_from([128, 1024, "1K", "2K"]),
                "concurrency": st.integers(1, 64),
                "served_name": st.sampled_from(["m", "org/model:1.0_x"]),
                "quant": st.sampled_from(["auto", "bf16"]),
            },
        ),
        "provider": st.builds(dict[str, Any], local=st.builds(dict[str, Any])),
    },
    optional={
        "engine": st.one_of(st.just("vllm"), optional(runtime=st.sampled_from(["auto", "venv"]), args=st.just({"seed": 7}))),
        "region": st.sampled_from(["eu-central-1", "DE", "cellar"]),
        "hardware": st.just({"gpu": "none"}),
        "replicas": st.just(1),
        "storage": st.one_of(
            optional(encryption=st.sampled_from(["auto", "gocryptfs"]), key=REFERENCES, on_destroy=st.just("erase")),
            st.just({"encryption": "none"}),
        ),
        "gateway": optional(
            domain=st.sampled_from(["llm.example.com", "x.internal"]),
            port=st.integers(1024, 65535),
            sticky=st.sampled_from(["x-user", None]),
            tls=st.fixed_dictionaries({"cert": REFERENCES, "key": REFERENCES}),
        ),
        "keys": st.lists(KEYS, max_size=4, unique_by=lambda key: key["name"]),
        "logs": optional(retention_days=st.integers(1, 3650)),
        "variables": st.just({"unused": 1}),
    },
)


def plan_and_apply(folder: Path, document: Mapping[str, Any], registry: Registry) -> None:
    (folder / "stack.yaml").write_text(yaml.safe_dump(dict(document), allow_unicode=True), encoding="utf-8")
    desired = desire(inputs_of(folder), registry)
    project = Project(folder, registry, {"CANARY": "c"})
    with project.lock("test"):
        state = project.state()
        with project.run(identity_of(state, desired)) as run:
            plan = make_plan(project, desired, run, state)
            outcome = apply_plan(project, plan, state, run, lambda _event: None)
        assert (outcome.failed, outcome.skipped) == ({}, {})
        state = project.state()
        with project.run(identity_of(state, desired)) as run:
            again = make_plan(project, desired, run, state)
    assert again.effective == ()
    assert again.nothing_to_do


@given(first=STACKS, second=STACKS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_after_an_apply_there_is_nothing_to_do(first: dict[str, Any], second: dict[str, Any]) -> None:
    registry = Registry({"local": Tied()})
    with TemporaryDirectory() as folder:
        plan_and_apply(Path(folder), first, registry)
        plan_and_apply(Path(folder), {**second, "name": first["name"]}, registry)
