"""An audit as JUnit XML, for a pipeline: one test case for each control and resource.

Only what passed is a test that passed. What could not be checked and what was only stated is skipped, with the reason; what does
not apply is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as Xml

from ..compliance.live import Result
from ..compliance.report import LIMITS, Report
from .audit_view import details
from .visible import printable, visible

_NO_XML = re.compile("[\ufffe\uffff]")
_STACK = "stack"


def audit_junit(report: Report) -> str:
    """Return the whole document, ASCII."""
    cases = [one for one in report.results if one.result != "not_applicable"]
    counts = report.counts
    sums = {"tests": str(len(cases)), "failures": str(counts["fail"]), "errors": "0"}
    skipped = str(counts["not_checked"] + counts["manual"])
    # Of the root no schema knows `skipped`: what is strict refuses it.
    root = Xml.Element("testsuites", {"name": "llmdeploy audit", **sums})
    name = _text(f"{report.stack}: {', '.join(report.profiles) or 'none'}")
    when_and_who = {"timestamp": report.started_at, "hostname": _text(report.who)}
    suite = Xml.SubElement(root, "testsuite", {"name": name, **when_and_who, **sums, "skipped": skipped})
    properties = Xml.SubElement(suite, "properties")
    for key, value in _properties(report):
        Xml.SubElement(properties, "property", {"name": key, "value": _text(value)})
    for one in cases:
        _case(suite, one)
    Xml.indent(root)
    return Xml.tostring(root, encoding="us-ascii", xml_declaration=True).decode()


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    yield "stack", report.stack
    yield "serial", str(report.serial)
    yield "started_at", report.started_at
    yield "finished_at", report.finished_at
    yield "evidence", report.file
    yield "head", report.head
    yield "limits", LIMITS


def _case(suite: Xml.Element, one: Result) -> None:
    name = _text(f"{one.control} {one.address or _STACK}")
    case = Xml.SubElement(suite, "testcase", {"name": name, "classname": _text(f"llmdeploy.audit.{one.control}")})
    if one.result == "fail":
        failure = Xml.SubElement(case, "failure", {"type": one.severity, "message": _text(one.sentence)})
        failure.text = _text("\n".join(f"{key}: {value}" for key, value in details(one)))
    elif one.result != "pass":
        Xml.SubElement(case, "skipped", {"message": _text(one.sentence)})


def _text(text: str) -> str:
    """Return the text without what XML cannot hold, and with what is not to be seen written out."""
    return _NO_XML.sub("?", visible(printable(text)))
