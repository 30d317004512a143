"""An audit for a person, and as JSON: what failed first, then what nobody could tell, what was only stated, and what passed.

The JSON document, which only grows within its `format_version`:

    stack, lineage, serial, profiles    what was audited, in which state, by which profiles (none: the baseline alone)
    who, run_url, started_at, finished_at, llmdeploy_version, stack_sha256, lock_sha256
    resources, observations, hosts      how many were looked at, how many facts were asked for, and of whom
    counts                              {pass, fail, not_checked, manual, not_applicable}
    results                             [{control, title, profiles, address, result, severity, sentence, expected, observed,
                                        citation, way_out, facts, uncovered}]; no address: the stack as a whole
    evidence                            {file, head, previous}
    limits                              what this is not, in sentences
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from .. import __version__
from ..compliance.live import AuditResult, Result
from ..compliance.report import LIMITS, SHARED, Report
from ..resource import Tree
from .document import FORMAT_VERSION
from .screen import BLANK, Line, line
from .table import table
from .visible import visible

HEADINGS: dict[AuditResult, str] = {
    "fail": "Failed",
    "not_checked": "Not checked",
    "manual": "Stated by the operator or to be weighed by a person, not verified",
    "pass": "Passed",
    "not_applicable": "Do not apply",
}
COUNTED: dict[AuditResult, str] = {
    "pass": "pass",
    "fail": "fail",
    "not_checked": "not checked",
    "manual": "stated or to be weighed",
    "not_applicable": "do not apply",
}
STYLES: dict[AuditResult, str] = {"fail": "bold red", "not_checked": "bold yellow", "manual": "bold", "pass": "bold green"}
_STACK = "the stack"


@dataclass(frozen=True)
class Group:
    """Results that say the same of several resources. one: the first of them."""

    one: Result
    addresses: tuple[str, ...]

    @property
    def where(self) -> str:
        """The resources, for people."""
        return ", ".join(address or _STACK for address in self.addresses)

    @property
    def sentence(self) -> str:
        """What is told of them: of resources it begins with their addresses, of the stack as a whole it stands alone."""
        if not any(self.addresses):
            return self.one.sentence
        return f"{self.where}{self.link} {self.one.sentence}".strip()

    @property
    def link(self) -> str:
        """What stands between addresses and sentence: that of a failure goes on from them, others are reasons."""
        return "" if self.one.result == "fail" or not self.one.sentence else ":"


def groups(results: Sequence[Result], kind: AuditResult) -> tuple[Group, ...]:
    """Return the results of one kind, those that say the same together."""
    found: dict[tuple[str, ...], list[Result]] = {}
    for one in results:
        if one.result == kind:
            key = (one.control, one.sentence, one.expected, "" if kind == "pass" else one.observed, one.way_out)
            found.setdefault(key, []).append(one)
    return tuple(Group(same[0], tuple(one.address for one in same)) for same in found.values())


def details(one: Result) -> Iterator[tuple[str, str]]:
    """Yield what a reader of a failure needs to know: what was expected, what was seen, who asks for it, and the way out."""
    told = (("expected", one.expected), ("observed", one.observed), ("asked by", one.citation), ("way out", one.way_out))
    yield from ((name, text) for name, text in told if text)


def counts_line(report: Report) -> str:
    """Return how many results there are of each kind."""
    return ", ".join(f"{report.counts[kind]} {words}" for kind, words in COUNTED.items())


def uncovered(report: Report) -> dict[str, str]:
    """Return what of the demands nothing here proves, by control."""
    told = (one for one in report.results if one.result != "not_applicable" and one.sentence != one.uncovered)
    return {one.control: one.uncovered for one in told if one.uncovered}


def profiles_of(report: Report) -> str:
    """Return the profiles, for people."""
    return ", ".join(report.profiles) or "none (the baseline)"


def verify_command(report: Report) -> str:
    """Return the command that checks the evidence, for a shell."""
    return f"llmdeploy audit --verify {shlex.quote(report.file)} --head {report.head}"


def audit_lines(report: Report, width: int | None) -> Iterator[Line]:
    """Yield the whole report. width: columns of the screen, None when there is no limit."""
    yield line("Audit of the stack ", (report.stack, "bold"), f"  serial {report.serial}, lineage {report.lineage}", hang=2)
    yield line(f"Profiles: {profiles_of(report)}", hang=2)
    run = f", {report.run_url}" if report.run_url else ""
    yield line(f"From {report.started_at} to {report.finished_at}, by {report.who}{run}", hang=2)
    hosts = f" (asked: {one_line(', '.join(report.hosts))})" if report.hosts else ""
    yield line(f"{report.observations} observations of {report.resources} resources{hosts}", hang=2)
    for kind in ("fail", "not_checked", "manual"):
        yield from _told(report, kind)
    yield from _passed(report, width)
    yield from _rest(report)
    yield BLANK
    yield line((counts_line(report), "bold"), hang=2)
    yield from _evidence(report)


def _told(report: Report, kind: AuditResult) -> Iterator[Line]:
    found = groups(report.results, kind)
    if found:
        yield BLANK
        yield line((HEADINGS[kind], STYLES[kind]))
    for group in found:
        one = group.one
        severity = f" ({one.severity})" if kind == "fail" else ""
        yield line("  ", (one.control, "bold"), f"  {one_line(group.sentence)}{severity}", hang=8)
        if kind == "fail":
            yield from (line(f"      {name}: {one_line(text)}", hang=8) for name, text in details(one))
        elif one.way_out:
            yield line(f"      way out: {one.way_out}", hang=8)


def one_line(text: str) -> str:
    """Return what a machine may have told on one line, as it is: it must not write lines of this report, nor hide any."""
    return visible(" ".join(text.split()))


def _passed(report: Report, width: int | None) -> Iterator[Line]:
    by_control: dict[str, list[Result]] = {}
    for one in report.results:
        if one.result == "pass":
            by_control.setdefault(one.control, []).append(one)
    if not by_control:
        return
    yield BLANK
    yield line((HEADINGS["pass"], STYLES["pass"]))
    rows = [(f"  {name}", str(len(found)), found[0].title) for name, found in by_control.items()]
    yield from table(("  CONTROL", "RESOURCES", "WHAT"), rows, width)


def _rest(report: Report) -> Iterator[Line]:
    if outside := [one.control for one in report.results if one.result == "not_applicable"]:
        yield BLANK
        yield line((HEADINGS["not_applicable"], "bold"), f": {', '.join(outside)}", hang=2)
    if left := uncovered(report):
        yield BLANK
        yield line(("What nothing here proves", "bold"))
        yield from (line("  ", (control, "bold"), f"  {sentence}", hang=8) for control, sentence in left.items())


def _evidence(report: Report) -> Iterator[Line]:
    yield BLANK
    yield line(f"Evidence: {report.file}", hang=2)
    yield line(f"Head: {report.head}", hang=2)
    yield line("It is kept in the state too. Keep it elsewhere as well: whoever can write both can make both anew.", hang=2)
    yield line(f"Verify: {verify_command(report)}", hang=2)
    yield BLANK
    yield line(LIMITS, hang=2)


def audit_document(report: Report) -> dict[str, Tree]:
    """Return the report as JSON; see the module's docstring."""
    whole = asdict(report)
    evidence = {name: whole.pop(name) for name in ("file", "head", "previous")}
    return {
        "format_version": FORMAT_VERSION,
        "llmdeploy_version": __version__,
        **whole,
        "counts": dict(report.counts),
        "evidence": evidence,
        "limits": [LIMITS, *SHARED],
    }
