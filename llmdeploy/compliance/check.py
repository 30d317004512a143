"""Judges what will be built. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..change import Change
from ..manifest import ModelFacts
from ..policy import Finding
from .controls import CONTROLS
from .model import Breach, Citation, Rule, Subject


def check(changes: Sequence[Change], subject: Subject, *, settled: bool = True) -> tuple[Finding, ...]:
    """Judge what will exist after the changes. Deleted resources are not judged.

    settled: what the lock file can pin was looked for; else what is not pinned is told and not refused.
    """
    kept = [change for change in changes if change.action != "delete"]
    return tuple(_findings(kept, subject, settled))


def _findings(changes: Sequence[Change], subject: Subject, settled: bool) -> Iterator[Finding]:
    for demand in subject.policy.demands:
        control = CONTROLS[demand.control]
        for breach in control.whole(subject) if control.whole else ():
            yield _whole(demand.control, breach, subject)
        for rule in control.rules:
            for change in changes:
                if sentence := judged(rule, change, subject):
                    yield _single(demand.control, rule, change.address, sentence, subject, settled)


def judged(rule: Rule, change: Change, subject: Subject) -> str:
    """Return what is wrong with a planned resource, or ""."""
    if rule.live or not rule.concerns(change.traits):
        return ""
    return rule.judge(change.traits, subject.policy)


def _whole(control: str, breach: Breach, subject: Subject) -> Finding:
    strict = subject.policy.strict(control) and not breach.advice
    result = "acknowledge" if strict and breach.statement else "fail" if strict else "warn"
    return Finding(
        control, result, breach.sentence, citation=cited(control, subject), path=breach.path, way_out=breach.way_out
    )  # fmt: skip


def _single(control: str, rule: Rule, address: str, sentence: str, subject: Subject, settled: bool) -> Finding:
    refused = subject.policy.strict(control) and not rule.advice
    if refused and rule.locked and not settled:
        refused, sentence = False, f"{sentence} as far as an offline plan knows; apply refuses that until it is pinned"
    result = "fail" if refused else "warn"
    return Finding(control, result, sentence, address, cited(control, subject), rule.path, rule.way_out)


def cited(control: str, subject: Subject) -> str:
    """Return who demands a control, with the passages: `hipaa: 45 CFR 164.312(a)(2)(iv); soc2: CC6.1 (unverified)`."""
    # Imported here: most plans find nothing.
    from .citations import CITATIONS

    demand = subject.policy.demand(control)
    named: Mapping[str, Sequence[Citation]] = CITATIONS.get(control, {})
    if demand is None or not demand.profiles:
        return ""
    return "; ".join(_passages(name, named.get(name, ())) for name in demand.profiles)


def _passages(profile: str, citations: Sequence[Citation]) -> str:
    told = ", ".join(one.ref + (" (unverified)" if one.status == "unverified" else "") for one in citations)
    return f"{profile}: {told}" if told else profile


def licence_findings(facts: ModelFacts) -> tuple[Finding, ...]:
    """Return what must be said of the model's licence: one that forbids commercial use is a finding. Not legal advice."""
    if facts.commercial is not False:
        return ()
    sentence = f"the licence of {facts.id} ({facts.license}) forbids commercial use"
    return (
        Finding("LIC-01", "warn", sentence, path="model.id", way_out="ask its owner for another licence, or take another model"),
    )
