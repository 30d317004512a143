"""A plan for a person: what it rests on, what will change and why, how much that is, and what comes out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from ..change import Action, Change, FieldChange
from ..plan import Plan
from ..policy import alike, told
from ..resource import Group, Tree, iter_refs, resolve
from . import value
from .cost_view import cost_block
from .judgement_view import compliance_block, where_and_why
from .screen import BLANK, Line, Lines, Part, line
from .sizing_view import sizing_block

if TYPE_CHECKING:
    from ..plan_file import SavedPlan

SYMBOLS: Mapping[Action, tuple[str, str]] = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "replace": ("-/+", "red"),
    "delete": ("-", "red"),
    "adopt": (">", "cyan"),
}
CREATE_FIRST = "+/-"
NO_CHANGES = "No changes. What exists is what the stack file asks for."
NOTHING_TO_DESTROY = "Nothing to destroy."
NO_DRIFT = "No drift. What exists is what was made."
_BLOCKS = ("Sizing", "Cost", "Compliance")
_INDENT = " " * 6
_STACK = "stack"


def plan_lines(plan: Plan) -> Iterator[Line]:
    """Yield the whole plan. A plan without changes is one line."""
    if plan.mode == "refresh-only":
        yield from _drift_lines(plan)
        return
    if plan.nothing_to_do:
        yield line(_nothing(plan), hang=2)
        return
    yield from block_lines(plan)
    yield from _must_read(plan)
    yield from _groups(plan)
    yield line((counts(plan), "bold"))
    if plan.in_doubt:
        yield line((in_doubt(plan), "yellow"), hang=2)
    if plan.kept:
        yield line(f"Kept, because it holds data or something that is kept stands on it: {', '.join(plan.kept)}", hang=2)
    yield from _outputs(plan)


def _nothing(plan: Plan) -> str:
    if plan.targets:
        return f"No changes to {', '.join(plan.targets)} and what belongs to that. The rest was not looked at."
    return NOTHING_TO_DESTROY if plan.mode == "destroy" else NO_CHANGES


def saved_line(saved: SavedPlan) -> Line:
    """Return the line that says which saved plan this is."""
    plan = saved.plan
    made = f"made {plan.created_at} by llmdeploy {saved.writer}, can be applied until {plan.expires_at}"
    return line("Plan ", (saved.id, "bold"), f' of the stack "{plan.stack}", {made}', hang=2)


def counts(plan: Plan) -> str:
    """Return the one line of counts."""
    if plan.mode == "refresh-only":
        count = sum(bool(change.drift) for change in plan.changes)
        return f"Drift: {count} of {len(plan.changes)} resources differ from what was made." if count else NO_DRIFT
    n = plan.counts
    adopted = f", {n['adopt']} to adopt" if n["adopt"] else ""
    return f"Plan: {n['create']} to create, {n['update']} to change, {n['replace']} to replace, {n['delete']} to delete{adopted}."


def in_doubt(plan: Plan) -> str:
    """Return the sentence about creations that nobody answered."""
    count = len(plan.in_doubt)
    which = f"{count} create{'s' if count > 1 else ''} in doubt: {', '.join(plan.in_doubt)}"
    return f"{which}. {'They were' if count > 1 else 'It was'} sent and never answered; apply settles that first."


def warnings(plan: Plan) -> tuple[str, ...]:
    """Return the sentences that must be read."""
    if not plan.targets:
        return plan.warnings
    part = f"this plan is a part of the whole: only {', '.join(plan.targets)} and what belongs to that"
    return (part, *plan.warnings)


def has_drift(plan: Plan) -> bool:
    """Whether anything was found different from what was made."""
    return any(change.drift for change in plan.changes)


# --- what it rests on -------------------------------------------------------------------------------------------------------


def summary(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return what the plan rests on: heading -> sentences, without empty ones."""
    sizing = sizing_block(plan.sizing) or plan.summary.get("Sizing", ())
    judged = (*compliance_block(plan.compliance), *plan.summary.get("Compliance", ()))
    blocks = {**plan.summary, "Sizing": sizing, "Cost": cost_block(plan), "Compliance": judged}
    ordered = {name: blocks[name] for name in dict.fromkeys((*_BLOCKS, *blocks))}
    return {name: sentences for name, sentences in ordered.items() if sentences}


def block_lines(plan: Plan) -> Iterator[Line]:
    """Yield what the plan rests on, one short block for each heading: all that is shown of a plan that is refused."""
    blocks = summary(plan)
    column = max((len(name) for name in blocks), default=0) + 2
    for name, sentences in blocks.items():
        for index, sentence in enumerate(sentences):
            yield line((name.ljust(column) if not index else " " * column, "bold"), sentence, hang=column)
    if blocks:
        yield BLANK


def _must_read(plan: Plan) -> Iterator[Line]:
    for warning in warnings(plan):
        yield line(("Warning: ", "bold yellow"), warning, hang=9)
    for finding, addresses in alike(plan.findings):
        style = "bold red" if finding.refuses else "bold yellow"
        yield line((f"{finding.control}: ", style), f"{told(finding, addresses)}{where_and_why(finding)}", hang=9)
    if warnings(plan) or plan.findings:
        yield BLANK


# --- what will change -------------------------------------------------------------------------------------------------------


