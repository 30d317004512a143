"""Encrypted state: nobody reads it without the key, and no part of it can be passed off as another."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdeploy.errors import StateCorrupt, StateError
from llmdeploy.state import aws
from llmdeploy.state.disk import OsDisk
from llmdeploy.state.journal import Journal
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import Entry, State
from llmdeploy.state.s3 import S3Store
from llmdeploy.state.seal import Bound, Kms, Passphrase, Seal, open_state, seal_state
from llmdeploy.testing.effects import Effects, PowerCut
from llmdeploy.testing.memory_bucket import MemoryBucket
from tests.lab.object_store import REGION, ObjectStore

CANARY = "canary-4f1d9c"


def passphrase(text: str = "a passphrase of this test") -> Seal:
    return Seal(KEYS[text]) if text in KEYS else Seal(Passphrase(text.encode))


KEYS = {text: Passphrase(text.encode) for text in ("a passphrase of this test", "another passphrase here")}
"""One derivation costs 0.3 s: they are shared."""


def entry(key: str) -> Entry:
    return Entry.model_validate(
        {"address": f"thing.{CANARY}-{key}", "type": "thing", "provider": "p", "id": CANARY, "outputs": {"path": CANARY}}
    )


def state_of(serial: int, *keys: str) -> State:
    entries = {one.address: one for one in map(entry, keys)}
    return State("l" * 32, CANARY, serial, entries, {"endpoint": CANARY})


def work(store: LocalStore | S3Store, *keys: str, finish: bool = True) -> None:
    with store.lock("apply", 0):
        state = store.read() or state_of(0)
        store.begin(state)
        for key in keys:
            store.append([{"kind": "done", "entry": entry(key).model_dump(mode="json")}])
        if finish:
            entries = {**state.entries, **state_of(0, *keys).entries}
            store.write(replace(state, serial=state.serial + 1, entries=entries))


def keys_of(state: State | None) -> set[str]:
    return {address.rpartition("-")[2] for address in state.entries} if state else set()


def change(path: Path, **values: object) -> None:
    """Change fields of a sealed state."""
    document: dict[str, Any] = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, **values}, indent=1))


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=10), st.integers(0, 10**6))
def test_what_was_sealed_is_opened(content: bytes, lineage: str, serial: int) -> None:
    seal = passphrase()
    sealed = seal_state(content, Bound(lineage, serial), seal)
    assert open_state(sealed, "state", seal, "") == content
    assert open_state(json.dumps(json.loads(sealed)).encode(), "state", seal, "") == content, "spaces must not matter"


def test_a_sealed_folder_is_read_back_and_shows_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, seal=passphrase())
    work(store, "a")
    work(store, "b")
    work(store, "c", finish=False)
    assert keys_of(LocalStore(tmp_path, seal=passphrase()).read()) == {"a", "b", "c"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"state.json", "state.json.backup", "journal.jsonl"} <= {path.name for path in files}
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []
    envelope = json.loads((tmp_path / "state.json").read_bytes())
    assert (envelope["sealed"], envelope["lineage"], envelope["serial"]) == (1, "l" * 32, 2)
    assert envelope["key"]["method"] == "passphrase"


def test_a_run_without_changes_writes_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, seal=passphrase())
    work(store, "a")
    before = (tmp_path / "state.json").read_bytes()
    state = store.read()
    assert state is not None
    with store.lock("apply", 0):
        store.begin(state)
        store.write(state)
    assert (tmp_path / "state.json").read_bytes() == before


def test_a_sealed_bucket_is_read_back_and_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdeploy.state.s3.JOURNAL_LIMIT", 3000)
    bucket = MemoryBucket()
    work(S3Store(bucket, "k", "s3://b", seal=passphrase()), "a", "b", "c", "d", "e")
    work(S3Store(bucket, "k", "s3://b", seal=passphrase()), "f", "g", finish=False)
    assert keys_of(S3Store(bucket, "k", "s3://b", seal=passphrase()).read()) == set("abcdefg")
    assert [key for key, content in bucket.content().items() if CANARY.encode() in content] == []


def test_a_sealed_run_that_dies_at_any_call_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdeploy.state.s3.JOURNAL_LIMIT", 1500)
    counting = Effects()
    work(S3Store(MemoryBucket(counting), "k", "s3://b", seal=passphrase()), "a", "b", "c")
    for point in range(1, counting.count + 1):
        bucket = MemoryBucket(Effects(cut_at=point))
        with pytest.raises(PowerCut):
            work(S3Store(bucket, "k", "s3://b", seal=passphrase()), "a", "b", "c")
        after = bucket.copy()
        after.advance(121)
        work(S3Store(after, "k", "s3://b", seal=passphrase()), "d")
        assert "d" in keys_of(S3Store(after, "k", "s3://b", seal=passphrase()).read())


def test_the_wrong_passphrase_is_told(tmp_path: Path) -> None:
    work(LocalStore(tmp_path, seal=passphrase()), "a")
    with pytest.raises(StateError, match=r"the passphrase does not open .*state\.json"):
        LocalStore(tmp_path, seal=passphrase("another passphrase here")).read()


def test_a_sealed_state_without_a_setting_names_the_setting(tmp_path: Path) -> None:
    work(LocalStore(tmp_path, seal=passphrase()), "a")
    with pytest.raises(StateError, match=r"state\.json is encrypted") as error:
        LocalStore(tmp_path).read()
    assert 'state.encryption: {passphrase: "env:NAME"}' in error.value.hint
    (tmp_path / "state.json").unlink()
    work(LocalStore(tmp_path / "new", seal=passphrase()), "a", finish=False)
    with pytest.raises(StateError, match=r"journal\.jsonl:1 is encrypted"):
        LocalStore(tmp_path / "new").read()


def test_a_plain_state_is_read_and_then_written_sealed(tmp_path: Path) -> None:
    work(LocalStore(tmp_path), "a")
    work(LocalStore(tmp_path), "b", finish=False)
    store = LocalStore(tmp_path, seal=passphrase())
    state = store.read()
    assert keys_of(state) == {"a", "b"}
    work(store, "c")
    assert CANARY.encode() not in (tmp_path / "state.json").read_bytes()
    assert keys_of(LocalStore(tmp_path, seal=passphrase()).read()) == {"a", "b", "c"}


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="shorter than 12 characters"):
        work(LocalStore(tmp_path, seal=passphrase("short")), "a")


@pytest.mark.parametrize("field", ["data", "nonce"])
def test_a_bit_that_flipped_is_told(tmp_path: Path, field: str) -> None:
    work(LocalStore(tmp_path, seal=passphrase()), "a")
    path = tmp_path / "state.json"
    content = bytearray(b64decode(json.loads(path.read_bytes())[field]))
    for position in (0, len(content) // 2, len(content) - 1):
        flipped = bytearray(content)
        flipped[position] ^= 1
        change(path, **{field: b64encode(flipped).decode()})
        with pytest.raises(StateCorrupt, match="was changed after it was encrypted"):
            LocalStore(tmp_path, seal=passphrase()).read()


@pytest.mark.parametrize("field", ["lineage", "serial", "key", "nonce", "data"])
def test_an_envelope_without_a_part_is_told(tmp_path: Path, field: str) -> None:
    work(LocalStore(tmp_path, seal=passphrase()), "a")
    change(tmp_path / "state.json", **{field: None})
    with pytest.raises(StateCorrupt):
        LocalStore(tmp_path, seal=passphrase()).read()


def test_a_truncated_envelope_is_told(tmp_path: Path) -> None:
    work(LocalStore(tmp_path, seal=passphrase()), "a")
    path = tmp_path / "state.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StateCorrupt, match="is not whole"):
        LocalStore(tmp_path, seal=passphrase()).read()


def test_an_old_state_cannot_be_played_back_as_a_newer_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, seal=passphrase())
    work(store, "a")
    old = (tmp_path / "state.json").read_bytes()
    work(store, "b")
    (tmp_path / "state.json").write_bytes(old)
    change(tmp_path / "state.json", serial=2)
    with pytest.raises(StateCorrupt, match="belongs to another state or serial"):
        LocalStore(tmp_path, seal=passphrase()).read()
    (tmp_path / "state.json").write_bytes(old)
    change(tmp_path / "state.json", lineage="m" * 32)
    with pytest.raises(StateCorrupt, match="belongs to another state or serial"):
        LocalStore(tmp_path, seal=passphrase()).read()


def test_lines_of_a_journal_cannot_change_places_or_runs(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(OsDisk(), path, passphrase())
    journal.append([{"kind": "begin", "lineage": "l", "stack": "s", "serial": 3}])
    for n in range(2):
        journal.append([{"kind": "gone", "address": f"thing.{n}", "id": "", "generation": 1}])
    lines = [json.loads(line.partition(b" ")[2]) for line in path.read_bytes().splitlines()]

    def written(documents: list[dict[str, Any]]) -> Journal:
        texts = [json.dumps(document).encode() for document in documents]
        path.write_bytes(b"".join(b"%08x %s\n" % (crc32(text), text) for text in texts))
        return Journal(OsDisk(), path, passphrase())

    assert len(written(lines).records()) == 3
    with pytest.raises(StateCorrupt, match=r"journal\.jsonl:2 was changed"):
        written([lines[0], {**lines[2], "seq": 2}, {**lines[1], "seq": 3}]).records()
    with pytest.raises(StateCorrupt, match=r"journal\.jsonl:2 was changed"):
        written([lines[0], {**lines[1], "sealed": {**lines[1]["sealed"], "serial": 4}}]).records()
    other = Journal(OsDisk(), tmp_path / "other", passphrase())
    other.append([{"kind": "begin", "lineage": "l", "stack": "s", "serial": 4}])
    other.append([{"kind": "gone", "address": "thing.x", "id": "", "generation": 1}])
    foreign = [json.loads(line.partition(b" ")[2]) for line in (tmp_path / "other").read_bytes().splitlines()]
    with pytest.raises(StateCorrupt, match="belongs to another run"):
        written([lines[0], foreign[1]]).records()
    state_as_line = passphrase().seal(b"[]", Bound("l", 3))
    with pytest.raises(StateCorrupt, match=r"journal\.jsonl:2 was changed"):
        written([lines[0], {"seq": 2, "sealed": state_as_line}]).records()


def test_a_state_that_gets_another_key_is_readable_all_the_way() -> None:
    """Both keys open while the old one is exchanged; it may die at any call."""
    old, new = KEYS["a passphrase of this test"], KEYS["another passphrase here"]
    before = MemoryBucket()
    work(S3Store(before, "k", "s3://b", seal=Seal(old)), "a")
    work(S3Store(before, "k", "s3://b", seal=Seal(old)), "b", finish=False)
    counting = Effects()
    work(S3Store(before.copy(counting), "k", "s3://b", seal=Seal(new, old)), "c")
    for point in range(1, counting.count + 1):
        bucket = before.copy(Effects(cut_at=point))
        with pytest.raises(PowerCut):
            work(S3Store(bucket, "k", "s3://b", seal=Seal(new, old)), "c")
        after = bucket.copy()
        after.advance(121)
        work(S3Store(after, "k", "s3://b", seal=Seal(new, old)), "d")
        assert keys_of(S3Store(after, "k", "s3://b", seal=Seal(new)).read()) >= {"a", "b", "d"}


# --- KMS ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kms_key(bucket_name: str) -> Callable[[], str]:
    """Return a maker of keys of the KMS of this machine."""
    assert bucket_name
    return lambda: aws.client("kms", REGION, 10).create_key()["KeyMetadata"]["Arn"]


@pytest.mark.integration
def test_a_key_of_kms_seals_and_opens(tmp_path: Path, kms_key: Callable[[], str]) -> None:
    arn = kms_key()
    work(LocalStore(tmp_path, seal=Seal(Kms(arn, None))), "a", "b")
    work(LocalStore(tmp_path, seal=Seal(Kms(arn, None))), "c", finish=False)
    assert keys_of(LocalStore(tmp_path, seal=Seal(Kms(arn, None))).read()) == {"a", "b", "c"}
    assert [path.name for path in tmp_path.iterdir() if CANARY.encode() in path.read_bytes()] == []
    with pytest.raises(StateError, match="the KMS key"):
        LocalStore(tmp_path, seal=Seal(Kms(kms_key(), None))).read()
    with pytest.raises(StateError, match="encrypted with a key of KMS"):
        LocalStore(tmp_path, seal=passphrase()).read()
    with pytest.raises(StateError, match="is encrypted") as error:
        LocalStore(tmp_path).read()
    assert "kms_key" in error.value.hint


@pytest.mark.integration
def test_a_data_key_is_bound_to_its_lineage(tmp_path: Path, kms_key: Callable[[], str]) -> None:
    arn = kms_key()
    work(LocalStore(tmp_path, seal=Seal(Kms(arn, None))), "a")
    change(tmp_path / "state.json", lineage="m" * 32)
    with pytest.raises(StateError, match="the KMS key"):
        LocalStore(tmp_path, seal=Seal(Kms(arn, None))).read()


@pytest.mark.integration
def test_a_key_that_is_not_there_is_told(tmp_path: Path, store_server: ObjectStore, kms_key: Callable[[], str]) -> None:
    assert store_server.url
    missing = kms_key().rpartition("/")[0] + "/00000000-0000-0000-0000-000000000000"
    with pytest.raises(StateError, match="there is no such KMS key"):
        work(LocalStore(tmp_path, seal=Seal(Kms(missing, None))), "a")
    work(LocalStore(tmp_path / "b", seal=passphrase()), "a")
    with pytest.raises(StateError, match="encrypted with a passphrase"):
        LocalStore(tmp_path / "b", seal=Seal(Kms(missing, None))).read()
