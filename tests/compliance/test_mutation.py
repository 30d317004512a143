"""Every property of two whole graphs flipped in turn: a control finds it, the type refuses it, or `uncovered.yaml` says why not.

`LLMDEPLOY_UPDATE_GOLDEN=1` writes `docs/uncovered.md` anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from llmdeploy.change import Change
from llmdeploy.cli.session import open_session
from llmdeploy.compliance import Subject, check
from llmdeploy.desired import Desired, desire
from llmdeploy.errors import StackError
from llmdeploy.policy import Finding
from llmdeploy.resource import resolve
from llmdeploy.sdk import ResourceType, Traits, Tree
from tests.compliance.mutations import mutations
from tests.support import ROOT

EXAMPLES = {"hipaa": ROOT / "examples/aws/hipaa-us", "gdpr": ROOT / "examples/aws/gdpr-eu"}
TABLE = Path(__file__).with_name("uncovered.yaml")
DOCS = ROOT / "docs/uncovered.md"
TODAY = date(2026, 11, 30)


@dataclass(frozen=True)
class Row:
    """Properties that no control finds when they are flipped, and why that is so. data: whether they are about data."""

    why: str
    data: bool
    properties: tuple[str, ...]
    profiles: tuple[str, ...]


@cache
def rows() -> tuple[Row, ...]:
    table: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text())
    return tuple(
        Row(one["why"], one.get("data", False), tuple(one["properties"]), tuple(one.get("profiles", EXAMPLES))) for one in table
    )


@cache
def patterns(profile: str) -> Mapping[str, re.Pattern[str]]:
    """The properties of the table for a profile: `*` stands for anything."""
    named = [one for row in rows() if profile in row.profiles for one in row.properties]
    return {one: re.compile(re.escape(one).replace(r"\*", ".*") + r"\Z") for one in named}


# --- judging ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """One example, and what the controls find of every flip of it: name -> `found`, `refused` or `open`."""

    desired: Desired
    types: Mapping[str, ResourceType[Any, Any]]
    traits: Mapping[str, Traits]

    @classmethod
    def of(cls, folder: Path) -> Judged:
        session = open_session(folder)
        desired = desire(session.inputs, session.registry, "off", today=TODAY)
        types = session.registry.types([resource.provider for resource in desired.graph])
        told = {resource.address: types[resource.type].traits(resolve(resource.values, {})) for resource in desired.graph}
        return cls(desired, types, told)

    def findings(self, address: str, traits: Traits) -> set[tuple[str, str, str]]:
        """Return what the controls find when one resource has these traits, whether it refuses the plan or is only told."""
        resource = self.desired.graph[address]
        subject = Subject(self.desired.loaded.stack, self.desired.policy, {**self.traits, address: traits})
        found = check([Change(address, resource.type, resource.provider, "create", traits=traits)], subject)
        return {(one.control, one.result, one.sentence) for one in found}

    def outcomes(self) -> Iterator[tuple[str, str]]:
        """Yield every flip with what came of it."""
        for resource in self.desired.graph:
            kind, known = self.types[resource.type], self.findings(resource.address, self.traits[resource.address])
            for mutation in mutations(resource.address, kind.spec, resource.values):
                yield mutation.name, self._outcome(resource.address, kind, mutation.values, known)

    def _outcome(self, address: str, kind: ResourceType[Any, Any], values: Mapping[str, Tree], known: set[Any]) -> str:
        refused = _refused(kind, values)
        try:
            found = self.findings(address, kind.traits(resolve(values, {}))) - known
        except StackError:
            return "refused"
        except Exception as error:
            if refused:
                return "refused"
            raise AssertionError(f"{address}: no judgement on values that the type takes: {values}") from error
        return "found" if found else "refused" if refused else "open"


def _refused(kind: ResourceType[Any, Any], values: Mapping[str, Tree]) -> bool:
    try:
        kind.spec.model_validate(values)
    except ValidationError:
        return True
    return False


@cache
def judged(profile: str) -> Judged:
    return Judged.of(EXAMPLES[profile])


@cache
def outcomes(profile: str) -> Mapping[str, str]:
    return dict(judged(profile).outcomes())


# --- tests ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", EXAMPLES)
def test_the_example_keeps_every_control_of_the_plan(profile: str) -> None:
    one = judged(profile)
    assert profile in one.desired.policy.profiles
    changes = [Change(r.address, r.type, r.provider, "create", traits=one.traits[r.address]) for r in one.desired.graph]
    subject = Subject(one.desired.loaded.stack, one.desired.policy, one.traits)
    found: tuple[Finding, ...] = check(changes, subject, settled=False)
    assert [str(finding) for finding in found if finding.refuses] == []


@pytest.mark.parametrize("profile", EXAMPLES)
def test_every_flip_is_found_or_refused_or_listed_as_uncovered(profile: str) -> None:
    known = patterns(profile).values()
    opened = [name for name, outcome in outcomes(profile).items() if outcome == "open"]
    assert [name for name in opened if not any(one.match(name) for one in known)] == []


@pytest.mark.parametrize("profile", EXAMPLES)
def test_nothing_is_listed_as_uncovered_that_is_covered(profile: str) -> None:
    made = outcomes(profile)
    for name, pattern in patterns(profile).items():
        meant = {one: outcome for one, outcome in made.items() if pattern.match(one)}
        assert "open" in meant.values(), f"{name} is no flip that nobody finds: take it from the table"
        assert [one for one, outcome in meant.items() if outcome == "found"] == [], f"{name}: name it more closely"


def test_a_flip_is_found_by_its_controls_and_by_nothing_when_nobody_demands_them() -> None:
    one, address = judged("gdpr"), "aws_instance.node-0"
    values = one.desired.graph[address].values
    devices = [{**device, "ebs": {**device["ebs"], "encrypted": False}} for device in values["block_device_mappings"]]
    flipped = one.types["aws_instance"].traits(resolve({**values, "block_device_mappings": devices}, {}))
    found = one.findings(address, flipped) - one.findings(address, one.traits[address])
    assert {control for control, _, _ in found} == {"ENC-01", "ENC-05", "TLS-01"}
    deaf = replace(one, desired=replace(one.desired, policy=replace(one.desired.policy, demands=())))
    assert deaf.findings(address, flipped) == set()


# --- the document -------------------------------------------------------------------------------------------------------------


_INTRODUCTION = """\
A test lays out [examples/aws/hipaa-us](../examples/aws/hipaa-us/) and [examples/aws/gdpr-eu](../examples/aws/gdpr-eu/), and
flips every property of every resource, one at a time: a switch turned, a key left out, a region changed, addresses opened, a
statement of a policy dropped or widened, an option of the engine taken away. A control of the profile must find it, or the type
of the resource must refuse the value. What neither happens to stands here, with the reason. `*` stands for anything. The list is
generated; what a control learns to find must leave it. That a flip is found is evidence about one setting, nothing more."""


def document() -> str:
    """Return `docs/uncovered.md`."""
    lines = [
        "# What no control finds",
        "",
        *_INTRODUCTION.splitlines(),
        "",
    ]
    for data, title in ((True, "About data"), (False, "Not about data, or letting nobody in")):
        lines += [f"## {title}", "", "| why | profiles | properties |", "|---|---|---|"]
        for row in rows():
            if row.data == data:
                named = ", ".join(f"`{one}`" for one in row.properties)
                lines.append(f"| {row.why} | {', '.join(row.profiles)} | {named} |")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def test_the_document_lists_what_is_uncovered() -> None:
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        DOCS.write_text(document())
    assert DOCS.read_text() == document(), "run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"
