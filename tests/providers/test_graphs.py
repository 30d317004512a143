"""Every resource of every graph: references that name an output, values of which nothing is known, and a second plan.

The graphs are those of the examples, and of the requests that the tests of AWS lay out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from llmdeploy.cli.session import open_session
from llmdeploy.desired import desire
from llmdeploy.graph import Graph
from llmdeploy.resource import Resource, iter_refs, resolve
from llmdeploy.sdk import UNKNOWN, Identity, Prior, ResourceType, Tariff, Tree, has_unknown
from llmdeploy_aws import aws
from llmdeploy_host import hosts
from tests.providers.llmdeploy_aws.stacks import EXAMPLES, built
from tests.support import ROOT

TYPES: Mapping[str, ResourceType[Any, Any]] = {**hosts.types, **aws.types}
FOLDERS = {str(path.parent.relative_to(ROOT)): path for path in sorted(ROOT.glob("examples/**/stack.yaml"))}
NAMES = (*FOLDERS, *(f"aws: {name}" for name in EXAMPLES))
NEW, OLD = Identity("chat", None), Identity("chat", "0123456789abcdef")


@cache
def graph(name: str) -> Graph:
    if name not in FOLDERS:
        return built(EXAMPLES[name.removeprefix("aws: ")])[1].graph
    with TemporaryDirectory() as folder:
        (Path(folder) / "stack.yaml").write_text(FOLDERS[name].read_text())
        session = open_session(Path(folder))
        return desire(session.inputs, session.registry, "off", today=date(2026, 11, 30)).graph


def known(resource: Resource) -> dict[str, Tree]:
    """Its values once everything that it refers to is there."""
    outputs: dict[str, dict[str, Tree]] = {}
    for ref in iter_refs(resource.values):
        outputs.setdefault(ref.address, {})[ref.output.split(".")[0]] = f"{ref.address}-{ref.output}"
    return resolve(resource.values, outputs)


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_names_an_output_of_a_resource_below(name: str) -> None:
    found = graph(name)
    for resource in found:
        for ref in iter_refs(resource.values):
            assert ref.address in resource.dependencies
            assert ref.output.split(".")[0] in TYPES[found[ref.address].type].outputs.model_fields, f"{resource.address}: {ref}"


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_planned_judged_and_priced_before_anything_is_known(name: str) -> None:
    for resource in graph(name):
        kind, values = TYPES[resource.type], resolve(resource.values, {})
        assert kind.plan(None, values).action == "create"
        assert not has_unknown(kind.traits(values).model_dump())
        assert not has_unknown([line.quantity for line in kind.cost(values, Tariff())])
        for identity in (NEW, OLD):
            assert kind.predict(values, identity).keys() <= kind.outputs.model_fields.keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_stack_planned_again_changes_nothing(name: str) -> None:
    for resource in graph(name):
        values = known(resource)
        if any(value is UNKNOWN for value in values.values()):
            assert resource.type == "host_weights", (
                "only the files of a model that nobody asked for yet are not known after apply"
            )
            continue
        again = TYPES[resource.type].plan(Prior(resource.address, "id", json.loads(json.dumps(values)), {}), values)
        assert (again.action, again.reason) == ("no-op", ""), resource.address


YOUNGER: Mapping[str, frozenset[str]] = {
    "certificate": frozenset({"kms_key"}),
    "host": frozenset({"gpu", "gpus", "owned", "region"}),
    "host_engine": frozenset({"gpu_indices", "head", "image"}),
    "host_engine_runtime": frozenset({"image"}),
    "host_gateway": frozenset({"peer_port", "peers"}),
    "host_volume": frozenset({"device", "erase", "filesystem", "kms_key", "unlock"}),
    "host_weights": frozenset({"repository"}),
    "tls_ca": frozenset({"kms_key"}),
}
"""Fields that came with machines over SSH and AWS. They mean nothing on this machine, and no state of it from before has them."""


def test_a_stack_on_this_machine_is_not_changed_by_fields_that_came_later() -> None:
    for resource in graph("examples/laptop"):
        values, kind = known(resource), TYPES[resource.type]
        before = {name: value for name, value in values.items() if name not in YOUNGER.get(resource.type, ())}
        assert YOUNGER.get(resource.type, frozenset()) <= kind.spec.model_fields.keys()
        again = kind.plan(Prior(resource.address, "id", json.loads(json.dumps(before)), {}), values)
        assert (again.action, again.reason) == ("no-op", ""), resource.address
