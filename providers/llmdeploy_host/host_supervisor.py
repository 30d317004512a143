"""`host_supervisor`: what keeps a stack's processes running. systemd where it runs, else an s6 tree of the stack's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from llmdeploy.sdk import Context, Drift, Input, Outputs, Prior, ReadResult

from ._connection import HostSpec, Paths
from ._host_type import HostType, parse_facts
from ._s6 import PATH, scan_folder
from ._scripts import render

JANITOR = "llmdeploy-janitor"


class SupervisorSpec(HostSpec):
    """home: the stack's folder, which must be there first. kind: auto takes systemd where it runs."""

    home: Input[str]
    kind: Literal["auto", "s6"] = "auto"


class SupervisorOutputs(Outputs):
    """kind: what supervises, the argument of every function of `_service`."""

    kind: Literal["systemd", "s6"]


class Supervisor(HostType[SupervisorSpec, SupervisorOutputs]):
    """The process supervisor of one stack on one machine."""

    name = "host_supervisor"
    spec = SupervisorSpec
    outputs = SupervisorOutputs

    def create(self, ctx: Context, spec: SupervisorSpec) -> SupervisorOutputs:
        """Start it if it does not run."""
        ctx.acked(ctx.run.slug)
        output = self.script(ctx, spec, supervisor_script(Paths(ctx.run.slug), spec.kind))
        return SupervisorOutputs.model_validate(parse_facts("::resource x\n" + output)["x"])

    def update(self, ctx: Context, prior: Prior, spec: SupervisorSpec) -> SupervisorOutputs:
        """Start it again; its services come back with it."""
        del prior
        return self.create(ctx, spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """End it with everything that it still runs."""
        self.script(ctx, prior.spec_as(SupervisorSpec), supervisor_delete_script(Paths(ctx.run.slug)))

    def probe(self, paths: Paths, prior: Prior) -> str:
        """Print whether it runs."""
        return render("supervisor_probe.sh.j2", scan=scan_folder(paths), kind=prior.outputs.get("kind", "s6"))

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """Not running is drift."""
        drift = () if "running" in facts else (Drift("running", "supervisor: the process supervisor is not running"),)
        return ReadResult(prior.address, drift=drift)


def supervisor_script(paths: Paths, kind: str = "auto") -> str:
    """Return the script that makes sure that a supervisor runs, and prints `kind`."""
    values = {"scan": scan_folder(paths), "messages": _messages(paths), "logs": paths.log}
    return render(
        "supervisor.sh.j2",
        **values,
        path=PATH,
        kind=kind,
        janitor=JANITOR,
        janitor_run=render("janitor_run.sh.j2"),
        janitor_sweep=render("janitor_sweep.sh.j2", **values),
    )


def supervisor_delete_script(paths: Paths) -> str:
    """Return the script that ends the supervision tree."""
    values = {"scan": scan_folder(paths), "messages": _messages(paths), "applied": f"{paths.run}/applied", "janitor": JANITOR}
    return render("supervisor_delete.sh.j2", **values)


def _messages(paths: Paths) -> str:
    return f"{paths.run}/supervisor.log"


RESOURCE = Supervisor()