def groups(plan: Plan) -> dict[str, list[Change]]:
    """Return the changes that do something under their headings, the stack's own first; a destroy has no headings."""
    headings = {resource.group for resource in plan.resources}
    found: dict[str, list[Change]] = {}
    for change in plan.effective:
        found.setdefault("" if plan.mode == "destroy" else _group(change, headings), []).append(change)
    return {name: found[name] for name in sorted(found, key=lambda name: name != _STACK)}


def wiring(plan: Plan) -> Mapping[str, set[str]]:
    """Return for each address the fields that only connect it with another resource."""
    return {r.address: {name for name, v in r.values.items() if any(iter_refs(v))} for r in plan.resources}


def _groups(plan: Plan) -> Iterator[Line]:
    connecting = wiring(plan)
    for group, changes in groups(plan).items():
        if group:
            yield line((group, "bold"))
        for change in changes:
            yield from change_lines(change, connecting.get(change.address, set()))
        yield BLANK


def _drift_lines(plan: Plan) -> Iterator[Line]:
    """Yield what differs from what was made, and nothing else."""
    for change in plan.changes:
        if change.drift:
            yield line("  ", ("~", "yellow"), " ", (change.address, "bold"), hang=6)
            yield from (line(_INDENT, drift.sentence, hang=8) for drift in change.drift)
    if has_drift(plan):
        yield BLANK
    yield line((counts(plan), "bold" if has_drift(plan) else ""))


def _group(change: Change, headings: Collection[str]) -> str:
    """Return the heading. What left the stack file has none of its own: it goes under its machine, when that is still there."""
    key = change.address.split(".")[1]
    return change.group or (key if key in headings else _STACK)


def symbol(change: Change) -> tuple[str, str]:
    """Return the mark before a change, and its style."""
    if change.action == "no-op":
        return SYMBOLS["delete"]
    mark, style = SYMBOLS[change.action]
    return (CREATE_FIRST, style) if change.action == "replace" and change.create_first else (mark, style)


def change_lines(change: Change, wiring: set[str]) -> Iterator[Line]:
    """Yield one change: its mark, address and reason, then what differs. wiring: fields that only connect it."""
    told = "; ".join(drift.sentence for drift in change.drift)
    why = change.reason if change.reason != told else ""
    mark, style = symbol(change)
    if change.action != "no-op":
        yield line("  ", (mark, style), " ", (change.address, "bold"), *([f"  ({why})"] if why else []), hang=6)
    yield from (line(_INDENT, ("drift: ", "yellow"), drift.sentence, hang=8) for drift in change.drift)
    if change.found:
        yield line(f"{_INDENT}found: {change.found}", hang=8)
    if change.action == "create" and not change.drift:
        yield from _created(change, wiring)
    elif change.action not in ("delete", "no-op"):
        yield from (_field(one) for one in change.fields)
    if change.rollout and change.action in ("update", "replace"):
        yield line(f"{_INDENT}{rollout(change.rollout)}", hang=8)
    yield from (line(f"{_INDENT}{detail}", hang=8) for detail in change.details)
    for generation in change.deposed:
        why = f"object of generation {generation}: it was replaced and is still there"
        yield line("  ", SYMBOLS["delete"], " ", (change.address, "bold"), f"  ({why})", hang=6)


def rollout(group: Group) -> str:
    """Return how the members of a group change, one after the other."""
    steps = [f"{group.exit} before"] if group.exit else []
    steps += [f"{group.enter} after"] if group.enter else []
    steps += [f"gate {group.gate}"] if group.gate else []
    return ", ".join([f"rolls out in group {group.name}", f"{group.max_unavailable} at a time", *steps])


def _created(change: Change, wiring: set[str]) -> Iterator[Line]:
    """Yield the fields in running text: what is set here, not what only connects one resource with another."""
    values = {name: item for name, item in (change.after or {}).items() if name not in wiring}
    found = [(name, item) for name, item in value.leaves(values, depth=1) if item not in (None, "", [], {})]
    parts: list[Part] = []
    for name, item in found:
        parts += [(", " if parts else _INDENT, ""), (f"{name}: ", "dim"), (value.short(item), "")]
    if parts:
        yield line(*parts, hang=6)


def _field(one: FieldChange) -> Line:
    forces = [("  # forces replacement", "red")] if one.replaces else []
    return line(f"{_INDENT}{one.path}: {value.change(one.before, one.after)}", *forces, hang=8)


# --- what comes out ---------------------------------------------------------------------------------------------------------


def outputs_after(plan: Plan) -> Mapping[str, Tree]:
    """Return the stack's outputs as far as the plan knows them. A look at the drift changes none."""
    if plan.mode == "refresh-only":
        return plan.prior_outputs
    return resolve(plan.outputs, {change.address: change.outputs for change in plan.changes})


def _outputs(plan: Plan) -> Iterator[Line]:
    after = outputs_after(plan)
    if after and after != plan.prior_outputs:
        yield BLANK
        yield line(("Outputs", "bold"))
        yield from output_lines(after)


def output_lines(outputs: Mapping[str, Tree]) -> Lines:
    """Return `name = value` lines, names dotted and aligned."""
    found = list(value.leaves(outputs, limit=0))
    column = max((len(name) for name, _ in found), default=0)
    return [line(f"  {name.ljust(column)} = ", (value.full(item), "cyan"), hang=4) for name, item in found]
