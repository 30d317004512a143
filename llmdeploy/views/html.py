"""A plan as one HTML file that people look at: architecture, memory, cost and changes.

The file asks for nothing outside itself and runs no script; its own policy forbids both. Every text that goes into it is escaped,
and what cannot be seen is made visible. The same plan gives the same bytes, all of them ASCII.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .. import __version__
from ..change import Action
from ..plan import Plan
from ..policy import Finding, alike
from ..resource import Tree
from . import value
from .figures import TIMES, gpu_title
from .html_architecture import architecture
from .html_changes import ChangeView, GroupView, change_groups, drift_views
from .html_cost import CostView, cost_view
from .html_curve import curve
from .html_drawing import Drawing
from .html_page import rendered
from .html_picture import picture
from .html_sizing import Figure, SizingView, quantization_name, sizing_view
from .human import SYMBOLS, counts, in_doubt, outputs_after, plan_lines, summary, warnings
from .sizing_view import chosen_machines

MAX_BYTES = 2_000_000
"""A browser opens more; a mail or a page of a pipeline often does not."""
_CHANGES_BYTES = 1_400_000
_MUST_READ = 200
_ASKED_FIRST = {"Requests at full context": "", "Output together": "predicted, "}
_VERBS: tuple[tuple[Action, str], ...] = (
    ("create", "create"),
    ("update", "change"),
    ("replace", "replace"),
    ("delete", "delete"),
    ("adopt", "adopt"),
)


@dataclass(frozen=True)
class Tally:
    """How many resources one action has."""

    mark: str
    style: str
    count: int
    word: str


@dataclass(frozen=True)
class MustRead:
    """A sentence that must be read. label: who says it; way_out: what to do about it; addresses: what it is about."""

    label: str
    sentence: str
    style: str = "warn"
    way_out: str = ""
    citation: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """What the template shows, section by section; an empty part is left out. left_out: sentences and changes without room."""

    kind: str
    stack: str
    verdict: str
    refused: bool
    subject: str
    tallies: tuple[Tally, ...]
    overview: tuple[Figure, ...]
    must_read: tuple[MustRead, ...]
    more_to_read: int
    drawings: tuple[Drawing, ...]
    sizing: SizingView | None
    cost: CostView | None
    curves: tuple[Drawing, ...]
    blocks: tuple[tuple[str, tuple[str, ...]], ...]
    groups: tuple[GroupView, ...]
    drift: tuple[ChangeView, ...]
    more_drift: int
    outputs: tuple[tuple[str, str], ...]
    outputs_change: bool
    identity: tuple[tuple[str, str], ...]


def plan_html(plan: Plan, *, plan_id: str = "", refused: bool = False) -> str:
    """Return the whole file, at most `MAX_BYTES` long. plan_id: of a saved plan; refused: by the compliance profiles."""
    page = _page(plan, plan_id, refused)
    return rendered("plan.html.jinja", page=page)


# --- what is shown ----------------------------------------------------------------------------------------------------------


def _page(plan: Plan, plan_id: str, refused: bool) -> Page:
    sizing, cost = sizing_view(plan.sizing), cost_view(plan)
    shown = picture(plan)
    drawings = (architecture(shown, wide=True), architecture(shown, wide=False)) if shown else ()
    curves = [one for one in (curve(plan.economics, wide=True), curve(plan.economics, wide=False)) if one]
    notices = list(_must_read(plan))
    drift, more_drift = drift_views(plan, _CHANGES_BYTES) if plan.mode == "refresh-only" else ((), 0)
    blocks = summary(plan)
    covered = {"Sizing": sizing, "Cost": cost}
    return Page(
        kind={"destroy": "Destroy plan", "refresh-only": "Drift"}.get(plan.mode, "Plan"),
        stack=plan.stack,
        verdict=counts(plan) if refused else _verdict(plan),
        refused=refused,
        subject=_subject(plan),
        tallies=tuple(_tallies(plan)),
        overview=tuple(_overview(plan, sizing, cost)),
        must_read=tuple(notices[:_MUST_READ]),
        more_to_read=max(0, len(notices) - _MUST_READ),
        drawings=drawings,
        sizing=sizing,
        cost=cost,
        curves=tuple(curves),
        blocks=tuple((name, told) for name, told in blocks.items() if not covered.get(name)),
        groups=change_groups(plan, _CHANGES_BYTES) if plan.mode != "refresh-only" else (),
        drift=drift,
        more_drift=more_drift,
        outputs=_outputs(plan),
        outputs_change=outputs_after(plan) != plan.prior_outputs,
        identity=tuple(_identity(plan, plan_id)),
    )


def _verdict(plan: Plan) -> str:
    """Return the one sentence about all of it."""
    if plan.mode != "refresh-only" and plan.nothing_to_do:
        return next(iter(plan_lines(plan))).plain
    return counts(plan)


def _tallies(plan: Plan) -> Iterator[Tally]:
    if plan.mode == "refresh-only":
        return
    for action, word in _VERBS:
        if plan.counts[action]:
            yield Tally(SYMBOLS[action][0], action, plan.counts[action], word)


def _subject(plan: Plan) -> str:
    """Return what serves what, in one line."""
    sizing = plan.sizing
    if not sizing:
        return ""
    model, quantization = sizing["model"]["id"], quantization_name(sizing)
    if not quantization:
        return str(model)
    where = ", ".join(sorted({change.traits.region for change in plan.changes if change.traits.region}))
    return f"{model} as {quantization} on {chosen_machines(sizing, TIMES, gpu_title)}{f', in {where}' if where else ''}"


def _overview(plan: Plan, sizing: SizingView | None, cost: CostView | None) -> Iterator[Figure]:
    """Yield the few numbers that are asked for first."""
    if sizing:
        free = next((one for one in sizing.segments if one.style == "kv-beyond"), None)
        each = " on each GPU" if plan.sizing.get("gpu") else ""
        left = f"{free.size} GiB to spare{each}" if free else "exactly what was asked for"
        yield Figure("Fits", "No" if sizing.refused else "Yes", "", sizing.refused or left)
    if cost and not cost.priced:
        yield Figure("Cost", "unknown", "", f"no price for {', '.join(cost.unpriced)}")
    elif cost:
        against = f"{cost.change} what exists now" if cost.change else f"{cost.hour} USD an hour"
        without = f"; without {', '.join(cost.unpriced)}" if cost.unpriced else ""
        yield Figure("Cost", cost.month_short, "USD a month", against + without)
    if plan.compliance:
        yield _controls(plan.compliance)
    if sizing:
        asked = [one for one in sizing.figures if one.name in _ASKED_FIRST]
        yield from (replace(one, note=f"{_ASKED_FIRST[one.name]}{one.note}") for one in asked)


def _controls(judged: Mapping[str, Tree]) -> Figure:
    standings = [control["standing"] for control in judged["controls"]]
    refused = sum(one in ("refused", "to_state") for one in standings)
    verdict = f"{refused} refuse this plan" if refused > 1 else "1 refuses this plan" if refused else "none refuses this plan"
    return Figure("Controls kept", str(standings.count("kept")), f"of {len(standings)}", verdict)


def _must_read(plan: Plan) -> Iterator[MustRead]:
    yield from _findings(plan.findings)
    if plan.in_doubt:
        yield MustRead("In doubt", in_doubt(plan))
    yield from (MustRead("Warning", sentence) for sentence in warnings(plan))
    if plan.kept:
        kept = f"{', '.join(plan.kept)}: because it holds data or something that is kept stands on it"
        yield MustRead("Kept", kept, "note")


def _findings(findings: Sequence[Finding]) -> Iterator[MustRead]:
    """Yield what the compliance profiles found; the same about several resources once."""
    for one, addresses in alike(findings):
        style = "fail" if one.refuses else "warn"
        cited = "; ".join(filter(None, (one.citation, one.place)))
        yield MustRead(one.control, one.sentence, style, one.way_out, cited, addresses)


def _outputs(plan: Plan) -> tuple[tuple[str, str], ...]:
    if plan.mode == "destroy":
        return ()
    return tuple((name, value.full(item)) for name, item in value.leaves(outputs_after(plan), limit=0))


def _identity(plan: Plan, plan_id: str) -> Iterator[tuple[str, str]]:
    if plan_id:
        yield "Plan", plan_id
    yield "Made", plan.created_at
    if plan.expires_at:
        yield "Can be applied until", plan.expires_at
    yield "State", f"serial {plan.serial}, lineage {plan.identity.lineage}" if plan.identity.lineage else "none yet"
    yield "Stack file", _digest(plan.stack_sha256)
    yield "Lock file", _digest(plan.lock_sha256)
    yield from ((name, text) for name, text in sorted(plan.account.items()))
    if plan.targets:
        yield "Only", ", ".join(plan.targets)
    yield from ((f"var.{name}", value.short(item)) for name, item in sorted(plan.variables.items()))
    yield "Written by", f"llmdeploy {__version__}"


def _digest(sha256: str) -> str:
    return f"sha256 {sha256[:16]}" if sha256 else "none"
