"""What a plan tells of its profiles, as a JSON tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from ..policy import Demand, Finding
from ..resource import Tree
from ..traits import Traits
from .controls import CONTROLS
from .model import Control, Rule, Subject

Standing = Literal["refused", "to_state", "told", "kept", "stated", "after_apply", "not_judged", "not_applicable"]
"""How a control stands in a plan: it refuses it; waits for a person's statement; has something to say; is kept by what will be
built; was stated by a person; can be proved after apply only; nothing here judges it; nothing in the stack concerns it."""

_RESULTS: Mapping[str, Standing] = {"fail": "refused", "acknowledge": "to_state", "warn": "told"}


def document(subject: Subject, findings: Sequence[Finding]) -> dict[str, Tree]:
    """Return `{profiles, residency, log_days, forced, controls}`, which views show and programs read. See docs/json.md."""
    policy = subject.policy
    least, most = policy.log_days
    return {
        "profiles": list(policy.profiles),
        "residency": policy.residency,
        "log_days": {"least": least, "most": most},
        "forced": [{"control": one.control, "path": one.path, "value": one.value} for one in policy.forced],
        "controls": [_control(demand, subject, findings) for demand in policy.demands],
    }


def _control(demand: Demand, subject: Subject, findings: Iterable[Finding]) -> dict[str, Tree]:
    control = CONTROLS[demand.control]
    found = [one.result for one in findings if one.control == control.id]
    worst = next((_RESULTS[result] for result in _RESULTS if result in found), None)
    return {
        "id": control.id,
        "title": control.title,
        "profiles": list(demand.profiles),
        "strict": demand.strict,
        "standing": worst or _standing(control, subject),
    }


def _standing(control: Control, subject: Subject) -> Standing:
    """Return how a control stands that found nothing. It is kept only where every fact is known that a plan can tell."""
    concerned = [(rule, traits) for rule in control.rules for traits in subject.traits.values() if rule.concerns(traits)]
    known = [_known(rule, traits) for rule, traits in concerned if not rule.live]
    if control.said(subject):
        return "stated"
    if all(known) and (control.whole or known):
        return "kept"
    if concerned:
        return "after_apply"
    return "not_judged" if control.uncovered and not control.rules else "not_applicable"


def _known(rule: Rule, traits: Traits) -> bool:
    return all(getattr(traits, fact) is not None for fact in rule.facts)
