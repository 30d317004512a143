"""Plan and state as JSON in Terraform's shape, so that policy and review tools need little to read them.

ASCII, fixed order: the same plan gives the same bytes but for `timestamp`. There is no secret in it, because a plan and a state
hold references only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from .. import __version__
from ..change import Action, Change
from ..plan import Plan
from ..resource import Tree, Unknown, as_mapping, as_sequence
from ..state.model import Entry, State
from .document import FORMAT_VERSION
from .human import outputs_after

ACTIONS: Mapping[Action, list[str]] = {
    "no-op": ["no-op"],
    "create": ["create"],
    "update": ["update"],
    "replace": ["delete", "create"],
    "delete": ["delete"],
}


def plan_document(plan: Plan, prior_outputs: Mapping[str, Tree] | None = None) -> dict[str, Tree]:
    """Return the whole plan. prior_outputs: the stack's outputs before."""
    return {
        "format_version": FORMAT_VERSION,
        "llmdeploy_version": __version__,
        "timestamp": plan.created_at,
        "stack": plan.stack,
        "mode": plan.mode,
        "lineage": plan.identity.lineage,
        "serial": plan.serial,
        "stack_sha256": plan.stack_sha256,
        "lock_sha256": plan.lock_sha256,
        "changes": not plan.nothing_to_do,
        "summary": {name: list(sentences) for name, sentences in plan.summary.items()},
        "cost": [asdict(one) for one in plan.cost],
        "resource_changes": [_resource_change(change) for change in plan.changes],
        "resource_drift": [_resource_drift(change) for change in plan.changes if change.drift],
        "output_changes": _output_changes(plan, prior_outputs or {}),
        "checks": [asdict(finding) for finding in plan.findings],
        "warnings": list(plan.warnings),
        "kept": list(plan.kept),
        "counts": dict(plan.counts),
    }


def identity_of(change: Change) -> dict[str, Tree]:
    """Return the part that names a resource."""
    return {
        "address": change.address,
        "mode": "managed",
        "type": change.type,
        "name": change.address.partition(".")[2],
        "provider_name": change.provider,
    }


def _resource_change(change: Change) -> dict[str, Tree]:
    deleted = change.action == "delete"
    return {
        **identity_of(change),
        "change": {
            "actions": ACTIONS[change.action],
            "before": None if change.before is None else known(change.before),
            "after": None if deleted else known(change.after or {}),
            "after_unknown": {} if deleted else unknown(change.after or {}),
            "replace_paths": [one.path.split(".") for one in change.fields if one.replaces],
        },
        "action_reason": change.reason,
        "details": list(change.details),
        "drift": [asdict(drift) for drift in change.drift],
        "traits": change.traits.model_dump(mode="json"),
        "generation": change.generation,
        "group": change.group,
        "depends_on": list(change.dependencies),
    }


def _resource_drift(change: Change) -> dict[str, Tree]:
    return {**identity_of(change), "drift": [asdict(drift) for drift in change.drift]}


def _output_changes(plan: Plan, prior: Mapping[str, Tree]) -> dict[str, Tree]:
    after = outputs_after(plan)
    return {
        name: {
            "actions": [_output_action(name, prior, after)],
            "before": prior.get(name),
            "after": known(after.get(name)),
            "after_unknown": unknown(after.get(name)),
        }
        for name in sorted({*prior, *after})
    }


def _output_action(name: str, prior: Mapping[str, Tree], after: Mapping[str, Tree]) -> str:
    if name not in prior:
        return "create"
    if name not in after:
        return "delete"
    return "no-op" if prior[name] == after[name] else "update"


def known(tree: Tree) -> Tree:
    """Return a tree without what is unknown: fields are left out, list items become null."""
    if (mapping := as_mapping(tree)) is not None:
        return {key: known(item) for key, item in mapping.items() if not isinstance(item, Unknown)}
    if (sequence := as_sequence(tree)) is not None:
        return [known(item) for item in sequence]
    return None if isinstance(tree, Unknown) else tree


def unknown(tree: Tree) -> Tree:
    """Return the shape of what is unknown: `true` there; known fields are left out, known list items are false."""
    if isinstance(tree, Unknown):
        return True
    if (mapping := as_mapping(tree)) is not None:
        return {key: found for key, item in mapping.items() if (found := unknown(item)) not in (False, {}, [])}
    if (sequence := as_sequence(tree)) is not None:
        found = [unknown(item) for item in sequence]
        return found if any(item not in (False, {}, []) for item in found) else []
    return False


# --- state ------------------------------------------------------------------------------------------------------------------


def state_document(state: State) -> dict[str, Tree]:
    """Return the whole state."""
    return {
        "format_version": FORMAT_VERSION,
        "llmdeploy_version": __version__,
        "stack": state.stack,
        "lineage": state.lineage,
        "serial": state.serial,
        "values": {
            "outputs": dict(state.outputs),
            "root_module": {"resources": [entry_document(state.entries[address]) for address in sorted(state.entries)]},
        },
    }


def entry_document(entry: Entry) -> dict[str, Tree]:
    """Return one resource of a state."""
    return {
        "address": entry.address,
        "mode": "managed",
        "type": entry.type,
        "name": entry.address.partition(".")[2],
        "provider_name": entry.provider,
        "schema_version": entry.version,
        "values": entry.spec,
        "outputs": entry.outputs,
        "depends_on": list(entry.dependencies),
        "id": entry.id,
        "generation": entry.generation,
        "status": entry.status,
        "prevent_destroy": entry.prevent_destroy,
        "deposed": [deposed.model_dump(mode="json") for deposed in entry.deposed],
    }
