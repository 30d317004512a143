"""An audit as one HTML file for a reader who was not there: its limits first, then the results. It prints well."""

from __future__ import annotations

from dataclasses import dataclass

from .. import __version__
from ..compliance.live import AuditResult
from ..compliance.report import LIMITS, SHARED, Report
from .audit_view import COUNTED, HEADINGS, Group, counts_line, groups, profiles_of, uncovered, verify_command
from .html_page import rendered

_MARKS: dict[AuditResult, tuple[str, str]] = {
    "fail": ("x", "fail"),
    "not_checked": ("?", "warn"),
    "manual": ("i", "soft"),
    "pass": ("+", "good"),
    "not_applicable": ("-", "soft"),
}


@dataclass(frozen=True)
class Section:
    """The results of one kind. style: of its mark."""

    id: str
    heading: str
    style: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Tally:
    """How many results there are of one kind."""

    mark: str
    style: str
    count: int
    words: str


def audit_html(report: Report) -> str:
    """Return the whole file."""
    tallies = [Tally(*_MARKS[kind], report.counts[kind], words) for kind, words in COUNTED.items()]
    sections = [Section(kind, HEADINGS[kind], _MARKS[kind][1], groups(report.results, kind)) for kind in HEADINGS]
    return rendered(
        "audit.html.jinja",
        report=report,
        profiles=profiles_of(report),
        counts=counts_line(report),
        limits=(LIMITS, *SHARED),
        tallies=tallies,
        sections=[one for one in sections if one.groups],
        uncovered=uncovered(report),
        verify=verify_command(report),
        identity=_identity(report),
    )


def _identity(report: Report) -> tuple[tuple[str, str], ...]:
    named = (
        ("State", f"serial {report.serial}, lineage {report.lineage}"),
        ("From", report.started_at),
        ("To", report.finished_at),
        ("By", report.who),
        ("Run", report.run_url),
        ("Asked", ", ".join(report.hosts)),
        ("Stack file", f"sha256 {report.stack_sha256}" if report.stack_sha256 else "none"),
        ("Lock file", f"sha256 {report.lock_sha256}" if report.lock_sha256 else "none"),
        ("Evidence", report.file),
        ("Head of the evidence", report.head),
        ("Head of the audit before", report.previous),
        ("Written by", f"llmdeploy {__version__}"),
    )
    return tuple((name, text) for name, text in named if text)
