"""The short block of a plan about its compliance profiles, and its findings as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ..policy import Finding
from ..resource import Tree

_COUNTED = (
    ("kept", "kept by this plan"),
    ("refused", "refused"),
    ("to_state", "to be stated by you"),
    ("told", "with a warning"),
    ("stated", "stated by you"),
    ("after_apply", "proved by `llmdeploy audit` after apply"),
    ("not_judged", "not judged here"),
    ("not_applicable", "not applicable"),
)


def compliance_block(document: Mapping[str, Tree]) -> tuple[str, ...]:
    """Return what is in force, what was forced, what is refused and what a person must state; none without a document."""
    if not document:
        return ()
    return tuple(_sentences(document))


def _sentences(document: Mapping[str, Tree]) -> Iterator[str]:
    profiles, residency = document["profiles"], document["residency"]
    within = f"; residency: {residency}" if residency else ""
    yield (f"profiles: {', '.join(profiles)}" if profiles else "no profile, the baseline only") + within
    if forced := [f"{one['path']}: {one['value']} ({one['control']})" for one in document["forced"]]:
        yield f"forced: {', '.join(forced)}"
    by_standing: dict[str, list[str]] = {}
    for control in document["controls"]:
        by_standing.setdefault(control["standing"], []).append(control["id"])
    if refused := by_standing.get("refused"):
        yield f"refused: {', '.join(refused)}"
    if stated := by_standing.get("to_state"):
        yield f"to be stated by you in the stack file: {', '.join(stated)}"
    counted = Counter({name: len(ids) for name, ids in by_standing.items()})
    told = [f"{counted[name]} {words}" for name, words in _COUNTED if counted[name]]
    yield f"{len(document['controls'])} controls: {', '.join(told)}"


def where_and_why(finding: Finding) -> str:
    """Return place, citation and way out of a finding, in brackets: `(stack.yaml:7:3; hipaa: ...; write ...)`."""
    told = [one for one in (finding.place, finding.citation, finding.way_out) if one]
    return f" ({'; '.join(told)})" if told else ""
