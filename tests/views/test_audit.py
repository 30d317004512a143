"""An audit as text, JSON, JUnit XML and HTML: what it says, and that nothing that it tells of can break out of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.chain import Chain, verified
from llmdeploy.compliance.live import STATED, WEIGHED, Result
from llmdeploy.compliance.report import LIMITS, Report
from llmdeploy.views.audit_html import audit_html
from llmdeploy.views.audit_junit import audit_junit
from llmdeploy.views.audit_verify import Verdict, Vouched, verdict_document, verdict_lines
from llmdeploy.views.audit_view import audit_document, audit_lines
from llmdeploy.views.document import dumps
from llmdeploy.views.screen import wrap
from tests.views.html_reading import Page
from tests.views.test_html import ATTRIBUTES, POLICY, TAGS
from tests.views.test_human import golden
from tests.views.test_markdown import ATTACKS

ENC = Result(
    "ENC-01", ("gdpr", "hipaa"), "host_volume.a", "fail", "stores data unencrypted", "encrypted", "at_rest: plain",
    "gdpr: Art. 32(1)(a); hipaa: 45 CFR 164.312(a)(2)(iv) (unverified)", "high", ("at_rest",), "Data at rest is encrypted",
    "storage: {encryption: auto}",
)  # fmt: skip
CLOCK = replace(
    ENC, control="AUD-03", address="host.a", result="not_checked", sentence="timedatectl is missing", expected="synchronised",
    observed="", facts=("clock_synced",), title="Records carry the right time", way_out="", severity="medium",
    uncovered="that log lines were not changed",
)  # fmt: skip
RESULTS = (
    CLOCK,
    replace(CLOCK, address="host.b"),
    replace(CLOCK, control="BAA-01", address="", result="manual", sentence=f"an agreement: {STATED}", uncovered=""),
    ENC,
    replace(ENC, address="host_volume.b"),
    replace(ENC, address="host_volume.c", result="pass", sentence="", observed="at_rest: encrypted", way_out=""),
    replace(ENC, control="HA-01", address="", result="manual", sentence=f"{WEIGHED}: one replica", way_out="replicas: 2"),
    replace(CLOCK, control="IAM-01", address="", result="not_applicable", sentence="nothing in this stack is concerned"),
    replace(ENC, control="DPA-01", address="", sentence="nobody states it", expected="stated in the stack file", observed=""),
    replace(ENC, control="VUL-01", address="", result="not_checked", sentence="no scans", uncovered="no scans", way_out=""),
)
REPORT = Report(
    stack="demo",
    lineage="0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    serial=12,
    profiles=("gdpr", "hipaa"),
    who="ops@bastion",
    run_url="https://ci.example/7",
    started_at="2026-01-02T03:04:05+00:00",
    finished_at="2026-01-02T03:05:06+00:00",
    stack_sha256="ab" * 32,
    lock_sha256="",
    resources=6,
    observations=11,
    hosts=("10.0.0.7", "localhost"),
    results=RESULTS,
    file=".llmdeploy/evidence/20260102T030405678Z-12.jsonl",
    head="cd" * 32,
    previous="00" * 32,
)


def text(report: Report, width: int | None = None) -> str:
    return "".join(f"{piece.plain.rstrip()}\n" for one in audit_lines(report, width) for piece in wrap(one, width))


# --- goldens ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [100, 40])
def test_text(width: int) -> None:
    golden(f"audit-{width}.txt", text(REPORT, width))


def test_json() -> None:
    found = dumps(audit_document(REPORT)) + "\n"
    assert found.isascii()
    golden("audit.json", found)


def test_junit() -> None:
    golden("audit.junit.xml", audit_junit(REPORT) + "\n")


def test_html() -> None:
    golden("audit.html", audit_html(REPORT) + "\n")


# --- what it says -------------------------------------------------------------------------------------------------------------


def test_the_worst_comes_first_and_the_same_is_told_once() -> None:
    found = text(REPORT)
    heads = ["Failed", "Not checked", "Stated by the operator", "Passed", "Do not apply", "What nothing here proves"]
    places = [found.index(f"\n{head}") for head in heads]
    assert places == sorted(places)
    assert found.count("stores data unencrypted") == 1
    assert "host_volume.a, host_volume.b stores data unencrypted (high)" in found
    assert "host.a, host.b: timedatectl is missing" in found
    assert "1 pass, 3 fail, 3 not checked, 2 stated or to be weighed, 1 do not apply" in found


def test_an_audit_without_results_is_still_told() -> None:
    empty = replace(REPORT, results=(), profiles=(), hosts=(), run_url="")
    assert "0 pass, 0 fail" in text(empty)
    assert "none (the baseline)" in text(empty)
    assert ElementTree.fromstring(audit_junit(empty)).attrib["tests"] == "0"  # noqa: S314 - our own output
    assert Page(audit_html(empty)).all("h2")


def as_json(report: Report) -> str:
    return dumps(audit_document(report))


@pytest.mark.parametrize("make", [text, audit_junit, audit_html, as_json])
def test_its_limits_are_in_every_form_and_one_word_is_in_none(make: Callable[[Report], str]) -> None:
    found = make(REPORT)
    assert LIMITS in found.replace("&#39;", "'")
    assert "compliant" not in found.lower()


# --- whatever is told, it cannot break out --------------------------------------------------------------------------------------


def noisy(noise: str) -> Report:
    """Return a report with the text wherever a stack file, a provider or a probe could put one."""
    one = Result(
        noise, (noise,), noise, "fail", noise, noise, noise, noise, "high", (noise,), noise, noise, noise + " more"
    )  # fmt: skip
    results = tuple(replace(one, result=kind) for kind in ("fail", "not_checked", "manual", "pass", "not_applicable"))
    return replace(
        REPORT, stack=noise, profiles=(noise,), who=noise, run_url=noise, hosts=(noise,), file=noise, head=noise, results=results
    )


def check(noise: str) -> None:
    report = noisy(noise)
    page = Page(audit_html(report))
    assert page.source.isascii()
    assert not page.comments
    assert {one.tag for one in page.elements} <= TAGS
    assert {name for one in page.elements for name in one.attributes} <= ATTRIBUTES
    assert [one.attributes["content"] for one in page.all("meta") if "http-equiv" in one.attributes] == [POLICY]
    root = ElementTree.fromstring(audit_junit(report))  # noqa: S314 - our own output
    assert {one.tag for one in root.iter()} == {
        "testsuites", "testsuite", "properties", "property", "testcase", "failure", "skipped"
    }  # fmt: skip
    assert len(list(root.iter("testcase"))) == 4
    assert json.loads(dumps(audit_document(report)))["stack"] == noise
    assert "\x1b" not in text(report)


@pytest.mark.parametrize(
    "noise", [*ATTACKS, "]]><failure/>", "{{ 7 * 7 }}{% raw %}", "\ufffe\uffff\ud800\x00\x0b", "</dl></html>"]
)
def test_attacks(noise: str) -> None:
    check(noise)


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=40))
def test_any_text(noise: str) -> None:
    check(noise)


def test_the_command_that_checks_is_one_for_a_shell() -> None:
    report = replace(REPORT, file="my stack's/$(x).jsonl")
    command = f"llmdeploy audit --verify {shlex.quote(report.file)} --head {report.head}"
    assert command in text(report)
    assert command in Page(audit_html(report)).texts("code")


# --- verify -------------------------------------------------------------------------------------------------------------------


def chained() -> Chain:
    records = Chain()
    records.add("audit", {"format": 1, "stack": "demo", "serial": 1, "started_at": "2026-01-02", "who": "ops@bastion"})
    records.end({"finished_at": "2026-01-02"})
    return records


def told(verdict: Verdict) -> str:
    return "\n".join(one.plain for one in verdict_lines(verdict))


@pytest.mark.parametrize(
    ("vouched", "intact"), [("given", True), ("newest", True), ("older", True), ("unknown", True), ("no", False)]
)
def test_a_file_that_was_not_touched(vouched: Vouched, intact: bool) -> None:
    verdict = Verdict("a.jsonl", verified(chained().content), vouched)
    found = told(verdict)
    assert f"Head: {chained().head}" in found
    assert "Evidence of an audit of demo, serial 1, begun 2026-01-02 by ops@bastion" in found
    assert ("Intact" in found, "Broken" in found) == (intact, not intact)
    assert verdict_document(verdict)["intact"] is intact
    assert verdict_document(verdict)["vouched"] == vouched


def test_what_a_forged_file_says_writes_no_line_of_the_answer() -> None:
    records = Chain()
    records.add("audit", {"format": 1, "stack": "x\nIntact", "serial": {}, "started_at": None, "who": "\u202e" + "y" * 9999})
    found = told(Verdict("a.jsonl", verified(records.content), "unknown"))
    assert "audit of x Intact, serial {}, begun None by \\u202eyyy" in found
    assert len(found) < 1000


def test_a_broken_file_is_told_line_by_line() -> None:
    verdict = Verdict("a.jsonl", verified(chained().content.replace(b"bastion", b"Bastion")), "newest")
    found = told(verdict)
    assert found.startswith("a.jsonl:1: it does not have the digest that it names: it was changed")
    assert "Intact" not in found
    many = Verdict("a.jsonl", verified(b"{}\n" * 100), "unknown")
    assert "and " in told(many)
    assert len(told(many).splitlines()) < 30
