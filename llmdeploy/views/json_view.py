"""Plan and state as JSON in Terraform's shape, so that policy and review tools need little to read them. See docs/json.md.

ASCII, fixed order: the same plan gives the same bytes but for `timestamp`. There is no secret in it, because a plan and a state
hold references only; hence every `sensitive` mark is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.resources import files

from .. import __version__
from ..change import Action, Change
from ..cost import line_document
from ..plan import Plan
from ..policy import Finding
from ..resource import Tree, Unknown, as_mapping, as_sequence
from ..state.model import Entry, State
from .document import FORMAT_VERSION
from .human import outputs_after, warnings

_ACTIONS: Mapping[Action, list[str]] = {
    "no-op": ["no-op"],
    "create": ["create"],
    "update": ["update"],
    "replace": ["delete", "create"],
    "delete": ["delete"],
    "adopt": ["no-op"],
}


def actions(change: Change) -> list[str]:
    """Return Terraform's words for a change. It calls an adoption a `no-op` with `importing`."""
    return ["create", "delete"] if change.action == "replace" and change.create_first else _ACTIONS[change.action]


def plan_document(plan: Plan, *, plan_id: str = "", errored: bool = False) -> dict[str, Tree]:
    """Return the whole plan. plan_id: of a saved one; errored: it is refused, and `checks` says why."""
    return {
        "format_version": FORMAT_VERSION,
        "llmdeploy_version": __version__,
        "timestamp": plan.created_at,
        "stack": plan.stack,
        "mode": plan.mode,
        "plan_id": plan_id,
        "expires_at": plan.expires_at,
        "lineage": plan.identity.lineage,
        "serial": plan.serial,
        "stack_sha256": plan.stack_sha256,
        "lock_sha256": plan.lock_sha256,
        "account": dict(plan.account),
        "targets": list(plan.targets),
        "variables": {name: {"value": value} for name, value in sorted(plan.variables.items())},
        "applyable": not (errored or plan.nothing_to_do or plan.mode == "refresh-only"),
        "complete": not plan.targets,
        "errored": errored,
        "changes": not plan.nothing_to_do,
        "counts": dict(plan.counts),
        "in_doubt": list(plan.in_doubt),
        "summary": {name: list(sentences) for name, sentences in plan.summary.items()},
        "cost": [line_document(one) for one in plan.cost],
        "prior_cost": [line_document(one) for one in plan.prior_cost],
        "sizing": dict(plan.sizing) or None,
        "economics": dict(plan.economics) or None,
        "compliance": dict(plan.compliance) or None,
        "warnings": list(warnings(plan)),
        "kept": list(plan.kept),
        "checks": _checks(plan),
        "resource_changes": [one for change in plan.changes for one in _resource_changes(plan, change)],
        "resource_drift": [_resource_drift(change) for change in plan.changes if _drifted(change)],
        "output_changes": _output_changes(plan),
        "planned_values": {
            "outputs": {name: _planned_output(value) for name, value in sorted(outputs_after(plan).items())},
            "root_module": {"resources": [_planned_value(one) for one in plan.changes if one.action != "delete"]},
        },
        "prior_state": {
            "format_version": FORMAT_VERSION,
            "llmdeploy_version": __version__,
            "values": {
                "outputs": outputs_document(plan.prior_outputs),
                "root_module": {"resources": [_prior_value(one) for one in plan.changes if one.before is not None]},
            },
        },
    }


def plan_schema() -> str:
    """Return the JSON Schema of what `plan_document` returns."""
    return files("llmdeploy.views").joinpath("plan.schema.json").read_text(encoding="utf-8").rstrip("\n")


def identity_of(change: Change) -> dict[str, Tree]:
    """Return the part that names a resource."""
    return {
        "address": change.address,
        "mode": "managed",
        "type": change.type,
        "name": change.address.partition(".")[2],
        "provider_name": change.provider,
    }


# --- what will change -------------------------------------------------------------------------------------------------------


def _resource_changes(plan: Plan, change: Change) -> Iterator[dict[str, Tree]]:
    """Yield the change, and one deletion for each replaced object that is still there."""
    deleted = change.action == "delete"
    body = _change(actions(change), change.before, None if deleted else change.after or {})
    replaced = [one.path.split(".") for one in change.fields if one.replaces]
    yield {
        **identity_of(change),
        "change": {
            **body,
            **({"replace_paths": replaced} if replaced else {}),
            **({"importing": {"id": change.found}} if change.action == "adopt" else {}),
        },
        **_action_reason(plan, change),
        "reason": change.reason,
        "in_doubt": change.in_doubt,
        "resume": change.resume,
        "details": list(change.details),
        "drift": [asdict(drift) for drift in change.drift],
        "traits": change.traits.document(),
        "generation": change.generation,
        "group": change.group,
        "rollout": asdict(change.rollout) if change.rollout else None,
        "depends_on": list(change.dependencies),
    }
    for generation in change.deposed:
        yield {
            **identity_of(change),
            "deposed": f"{generation:08x}",
            "change": _change(["delete"], {}, None),
            "reason": "it was replaced and is still there",
            "generation": generation,
            "group": change.group,
        }


