"""Keys and certificates through the real plan and apply: what is renewed pulls along what stands on it, and then is quiet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.change import Change
from llmdeploy.graph import Graph
from llmdeploy.identity import Identity
from llmdeploy.plan import Plan
from llmdeploy.reconcile.apply import Apply
from llmdeploy.reconcile.diff import diff
from llmdeploy.reconcile.refresh import refresh
from llmdeploy.resource import Ref, Resource
from llmdeploy.sdk import Run
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import State
from llmdeploy_host import Local, api_key, certificate, tls_ca

TYPES: dict[str, Any] = {kind.name: kind for kind in (tls_ca.RESOURCE, certificate.RESOURCE, api_key.RESOURCE)}
VALUES: dict[str, dict[str, Any]] = {
    "tls_ca.stack": {"common_name": "x", "days": 3650},
    "certificate.local": {
        "ca": Ref("tls_ca.stack", "certificate_pem"),
        "names": ("localhost",),
        "days": 180,
        "cert_ref": None,
        "key_ref": None,
    },
    "api_key.a": {
        "name": "a",
        "principal": "label:a",
        "requests_per_minute": 1,
        "concurrency": 1,
        "max_age_days": 90,
        "allow_fallback": False,
    },
}


class Stack:
    """One stack in a folder, planned and applied by the core."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder / ".llmdeploy")
        self.state = State.fresh("x")
        self.run = Run(Identity("x", self.state.lineage), folder, {})
        self.graph = Graph(Resource(address, address.partition(".")[0], "local", values) for address, values in VALUES.items())

    def plan(self) -> list[Change]:
        local: Any = Local()
        reads = refresh(self.state, {"local": local}, self.run)
        return diff(self.graph, self.state, reads, TYPES, self.run.identity)

    def apply(self) -> dict[str, str]:
        """Apply the plan; the actions by address."""
        with self.store.lock("apply", 0):
            return self._apply(self.plan())

    def _apply(self, changes: list[Change]) -> dict[str, str]:
        plan = Plan("x", "apply", self.run.identity, self.state.serial, "", "", "", tuple(changes), tuple(self.graph))
        outcome = Apply(plan, self.state, self.store, TYPES, self.run, lambda _event: None).run()
        assert outcome.failed == {}
        self.state = outcome.state
        return {change.address: change.action for change in changes}

    def actions(self) -> dict[str, str]:
        return {change.address: change.action for change in self.plan()}

    def age(self, address: str, days_left: int) -> None:
        """Make the certificate at `address` end soon, as state knows it."""
        entry = self.state.entries[address]
        ends = (datetime.now(UTC) + timedelta(days=days_left, hours=1)).isoformat()
        aged = entry.model_copy(update={"outputs": {**entry.outputs, "not_after": ends}})
        self.state = replace(self.state, entries={**self.state.entries, address: aged})


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    made = Stack(tmp_path)
    assert set(made.apply().values()) == {"create"}
    return made


QUIET = dict.fromkeys(sorted(VALUES), "no-op")


def test_what_was_made_needs_nothing_more(stack: Stack) -> None:
    assert stack.actions() == QUIET


def test_a_certificate_near_its_end_is_renewed_alone(stack: Stack) -> None:
    stack.age("certificate.local", 20)
    assert stack.apply() == {**QUIET, "certificate.local": "update"}
    assert stack.actions() == QUIET


def test_a_lost_key_of_the_ca_brings_a_new_ca_and_a_new_certificate(stack: Stack) -> None:
    before = stack.state.entries["certificate.local"].outputs["fingerprint"]
    stack.run.custody.forget("ca.key")
    assert stack.apply() == {**QUIET, "tls_ca.stack": "update", "certificate.local": "update"}
    assert stack.state.entries["certificate.local"].outputs["fingerprint"] != before
    assert stack.actions() == QUIET


def test_a_lost_ca_file_is_written_again_and_the_certificate_stays(stack: Stack) -> None:
    before = stack.state.entries["certificate.local"].outputs["fingerprint"]
    Path(stack.state.entries["tls_ca.stack"].outputs["ca_file"]).unlink()
    stack.apply()
    assert stack.state.entries["certificate.local"].outputs["fingerprint"] == before
    assert stack.actions() == QUIET


def test_no_secret_is_in_the_state(stack: Stack) -> None:
    text = stack.state.to_json("test")
    for path in (*stack.run.custody.path("x").parent.iterdir(), Path(stack.state.entries["api_key.a"].outputs["file"])):
        for line in path.read_text().splitlines():
            assert line.startswith("-----") or line not in text
