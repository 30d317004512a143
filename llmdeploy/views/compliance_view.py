"""The catalogue of compliance profiles and controls, for a person and for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from ..compliance import CONTROLS, PROFILES, Control, Rule
from ..compliance.citations import CITATIONS
from ..compliance.places import Places
from ..compliance.profiles import demanded_by
from ..resource import Tree
from .document import FORMAT_VERSION
from .screen import BLANK, Line, line

SAYS = "A pass is evidence about one setting at one time. It does not make you compliant, and llmdeploy never says so."
HOW_READ: Mapping[str, str] = {
    "primary": "read in the primary text",
    "secondary": "seen in other texts",
    "unverified": "unverified",
}
"""What the status of a citation means."""
_BASELINE = frozenset(PROFILES["none"].controls)


@dataclass(frozen=True)
class Shown:
    """What of the catalogue is asked for: names of profiles and ids of controls. today: what the tables' age is told for."""

    profiles: tuple[str, ...]
    controls: tuple[str, ...]
    tables: bool
    today: date


def names() -> tuple[str, ...]:
    """Return everything that can be asked for: the profiles, then the controls."""
    return (*PROFILES, *CONTROLS)


def shown(asked: Sequence[str], today: date) -> Shown:
    """Return what `asked` names, which must be among `names()`; everything when it is empty."""
    profiles = tuple(name for name in PROFILES if name in asked or not asked)
    wanted = {control for name in profiles for control in PROFILES[name].controls} | set(asked)
    return Shown(profiles, tuple(name for name in CONTROLS if name in wanted), bool(profiles), today)


# --- for a program -------------------------------------------------------------------------------------------------------------


def compliance_document(what: Shown) -> dict[str, Tree]:
    """Return profiles, controls with their passages, and the dated tables."""
    document: dict[str, Tree] = {
        "format_version": FORMAT_VERSION,
        "says": SAYS,
        "profiles": [_profile(name) for name in what.profiles],
        "controls": [_control(CONTROLS[name]) for name in what.controls],
    }
    if what.tables:
        document["tables"] = [{"table": part.table, "about": part.about, **_dated(part.dated)} for part in Places.load().parts()]
        document["stale"] = list(Places.load().stale(what.today))
    return document


def _dated(part: Mapping[str, object]) -> dict[str, Tree]:
    return {name: str(part[name]) for name in ("as_of", "status", "source")}


def _profile(name: str) -> dict[str, Tree]:
    profile = PROFILES[name]
    controls: list[Tree] = [*sorted({*profile.controls, *_BASELINE})]
    return {"name": name, "title": profile.title, "log_days": profile.log_days, "controls": controls}


def _control(control: Control) -> dict[str, Tree]:
    planned = [rule for rule in control.rules if not rule.live]
    passages = CITATIONS.get(control.id, {})
    profiles = sorted(name for name in PROFILES if control.id in demanded_by([name]) and name != "none")
    return {
        "id": control.id,
        "title": control.title,
        "demand": control.demand,
        "severity": control.severity,
        "baseline": control.id in _BASELINE,
        "profiles": [*profiles],
        "plan": {
            "refuses_unless": _expected(rule for rule in planned if not rule.advice),
            "tells_unless": _expected(rule for rule in planned if rule.advice),
            "forces": control.forces,
            "asks_to_state": control.stated,
            "judges_the_stack_file": control.whole is not None,
        },
        "audit": {
            "proves": _expected(rule for rule in control.rules if not rule.stated),
            "reports_as_stated": _expected(rule for rule in control.rules if rule.stated),
        },
        "uncovered": control.uncovered,
        "citations": {
            name: [{"ref": one.ref, "status": one.status, "source": one.source} for one in passages[name]]
            for name in profiles
            if name in passages
        },
        "without_citation": [name for name in profiles if name not in passages],
    }


def _expected(rules: Iterator[Rule]) -> list[Tree]:
    return list(dict.fromkeys(rule.expected for rule in rules))


# --- for a person --------------------------------------------------------------------------------------------------------------


