"""Profiles: what they force before anything is planned (`resolve`), and whether the graph keeps to it (`check`).

A control judges traits, never type names. The word that people expect at the end is never printed: a pass is evidence about one
setting, nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..change import Change
from ..manifest import ModelFacts
from ..policy import Demand, Finding, Policy
from ..traits import Traits

PROFILES = ("none", "airgapped", "hipaa", "gdpr", "pci-dss", "soc2", "eu-ai-act")


@dataclass(frozen=True)
class Control:
    """One check: which profiles demand it, what it says, the way out, and the judgement of one resource's traits."""

    id: str
    profiles: frozenset[str]
    demand: str
    refused: str
    path: str
    way_out: str
    violated: Callable[[Traits], bool]
    locked: bool = False
    """Whether `llmdeploy lock` settles it: a plan that asked nobody cannot know, and only tells."""


CONTROLS = (
    Control(
        id="ENC-01",
        profiles=frozenset({"airgapped", "hipaa", "gdpr", "pci-dss", "soc2"}),
        demand="weights lie on encrypted storage",
        refused="stores data unencrypted",
        path="storage.encryption",
        way_out="storage: {encryption: auto}",
        violated=lambda traits: traits.at_rest == "plain",
    ),
    Control(
        id="ENC-03",
        profiles=frozenset({"airgapped", "hipaa", "gdpr", "pci-dss", "soc2"}),
        demand="the storage key does not lie in clear beside the data",
        refused="keeps its generated key as a file on this machine, beside the data it protects",
        path="storage.key",
        way_out='storage: {key: "env:NAME"} or {key: "file:PATH"} with the key kept elsewhere',
        violated=lambda traits: traits.at_rest == "encrypted" and traits.custody == "operator-file",
    ),
    Control(
        id="SUP-01",
        profiles=frozenset({"hipaa", "soc2", "eu-ai-act"}),
        demand="weights and engine are pinned",
        refused="brings something that is not pinned",
        path="model",
        way_out="llmdeploy lock, and commit stack.lock.yaml",
        violated=lambda traits: traits.pinned is False,
        locked=True,
    ),
)


def resolve(profiles: Iterable[str]) -> Policy:
    """Return what the profiles force together. The order of `profiles` never matters."""
    named = sorted(set(profiles) - {"none"})
    demands = [
        Demand(control.id, profile, control.demand)
        for control in CONTROLS
        for profile in [next((name for name in named if name in control.profiles), "")]
        if profile
    ]
    return Policy(tuple(named), tuple(demands))


def check(changes: Sequence[Change], policy: Policy, *, settled: bool = True) -> tuple[Finding, ...]:
    """Judge what will exist after the changes. Deleted resources are not judged.

    settled: what the lock file can pin was looked for; else what is not pinned is told and not refused.
    """
    controls = [control for control in CONTROLS if policy.demand(control.id)]
    return tuple(
        _finding(control, change, policy, settled)
        for change in changes
        if change.action != "delete"
        for control in controls
        if control.violated(change.traits)
    )


def licence_findings(facts: ModelFacts) -> tuple[Finding, ...]:
    """Return what must be said of the model's licence: one that forbids commercial use is a finding. Not legal advice."""
    if facts.commercial is not False:
        return ()
    sentence = f"the licence of {facts.id} ({facts.license}) forbids commercial use"
    return (
        Finding("LIC-01", "warn", sentence, path="model.id", way_out="ask its owner for another licence, or take another model"),
    )


def _finding(control: Control, change: Change, policy: Policy, settled: bool) -> Finding:
    citation = ", ".join(policy.profiles)
    if control.locked and not settled:
        told = f"{control.refused} as far as an offline plan knows; apply refuses that until it is pinned"
        return Finding(control.id, "warn", told, change.address, citation, control.path, control.way_out)
    return Finding(control.id, "fail", control.refused, change.address, citation, control.path, control.way_out)
