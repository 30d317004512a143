from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from llmdeploy.cli.root import VERBS
from llmdeploy.registry import Registry
from llmdeploy.sdk import Provider
from tests.cli.conftest import Cli


def test_validate(cli: Cli) -> None:
    cli.stack(keys=("a",))
    assert cli.ok("validate").splitlines()[-1] == "The stack file is valid."
    assert json.loads(cli.ok("validate", "--format", "json"))["valid"] is True
    cli.stack(keys=("a",), nmaes=["one"])
    answer = cli("validate")
    assert answer.code == 1
    assert answer.err.splitlines()[0].startswith("stack.yaml:")
    assert 'did you mean "names"?' in answer.err
    document = json.loads(cli("validate", "--format", "json").out)
    assert (document["valid"], document["error_count"]) == (False, 1)
    assert document["diagnostics"][0]["range"]["filename"] == "stack.yaml"


def test_validate_without_a_stack_file(cli: Cli) -> None:
    answer = cli("validate")
    assert answer.code == 1
    assert "llmdeploy init" in answer.err


@pytest.mark.parametrize("verb", ["show", "output", "state list", "status", "logs", "keys list"])
def test_before_the_first_apply(cli: Cli, verb: str) -> None:
    cli.stack()
    answer = cli(*verb.split())
    assert answer.code == 1
    assert "nothing was applied from" in answer.err
    assert not (cli.folder / ".llmdeploy").exists()


def test_init_and_its_options(cli: Cli) -> None:
    out = cli.ok("init", "new", "--name", "chat", "--region", "de", "--compliance", "gdpr,hipaa")
    assert out.endswith("Next: llmdeploy plan new\n")
    document = yaml.safe_load((cli.folder / "new" / "stack.yaml").read_text())
    assert (document["name"], document["region"], document["compliance"]) == ("chat", "de", {"profiles": ["gdpr", "hipaa"]})
    assert (cli.folder / "new" / ".gitignore").read_text() == ".llmdeploy/\n"
    answer = cli("init", "new")
    assert answer.code == 1
    assert "--force" in answer.err
    cli.ok("init", "new", "--force")
    assert (cli.folder / "new" / ".gitignore").read_text() == ".llmdeploy/\n"


def test_init_adds_to_a_gitignore(cli: Cli) -> None:
    (cli.folder / ".gitignore").write_text("*.log")
    cli.ok("init", "--name", "chat")
    assert (cli.folder / ".gitignore").read_text() == "*.log\n.llmdeploy/\n"
    assert "The stack file is valid." in cli.ok("validate")


def test_init_refuses_answers_that_make_no_stack_file(cli: Cli) -> None:
    answer = cli("init", "new", "--name", "Not A Name!", "--provider", "nowhere")
    assert answer.code == 1
    assert "name:" in answer.err
    assert "nowhere" in answer.err
    assert not (cli.folder / "new").exists()


