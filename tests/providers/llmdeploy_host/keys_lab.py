"""What tests of keys and certificates share: a run in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmdeploy.sdk import Context, Drift, Identity, Outputs, Prior, Run, Spec

LINEAGE = "1a2b3c4d5e6f"


def run_in(folder: Path, **environ: str) -> Run:
    return Run(Identity("keys-test", LINEAGE), folder, environ)


def prior_of(address: str, spec: Spec, outputs: Outputs, *drift: Drift) -> Prior:
    """What state and refresh would hand in: trees that went through JSON."""
    return Prior(address, address, json.loads(json.dumps(spec.tree())), json.loads(json.dumps(outputs.tree())), drift=drift)


def context(run: Run, address: str, acked: list[str] | None = None) -> Context:
    seen: list[str] = [] if acked is None else acked
    return Context(run, address, on_acked=seen.append)


def drifted(kind: Any, run: Run, prior: Prior) -> Prior:
    """The prior with what `read` finds."""
    return Prior(prior.address, prior.id, prior.spec, prior.outputs, drift=kind.read(run, prior).drift)