def compliance_lines(what: Shown) -> Iterator[Line]:
    """Yield the profiles, each control with its passages, what was read, and the dates of the tables."""
    document = compliance_document(what)
    sources = _sources(document["controls"])
    yield line(SAYS)
    if what.profiles:
        yield from (BLANK, line(("Profiles", "bold")))
        for profile in document["profiles"]:
            yield from _profile_lines(profile)
    for control in document["controls"]:
        yield BLANK
        yield from _control_lines(control, sources)
    if sources:
        yield from (BLANK, line(("What was read", "bold")))
        yield from (line(f"  [{number}] {source}", hang=6) for source, number in sources.items())
    if what.tables:
        yield BLANK
        yield from _table_lines(document)


def _sources(controls: Sequence[Tree]) -> dict[str, int]:
    """Return a number for each source, in the order in which they appear."""
    cited: list[str] = [one["source"] for control in controls for named in control["citations"].values() for one in named]
    return {source: number for number, source in enumerate(dict.fromkeys(source for source in cited if source), start=1)}


def _profile_lines(profile: Mapping[str, Tree]) -> Iterator[Line]:
    days = f"; log lines are kept at least {profile['log_days']} days" if profile["log_days"] else ""
    baseline = "" if profile["name"] == "none" else ", the baseline among them"
    yield line(
        "  ", (profile["name"], "bold"), f": {profile['title']}. {len(profile['controls'])} controls{baseline}{days}", hang=4
    )
    own = [control for control in profile["controls"] if profile["name"] == "none" or control not in _BASELINE]
    yield line(f"    {' '.join(own)}", hang=4)


def _control_lines(control: Mapping[str, Tree], sources: Mapping[str, int]) -> Iterator[Line]:
    yield line((f"{control['id']}  {control['title']}", "bold"), f"  ({control['severity']})", hang=2)
    yield _told("demands", control["demand"])
    yield _told("profiles", _whose(control))
    yield from (_told(word, text) for word, text in (*_in_plan(control["plan"]), *_in_audit(control)) if text)
    if control["uncovered"]:
        yield _told("not covered", control["uncovered"])
    for profile, named in control["citations"].items():
        for (status, source), group in groupby(named, key=lambda one: (one["status"], one["source"])):
            mark = f" [{sources[source]}]" if source in sources else ""
            yield _told(profile, f"{', '.join(one['ref'] for one in group)}: {HOW_READ[status]}{mark}")
    if control["without_citation"] and control["citations"]:
        yield _told("a rule of the house for", ", ".join(control["without_citation"]))
    elif control["without_citation"]:
        yield _told("no passage", "a rule of the house")


def _told(word: str, text: str) -> Line:
    return line("  ", (f"{word}: ", "bold"), text, hang=4)


def _whose(control: Mapping[str, Tree]) -> str:
    if control["baseline"]:
        return "all; without a profile it is told, not refused"
    return ", ".join(control["profiles"])


def _in_plan(plan: Mapping[str, Tree]) -> Iterator[tuple[str, str]]:
    yield "a plan is refused unless", "; ".join(plan["refuses_unless"])
    yield "a plan warns unless", "; ".join(plan["tells_unless"])
    yield "a plan forces", plan["forces"]
    yield "a plan asks you to state", plan["asks_to_state"]
    yield "a plan judges", "the stack file as a whole" if plan["judges_the_stack_file"] and not plan["asks_to_state"] else ""


def _in_audit(control: Mapping[str, Tree]) -> Iterator[tuple[str, str]]:
    audit = control["audit"]
    yield "an audit proves", "; ".join(audit["proves"])
    stated = [*audit["reports_as_stated"], *([control["plan"]["asks_to_state"]] if control["plan"]["asks_to_state"] else [])]
    yield "an audit reports as stated", "; ".join(stated)


def _table_lines(document: Mapping[str, Tree]) -> Iterator[Line]:
    yield line(("Tables", "bold"))
    for table, group in groupby(document["tables"], key=lambda one: one["table"]):
        rows = list(group)
        counted = Counter(row["status"] for row in rows)
        read = ", ".join(f"{counted[status]} {words}" for status, words in HOW_READ.items() if counted[status])
        dates = sorted({row["as_of"] for row in rows})
        yield line("  ", (f"{table}: ", "bold"), f"as of {' to '.join({dates[0]: 0, dates[-1]: 0})}; {read}", hang=4)
    yield from (line("  ", ("old: ", "yellow"), sentence, hang=4) for sentence in document["stale"])
