"""Judges what exists, by what probes saw of it. Pure.

The rules are those that judged the plan. A rule passes only when every fact that it reads was seen: a probe that could not run
gives `not_checked`, whatever was planned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from pydantic import ValidationError

from ..evidence import Observation
from ..policy import Demand, Policy
from ..traits import Traits
from .check import cited
from .controls import CONTROLS
from .model import Breach, Control, Rule, Severity, Subject

AuditResult = Literal["fail", "not_checked", "manual", "pass", "not_applicable"]
RESULTS: tuple[AuditResult, ...] = ("fail", "not_checked", "manual", "pass", "not_applicable")
"""Every result; the worst first."""

STATED = "stated, not verified"
WEIGHED = "for a person to weigh"
_ON_PAPER = "the stack file keeps to it; nothing that exists was looked at"
_CUT = 300


@dataclass(frozen=True)
class Seen:
    """A resource, as it was planned and as a probe found it. reason: why nothing could be seen of it."""

    address: str
    planned: Traits
    observations: tuple[Observation, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Result:
    """What one control says of one resource, or of the stack as a whole (no address).

    sentence: what is wrong, which goes on from the address, or why nothing can be told. expected and observed: in a few words.
    facts: names of the fields of `Traits` that it rests on; way_out: how it is put right; uncovered: what of the control's
    demand nothing here proves.
    """

    control: str
    profiles: tuple[str, ...]
    address: str
    result: AuditResult
    sentence: str = ""
    expected: str = ""
    observed: str = ""
    citation: str = ""
    severity: Severity = "info"
    facts: tuple[str, ...] = ()
    title: str = ""
    way_out: str = ""
    uncovered: str = ""


def judge(seen: Sequence[Seen], subject: Subject, controls: Mapping[str, Control] = CONTROLS) -> tuple[Result, ...]:
    """Return what every control that is in force says of what was seen; one result for each control and resource.

    Which resources a control is about follows from what was planned. Where several rules of one control are about one resource,
    the worst result counts, and the sentences of all of them are kept. What a plan only tells (advice) no audit can settle
    either: where it is not kept the result is `manual`, for a person to weigh. subject.traits are not used: the observed ones
    take their place.
    """
    found = [_Facts.of(one) for one in seen]
    live = replace(subject, traits={one.address: one.traits for one in found})
    return tuple(
        result
        for demand in subject.policy.demands
        if demand.control in controls
        for result in _results(controls[demand.control], demand, found, live)
    )


@dataclass(frozen=True)
class _Verdict:
    """What one rule says of one resource, or a control of the stack file."""

    result: AuditResult
    sentence: str = ""
    expected: str = ""
    facts: tuple[str, ...] = ()
    way_out: str = ""


def _results(control: Control, demand: Demand, seen: Sequence[_Facts], live: Subject) -> Iterator[Result]:
    blank = Result(
        control.id,
        demand.profiles,
        "",
        "not_applicable",
        citation=cited(control.id, live),
        severity=control.severity,
        title=control.title,
        uncovered=control.uncovered,
    )
    concerned = False
    for one in seen:
        if verdicts := [_single(rule, one, live.policy) for rule in control.rules if rule.concerns(one.planned)]:
            concerned = True
            yield _merged(blank, verdicts, one)
    whole = _whole(control, live, concerned)
    if whole:
        yield _merged(blank, whole, None)
    elif not concerned:
        yield _without(control, blank)


# --- one resource -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    """What is known of one resource. values: of each fact, every distinct one that was seen; untold: why a fact was not.

    traits: the planned ones with what was seen over them.
    """

    address: str
    planned: Traits
    traits: Traits
    reason: str
    values: Mapping[str, tuple[Any, ...]]
    untold: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    @classmethod
    def of(cls, seen: Seen) -> _Facts:
        values: dict[str, tuple[Any, ...]] = {}
        untold: dict[str, tuple[str, ...]] = {}
        for one in seen.observations:
            value, reason = _read(one)
            if reason:
                untold[one.fact] = tuple(dict.fromkeys([*untold.get(one.fact, ()), reason]))
            elif value not in values.get(one.fact, ()):
                values[one.fact] = (*values.get(one.fact, ()), value)
        traits = seen.planned.model_copy(update={fact: told[0] for fact, told in values.items()})
        return cls(seen.address, seen.planned, traits, seen.reason, values, untold)

    def missing(self, fact: str) -> str:
        """Return why it cannot be told what a fact is, or ""."""
        if fact in self.untold:
            return "; ".join(self.untold[fact])
        return "" if fact in self.values else self.reason or f"no probe of this resource tells {fact}"


def _read(one: Observation) -> tuple[Any, str]:
    """Return the value of an observation as its field of `Traits` has it, or why it has none."""
    if one.reason:
        return None, one.reason
    if one.value is None:
        return None, f"the probe looked for {one.fact} and told no value"
    if one.fact not in Traits.model_fields:
        return None, f"{one.fact} is no fact that a control knows"
    try:
        # As JSON, and strictly: a probe that read "true" as a text read something else than it thinks.
        traits = Traits.model_validate_json(json.dumps({one.fact: one.value}), strict=True)
    except (ValidationError, ValueError, TypeError):
        return None, f"the probe told {_short(one.value)} for {one.fact}, which is no value of that"
    return getattr(traits, one.fact), ""


def _single(rule: Rule, facts: _Facts, policy: Policy) -> _Verdict:
    """Return what a rule says of a resource that it is about."""
    verdict = _Verdict("pass", "", rule.expected, rule.facts)
    seen = [fact for fact in rule.facts if fact in facts.values]
    if rule.facts and len(seen) == len(rule.facts):
        for values in product(*(facts.values[fact] for fact in rule.facts)):
            traits = facts.traits.model_copy(update=dict(zip(rule.facts, values, strict=True)))
            if sentence := rule.judge(traits, policy):
                return _against(rule, sentence)
    missing = list(dict.fromkeys(reason for fact in rule.facts if (reason := facts.missing(fact))))
    if rule.stated and not seen:
        sentence = rule.judge(facts.traits, policy)
        return _against(rule, sentence) if sentence else replace(verdict, result="manual", sentence=STATED)
    if missing or not rule.facts:
        return replace(verdict, result="not_checked", sentence="; ".join(missing) or "nothing that it judges can be seen")
    return verdict


def _against(rule: Rule, sentence: str) -> _Verdict:
    """Return the verdict of a rule that is not kept."""
    if rule.advice:
        return _Verdict("manual", f"{WEIGHED}: {sentence}", rule.expected, rule.facts, rule.way_out)
    return _Verdict("fail", sentence, rule.expected, rule.facts, rule.way_out)


def _merged(blank: Result, verdicts: Sequence[_Verdict], facts: _Facts | None) -> Result:
    """Return the worst of the verdicts, with the sentences of all."""
    worst = min((one.result for one in verdicts), key=RESULTS.index)
    bad = [one for one in verdicts if one.result == worst]
    names = tuple(dict.fromkeys(fact for one in verdicts for fact in one.facts))
    ordered = sorted(verdicts, key=lambda one: RESULTS.index(one.result))
    return replace(
        blank,
        address=facts.address if facts else "",
        result=worst,
        sentence=_joined(one.sentence for one in ordered),
        expected=_joined(one.expected for one in bad),
        observed=_observed(facts, names) if facts else "",
        facts=names,
        way_out=_joined(one.way_out for one in bad),
    )


def _joined(texts: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _observed(facts: _Facts, names: Sequence[str]) -> str:
    """Return what was seen, in words: `at_rest: encrypted, custody: reference`."""
    told = {name: facts.values[name] for name in names if name in facts.values}
    return ", ".join(f"{name}: {' and '.join(_short(value) for value in values)}" for name, values in told.items())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(_plain(value), default=str)
    return text if len(text) <= _CUT else f"{text[:_CUT]}..."


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType] - of any field of Traits
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


# --- the stack as a whole -----------------------------------------------------------------------------------------------------


def _whole(control: Control, live: Subject, concerned: bool) -> list[_Verdict]:
    """Return what a control says of the stack as a whole; nothing when its rules said all."""
    breaches = list(control.whole(live)) if control.whole else []
    told = [_breached(one) for one in breaches]
    if (said := control.said(live)) and all(one.result != "fail" for one in told):
        told.append(_Verdict("manual", f"{said}: {STATED}"))
    if told:
        return told
    return [_Verdict("not_checked", _ON_PAPER)] if control.whole and not concerned else []


def _breached(breach: Breach) -> _Verdict:
    if breach.advice:
        return _Verdict("manual", f"{WEIGHED}: {breach.sentence}", way_out=breach.way_out)
    expected = "stated in the stack file" if breach.statement else ""
    return _Verdict("fail", breach.sentence, expected, way_out=breach.way_out)


def _without(control: Control, blank: Result) -> Result:
    """Return the result of a control that says nothing of anything."""
    if control.uncovered and not control.rules:
        return replace(blank, result="not_checked", sentence=control.uncovered)
    return replace(blank, sentence="nothing in this stack is concerned")