def _change(words: list[str], before: Mapping[str, Tree] | None, after: Mapping[str, Tree] | None) -> dict[str, Tree]:
    return {
        "actions": words,
        "before": None if before is None else known(before),
        "after": None if after is None else known(after),
        "after_unknown": {} if after is None else unknown(after),
        "before_sensitive": False if before is None else {},
        "after_sensitive": False if after is None else {},
    }


def _action_reason(plan: Plan, change: Change) -> dict[str, Tree]:
    """Terraform's word for the reason, where it has one; `reason` is ours."""
    if change.action == "replace" and any(one.replaces for one in change.fields):
        return {"action_reason": "replace_because_cannot_update"}
    if change.action == "delete" and plan.mode == "apply":
        return {"action_reason": "delete_because_no_resource_config"}
    return {}


def _drifted(change: Change) -> bool:
    return bool(change.drift) or _gone(change)


def _gone(change: Change) -> bool:
    """Whether the whole object went away: it is made again, or was only looked at."""
    again = change.action == "create" and change.before is not None and not change.resume
    return again or any(not drift.field for drift in change.drift)


def _resource_drift(change: Change) -> dict[str, Tree]:
    """Return what was found different. The live value of a field is told by its sentence alone, so here it is unknown."""
    before = change.before or {}
    fields = {drift.field: True for drift in change.drift if drift.field in before}
    if _gone(change):
        found = _change(["delete"], before, None)
    else:
        after = {name: value for name, value in before.items() if name not in fields}
        found = {**_change(["update"], before, after), "after_unknown": fields}
    sentences = [asdict(drift) for drift in change.drift] or [{"field": "", "sentence": "it is gone"}]
    return {**identity_of(change), "change": found, "drift": sentences}


def _output_changes(plan: Plan) -> dict[str, Tree]:
    prior, after = plan.prior_outputs, outputs_after(plan)
    return {
        name: {
            "actions": [_output_action(name, prior, after)],
            "before": prior.get(name),
            "after": known(after.get(name)),
            "after_unknown": unknown(after.get(name)),
            "before_sensitive": False,
            "after_sensitive": False,
        }
        for name in sorted({*prior, *after})
    }


def _output_action(name: str, prior: Mapping[str, Tree], after: Mapping[str, Tree]) -> str:
    if name not in prior:
        return "create"
    if name not in after:
        return "delete"
    return "no-op" if prior[name] == after[name] else "update"


def _checks(plan: Plan) -> list[Tree]:
    """Return what the compliance profiles found, one check for each control."""
    controls: dict[str, list[Finding]] = {}
    for finding in plan.findings:
        controls.setdefault(finding.control, []).append(finding)
    return [
        {
            "address": {"kind": "check", "name": control, "to_display": f"check.{control}"},
            "status": "fail",
            "instances": [
                {
                    "address": {"to_display": f"check.{control}"},
                    "status": "fail",
                    "problems": [{"message": f"{one.address} {one.sentence}".strip()} for one in found],
                }
            ],
            "findings": [asdict(one) for one in found],
        }
        for control, found in controls.items()
    ]


# --- values -----------------------------------------------------------------------------------------------------------------


def _planned_value(change: Change) -> dict[str, Tree]:
    values, outputs = known(change.after or {}), known(change.outputs)
    return {**identity_of(change), "values": values, "sensitive_values": {}, "outputs": outputs}


def _prior_value(change: Change) -> dict[str, Tree]:
    return {
        **identity_of(change),
        "values": known(change.before or {}),
        "sensitive_values": {},
        "depends_on": list(change.dependencies),
    }


def _planned_output(value: Tree) -> dict[str, Tree]:
    return {"sensitive": False} if unknown(value) not in (False, {}, []) else _output(value)


def outputs_document(outputs: Mapping[str, Tree]) -> dict[str, Tree]:
    """Return the outputs of a stack, each with its value and the type of that."""
    return {name: _output(value) for name, value in sorted(outputs.items())}


def _output(value: Tree) -> dict[str, Tree]:
    return {"sensitive": False, "value": value, "type": _type(value)}


def _type(value: Tree) -> Tree:
    """Return the type of a value in Terraform's words."""
    if (mapping := as_mapping(value)) is not None:
        return ["object", {name: _type(item) for name, item in mapping.items()}]
    if (sequence := as_sequence(value)) is not None:
        return ["tuple", [_type(item) for item in sequence]]
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "dynamic" if value is None else "string"


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
        "evidence": state.evidence.model_dump(mode="json") if state.evidence else None,
        "values": {
            "outputs": outputs_document(state.outputs),
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
