"""The head of the newest audit stays in the state, whatever else becomes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmdeploy import __version__
from llmdeploy.errors import StateCorrupt
from llmdeploy.sdk import Context, ManagedType, Outputs, Prior, Spec
from llmdeploy.state import s3
from llmdeploy.state.fold import fold
from llmdeploy.state.journal import Record
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import Entry, Evidence, State
from llmdeploy.state.recover import recover
from llmdeploy.state.s3 import S3Store
from llmdeploy.state.seal import Passphrase, Seal
from llmdeploy.state.upgrade import upgrade
from llmdeploy.testing.memory_bucket import MemoryBucket

EVIDENCE = Evidence(head="ab" * 32, at="2026-01-02T03:04:05+00:00", file="evidence/a.jsonl", results={"pass": 3, "fail": 1})
STATE = State("l" * 32, "demo", 7, {"thing.a": Entry(address="thing.a", type="thing", provider="p", id="1")}, {"o": 1}, EVIDENCE)


def done(key: str) -> Record:
    return {"kind": "done", "entry": {"address": f"thing.{key}", "type": "thing", "provider": "p"}}


def test_it_is_read_back_as_written() -> None:
    assert State.from_json(STATE.to_json(__version__), "state.json") == STATE


def test_an_older_file_has_none_and_is_written_as_before() -> None:
    older = replace(STATE, evidence=None)
    assert '"evidence"' not in older.to_json(__version__)
    assert State.from_json(older.to_json(__version__), "state.json").evidence is None


def test_what_a_newer_version_adds_to_it_is_no_damage() -> None:
    document = json.loads(STATE.to_json(__version__))
    document["evidence"]["more"] = 1
    assert State.from_json(json.dumps(document), "state.json") == STATE


@pytest.mark.parametrize("evidence", [None, {}, {"head": 3}, "ab"])
def test_a_damaged_one_is_a_damaged_state(evidence: Any) -> None:
    document = json.loads(STATE.to_json(__version__)) | {"evidence": evidence}
    with pytest.raises(StateCorrupt, match="not a whole state file"):
        State.from_json(json.dumps(document), "state.json")


def test_it_survives_a_run_that_was_killed() -> None:
    begin: dict[str, Any] = {"kind": "begin", "lineage": STATE.lineage, "stack": "demo", "serial": 7}
    folded = fold(STATE, [begin, done("b")])
    assert (folded.evidence, set(folded.entries), folded.serial) == (EVIDENCE, {"thing.a", "thing.b"}, 8)
    recovered = recover(STATE, [begin, dict(done("b"))], "state.json", "journal.jsonl")
    assert recovered is not None
    assert recovered.evidence == EVIDENCE


class Nothing(Outputs):
    """Nothing."""


class ThingSpec(Spec):
    """A thing."""


class Thing(ManagedType[ThingSpec, Nothing]):
    """A thing in its second version."""

    name = "thing"
    spec = ThingSpec
    outputs = Nothing
    version: ClassVar[int] = 2

    def upgrade(self, version: int, entry: dict[str, Any]) -> dict[str, Any]:
        return entry

    def create(self, ctx: Context, spec: ThingSpec) -> Nothing:
        return Nothing()

    def update(self, ctx: Context, prior: Prior, spec: ThingSpec) -> Nothing:
        return Nothing()

    def delete(self, ctx: Context, prior: Prior) -> None:
        return None


def test_it_survives_an_upgrade() -> None:
    upgraded = upgrade(STATE, {"thing": Thing()})
    assert (upgraded.entries["thing.a"].version, upgraded.evidence) == (2, EVIDENCE)


@pytest.mark.parametrize("limit", [s3.JOURNAL_LIMIT, 400])
def test_it_survives_runs_in_a_bucket(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(s3, "JOURNAL_LIMIT", limit)
    bucket = MemoryBucket()
    for number, key in enumerate("abcd"):
        store = S3Store(bucket, "team/chat", "s3://b/team/chat")
        with store.lock("apply", 0):
            state = store.read() or STATE
            assert state.evidence == EVIDENCE
            store.begin(state)
            store.append([done(key)] * 3)
            if number != 1:  # this one is killed
                store.write(replace(state, serial=state.serial + 1))
    state = S3Store(bucket, "team/chat", "s3://b/team/chat").read()
    assert state is not None
    assert state.evidence == EVIDENCE


def test_an_audit_leaves_the_serial_in_a_bucket_too() -> None:
    bucket = MemoryBucket()
    store = S3Store(bucket, "team/chat", "s3://b/team/chat")
    newer = EVIDENCE.model_copy(update={"head": "cd" * 32})
    with store.lock("audit", 0):
        for state in (STATE, replace(STATE, evidence=newer)):
            store.begin(state)
            store.write(state)
            store.begin(state)
    assert S3Store(bucket, "team/chat", "s3://b/team/chat").read() == replace(STATE, evidence=newer)
    with store.lock("apply", 0):
        store.begin(replace(STATE, evidence=newer))
        store.write(replace(STATE, evidence=newer, outputs={"o": 2}))
    read = S3Store(bucket, "team/chat", "s3://b/team/chat").read()
    assert read is not None
    assert (read.serial, read.evidence) == (8, newer)


# --- generations --------------------------------------------------------------------------------------------------------------


def serials(folder: Path) -> list[int]:
    return [json.loads(path.read_bytes())["serial"] for path in sorted(folder.glob("state.json*"))]


@pytest.mark.parametrize("seal", [None, Seal(Passphrase(lambda: b"a passphrase of this test"))])
def test_audits_do_not_push_out_older_generations(tmp_path: Path, seal: Seal | None) -> None:
    store = LocalStore(tmp_path / "s", seal=seal)
    with store.lock("audit", 0):
        first = replace(STATE, evidence=None)
        store.write(first)
        store.write(replace(first, serial=8, outputs={"o": 2}))
        before = replace(first, serial=8, outputs={"o": 2})
        for number in range(9):
            evidence = EVIDENCE.model_copy(update={"head": f"{number:064x}"})
            store.begin(before)
            before = replace(before, evidence=evidence)
            store.write(before)
            assert store.read() == before
        assert serials(tmp_path / "s") == [8, 7]
        store.write(replace(before, serial=9, outputs={"o": 3}))
    assert serials(tmp_path / "s") == [9, 8, 7]
