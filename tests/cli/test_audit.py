"""`llmdeploy audit`: what it proves, what it cannot tell, and evidence that shows when it was touched."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from llmdeploy import chain
from llmdeploy.errors import StateError
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import State
from tests.cli.conftest import Cli
from tests.cli.lab import environment
from tests.cli.test_state_verbs import with_state
from tests.lab.object_store import REGION
from tests.views.html_reading import Page

KEY = "llmd_live_aB3dE6gH_" + "x" * 43 + "1a2B3c"
GATE = {"private": True, "stored_keys": "hashes"}
"""Planned of a thing that keeps API keys: KEY-01 and KEY-05 are about it."""


def stack(cli: Cli, profiles: tuple[str, ...] = ("none",), *, keys: tuple[str, ...] = ("a",), **probed: Any) -> Path:
    planned = {name: dict(traits) for name, traits in (probed or {"gate": GATE}).items()}  # no two the same for YAML
    path = cli.stack(names=[], probed=planned, keys=keys)
    document = yaml.safe_load(path.read_text())
    document["compliance"] = {"profiles": list(profiles)}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def applied(cli: Cli, profiles: tuple[str, ...] = ("none",), **probed: Any) -> Path:
    path = stack(cli, profiles, **probed)
    cli.ok("apply", "--yes")
    return path


def sees(cli: Cli, told: Any, name: str = "gate") -> None:
    """Let the probe of `name` tell this from now on."""
    (cli.folder / "world" / f"{name}.json").write_text(json.dumps(told))


def facts(**values: Any) -> list[dict[str, Any]]:
    return [{"fact": fact, "value": value} for fact, value in values.items()]


def document(cli: Cli, code: int = 0) -> dict[str, Any]:
    answer = cli("audit", "--format", "json")
    assert answer.code == code, answer
    return json.loads(answer.out)


def result(found: dict[str, Any], control: str, address: str) -> dict[str, Any]:
    (one,) = (one for one in found["results"] if (one["control"], one["address"]) == (control, address))
    return one


def evidence(cli: Cli) -> list[Path]:
    return sorted((cli.folder / ".llmdeploy" / "evidence").glob("*"))


def state_of(cli: Cli) -> dict[str, Any]:
    return json.loads(cli.ok("state", "pull"))


# --- what it says -------------------------------------------------------------------------------------------------------------


def test_what_is_as_it_should_be_passes(cli: Cli) -> None:
    applied(cli)
    found = document(cli)
    one = result(found, "KEY-01", "probed.gate")
    assert (one["result"], one["observed"]) == ("pass", "stored_keys: hashes")
    assert result(found, "KEY-05", "state")["result"] == "pass"
    assert result(found, "STATE-01", "state")["result"] == "pass"
    assert found["counts"]["fail"] == 0
    assert sum(found["counts"].values()) == len(found["results"])
    assert (found["stack"], found["profiles"], found["hosts"]) == ("demo", [], ["localhost"])
    assert found["started_at"] <= found["finished_at"]


def test_what_is_not_fails_with_what_was_expected_and_seen(cli: Cli) -> None:
    applied(cli)
    sees(cli, [{"fact": "stored_keys", "value": "clear", "host": "10.0.0.7", "command": "grep", "output": "1 hit"}])
    one = result(document(cli, 1), "KEY-01", "probed.gate")
    assert (one["result"], one["observed"]) == ("fail", "stored_keys: clear")
    answer = cli("audit")
    assert answer.code == 1
    told = " ".join(answer.out.split())
    assert "Failed KEY-01 probed.gate" in told
    assert f"expected: {one['expected']}" in told
    assert "observed: stored_keys: clear" in told
    assert "asked: 10.0.0.7, localhost" in told


@pytest.mark.parametrize(
    "told", [[{"fact": "stored_keys", "value": "clear\ud83d"}], [{"fact": "log_fields", "value": {"\udc80": 1}}]]
)
def test_what_no_text_can_hold_is_not_checked(cli: Cli, told: Any) -> None:
    applied(cli)
    sees(cli, told)
    for format in ("json", "junit", "html", "human"):
        cli.ok("audit", "--format", format, "--out", "report")
    assert "its probe broke (UnicodeEncodeError" in result(document(cli), "KEY-01", "probed.gate")["sentence"]
    assert all(chain.verify(one).intact for one in evidence(cli))


def test_a_name_that_no_text_can_hold_is_written_out(cli: Cli) -> None:
    applied(cli)
    sees(cli, "strange")
    cli.ok("audit", "--format", "human", "--out", "report")
    assert "cannot read \\udcff" in (cli.folder / "report").read_text()


def test_what_a_machine_tells_is_bounded_and_writes_no_line_of_the_report(cli: Cli) -> None:
    applied(cli, gate=GATE, other=GATE)
    sees(
        cli, [{"fact": "stored_keys", "host": "h\n\nPassed\n", "reason": "no\n\nPassed\n  KEY-01 \u202e all" + " well" * 500_000}]
    )
    sees(cli, [{"fact": "stored_keys", "value": ["x" * 2**21], "host": "a"}], "other")
    text = cli.ok("audit")
    assert len(text) < 10_000
    assert re.search(r"^  KEY-01  probed.gate: no Passed KEY-01 \\u202e all well", text, re.M)
    assert text.count("\nPassed\n") == 1
    assert "bytes, which no facts have" in text
    assert evidence(cli)[-1].stat().st_size < 40_000


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ([], "no probe of this resource tells stored_keys"),
        ([{"fact": "stored_keys", "reason": "no rights"}], "no rights"),
        ([{"fact": "stored_keys", "value": "sha"}], "the probe told sha for stored_keys"),
        ("refused", "the machine refused"),
        ("bug", "its probe broke (ZeroDivisionError: a bug)"),
        ("nonsense", "its probe broke (ValidationError"),
        ([{"fact": "stored_keys", "value": float("nan")}], "its probe broke (ValueError"),
    ],
)
def test_a_probe_that_could_not_tell_is_not_checked_and_not_the_end(cli: Cli, told: Any, reason: str) -> None:
    applied(cli, gate=GATE, other=GATE)
    sees(cli, told)
    found = document(cli)
    one = result(found, "KEY-01", "probed.gate")
    assert one["result"] == "not_checked"
    assert reason in one["sentence"]
    assert result(found, "KEY-01", "probed.other")["result"] == "pass"
    assert f"KEY-01 probed.gate: {reason}" in " ".join(cli.ok("audit").split())
    assert not (evidence(cli)[-1].parent / ".new").exists()


def test_a_probe_that_failed_as_a_whole_is_evidence_with_its_last_lines(cli: Cli) -> None:
    applied(cli)
    sees(cli, "refused")
    document(cli)
    records = chain.verify(evidence(cli)[-1]).records
    (one,) = (one for one in records if one["kind"] == "observation" and one["address"] == "probed.gate")
    assert (one["fact"], one["reason"], one["output"]) == ("", "the machine refused", "permission denied")
    (about,) = (one for one in records if (one.get("control"), one["kind"]) == ("KEY-01", "result"))
    assert about["evidence"] == [one["digest"]]


def test_what_has_no_probe_and_what_is_unfinished_is_not_checked(cli: Cli) -> None:
    applied(cli)
    store = LocalStore(cli.folder / ".llmdeploy")
    with store.lock("test", 0):
        state = store.read()
        assert state is not None
        entry = state.entries["probed.gate"]
        store.write(state.with_entry(entry.model_copy(update={"status": "updating"})))
    one = result(document(cli), "KEY-01", "probed.gate")
    assert (one["result"], one["sentence"]) == ("not_checked", "an update of it did not end")


def test_a_profile_asks_for_more_and_a_person_states(cli: Cli) -> None:
    path = applied(cli)
    baseline = {one["control"] for one in document(cli)["results"]}
    written = yaml.safe_load(path.read_text())
    written["compliance"] = {"profiles": ["gdpr"], "attest": {"ropa": True, "dpia": True, "dpa": True}}
    path.write_text(yaml.safe_dump(written))
    answer = cli("audit", "--format", "json")
    found = json.loads(answer.out)
    assert found["profiles"] == ["gdpr"]
    assert baseline < {one["control"] for one in found["results"]}
    stated = result(found, "DPA-01", "")
    assert (stated["result"], "stated, not verified" in stated["sentence"]) == ("manual", True)
    assert result(found, "STATE-02", "state")["result"] == "fail"
    del written["compliance"]["attest"]
    path.write_text(yaml.safe_dump(written))
    assert result(document(cli, 1), "DPA-01", "")["result"] == "fail"


def test_the_answer_for_a_person(cli: Cli) -> None:
    applied(cli)
    text = cli.ok("audit")
    head = state_of(cli)["evidence"]["head"]
    assert text.startswith("Audit of the stack demo")
    assert re.search(r"^\d+ pass, 0 fail, \d+ not checked, \d+ stated or to be weighed, \d+ do not apply$", text, re.M)
    assert f"Head: {head}\n" in text
    assert f"llmdeploy audit --verify {evidence(cli)[-1].relative_to(cli.folder)} --head {head}" in text
    assert "nothing more" in text
    assert "compliant" not in text.lower()
    assert text.isascii()


# --- formats ------------------------------------------------------------------------------------------------------------------


def test_junit_skips_what_was_not_checked_and_never_passes_it(cli: Cli) -> None:
    applied(cli, gate=GATE, other=GATE, third=GATE)
    sees(cli, facts(stored_keys="clear"))
    sees(cli, "refused", "other")
    answer = cli("audit", "--format", "junit")
    assert answer.code == 1
    root = ElementTree.fromstring(answer.out)  # noqa: S314 - our own output
    (suite,) = root
    cases = {case.attrib["name"]: case for case in suite.iter("testcase")}
    assert [child.tag for child in cases["KEY-01 probed.gate"]] == ["failure"]
    assert [child.tag for child in cases["KEY-01 probed.other"]] == ["skipped"]
    assert list(cases["KEY-01 probed.third"]) == []
    assert cases["KEY-01 probed.gate"].attrib["classname"] == "llmdeploy.audit.KEY-01"
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"), ("tests", "testcase")):
        assert suite.attrib[name] == str(len(list(suite.iter(tag))))
    # The root has no `skipped` in the schemas of Ant and of Jenkins, which refuses a file for that.
    assert root.attrib == {"name": "llmdeploy audit", **{name: suite.attrib[name] for name in ("tests", "failures", "errors")}}
    properties = {one.attrib["name"]: one.attrib["value"] for one in suite.iter("property")}
    assert properties["head"] == state_of(cli)["evidence"]["head"]


def test_html_is_one_page_with_its_limits(cli: Cli) -> None:
    applied(cli)
    page = Page(cli.ok("audit", "--format", "html"))
    assert next(one.text for one in page.all("h2")) == "What this is, and what it is not"
    assert state_of(cli)["evidence"]["head"] in page.source


def test_a_report_goes_to_a_file_and_the_screen_shows_it(cli: Cli) -> None:
    applied(cli)
    for format in ("json", "junit", "html", "human"):
        out = cli.ok("audit", "--format", format, "--out", "report")
        assert "Audit of the stack demo" in out
        assert state_of(cli)["evidence"]["head"] in (cli.folder / "report").read_text()
    assert (cli.folder / "report").stat().st_mode & 0o777 == 0o600
    before = evidence(cli)
    assert "there is no folder" in cli("audit", "--out", "nowhere/report").err
    assert "it is no file" in cli("audit", "--out", "world").err
    assert evidence(cli) == before


@pytest.mark.parametrize("name", ["stack.yaml", "stack.lock.yaml", ".llmdeploy/state.json", ".llmdeploy/evidence/new"])
def test_a_report_overwrites_nothing_that_the_stack_is_made_of(cli: Cli, name: str) -> None:
    applied(cli)
    before = cli.ok("state", "pull"), (cli.folder / "stack.yaml").read_bytes()
    for stack in (".", "stack.yaml"):
        answer = cli("audit", stack, "--out", name)
        assert (answer.code, answer.out) == (1, "")
        assert f"does not overwrite {name}" in answer.err or "there is no folder" in answer.err
    assert (cli.ok("state", "pull"), (cli.folder / "stack.yaml").read_bytes()) == before


# --- evidence -----------------------------------------------------------------------------------------------------------------


def test_evidence_names_who_when_what_and_how(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_JOB_URL", "https://ci.example/7")
    applied(cli)
    found = document(cli)
    (path,) = evidence(cli)
    assert re.fullmatch(r"\d{8}T\d{9}Z-1\.jsonl", path.name)
    assert path.stat().st_mode & 0o777 == 0o600
    records = chain.verify(path, found["evidence"]["head"]).records
    begin = records[0]
    assert (begin["stack"], begin["serial"], begin["profiles"], begin["prev"]) == ("demo", 1, [], chain.START)
    assert (begin["run_url"], begin["who"], len(begin["stack_sha256"])) == ("https://ci.example/7", found["who"], 64)
    observations = {one["digest"]: one for one in records if one["kind"] == "observation"}
    assert {"address", "fact", "value", "host", "command", "output", "output_sha256", "reason", "at", "duration_ms"} <= set(
        next(iter(observations.values()))
    )
    passed = [one for one in records if one["kind"] == "result" and one["result"] == "pass"]
    assert passed
    for one in passed:
        assert {observations[digest]["address"] for digest in one["evidence"]} == {one["address"]}
        assert {observations[digest]["fact"] for digest in one["evidence"]} == set(one["facts"])
    assert records[-1]["results"] == {kind: count for kind, count in found["counts"].items() if count}


def test_the_head_is_kept_in_the_state_whatever_happens_then(cli: Cli) -> None:
    applied(cli)
    found = document(cli)
    kept = state_of(cli)["evidence"]
    assert kept["head"] == found["evidence"]["head"]
    assert (cli.folder / ".llmdeploy" / kept["file"]).exists()
    assert json.loads(cli.ok("show", "--format", "json"))["evidence"] == kept
    assert kept["head"] in cli.ok("show")
    assert cli.ok("plan").startswith("No changes.")
    cli.ok("keys", "rotate", "a")
    assert state_of(cli)["evidence"] == kept
    stack(cli, gate=GATE, other=GATE)
    cli.ok("apply", "--yes")
    assert state_of(cli)["evidence"] == kept
    cli.ok("state", "rm", "probed.other", "--yes")
    assert state_of(cli)["evidence"] == kept
    cli.ok("destroy", "--yes")
    assert state_of(cli)["evidence"] == kept
    assert "nothing exists of the stack" in cli("audit").err


def test_a_plan_that_was_saved_before_an_audit_can_be_applied(cli: Cli) -> None:
    applied(cli)
    stack(cli, gate=GATE, other=GATE)
    cli.ok("plan", "--out", "saved.plan")
    before = state_of(cli)
    head = document(cli)["evidence"]["head"]
    assert state_of(cli)["serial"] == before["serial"]
    cli.ok("apply", "saved.plan", "--yes")
    assert state_of(cli)["evidence"]["head"] == head
    assert state_of(cli)["serial"] > before["serial"]


def test_the_next_audit_goes_on_from_the_head(cli: Cli) -> None:
    applied(cli)
    heads = [document(cli)["evidence"]["head"] for _ in range(3)]
    begins = [chain.verify(path).begin["prev"] for path in evidence(cli)]
    assert begins == [chain.START, *heads[:2]]


def test_no_secret_gets_into_evidence_or_reports(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_KEY", "passphrase-canary-51f")
    monkeypatch.setenv("DEPLOY_TOKEN", "token-canary-51f")
    path = stack(cli)
    with_state(path, {"local": {}, "encryption": {"passphrase": "env:STATE_KEY"}})
    cli.ok("apply", "--yes")
    for folder, content in (("secrets", "custody-canary-51f\n"), ("keys", f"{KEY}\n")):
        (cli.folder / ".llmdeploy" / folder).mkdir(exist_ok=True, mode=0o700)
        (cli.folder / ".llmdeploy" / folder / "one").write_text(content)
        (cli.folder / ".llmdeploy" / folder / "one").chmod(0o600)
    noise = f"passphrase-canary-51f token-canary-51f custody-canary-51f {KEY}"
    sees(cli, [
        {"fact": "stored_keys", "value": "hashes", "host": f"https://{noise}@a", "command": f"grep {noise}", "output": noise},
        {"fact": "private", "reason": f"refused: {noise}"},
        {"fact": "log_fields", "value": [noise]},
    ])  # fmt: skip
    texts = [cli("audit", "--format", format).out for format in ("json", "junit", "html", "human")]
    texts += [one.read_text() for one in evidence(cli)]
    assert all("canary-51f" not in text and "aB3dE6gH" not in text for text in texts)
    assert all("[redacted]" in one.read_text() for one in evidence(cli))
    assert all(chain.verify(one).intact for one in evidence(cli))
    assert result(document(cli), "KEY-05", "state")["result"] == "pass"


# --- wrong settings of our own files -----------------------------------------------------------------------------------------


def test_a_state_that_others_can_read_fails(cli: Cli) -> None:
    applied(cli)
    (cli.folder / ".llmdeploy").chmod(0o755)
    one = result(document(cli, 1), "STATE-01", "state")
    assert (one["result"], "private: false" in one["observed"]) == ("fail", True)
    (cli.folder / ".llmdeploy").chmod(0o700)
    document(cli)


def test_a_key_that_lies_in_the_open_fails(cli: Cli) -> None:
    applied(cli)
    (cli.folder / ".llmdeploy" / "evidence").mkdir(mode=0o700)
    (cli.folder / ".llmdeploy" / "evidence" / "planted").write_text(KEY)
    one = result(document(cli, 1), "KEY-05", "state")
    assert (one["result"], one["observed"]) == ("fail", "stored_keys: clear")
    (cli.folder / ".llmdeploy" / "evidence" / "planted").unlink()
    document(cli)


# --- verify -------------------------------------------------------------------------------------------------------------------


def test_verify_tells_whose_head_it_is(cli: Cli, tmp_path: Path) -> None:
    applied(cli)
    heads = [document(cli)["evidence"]["head"] for _ in range(3)]
    files = evidence(cli)
    assert "the head that the state names" in cli.ok("audit", "--verify", str(files[2]))
    assert "the head of an older audit" in cli.ok("audit", "--verify", str(files[0]))
    told = json.loads(cli.ok("audit", "--verify", str(files[0]), "--head", heads[0], "--format", "json"))
    assert (told["intact"], told["vouched"], told["head"], told["problems"]) == (True, "given", heads[0], [])
    answer = cli("audit", "--verify", str(files[0]), "--head", heads[1])
    assert answer.code == 1
    assert "this is another file" in answer.out
    assert "the head that --head gives" in cli.ok("audit", "--verify", str(files[0]), "--head", f" {heads[0].upper()}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(files[2], elsewhere / "copy.jsonl")
    found = cli.ok("audit", "--verify", str(files[2]), str(elsewhere))
    assert "Which head it must have is not known here" in found
    assert "every record is as it was written" not in found
    assert "the head that the state names" in cli.ok("audit", "--verify", str(elsewhere / "copy.jsonl"))


def test_verify_finds_a_changed_byte_with_its_line(cli: Cli) -> None:
    applied(cli)
    document(cli)
    (path,) = evidence(cli)
    path.write_bytes(path.read_bytes().replace(b'"value":"hashes"', b'"value":"clear!"', 1))
    answer = cli("audit", "--verify", str(path))
    assert answer.code == 1
    assert re.search(rf"^{re.escape(str(path))}:\d+: .*it was changed$", answer.out, re.M)
    assert "Broken: this file is no evidence." in answer.out
    assert "Intact" not in answer.out


def test_verify_of_an_older_file_survives_what_else_lies_there(cli: Cli) -> None:
    applied(cli)
    for _ in range(2):
        document(cli)
    older, _newest = evidence(cli)
    (older.parent / "folder.jsonl").mkdir()
    (older.parent / "other.jsonl").write_text("no evidence")
    assert "the head of an older audit" in cli.ok("audit", "--verify", str(older))


def test_an_older_file_in_the_place_of_the_newest_is_found(cli: Cli) -> None:
    applied(cli)
    for _ in range(2):
        document(cli)
    older, newest = evidence(cli)
    shutil.copy(older, newest)
    assert "made anew as a whole" in cli("audit", "--verify", str(newest)).out


def test_evidence_whose_head_was_not_kept_is_told_and_the_chain_goes_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    applied(cli)
    head = document(cli)["evidence"]["head"]

    def fails(_store: LocalStore, _state: State) -> None:
        raise StateError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "write", fails)
        answer = cli("audit")
    assert (answer.code, answer.out, "the disk is full" in answer.err) == (1, "", True)
    lost = evidence(cli)[-1]
    answer = cli("audit", "--verify", str(lost))
    assert (answer.code, "ended before its head was kept" in answer.out) == (1, True)
    assert document(cli)["evidence"]["previous"] == head
    assert cli("audit", "--verify", str(lost)).code == 1


def test_verify_finds_a_file_that_was_made_anew_as_a_whole(cli: Cli) -> None:
    applied(cli)
    document(cli)
    (path,) = evidence(cli)
    old = chain.verify(path)
    forged = chain.Chain(old.begin["prev"])
    for record in old.records[:-1]:
        fields = {name: value for name, value in record.items() if name not in ("n", "prev", "digest", "kind", "evidence")}
        forged.add(record["kind"], {**fields, "evidence": []} if record["kind"] == "result" else fields)
    forged.end({"finished_at": old.records[-1]["finished_at"]})
    path.write_bytes(forged.content)
    assert chain.verify(path).intact
    answer = cli("audit", "--verify", str(path))
    assert answer.code == 1
    assert "made anew as a whole" in answer.out


def test_verify_needs_no_state_that_can_be_read(cli: Cli) -> None:
    applied(cli)
    document(cli)
    (path,) = evidence(cli)
    (cli.folder / ".llmdeploy" / "state.json").write_text("{")
    answer = cli("audit", "--verify", str(path))
    assert answer.code == 0
    assert "the state cannot be read" in answer.err
    assert "is not known here" in answer.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--head", "a"], "--head is for --verify"),
        (["--verify", "a", "--format", "junit"], "leave --format junit out"),
        (["--verify", "a", "--out", "b"], "leave --out out"),
        (["--verify", "a", "--head", ""], "--head is no head"),
        (["--verify", "a", "--head", "0" * 63], "--head is no head"),
        (["--verify", "missing"], "cannot read missing"),
    ],
)
def test_options_that_make_no_sense_are_told(cli: Cli, arguments: list[str], sentence: str) -> None:
    applied(cli)
    answer = cli("audit", *arguments)
    assert answer.code == 1
    assert sentence in answer.err
    assert "Traceback" not in answer.err
    assert evidence(cli) == []


# --- when it cannot be made --------------------------------------------------------------------------------------------------


def test_it_needs_a_stack_file_and_something_that_exists(cli: Cli) -> None:
    stack(cli)
    assert "nothing was applied" in cli("audit").err
    path = applied(cli)
    path.unlink()
    answer = cli("audit")
    assert (answer.code, "stack.yaml" in answer.err) == (1, True)
    assert evidence(cli) == []


def test_it_judges_no_stack_by_the_file_of_another_one(cli: Cli) -> None:
    path = applied(cli)
    written = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**written, "name": "other"}))
    answer = cli("audit")
    assert answer.code == 1
    assert 'the stack "demo"; the stack file is named "other"' in answer.err
    assert evidence(cli) == []


def test_it_waits_for_the_lock(cli: Cli) -> None:
    applied(cli)
    with LocalStore(cli.folder / ".llmdeploy").lock("apply", 0):
        assert "this stack is locked: apply by " in cli("audit").err


def test_contradicting_profiles_are_told_with_their_place(cli: Cli) -> None:
    path = applied(cli)
    written = yaml.safe_load(path.read_text())
    written["compliance"] = ["pci-dss"]
    written["logs"] = {"max_days": 90}
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    answer = cli("audit")
    assert answer.code == 1
    assert re.search(r"stack\.yaml:\d+:\d+: error: logs.max_days: RET-02", answer.err)


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_nothing_half_written(cli: Cli, number: signal.Signals) -> None:
    applied(cli, gate=GATE, other=GATE)
    document(cli)
    before, kept = evidence(cli), state_of(cli)
    sees(cli, "wait", "other")
    process = subprocess.Popen(
        [sys.executable, "-m", "llmdeploy", "audit"],
        cwd=cli.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (cli.folder / "waits").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)  # between two looks
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert (evidence(cli), state_of(cli)) == (before, kept)
    assert not list((cli.folder / ".llmdeploy").rglob("*.new"))
    sees(cli, facts(**GATE), "other")
    document(cli)


@pytest.mark.integration
def test_a_state_in_a_bucket_is_asked_how_it_is_encrypted(cli: Cli, bucket_name: str) -> None:
    path = stack(cli)
    with_state(path, {"s3": {"bucket": bucket_name, "region": REGION, "prefix": "team"}})
    cli.ok("apply", "--yes")
    serial = state_of(cli)["serial"]
    found = document(cli)
    assert state_of(cli)["serial"] == serial
    records = chain.verify(evidence(cli)[-1], state_of(cli)["evidence"]["head"]).records
    (at_rest,) = (one for one in records if (one.get("address"), one.get("fact")) == ("state", "at_rest"))
    assert (at_rest["value"], at_rest["host"]) == ("encrypted", f"s3://{bucket_name}")
    assert "ServerSideEncryption: AES256" in at_rest["output"]
    one = result(found, "STATE-01", "state")
    assert (one["result"], "bucket" in one["sentence"]) == ("not_checked", True)
    with_state(path, {"local": {}})
    cli.ok("init", "--migrate-state")
    assert state_of(cli)["evidence"]["head"] == found["evidence"]["head"]
