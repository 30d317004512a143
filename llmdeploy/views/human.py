"""A plan for a person: what it rests on, what will change and why, how much that is, and what comes out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ..change import Action, Change, FieldChange
from ..plan import Plan
from ..resource import Tree, iter_refs, resolve
from . import value
from .screen import BLANK, Line, Lines, Part, line

SYMBOLS: Mapping[Action, tuple[str, str]] = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "replace": ("-/+", "red"),
    "delete": ("-", "red"),
}
NO_CHANGES = "No changes. What exists is what the stack file asks for."
NOTHING_TO_DESTROY = "Nothing to destroy."
_INDENT = " " * 6
_STACK = "stack"


def plan_lines(plan: Plan, prior_outputs: Mapping[str, Tree] | None = None) -> Iterator[Line]:
    """Yield the whole plan. A plan without changes is one line.

    prior_outputs: the stack's outputs before, to tell those that change.
    """
    if plan.nothing_to_do:
        yield line(NO_CHANGES if plan.mode == "apply" else NOTHING_TO_DESTROY)
        return
    yield from _head(plan)
    yield from _groups(plan)
    yield line((counts(plan), "bold"))
    if plan.kept:
        yield line(f"Kept, because it holds data or something that is kept stands on it: {', '.join(plan.kept)}", hang=2)
    yield from _outputs(plan, prior_outputs or {})


def counts(plan: Plan) -> str:
    """Return the one line of counts."""
    n = plan.counts
    return f"Plan: {n['create']} to create, {n['update']} to change, {n['replace']} to replace, {n['delete']} to delete."


# --- what it rests on -------------------------------------------------------------------------------------------------------


def _head(plan: Plan) -> Iterator[Line]:
    order: dict[str, tuple[str, ...]] = {"Sizing": (), "Cost": ()}
    told = {**order, **plan.summary, **({"Cost": _cost(plan)} if plan.cost else {})}
    blocks = {name: sentences for name, sentences in told.items() if sentences}
    column = max((len(name) for name in blocks), default=0) + 2
    for name, sentences in blocks.items():
        for index, sentence in enumerate(sentences):
            yield line((name.ljust(column) if not index else " " * column, "bold"), sentence, hang=column)
    if blocks:
        yield BLANK
    for warning in plan.warnings:
        yield line(("Warning: ", "bold yellow"), warning, hang=9)
    for finding in plan.findings:
        yield line((f"{finding.control}: ", "bold yellow"), f"{finding.address} {finding.sentence}", hang=9)
    if plan.warnings or plan.findings:
        yield BLANK


def _cost(plan: Plan) -> tuple[str, ...]:
    known = sum(one.usd_per_hour or 0.0 for one in plan.cost)
    unknown = "" if all(one.usd_per_hour is not None for one in plan.cost) else ", without what has no price here"
    lines = [
        f"{one.label} x {one.quantity:g}: " + ("price unknown" if one.usd_per_hour is None else f"{one.usd_per_hour:.4f} USD/h")
        for one in plan.cost
    ]
    return (*lines, f"together {known:.4f} USD/h, {known * 730:.2f} USD in a month of 730 hours{unknown}")


# --- what will change -------------------------------------------------------------------------------------------------------


def _groups(plan: Plan) -> Iterator[Line]:
    wiring = {r.address: {name for name, v in r.values.items() if any(iter_refs(v))} for r in plan.resources}
    headings = {resource.group for resource in plan.resources}
    groups: dict[str, list[Change]] = {}
    for change in plan.effective:
        groups.setdefault("" if plan.mode == "destroy" else _group(change, headings), []).append(change)
    for group in sorted(groups, key=lambda name: name != _STACK):
        if group:
            yield line((group, "bold"))
        for change in groups[group]:
            yield from _change(change, wiring.get(change.address, set()))
        yield BLANK


def _group(change: Change, headings: Collection[str]) -> str:
    """Return the heading. What left the stack file has none of its own: it goes under its machine, when that is still there."""
    key = change.address.split(".")[1]
    return change.group or (key if key in headings else _STACK)


def _change(change: Change, wiring: set[str]) -> Iterator[Line]:
    symbol, style = SYMBOLS[change.action]
    told = "; ".join(drift.sentence for drift in change.drift)
    why = change.reason if change.reason != told else ""
    yield line("  ", (symbol, style), " ", (change.address, "bold"), *([f"  ({why})"] if why else []), hang=6)
    yield from (line(_INDENT, ("drift: ", "yellow"), drift.sentence, hang=8) for drift in change.drift)
    if change.action == "create" and not change.drift:
        yield from _created(change, wiring)
    elif change.action != "delete":
        yield from (_field(one) for one in change.fields)
    yield from (line(f"{_INDENT}{detail}", hang=8) for detail in change.details)


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
    """Return the stack's outputs as far as the plan knows them."""
    return resolve(plan.outputs, {change.address: change.outputs for change in plan.changes})


def _outputs(plan: Plan, prior: Mapping[str, Tree]) -> Iterator[Line]:
    after = outputs_after(plan)
    if after and after != prior:
        yield BLANK
        yield line(("Outputs", "bold"))
        yield from output_lines(after)


def output_lines(outputs: Mapping[str, Tree]) -> Lines:
    """Return `name = value` lines, names dotted and aligned."""
    found = list(value.leaves(outputs, limit=0))
    column = max((len(name) for name, _ in found), default=0)
    return [line(f"  {name.ljust(column)} = ", (value.full(item), "cyan"), hang=4) for name, item in found]
