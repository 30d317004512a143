"""`prevent_destroy` in the stack file."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.cli.conftest import Cli


def guard(path: Path, *addresses: str) -> None:
    document = yaml.safe_load(path.read_text())
    document["prevent_destroy"] = list(addresses)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def test_what_is_listed_can_neither_be_destroyed_nor_replaced(cli: Cli) -> None:
    guard(cli.stack(), "thing.one")
    cli.ok("apply", "-y")
    for arguments in (("destroy", "-y"), ("plan", "--replace", "thing.one"), ("plan", "--destroy")):
        answer = cli(*arguments)
        assert answer.code == 1
        assert "thing.one is marked prevent_destroy" in answer.err
    assert (cli.folder / "world" / "one").exists()


def test_the_mark_goes_with_the_next_apply(cli: Cli) -> None:
    guard(cli.stack(), "thing.one")
    cli.ok("apply", "-y")
    cli.stack()
    assert "marked prevent_destroy" in cli("destroy", "-y").err
    assert cli.ok("apply", "-y").startswith("No changes.")
    cli.ok("destroy", "-y")


def test_an_address_that_is_not_there_is_told_with_its_place(cli: Cli) -> None:
    guard(cli.stack(), "thing.oen")
    answer = cli("validate")
    assert answer.code == 1
    assert "stack.yaml:" in answer.err
    assert "there is no resource thing.oen in this stack" in answer.err
    assert 'did you mean "thing.one"?' in answer.err
