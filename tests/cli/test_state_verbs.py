"""`llmdeploy state`: what it prints, what it forgets, what it refuses; and states that are encrypted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmdeploy.sdk import Fragment, LayoutRequest, ReadRequest, ReadResult, Run, read_each
from llmdeploy.state.local import LocalStore
from tests.cli.conftest import Cli

PASSPHRASE = "a passphrase of this test"


def with_state(path: Path, state: object) -> None:
    """Put a `state:` into a stack file."""
    document = yaml.safe_load(path.read_text())
    document["state"] = state
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def test_pull_prints_the_whole_state(cli: Cli) -> None:
    cli.stack(text="größer", keys=("a",))
    cli.ok("apply", "--yes")
    document = json.loads(cli.ok("state", "pull"))
    assert document == json.loads((cli.folder / ".llmdeploy" / "state.json").read_text())
    assert [one["address"] for one in document["resources"]] == ["badge.a", "door.front", "thing.one", "thing.two"]


def test_pull_before_the_first_apply(cli: Cli) -> None:
    cli.stack()
    assert "nothing was applied" in cli("state", "pull").err


def test_rm_forgets_and_deletes_nothing(cli: Cli) -> None:
    cli.stack(names=["one", "two"])
    cli.ok("apply", "--yes")
    out = cli.ok("state", "rm", "thing.two", "--yes")
    assert "It is not deleted: what exists of it stays as it is, and goes on costing." in out
    assert cli.ok("state", "list") == "thing.one\n"
    assert (cli.folder / "world" / "two").exists()
    serials = [json.loads(path.read_text())["serial"] for path in sorted((cli.folder / ".llmdeploy").glob("state.json*"))]
    assert serials == [2, 1]


def test_rm_refuses_what_others_need_and_what_is_not_there(cli: Cli) -> None:
    cli.stack(names=["one", "two", "three"])
    cli.ok("apply", "--yes")
    answer = cli("state", "rm", "thing.one", "--yes")
    assert answer.code == 1
    assert "thing.one is needed by thing.two" in answer.err
    answer = cli("state", "rm", "thing.thre", "--yes")
    assert "there is no thing.thre in the state" in answer.err
    assert "thing.three" in answer.err
    assert "there is nobody to ask: nothing was touched" in cli("state", "rm", "thing.three").err
    assert cli.ok("state", "list").split() == ["thing.one", "thing.three", "thing.two"]


def test_unlock_of_a_local_state_says_that_the_kernel_does_it(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "--yes")
    answer = cli("state", "unlock", "0123")
    assert answer.code == 1
    assert "nobody holds the lock" in answer.err
    with LocalStore(cli.folder / ".llmdeploy").lock("apply", 0):
        answer = cli("state", "rm", "thing.two", "--yes")
        assert "this stack is locked: apply by " in answer.err
        assert "has another id" in cli("state", "unlock", "0123").err


# --- encryption -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["env:STATE_KEY", "file:key.txt"])
def test_a_local_state_is_encrypted_through_its_whole_life(cli: Cli, monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    monkeypatch.setenv("STATE_KEY", PASSPHRASE)
    (cli.folder / "key.txt").write_text(PASSPHRASE + "\n")
    with_state(cli.stack(text="canary-7c1", keys=("a",)), {"local": {}, "encryption": {"passphrase": reference}})
    assert "can hold the state" in cli.ok("init")
    cli.ok("apply", "--yes")
    assert cli.ok("plan").startswith("No changes.")
    assert "canary-7c1" in cli.ok("state", "pull")
    cli.ok("keys", "rotate", "a")
    with_state(cli.stack(text="canary-7c2", keys=("a",)), {"local": {}, "encryption": {"passphrase": reference}})
    cli.ok("apply", "--yes")
    folder = cli.folder / ".llmdeploy"
    hits = [path for path in folder.rglob("*") if path.is_file() and b"canary-7c" in path.read_bytes()]
    assert hits == []
    assert not any(PASSPHRASE.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    (cli.folder / "stack.yaml").unlink()
    assert "Destroyed: 4 removed" in cli.ok("destroy", "--yes")


def test_a_wrong_or_missing_passphrase_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_KEY", PASSPHRASE)
    with_state(cli.stack(), {"local": {}, "encryption": {"passphrase": "env:STATE_KEY"}})
    cli.ok("apply", "--yes")
    monkeypatch.setenv("STATE_KEY", "another passphrase here")
    answer = cli("plan")
    assert answer.code == 1
    assert "the passphrase does not open" in answer.err
    assert "another passphrase" not in answer.err
    monkeypatch.delenv("STATE_KEY")
    assert "environment variable STATE_KEY is not set" in cli("show").err


def test_encryption_is_begun_changed_and_ended_on_purpose(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD", PASSPHRASE)
    monkeypatch.setenv("NEW", "another passphrase here")
    path = cli.stack(text="canary-7c1")
    state = cli.folder / ".llmdeploy" / "state.json"
    cli.ok("apply", "--yes")
    assert b"canary" in state.read_bytes()

    with_state(path, {"local": {}, "encryption": {"passphrase": "env:OLD"}})
    assert "The state (serial 2, 2 resources)" in cli.ok("init", "--migrate-state")
    assert b"canary" not in state.read_bytes()

    with_state(path, {"local": {}, "encryption": {"passphrase": "env:NEW"}})
    answer = cli("plan")
    assert answer.code == 1
    assert "llmdeploy init --migrate-state" in answer.err
    cli.ok("init", "--migrate-state")
    monkeypatch.delenv("OLD")
    assert cli.ok("plan").startswith("No changes.")

    cli.stack(text="canary-7c1")
    assert "--migrate-state" in cli("plan").err
    cli.ok("init", "--migrate-state")
    monkeypatch.delenv("NEW")
    assert cli.ok("plan").startswith("No changes.")
    assert b"canary" in state.read_bytes()
    assert "there is nothing to move" in cli("init", "--migrate-state").err


# --- where the state lies ---------------------------------------------------------------------------------------------------


def test_a_note_that_is_damaged_is_told(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "--yes")
    (cli.folder / ".llmdeploy" / "backend.json").write_text("{")
    answer = cli("plan")
    assert answer.code == 1
    assert "backend.json is damaged: it says where the state lies" in " ".join(answer.err.split())
    (cli.folder / ".llmdeploy" / "backend.json").unlink()
    assert cli.ok("plan").startswith("No changes.")


def test_a_broken_stack_file_does_not_hide_a_local_state(cli: Cli) -> None:
    path = cli.stack()
    cli.ok("apply", "--yes")
    path.write_text("state: {local: {}\nmodel: [")
    assert cli.ok("state", "list").split() == ["thing.one", "thing.two"]
    assert "Destroyed: 2 removed" in cli.ok("destroy", "--yes")


def test_a_broken_stack_file_and_nothing_else_is_told(cli: Cli) -> None:
    with_state(cli.stack(), {"s3": {"bucket": "abc", "region": "eu-central-1", "prefix": "/a/"}})
    answer = cli("show")
    assert answer.code == 1
    assert "without a / at its ends" in " ".join(answer.err.split())


@pytest.mark.parametrize(
    ("encryption", "sentence"),
    [
        ({}, "must hold exactly one of passphrase and kms_key"),
        ({"passphrase": "env:A", "kms_key": "alias/a"}, "must hold exactly one of passphrase and kms_key"),
        ({"passphrase": "my secret"}, "must be a reference to a secret"),
    ],
)
def test_encryption_that_makes_no_sense_is_refused(cli: Cli, encryption: object, sentence: str) -> None:
    with_state(cli.stack(), {"local": {}, "encryption": encryption})
    answer = cli("validate")
    assert answer.code == 1
    assert sentence in " ".join(answer.err.split())
    assert "my secret" not in answer.err


# --- names that changed -----------------------------------------------------------------------------------------------------


def test_a_type_that_a_provider_renamed_is_neither_destroyed_nor_made_anew(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.stack(names=["one"])
    cli.ok("apply", "--yes")
    provider = import_module("things_provider")
    layout = provider.Things.layout

    def renamed(self: Any, request: LayoutRequest) -> Fragment:
        fragment: Fragment = layout(self, request)
        resources = tuple(replace(one, address=one.address.replace("thing.", "item."), type="item") for one in fragment.resources)
        return replace(fragment, resources=resources)

    def refresh(self: Any, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        return read_each(self.types, run, requests)

    monkeypatch.setattr(provider.Thing, "name", "item")
    monkeypatch.setattr(provider.Things, "types", {"item": provider.Thing()})
    monkeypatch.setattr(provider.Things, "layout", renamed)
    monkeypatch.setattr(provider.Things, "refresh", refresh)
    answer = cli("plan")
    assert answer.code == 1
    assert "has the type thing, which the installed provider things does not know" in " ".join(answer.err.split())
    monkeypatch.setattr(provider.Things, "renamed", {"thing": "item"}, raising=False)
    assert cli.ok("plan").startswith("No changes.")
    assert cli.ok("apply", "--yes").startswith("No changes.")
    assert cli.ok("state", "list") == "item.one\n"
    assert "Destroyed: 1 removed" in cli.ok("destroy", "--yes")
    assert not (cli.folder / "world" / "one").exists()
