"""`plan --out`, `show PLANFILE`, `apply PLANFILE`: what a pipeline does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from llmdeploy.registry import Registry
from llmdeploy.sdk import Provider
from tests.cli.conftest import Cli
from tests.cli.lab import COMMAND, environment, run, write_stack


def forge(file: Path, **changes: Any) -> None:
    """Change the plan inside a plan file, with a digest that fits."""
    content = json.loads(file.read_text())
    content.pop("sha256")
    content["plan"].update(changes)
    content["sha256"] = sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    file.write_text(json.dumps(content, separators=(",", ":")))


def test_the_whole_way(cli: Cli) -> None:
    cli.stack(keys=("a",))
    out = cli.ok("plan", "--out", "p.plan")
    assert "Plan: 4 to create" in out
    last = out.splitlines()[-1]
    assert last.startswith("Saved to p.plan (id ")
    assert last.endswith("). Apply it with: llmdeploy apply p.plan")
    assert stat.S_IMODE((cli.folder / "p.plan").stat().st_mode) == 0o600
    assert not (cli.folder / ".llmdeploy").exists()
    shown = cli.ok("show", "p.plan")
    assert "Plan: 4 to create" in shown
    assert shown.splitlines()[0].startswith(f"Plan {json.loads((cli.folder / 'p.plan').read_text())['sha256'][:12]} of the stack")
    out = cli.ok("apply", "p.plan")
    assert "Preflight: nothing is missing." in out
    assert "Done: 4 created" in out
    assert (cli.folder / "world" / "one").read_text() == "hello"
    assert cli("plan", "--detailed-exitcode").code == 0


def test_a_second_apply_is_refused(cli: Cli) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    cli.ok("apply", "p.plan")
    answer = cli("apply", "p.plan")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.splitlines()[0].startswith("Error: p.plan is stale: something was applied since (state serial 0 then, ")
    assert answer.err.splitlines()[1] == "  Hint: nothing was touched; run `llmdeploy plan --out` again"


def test_apply_does_what_was_shown_and_looks_at_nothing(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    cli.stack(text="bye")
    cli.ok("plan", "--out", "p.plan")
    # Drift after the plan is no part of it.
    (cli.folder / "world" / "two").unlink()
    out = cli.ok("apply", "p.plan")
    assert "2 changed" in out
    assert (cli.folder / "world" / "one").read_text() == "bye"


def test_a_destroy_plan(cli: Cli) -> None:
    path = cli.stack()
    cli.ok("apply", "-y")
    assert "4 to delete" not in cli.ok("plan", "--destroy", "--out", "d.plan")
    path.unlink()
    assert "2 to delete" in cli.ok("show", "d.plan")
    assert "2 removed" in cli.ok("apply", "d.plan")
    assert list((cli.folder / "world").iterdir()) == []
    assert cli("apply", "d.plan").code == 1


def test_a_plan_without_changes_can_be_saved_and_applied(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    assert cli.ok("plan", "--out", "p.plan").startswith("No changes. ")
    assert cli("plan", "--out", "p.plan", "--detailed-exitcode").code == 0
    assert "No changes." in cli.ok("apply", "p.plan")


def test_documents_stay_clean_of_where_the_plan_is(cli: Cli) -> None:
    cli.stack()
    for format in ("json", "markdown"):
        answer = cli("plan", "--out", "p.plan", "--format", format, "--detailed-exitcode")
        assert answer.code == 2
        assert answer.err.startswith("Saved to p.plan (id ")
        assert answer.out == cli.ok("show", "p.plan", "--format", format)
    document = json.loads(cli.ok("show", "p.plan", "--format", "json"))
    assert document["plan_id"] in cli.ok("show", "p.plan", "--format", "markdown")
    jsonschema.validate(document, json.loads(cli.ok("schema", "--plan")))


def _no_provider(registry: Registry, name: str) -> Provider:
    raise AssertionError(f"the provider {name} was loaded")


def test_show_needs_nothing_but_the_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.stack(keys=("a",))
    cli.ok("plan", "--out", "p.plan")
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    shutil.move(cli.folder / "p.plan", empty / "renamed.txt")
    monkeypatch.chdir(empty)
    monkeypatch.setattr(Registry, "provider", _no_provider)
    for format in ("human", "json", "markdown"):
        assert "thing.one" in cli.ok("show", "renamed.txt", "--format", format)
    assert [path.name for path in empty.iterdir()] == ["renamed.txt"]


def test_json_lines_of_a_saved_plan(cli: Cli) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    lines = [json.loads(text) for text in cli.ok("apply", "p.plan", "--format", "jsonl").splitlines()]
    assert lines[0]["type"] == "version"
    assert [one["type"] for one in lines].count("apply_complete") == 2
    assert lines[-1]["outputs"]["endpoint"]["value"] == "https://things.invalid"
    answer = cli("apply", "p.plan", "--format", "jsonl")
    assert answer.code == 1
    assert "is stale" in json.loads(answer.out.splitlines()[-1])["diagnostic"]["summary"]


@pytest.mark.parametrize("option", [("--var", "a=b"), ("--replace", "thing.one"), ("--target", "thing.one"), ("--var-file", "f")])
def test_options_that_would_change_a_saved_plan(cli: Cli, option: tuple[str, str]) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    answer = cli("apply", "p.plan", *option)
    assert answer.code == 1
    assert f"Error: {option[0]} cannot change the saved plan p.plan" in answer.err
    assert not (cli.folder / "world").exists()


# --- what is stale -----------------------------------------------------------------------------------------------------------


def test_an_edited_stack_file(cli: Cli) -> None:
    path = cli.stack()
    cli.ok("plan", "--out", "p.plan")
    path.write_text(path.read_text() + "# a comment\n")
    answer = cli("apply", "p.plan")
    assert answer.code == 1
    assert answer.err.splitlines()[0] == "Error: p.plan is stale: stack.yaml changed since"
    assert not (cli.folder / ".llmdeploy").exists()


def test_a_stack_file_that_is_gone(cli: Cli) -> None:
    path = cli.stack()
    cli.ok("plan", "--out", "p.plan")
    path.unlink()
    answer = cli("apply", "p.plan")
    assert answer.code == 1
    assert "p.plan was made from a stack that is not here: looked for stack.yaml" in answer.err


def test_a_new_lock_file(cli: Cli) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    cli.ok("lock")
    answer = cli("apply", "p.plan")
    assert answer.code == 1
    assert answer.err.startswith("Error: p.plan is stale: stack.lock.yaml changed since\n")


def test_variables_are_those_of_the_plan(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cli.stack(text="${var.word} ${env:PLACE}")
    path.write_text(path.read_text() + "variables: {word: hello}\n")
    monkeypatch.setenv("PLACE", "here")
    cli.ok("plan", "--var", "word=bye", "--out", "p.plan")
    assert json.loads(cli.ok("show", "p.plan", "--format", "json"))["variables"] == {"word": {"value": "bye"}}
    monkeypatch.delenv("PLACE")
    cli.ok("apply", "p.plan")
    assert (cli.folder / "world" / "one").read_text() == "bye here"


def test_another_apply_came_between(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    cli.stack(text="bye")
    cli.ok("plan", "--out", "p.plan")
    cli.ok("apply", "-y", "--replace", "thing.one")
    answer = cli("apply", "p.plan")
    assert answer.code == 1
    assert "something was applied since" in answer.err


def test_a_plan_of_another_stack(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write_stack(tmp_path / name, name=name)
        monkeypatch.chdir(tmp_path / name)
        cli.ok("apply", "-y")
        write_stack(tmp_path / name, name=name, text="bye")
        cli.ok("plan", "--out", "p.plan")
    answer = cli("apply", "../a/p.plan")
    # Here lies another stack.yaml; the plan's own is found beside the plan.
    assert answer.code == 0
    assert (tmp_path / "a" / "world" / "one").read_text() == "bye"
    assert (tmp_path / "b" / "world" / "one").read_text() == "hello"
    shutil.copy(tmp_path / "b" / "stack.yaml", tmp_path / "a" / "stack.yaml")
    shutil.copy(tmp_path / "b" / "p.plan", tmp_path / "a" / "p.plan")
    monkeypatch.chdir(tmp_path / "a")
    answer = cli("apply", "p.plan")
    assert answer.code == 1
    assert "it belongs to another state" in answer.err


def test_a_plan_that_is_too_old(cli: Cli) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    assert "Plan: 2 to create" in cli.ok("show", "p.plan")
    forge(cli.folder / "p.plan", expires_at=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    answer = cli("apply", "p.plan")
    assert answer.code == 1
    assert "it could be applied until" in answer.err


def test_a_plan_for_another_account(cli: Cli) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    forge(cli.folder / "p.plan", account={"things.region": "mars"})
    answer = cli("apply", "p.plan")
    assert answer.code == 1
    assert "it was made for another things.region (mars, here unknown)" in answer.err


def test_a_killed_apply_makes_the_plan_stale(cli: Cli) -> None:
    cli.stack(gate="gate")
    cli.ok("plan", "--out", "p.plan")
    process = subprocess.Popen(
        [*COMMAND, "apply", "p.plan"], cwd=cli.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    for text in process.stdout:
        if b"writing one" in text:
            break
    process.kill()
    process.wait(timeout=30)
    process.stdout.close()
    (cli.folder / "gate").touch()
    answer = cli("apply", "p.plan")
    assert answer.code == 1
    assert "p.plan is stale" in answer.err
    # A plan of what is there now may be saved and applied.
    cli.ok("plan", "--out", "p.plan")
    cli.ok("apply", "p.plan")
    assert (cli.folder / "world" / "two").exists()


def test_a_saved_plan_waits_for_the_lock(cli: Cli) -> None:
    import fcntl

    cli.stack()
    cli.ok("apply", "-y")
    cli.ok("plan", "--out", "p.plan")
    with (cli.folder / ".llmdeploy" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in (("apply", "p.plan"), ("plan", "--lock-timeout", "0.1s")):
            answer = cli(*words)
            assert answer.code == 1
            assert "this stack is locked" in answer.err
        assert cli("show", "p.plan").code == 0


# --- what only recovery knows ------------------------------------------------------------------------------------------------


def forget(cli: Cli, address: str) -> None:
    """Take a resource out of the state file, as if its last write had been lost."""
    file = cli.folder / ".llmdeploy" / "state.json"
    state = json.loads(file.read_text())
    state["resources"] = [one for one in state["resources"] if one["address"] != address]
    file.write_text(json.dumps(state))


def test_an_adoption_is_planned_saved_and_applied(cli: Cli) -> None:
    cli.stack(tagged=True)
    cli.ok("apply", "-y")
    forget(cli, "thing.two")
    out = cli.ok("plan", "--out", "p.plan")
    assert "> thing.two  (it carries the tags of this stack and was not in the state)\n      found: two\n" in out
    assert "0 to delete, 1 to adopt." in out
    document = json.loads(cli.ok("show", "p.plan", "--format", "json"))
    (found,) = (one["change"] for one in document["resource_changes"] if one["address"] == "thing.two")
    assert (found["actions"], found["importing"]) == (["no-op"], {"id": "two"})
    assert "1 adopted." in cli.ok("apply", "p.plan")
    assert cli("plan", "--detailed-exitcode").code == 0


def test_a_create_in_doubt_is_told(cli: Cli) -> None:
    cli.stack(names=["one"], gate="gate", mute=True)
    with subprocess.Popen(
        [*COMMAND, "apply", "-y"], cwd=cli.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        next(text for text in process.stdout if b"sent one" in text)
        process.kill()
    out = cli.ok("plan")
    assert "1 create in doubt: thing.one. It was sent and never answered; apply settles that first." in out
    assert json.loads(cli.ok("plan", "--format", "json"))["in_doubt"] == ["thing.one"]
    (cli.folder / "gate").touch()
    cli.ok("apply", "-y")
    assert cli("plan", "--detailed-exitcode").code == 0


# --- wrong files -------------------------------------------------------------------------------------------------------------


def test_a_truncated_plan_file(cli: Cli) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    whole = (cli.folder / "p.plan").read_bytes()
    (cli.folder / "p.plan").write_bytes(whole[: len(whole) // 2])
    for verb in ("show", "apply"):
        answer = cli(verb, "p.plan")
        assert (answer.code, answer.out) == (1, "")
        assert "p.plan is not a whole plan file: it is truncated or damaged" in answer.err
    cli.ok("plan", "--out", "p.plan")
    cli.ok("show", "p.plan")


def test_the_json_view_is_no_plan_file(cli: Cli) -> None:
    cli.stack()
    (cli.folder / "plan.json").write_text(cli.ok("plan", "--format", "json"))
    for verb in ("show", "apply"):
        answer = cli(verb, "plan.json", *(["-y"] if verb == "apply" else []))
        assert answer.code == 1
        assert "not a saved plan" in answer.err


@pytest.mark.parametrize("content", [b"PK\x03\x04\x00", b"\x89PNG\r\n\x1a\n\x00", b"hello\n", b"", b"[1]\n"])
def test_any_other_file(cli: Cli, content: bytes) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    (cli.folder / "tfplan").write_bytes(content)
    answer = cli("show", "tfplan")
    assert answer.code == 1
    assert "tfplan is neither a saved plan nor a stack file" in answer.err
    answer = cli("apply", "-y", "tfplan")
    assert answer.code == 1
    assert "tfplan" in answer.err
    (cli.folder / "stack.yaml").rename(cli.folder / "prod")
    assert "thing.one" in cli.ok("show", "prod")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("verb", ["plan", "validate", "destroy", "status", "graph"])
def test_a_plan_file_is_no_stack(cli: Cli, verb: str) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    answer = cli(verb, "p.plan")
    assert answer.code == 1
    assert "p.plan" in answer.err
    assert verb in ("validate",) or "p.plan is a saved plan, not a stack" in answer.err


def test_out_refuses_what_is_no_place_for_a_plan(cli: Cli) -> None:
    path = cli.stack()
    before = path.read_bytes()
    for target, sentence in (
        ("stack.yaml", "stack.yaml is there and is no plan: it is not overwritten"),
        ("none/p.plan", "there is no folder none"),
        (".", "it is no file"),
    ):
        answer = cli("plan", "--out", target)
        assert (answer.code, answer.out) == (1, "")
        assert sentence in answer.err
    assert path.read_bytes() == before
    assert [one.name for one in cli.folder.iterdir()] == ["stack.yaml"]


def test_a_folder_that_takes_no_file(cli: Cli) -> None:
    cli.stack()
    answer = cli("plan", "--out", "/proc/p.plan")  # root cannot write there either
    assert answer.code == 1
    assert answer.err.startswith("Error: cannot write /proc/p.plan: ")
    assert "Traceback" not in answer.err


def test_out_overwrites_an_older_plan(cli: Cli) -> None:
    cli.stack()
    cli.ok("plan", "--out", "p.plan")
    first = (cli.folder / "p.plan").read_bytes()
    cli.stack(text="bye")
    cli.ok("plan", "--out", "p.plan")
    assert (cli.folder / "p.plan").read_bytes() != first
    assert "text: bye" in cli.ok("show", "p.plan")


# --- refused and interrupted plans -------------------------------------------------------------------------------------------


def test_a_refused_plan_is_shown_and_not_saved(cli: Cli) -> None:
    path = cli.stack()
    path.write_text(path.read_text() + "compliance: [gdpr]\n")
    answer = cli("plan", "--out", "p.plan", "--format", "json")
    document = json.loads(answer.out)
    assert answer.code == 1
    assert "stores data unencrypted" in answer.err
    assert (document["errored"], document["applyable"]) == (True, False)
    assert "stores data unencrypted" in json.dumps(document["checks"])
    assert document["checks"][0]["status"] == "fail"
    assert [one["change"]["actions"] for one in document["resource_changes"]] == [["create"], ["create"]]
    jsonschema.validate(document, json.loads(cli.ok("schema", "--plan")))
    answer = cli("plan", "--out", "p.plan", "--format", "markdown", "--detailed-exitcode")
    assert answer.code == 1
    assert "refused by the compliance profiles" in answer.out
    assert not (cli.folder / "p.plan").exists()


def test_a_wrong_stack_file_saves_nothing(cli: Cli) -> None:
    cli.stack(nonsense=1)
    answer = cli("plan", "--out", "p.plan", "--format", "json")
    assert (answer.code, answer.out) == (1, "")
    assert not (cli.folder / "p.plan").exists()


def test_ctrl_c_while_planning_saves_nothing(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    os.mkfifo(cli.folder / "pipe")
    (cli.folder / "world" / "one").unlink()
    (cli.folder / "world" / "one").symlink_to(cli.folder / "pipe")
    process = subprocess.Popen(
        [*COMMAND, "plan", "--out", "p.plan"],
        cwd=cli.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The refresh reads the pipe: once it is open for writing here, the plan is under way and waits.
    with (cli.folder / "pipe").open("w"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted." in err
    assert "Traceback" not in err
    assert not (cli.folder / "p.plan").exists()
    (cli.folder / "world" / "one").unlink()
    assert "thing.one" in cli.ok("plan")


# --- a look, a part, a picture -----------------------------------------------------------------------------------------------


def test_refresh_only(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    assert cli.ok("plan", "--refresh-only", "--detailed-exitcode") == "No drift. What exists is what was made.\n"
    cli.stack(text="bye")
    assert cli("plan", "--refresh-only", "--detailed-exitcode").code == 0
    (cli.folder / "world" / "one").write_text("other")
    (cli.folder / "world" / "two").unlink()
    answer = cli("plan", "--refresh-only", "--detailed-exitcode")
    assert answer.code == 2
    assert answer.out == (
        "  ~ thing.one\n"
        "      one: somebody wrote into it\n"
        "  ~ thing.two\n"
        "      it is gone\n"
        "\n"
        "Drift: 2 of 2 resources differ from what was made.\n"
    )
    assert cli("plan", "--refresh-only").code == 0
    document = json.loads(cli.ok("plan", "--refresh-only", "--format", "json"))
    assert [one["address"] for one in document["resource_drift"]] == ["thing.one", "thing.two"]
    assert {one["change"]["actions"][0] for one in document["resource_changes"]} == {"no-op"}
    assert "! thing.one" in cli.ok("plan", "--refresh-only", "--format", "markdown")


@pytest.mark.parametrize("other", [("--out", "p.plan"), ("--destroy",), ("--replace", "thing.one")])
def test_refresh_only_with_what_it_does_not_do(cli: Cli, other: tuple[str, ...]) -> None:
    cli.stack()
    answer = cli("plan", "--refresh-only", *other)
    assert answer.code == 1
    assert f"it makes no sense with {other[0]}" in answer.err


def test_target(cli: Cli) -> None:
    cli.stack(names=["one", "two", "three"], keys=("a",))
    out = cli.ok("plan", "--target", "thing.two")
    assert "Warning: this plan is a part of the whole: only thing.two and what belongs to that" in out
    assert "Plan: 2 to create" in out
    assert json.loads(cli.ok("plan", "--target", "thing.two", "--format", "json"))["complete"] is False
    cli.ok("plan", "--target", "thing.two", "--target", "badge.a", "--out", "p.plan")
    assert "Done: 3 created" in cli.ok("apply", "p.plan")
    assert sorted(path.name for path in (cli.folder / "world").iterdir()) == ["one", "two"]
    assert "Done: 1 created" in cli.ok("apply", "-y", "--target", "thing.three")
    assert cli("plan", "--detailed-exitcode").code == 2
    answer = cli("plan", "--target", "thing.tow")
    assert answer.code == 1
    assert 'did you mean "thing.two"?' in answer.err


def test_graph(cli: Cli) -> None:
    cli.stack(keys=("a",))
    dot = cli.ok("graph")
    assert dot.startswith('digraph "demo" {\n')
    assert '  "thing.two" -> "thing.one";\n' in dot
    document = json.loads(cli.ok("graph", "--format", "json"))
    assert {"from": "door.front", "to": "badge.a"} in document["edges"]
    assert {node["address"] for node in document["nodes"]} == {"thing.one", "thing.two", "badge.a", "door.front"}
    assert not (cli.folder / ".llmdeploy").exists()


def test_json_lines_of_a_destroy(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    answer = cli("destroy", "--format", "jsonl")
    assert answer.code == 1
    assert json.loads(answer.out.splitlines()[-1])["diagnostic"]["summary"].startswith("there is nobody to ask")
    lines = [json.loads(text) for text in cli.ok("destroy", "-y", "--format", "jsonl").splitlines()]
    assert lines[0]["type"] == "version"
    found = [one["hook"]["action"] for one in lines if one["type"] == "apply_complete"]
    assert found == ["delete", "delete"]
    summary = [one for one in lines if one["type"] == "change_summary"][-1]
    assert (summary["changes"]["remove"], summary["changes"]["operation"]) == (2, "destroy")
    lines = [json.loads(text) for text in cli.ok("destroy", "-y", "--format", "jsonl").splitlines()]
    assert [one["type"] for one in lines] == ["version", "change_summary", "outputs"]


def test_a_provider_that_lays_out_nothing_destroys_nothing(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    cli.stack(names=[])
    for words in (("plan",), ("apply", "-y")):
        answer = cli(*words)
        assert answer.code == 1
        assert "asks for nothing" in answer.err
        assert "llmdeploy destroy" in answer.err
    assert (cli.folder / "world" / "one").exists()


def test_a_saved_plan_holds_no_secret(cli: Cli, tmp_path: Path) -> None:
    cli.stack(keys=("a",))
    canary = "canary-0f3a9d"
    done = run(cli.folder, "plan", "--out", "p.plan", environ={"LLMDEPLOY_TOKEN": canary, "HF_TOKEN": canary})
    assert done.returncode == 0
    assert canary not in (cli.folder / "p.plan").read_text() + done.stdout + done.stderr
