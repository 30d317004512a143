from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_the_whole_way(cli: Cli) -> None:
    cli.stack(keys=("a",))
    assert "Plan: 4 to create, 0 to change, 0 to replace, 0 to delete." in cli.ok("plan")
    assert not (cli.folder / ".llmdeploy").exists()
    out = cli.ok("apply", "--yes")
    assert "Preflight: nothing is missing." in out
    assert "thing.one: writing one [0s]" in out
    assert out.endswith("Done: 4 created, 0 changed, 0 replaced, 0 removed.\n\n" + cli.ok("output"))
    assert cli.ok("plan", "--detailed-exitcode").startswith("No changes. ")
    assert len(cli.ok("plan").splitlines()) == 1
    assert cli.ok("apply", "--yes").splitlines()[0].startswith("No changes. ")
    assert "4 to delete" in cli.ok("plan", "--destroy")
    assert "Destroyed: 4 removed, 0 kept." in cli.ok("destroy", "--yes")
    assert list((cli.folder / "world").iterdir()) == []
    assert cli.ok("destroy") == "Nothing to destroy.\n"
    assert cli.ok("plan", "--destroy") == "Nothing to destroy.\n"


def test_detailed_exit_codes(cli: Cli) -> None:
    cli.stack()
    assert cli("plan", "--detailed-exitcode").code == 2
    assert cli("plan").code == 0
    cli.ok("apply", "-y")
    assert cli("plan", "--detailed-exitcode").code == 0
    (cli.folder / "stack.yaml").write_text("version: 1\n")
    assert cli("plan", "--detailed-exitcode").code == 1
    assert cli("plan", "--detailed-exitcode", "--destroy").code == 2


def test_a_changed_field_is_shown_old_and_new(cli: Cli) -> None:
    cli.stack(names=["one"])
    cli.ok("apply", "-y")
    cli.stack(names=["one"], text="bye")
    assert "~ thing.one\n      text: hello -> bye\n" in cli.ok("plan")
    assert "1 changed" in cli.ok("apply", "-y")
    assert (cli.folder / "world" / "one").read_text() == "bye"