def test_schema(cli: Cli) -> None:
    schema = json.loads(cli.ok("schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "provider.things" in schema["$defs"]


def test_lock(cli: Cli) -> None:
    cli.stack()
    out = cli.ok("lock")
    assert "+ model.id: tiny-random" in out
    assert (cli.folder / "stack.lock.yaml").exists()
    assert cli.ok("lock") == "stack.lock.yaml is up to date.\n"
    (cli.folder / "stack.lock.yaml").write_text("broken: [")
    assert cli("plan").code == 1
    assert "Wrote stack.lock.yaml" in cli.ok("lock")
    cli.ok("plan")


def _no_provider(registry: Registry, name: str) -> Provider:
    raise AssertionError(f"the provider {name} was loaded")


def test_show_and_state(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.stack(keys=("a",))
    cli.ok("apply", "-y")
    assert cli.ok("state", "list").split() == ["badge.a", "door.front", "thing.one", "thing.two"]
    assert json.loads(cli.ok("state", "list", "--format", "json")) == cli.ok("state", "list").split()
    assert "text: hello" in cli.ok("state", "show", "thing.one")
    assert json.loads(cli.ok("state", "show", "thing.one", "--format", "json"))["values"]["text"] == "hello"
    answer = cli("state", "show", "thing.on")
    assert answer.code == 1
    assert 'did you mean "thing.one"?' in answer.err
    resources = json.loads(cli.ok("show", "--format", "json"))["values"]["root_module"]["resources"]
    assert [one["address"] for one in resources] == cli.ok("state", "list").split()
    # What was written can be read where the provider's program is not installed.
    monkeypatch.setattr(Registry, "provider", _no_provider)
    for verb in (["show"], ["state", "list"], ["state", "show", "door.front"], ["output"]):
        cli.ok(*verb)


def test_output(cli: Cli) -> None:
    cli.stack(keys=("a", "b"))
    cli.ok("apply", "-y")
    assert cli.ok("output", "endpoint") == "https://things.invalid\n"
    assert cli.ok("output", "keys.a.file") == "a.key\n"
    assert cli.ok("output", "keys.a.file", "--format", "raw") == "a.key\n"
    assert cli.ok("output", "keys.a.file", "--format", "json") == '"a.key"\n'
    assert json.loads(cli.ok("output", "--format", "json")) == {
        "endpoint": "https://things.invalid",
        "keys": {"a": {"file": "a.key"}, "b": {"file": "b.key"}},
    }
    assert cli.ok("output", "keys.b") == "  file = b.key\n"
    assert cli("output", "keys.b", "--format", "raw").code == 1
    answer = cli("output", "endpont")
    assert (answer.code, answer.out) == (1, "")
    assert 'did you mean "endpoint"?' in answer.err


def test_status(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "-y")
    assert "thing.one  running  size_bytes: 5" in cli.ok("status")
    (cli.folder / "world" / "one").write_text("")
    (cli.folder / "world" / "two").unlink()
    answer = cli("status")
    assert answer.code == 1
    assert "thing.one  down (drift)" in answer.out
    assert "thing.two  gone" in answer.out
    assert "thing.one: one: somebody wrote into it" in answer.out
    found = json.loads(cli("status", "--format", "json").out)
    assert found["healthy"] is False
    assert [one["state"] for one in found["resources"]] == ["down", "gone"]
    cli.ok("destroy", "-y")
    assert cli("status").code == 1


def test_logs(cli: Cli) -> None:
    cli.stack(keys=("a",))
    cli.ok("apply", "-y")
    out = cli.ok("logs", "-n", "2").splitlines()
    assert sorted(out) == [f"thing.{name} | line {number} of {name}" for name in ("one", "two") for number in (0, 1)]
    assert cli.ok("logs", "thing.two", "-n", "1") == "line 0 of two\n"
    assert len(cli.ok("logs", "thing", "-n", "1").splitlines()) == 2
    answer = cli("logs", "badge.a")
    assert answer.code == 1
    assert "badge.a has no logs" in answer.err


def test_keys_list(cli: Cli) -> None:
    cli.stack(keys=("a",))
    cli.ok("apply", "-y")
    head, row = cli.ok("keys", "list").splitlines()
    assert head.split() == ["NAME", "PRINCIPAL", "KEY", "ID", "STATE", "AGE", "ENDS"]
    assert row.split()[:4] == ["a", "a@example.com", "id1", "live"]
    (key,) = json.loads(cli.ok("keys", "list", "--format", "json"))
    assert (key["name"], key["credentials"][0]["key_id"]) == ("a", "id1")
    assert "sha256" not in json.dumps(key)


def test_rotate_and_revoke_reach_what_stands_on_the_key(cli: Cli) -> None:
    cli.stack(keys=("a", "b"))
    cli.ok("apply", "-y")
    door = cli.folder / "world" / "door"
    out = cli.ok("keys", "rotate", "a", "--overlap", "2h")
    assert "The key a has a new credential, id2, in a.key" in out
    assert "id1 works until" in out
    assert json.loads(door.read_text()) == ["id2", "id1", "id1"]
    assert "Revoked: id1." in cli.ok("keys", "revoke", "a", "--key-id", "id1", "-y")
    assert json.loads(door.read_text()) == ["id2", "id1"]
    assert "Revoked: id2, id1." in cli.ok("keys", "revoke", "a", "-y")
    assert json.loads(door.read_text()) == ["id1"]
    assert cli("plan", "--detailed-exitcode").code == 0
    assert cli("keys", "revoke", "b").code == 1
    answer = cli("keys", "rotate", "c")
    assert answer.code == 1
    assert 'there is no key "c"' in answer.err


def test_other_changes_wait_while_a_key_is_rotated(cli: Cli) -> None:
    cli.stack(keys=("a",))
    cli.ok("apply", "-y")
    (cli.folder / "world" / "one").write_text("drifted")
    cli.ok("keys", "rotate", "a")
    assert json.loads((cli.folder / "world" / "door").read_text()) == ["id2", "id1"]
    assert (cli.folder / "world" / "one").read_text() == "drifted"
    plan = cli.ok("plan")
    assert "~ thing.one" in plan
    assert "1 to change" in plan


def test_changes_that_cannot_be_told_apart(cli: Cli) -> None:
    cli.stack(keys=("a",), names=[])
    cli.ok("apply", "-y")
    cli.stack(keys=("a",), names=[], text="red")
    answer = cli("keys", "rotate", "a")
    assert answer.code == 1
    assert "changes wait that touch what this key needs: door.front" in answer.err
    assert "id2" not in cli.ok("keys", "list")
    answer = cli("keys", "revoke", "a", "-y")
    assert answer.code == 1
    assert "still works" in answer.err
    assert "revoked" in cli.ok("keys", "list")
    cli.ok("apply", "-y")
    assert json.loads((cli.folder / "world" / "door").read_text()) == []


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_that_begins_with_its_summary(cli: Cli, verb: str) -> None:
    out = cli.ok(verb, "--help")
    text = " ".join(out.split())
    assert out.startswith(f"Usage: llmdeploy {verb} ")
    assert VERBS[verb] in text


def test_every_verb_is_listed() -> None:
    files = (Path(__file__).parents[2] / "llmdeploy" / "cli").glob("*.py")
    assert {path.stem for path in files if "\napp = verb()\n" in path.read_text(encoding="utf-8")} == set(VERBS)
