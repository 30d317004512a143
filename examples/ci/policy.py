#!/usr/bin/env python3
"""Judges a plan by rules of your own, over and above the compliance profiles: the example to start from.

    llmdeploy show stack.plan --format json > plan.json
    python policy.py plan.json --labels "$LABELS_OF_THE_PULL_REQUEST"

Prints one line for each finding. Exit code: 0 nothing against it, 1 refused, 2 this is no plan that can be judged.
It needs Python alone. The facts come from each resource's `traits`, so the rules hold for every provider.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

# Edit these. Regions are compared as the stack file writes them; MAY_BE_PUBLIC has patterns of addresses: the gateway, no more.
ALLOWED_REGIONS = frozenset({"de", "eu-central-1", "eu-west-1"})
MAY_BE_PUBLIC = ("host_gateway.*",)
DATA_LOSS_LABEL = "allow-data-loss"


class NotAPlanError(Exception):
    """The document cannot be judged."""


def read_plan(path: Path) -> dict[str, Any]:
    """Return the plan document. Raises NotAPlanError when it is none, was refused, or has a format not known here."""
    try:
        plan: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise NotAPlanError(f"{path}: {error}") from error
    if "resource_changes" not in plan:
        raise NotAPlanError(f"{path}: no resource_changes; write it with: llmdeploy show PLANFILE --format json")
    if str(plan.get("format_version")).split(".")[0] != "1":
        raise NotAPlanError(f"{path}: format {plan.get('format_version')} is not 1.x; this script must be looked at again")
    if plan.get("errored"):
        raise NotAPlanError(f"{path}: this plan was refused")
    return plan


def judge(plan: dict[str, Any], labels: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield what is against the plan, one sentence each. labels: those of the pull request."""
    for resource in plan["resource_changes"]:
        actions, traits = resource["change"]["actions"], resource["traits"]
        findings = [*_data_loss(actions, traits, labels)]
        if actions != ["delete"]:
            findings += [*_exposure(resource["address"], traits), *_regions(traits), *_pins(traits)]
        yield from (f"{resource['address']}: {finding}" for finding in findings)


def _data_loss(actions: list[str], traits: dict[str, Any], labels: frozenset[str]) -> Iterator[str]:
    holds_data = traits["at_rest"] != "none" or traits["retention_days"] is not None
    if "delete" in actions and holds_data and DATA_LOSS_LABEL not in labels:
        verb = "replaced" if "create" in actions else "deleted"
        yield f'holds data and would be {verb}: add the label "{DATA_LOSS_LABEL}" when that is meant'


def _exposure(address: str, traits: dict[str, Any]) -> Iterator[str]:
    if traits["exposure"] == "public" and not any(fnmatchcase(address, pattern) for pattern in MAY_BE_PUBLIC):
        yield "would be open to the internet"


def _regions(traits: dict[str, Any]) -> Iterator[str]:
    allowed = f"allowed: {', '.join(sorted(ALLOWED_REGIONS))}"
    if traits["region"] is not None and traits["region"] not in ALLOWED_REGIONS:
        yield f"would lie in {traits['region']} ({allowed})"
    for flow in traits["data_flows"]:
        if flow["region"] is not None and flow["region"] not in ALLOWED_REGIONS:
            yield f"would send {flow['what']} to {flow['to']} in {flow['region']} ({allowed})"


def _pins(traits: dict[str, Any]) -> Iterator[str]:
    if traits["pinned"] is False:
        yield "is not pinned: run `llmdeploy lock` and commit stack.lock.yaml"


def main() -> int:
    """Judge one document; return the exit code."""
    parser = argparse.ArgumentParser(description="Judge a plan.")
    parser.add_argument("plan", type=Path, help="what `llmdeploy show PLANFILE --format json` printed")
    parser.add_argument("--labels", default="", metavar="A,B", help="labels of the pull request, with commas between")
    options = parser.parse_args()
    try:
        findings = [*judge(read_plan(options.plan), frozenset(options.labels.split(",")))]
    except NotAPlanError as error:
        print(error, file=sys.stderr)
        return 2
    for finding in findings:
        print(finding)
    print(f"policy: {len(findings)} against it" if findings else "policy: nothing against it")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