def test_drift_is_named_and_repaired(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    (cli.folder / "world" / "one").write_text("other")
    (cli.folder / "world" / "two").unlink()
    out = cli.ok("plan")
    assert "~ thing.one\n      drift: one: somebody wrote into it\n" in out
    assert "+ thing.two  (it is gone)" in out
    drift = json.loads(cli.ok("plan", "--format", "json"))["resource_drift"]
    assert [(one["address"], one["change"]["actions"]) for one in drift] == [("thing.one", ["update"]), ("thing.two", ["delete"])]
    cli.ok("apply", "-y")
    assert cli("plan", "--detailed-exitcode").code == 0


def test_replace_asked_for(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    assert "-/+ thing.two  (asked for with --replace)" in cli.ok("plan", "--replace", "thing.two")
    answer = cli("plan", "--replace", "thing.twoo")
    assert (answer.code, answer.out) == (1, "")
    assert 'did you mean "thing.two"?' in answer.err


def test_variables(cli: Cli) -> None:
    path = cli.stack(text="${var.word}")
    path.write_text(path.read_text() + "variables: {word: hello}\n")
    assert "text: hello" in cli.ok("plan")
    assert "text: bye" in cli.ok("plan", "--var", "word=bye")
    (cli.folder / "more.yaml").write_text("word: other\n")
    assert "text: other" in cli.ok("plan", "--var-file", "more.yaml")
    assert cli("plan", "--var", "word").code == 1


def test_json_is_the_same_but_for_its_time(cli: Cli) -> None:
    cli.stack(keys=("a",))
    first, second = (json.loads(cli.ok("plan", "--format", "json")) for _ in range(2))
    assert first.pop("timestamp")
    assert second.pop("timestamp")
    assert json.dumps(first) == json.dumps(second)
    assert first["changes"] is True


def test_without_a_terminal_and_without_yes_nothing_is_touched(cli: Cli) -> None:
    cli.stack()
    for verb in ("apply", "apply --format jsonl"):
        answer = cli(*verb.split())
        assert answer.code == 1
        assert answer.err == "Error: there is nobody to ask: nothing was touched\n  Hint: run it in a terminal, or with --yes\n"
    assert sorted(path.name for path in cli.folder.iterdir()) == ["stack.yaml"]


def test_preflight_comes_before_the_first_effect(cli: Cli) -> None:
    cli.stack(missing="disk")
    answer = cli("apply", "-y")
    assert answer.code == 1
    assert "thing.one: there is no disk (bring it)" in answer.err
    assert not (cli.folder / "world").exists()
    assert cli("show").code == 1


def test_a_failure_is_told_once_and_the_next_apply_goes_on(cli: Cli) -> None:
    cli.stack(names=["one", "two", "three"], fail=["two"])
    answer = cli("apply", "-y")
    assert answer.code == 1
    assert answer.err == (
        "\n"
        "Error: thing.two: cannot make two\n"
        "  | first line\n"
        "  | last line\n"
        "  Hint: make it possible\n"
        "  Skipped because thing.two failed: thing.three\n"
        "Error: 1 failed, 1 skipped because of it; 1 of 3 changes are done, 2 resources exist now\n"
        "  Hint: fix it and run `llmdeploy apply` again: finished work is kept\n"
    )
    assert "cannot make two" not in answer.out
    assert "its creation did not end" in cli.ok("show")
    cli.stack(names=["one", "two", "three"])
    assert "Done: 2 created" in cli.ok("apply", "-y")


def test_json_lines(cli: Cli) -> None:
    cli.stack(fail=["two"])
    answer = cli("apply", "-y", "--format", "jsonl")
    types = [json.loads(text)["type"] for text in answer.out.splitlines()]
    assert answer.code == 1
    assert types[0] == "version"
    assert {"planned_change", "change_summary", "apply_start", "apply_complete", "apply_errored", "diagnostic"} <= set(types)
    cli.stack()
    last = json.loads(cli.ok("apply", "-y", "--format", "jsonl").splitlines()[-1])
    assert (last["type"], last["outputs"]["endpoint"]["value"]) == ("outputs", "https://things.invalid")


def test_json_lines_tell_a_wrong_stack_file(cli: Cli) -> None:
    cli.stack(nonsense=1)
    answer = cli("apply", "-y", "--format", "jsonl")
    assert answer.code == 1
    assert json.loads(answer.out.splitlines()[-1])["diagnostic"]["severity"] == "error"
    assert not (cli.folder / ".llmdeploy").exists()


def test_warnings_are_said(cli: Cli) -> None:
    cli.stack(names=["one"], note="this is not encrypted")
    assert "Warning: thing.one: this is not encrypted" in cli.ok("plan")


def test_a_refused_profile_is_a_plain_error(cli: Cli) -> None:
    path = cli.stack()
    path.write_text(path.read_text() + "compliance: [gdpr]\n")
    answer = cli("plan")
    assert answer.code == 1
    assert "stores data unencrypted" in answer.err
    assert "Traceback" not in answer.err


def test_destroy_needs_the_state_alone(cli: Cli) -> None:
    path = cli.stack()
    cli.ok("apply", "-y")
    path.write_text("{{{ broken")
    answer = cli("destroy")
    assert (answer.code, answer.out) == (1, "")
    path.unlink()
    assert "Destroyed: 2 removed" in cli.ok("destroy", "-y")


def test_a_wrong_folder_is_not_taken_for_this_one(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    answer = cli("destroy", "-y", "typo")
    assert answer.code == 1
    assert "there is no file or folder typo" in answer.err
    assert (cli.folder / "world" / "one").exists()


def test_a_stack_by_folder_or_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.stack()
    monkeypatch.chdir(tmp_path.parent)
    assert "2 to create" in cli.ok("plan", str(tmp_path))
    cli.ok("apply", "-y", str(tmp_path / "stack.yaml"))
    assert cli.ok("output", "endpoint", "--stack", str(tmp_path)) == "https://things.invalid\n"


def test_a_stack_cannot_be_renamed_under_what_exists(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    cli.stack(name="other")
    answer = cli("plan")
    assert answer.code == 1
    assert 'this folder holds the state of the stack "demo"' in answer.err
    cli.ok("destroy", "-y")
    cli.ok("apply", "-y")
    assert cli.ok("show").startswith("Stack other ")


def test_an_apply_waits_for_no_lock_unless_told(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    import fcntl

    with (cli.folder / ".llmdeploy" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for verb in (("apply", "-y"), ("plan",), ("destroy", "-y"), ("apply", "-y", "--lock-timeout", "0.1s")):
            answer = cli(*verb)
            assert answer.code == 1
            assert "this stack is locked" in answer.err
        assert cli("show").code == 0


def test_a_bug_says_that_it_is_one(cli: Cli) -> None:
    cli.stack(names=["one"], crash=["one"])
    answer = cli("apply", "-y")
    assert answer.code == 1
    assert "a bug of llmdeploy or of a provider" in answer.err
    assert "ZeroDivisionError" in answer.err
    assert "Traceback" in answer.err


@pytest.mark.parametrize("text", ["", "5", "5x", "-1s", "m", "1e3s"])
def test_a_wrong_duration_is_a_usage_error(cli: Cli, text: str) -> None:
    cli.stack()
    answer = cli("apply", "-y", "--lock-timeout", text)
    assert answer.code == (0 if text == "5" else 1)
    assert ("is no duration" in answer.err) == (text != "5")
