"""docs/controls.md is generated from the catalogue of controls. `LLMDEPLOY_UPDATE_GOLDEN=1` writes it anew."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from llmdeploy.compliance.places import Places
from llmdeploy.views.compliance_view import HOW_READ, SAYS, compliance_document, shown
from tests.support import ROOT


def page() -> str:
    """Return the whole page."""
    document = compliance_document(shown((), Places.load().as_of))
    parts = (
        "# Controls",
        "Generated from the code; `tests/compliance/test_controls_page.py` holds it there. `llmdeploy compliance show` prints the"
        " same. [compliance.md](compliance.md) says how controls work.",
        SAYS,
        "## Profiles",
        "\n".join(profiles(document)),
        "## Each control",
        *(control(one) for one in document["controls"]),
        "## What was read",
        "\n".join(sources(document)),
        "## Tables",
        "\n".join(tables(document)),
    )
    return "\n\n".join(parts) + "\n"


def profiles(document: Mapping[str, Any]) -> Iterator[str]:
    yield "| profile | what it is | log lines kept | controls |"
    yield "|---|---|---|---|"
    for one in document["profiles"]:
        days = f"{one['log_days']} days or longer" if one["log_days"] else ""
        links = " ".join(f"[{name}](#{name.lower()})" for name in one["controls"])
        yield f"| `{one['name']}` | {one['title']} | {days} | {links} |"


def control(one: Mapping[str, Any]) -> str:
    """Return one control: a heading, a sentence, and a list."""
    return "\n".join([f"### {one['id']}", "", f"{one['title']}: {one['demand']}.", "", *points(one)])


def points(one: Mapping[str, Any]) -> Iterator[str]:
    plan, audit = one["plan"], one["audit"]
    whole = "the stack file as a whole" if plan["judges_the_stack_file"] and not plan["asks_to_state"] else ""
    whose = "all; without a profile it is told, not refused" if one["baseline"] else ", ".join(one["profiles"])
    told = [
        ("severity", one["severity"]),
        ("profiles", whose),
        ("a plan is refused unless", "; ".join(plan["refuses_unless"])),
        ("a plan warns unless", "; ".join(plan["tells_unless"])),
        ("a plan forces", plan["forces"]),
        ("a plan asks you to state", plan["asks_to_state"]),
        ("a plan judges", whole),
        ("an audit proves", "; ".join(audit["proves"])),
        ("an audit reports as stated", "; ".join(audit["reports_as_stated"])),
        ("not covered", one["uncovered"]),
        *((profile, passages(named)) for profile, named in one["citations"].items()),
        ("a rule of the house for", ", ".join(one["without_citation"])),
    ]
    yield from (f"- {word}: {text}" for word, text in told if text)


def passages(named: list[dict[str, str]]) -> str:
    """Return the passages of one profile, those of one status together."""
    groups = groupby(named, key=lambda one: one["status"])
    return "; ".join(f"{', '.join(one['ref'] for one in group)} ({HOW_READ[status]})" for status, group in groups)


def sources(document: Mapping[str, Any]) -> Iterator[str]:
    cited = [(name, one) for each in document["controls"] for name, named in each["citations"].items() for one in named]
    for profile, source in sorted({(name, one["source"]) for name, one in cited if one["source"]}):
        yield f"- {profile}: {source}"


def tables(document: Mapping[str, Any]) -> Iterator[str]:
    yield "| table | row | as of | how it was read | where |"
    yield "|---|---|---|---|---|"
    for one in document["tables"]:
        yield f"| {one['table']} | {one['about']} | {one['as_of']} | {HOW_READ[one['status']]} | {one['source']} |"


def test_the_page_of_controls_says_what_the_code_does() -> None:
    path = ROOT / "docs" / "controls.md"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(page())
    assert path.read_text() == page(), "run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"
