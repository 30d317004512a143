"""What the audit sees of llmdeploy's own files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.audit.state_probe import probe_state
from llmdeploy.backend import Backend
from llmdeploy.evidence import Observation
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import Entry, State
from llmdeploy.state.seal import Passphrase, Seal

KEY = b"llmd_live_aB3dE6gH_" + b"x" * 43 + b"1a2B3c"
STATE = State("l" * 32, "demo", 7, {"thing.a": Entry(address="thing.a", type="thing", provider="p", id="1")})
SEAL = Seal(Passphrase(lambda: b"a passphrase of this test"))


def kept(folder: Path, state: State = STATE, seal: Seal | None = None) -> Path:
    store = LocalStore(folder / ".llmdeploy", seal=seal)
    with store.lock("apply", 0):
        store.write(state)
    return folder / ".llmdeploy"


def seen(folder: Path, fact: str, state: State = STATE) -> Observation:
    probed = probe_state(folder, state, Backend())
    (found,) = (one for one in probed.seen.observations if one.fact == fact)
    assert probed.seen.address == "state"
    assert found.command
    return found


# --- who can read it ----------------------------------------------------------------------------------------------------------


def test_a_state_as_llmdeploy_writes_it_is_private(tmp_path: Path) -> None:
    kept(tmp_path)
    assert seen(tmp_path, "private").value is True


@pytest.mark.parametrize(
    ("opened", "mode"),
    [
        ("", 0o750),
        ("", 0o701),
        ("state.json", 0o640),
        ("state.json.backup", 0o604),
        ("secrets/volume", 0o644),
        ("keys/me.key", 0o660),
        ("evidence/a.jsonl", 0o644),
        ("moved-7-state.json", 0o644),
    ],
)
def test_what_others_may_read_is_named(tmp_path: Path, opened: str, mode: int) -> None:
    own = kept(tmp_path)
    path = own / opened
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text("x")
    path.chmod(mode)
    found = seen(tmp_path, "private")
    assert found.value is False
    assert f"{mode:o} .llmdeploy" in found.output
    assert opened in found.output


def test_a_certificate_may_be_read_by_everybody(tmp_path: Path) -> None:
    (kept(tmp_path) / "ca.pem").write_text("public")
    (tmp_path / ".llmdeploy" / "ca.pem").chmod(0o644)
    assert seen(tmp_path, "private").value is True


# --- whether it is encrypted --------------------------------------------------------------------------------------------------


def test_a_state_in_clear_is_plain(tmp_path: Path) -> None:
    kept(tmp_path)
    found = seen(tmp_path, "at_rest")
    assert (found.value, found.output) == ("plain", ".llmdeploy/state.json: in clear")


def test_a_sealed_state_is_encrypted_until_one_file_is_not(tmp_path: Path) -> None:
    kept(tmp_path, seal=SEAL)
    own = kept(tmp_path, replace(STATE, serial=8, outputs={"o": 1}), seal=SEAL)
    assert seen(tmp_path, "at_rest").value == "encrypted"
    (own / "state.json.backup1").write_text(STATE.to_json("0"))
    found = seen(tmp_path, "at_rest")
    assert found.value == "plain"
    assert ".llmdeploy/state.json.backup1: in clear" in found.output


@pytest.mark.parametrize(("seal", "value"), [(None, "plain"), (SEAL, "encrypted")])
def test_a_journal_counts_too(tmp_path: Path, seal: Seal | None, value: str) -> None:
    kept(tmp_path, seal=SEAL)
    store = LocalStore(tmp_path / ".llmdeploy", seal=seal)
    with LocalStore(tmp_path / ".llmdeploy", seal=SEAL).lock("apply", 0):
        store.append([{"kind": "begin", "lineage": STATE.lineage, "stack": "demo", "serial": 7}])
        assert seen(tmp_path, "at_rest").value == value


def test_no_state_is_no_observation(tmp_path: Path) -> None:
    (tmp_path / ".llmdeploy").mkdir(mode=0o700)
    found = seen(tmp_path, "at_rest")
    assert (found.value, "there is no state" in found.reason) == (None, True)
    assert seen(tmp_path / "nowhere", "private").reason


# --- whether a key lies in it -------------------------------------------------------------------------------------------------

PLANTED: tuple[Callable[[Path], Any], ...] = (
    lambda folder: (folder / ".llmdeploy" / "journal.jsonl").write_bytes(b"a\n" + KEY),
    lambda folder: (folder / ".llmdeploy" / "state.json.backup").write_bytes(KEY),
    lambda folder: (folder / ".llmdeploy" / "other").write_bytes(b"x" * (2**20 - 20) + KEY + b"x" * 2**20),
    lambda folder: (folder / "plan.json").write_bytes(b'{"format_version": 1, "llmdeploy_version": 1, "v": "' + KEY + b'"}'),
    lambda folder: (folder / "saved.plan").write_bytes(b'{"llmdeploy_plan": 1, "note": "' + KEY + b'"}'),
)


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_key_is_found_and_not_repeated(tmp_path: Path, plant: Callable[[Path], Any]) -> None:
    kept(tmp_path)
    assert seen(tmp_path, "stored_keys").value == "hashes"
    plant(tmp_path)
    found = seen(tmp_path, "stored_keys")
    assert found.value == "clear"
    assert "an API key lies in " in found.output
    assert KEY.decode() not in found.model_dump_json()


def test_a_key_in_older_evidence_is_found(tmp_path: Path) -> None:
    folder = kept(tmp_path) / "evidence"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(KEY)
    assert "an API key lies in .llmdeploy/evidence/a.jsonl" in seen(tmp_path, "stored_keys").output


def test_a_key_in_a_sealed_state_is_found(tmp_path: Path) -> None:
    state = replace(STATE, outputs={"key": KEY.decode()})
    kept(tmp_path, state, seal=SEAL)
    found = seen(tmp_path, "stored_keys", state)
    assert found.value == "clear"
    assert "the state, once it is decrypted" in found.output


def test_the_operators_own_copies_are_left_alone(tmp_path: Path) -> None:
    own = kept(tmp_path)
    for name in ("keys", "secrets"):
        (own / name).mkdir(mode=0o700)
        (own / name / "me.key").write_bytes(KEY)
    (tmp_path / "notes.txt").write_bytes(KEY)
    assert seen(tmp_path, "stored_keys").value == "hashes"


def test_the_probe_does_not_find_its_own_command(tmp_path: Path) -> None:
    folder = kept(tmp_path) / "evidence"
    folder.mkdir()
    (folder / "a.jsonl").write_text(seen(tmp_path, "stored_keys").model_dump_json())
    assert seen(tmp_path, "stored_keys").value == "hashes"
