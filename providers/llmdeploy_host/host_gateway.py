"""`host_gateway`: HAProxy before the engines of a machine: TLS, keys, limits, a log of metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, cast

from llmdeploy.sdk import (
    EVIDENCE,
    Context,
    Drift,
    Identity,
    NotBuilt,
    PlannedChange,
    Prior,
    Problem,
    ProviderError,
    ReadResult,
    Run,
    Timeouts,
    Traits,
    Tree,
)

from . import _service
from ._connection import Connection, HostSpec, Paths
from ._gateway_evidence import evidence
from ._gateway_operations import drain, inspect, logs, undrain
from ._gateway_scripts import gateway_script, port_script, probe_script, remove_script, salted
from ._gateway_spec import FILES, SERVICE, GatewayKey, HostGatewayOutputs, HostGatewaySpec
from ._gateway_traits import gateway_traits, not_built, routes
from ._host_type import HostType
from ._session import session
from .certificate import read_key

__all__ = ["RESOURCE", "GatewayKey", "HostGateway", "HostGatewayOutputs", "HostGatewaySpec"]


class HostGateway(HostType[HostGatewaySpec, HostGatewayOutputs]):
    """Changes of keys reach the running process at once; all other changes are seamless reloads. Open streams go on."""

    name: ClassVar[str] = "host_gateway"
    spec = HostGatewaySpec
    outputs = HostGatewayOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"port", "log", "files"})
    timeouts: ClassVar[Timeouts] = Timeouts(create_s=180, update_s=180, delete_s=180)

    def __init__(self) -> None:
        self.operations = {"inspect": inspect, "logs": logs, "drain": drain, "undrain": undrain, EVIDENCE: evidence}

    def plan(self, prior: Prior | None, values: Mapping[str, Tree]) -> PlannedChange:
        """Decide as every type does; say what an update means for open streams, and where else requests go."""
        planned = super().plan(prior, values)
        if planned.action == "no-op":
            return planned
        effect = (_effect(planned),) if planned.action == "update" else ()
        return replace(planned, details=(*effect, *routes(values)))

    def _diffed(self, values: Mapping[str, Tree]) -> dict[str, Tree]:
        """Leave out where keys were handed over: that is no business of a gateway. An older state knows no generic errors."""
        kept = super()._diffed(values)
        return {"generic_errors": False, **kept, "keys": _without(kept.get("keys"), "location")}

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """Return port and service, and where the log lies once lineage and supervisor are known."""
        known: dict[str, Tree] = {"port": values["port"], "service": SERVICE}
        paths, kind = Paths.of(identity), values["supervisor"]
        return known | ({"log": _service.log_location(paths, SERVICE, kind)} if paths and isinstance(kind, str) else {})

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Return who can reach it, how data moves through it, and what it keeps; `evidence` looks at the same."""
        return gateway_traits(values)

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """Tell what cannot be made yet, and who else listens on the port."""
        del prior
        if problems := tuple(Problem(sentence, hint) for sentence, hint in not_built(values)):
            return problems
        try:
            connection = Connection.model_validate(values["host"])
        except ValueError:
            return ()
        holder = session(run, connection).run(port_script(Paths.of(run.identity), values["port"])).strip()
        if holder == "free":
            return ()
        hint = "stop it, or set gateway.port to a free port"
        return (Problem(f"port {values['port']} is taken by {holder or 'another process'}", hint),)

    def create(self, ctx: Context, spec: HostGatewaySpec) -> HostGatewayOutputs:
        """Bring files, process and keys to `spec`; returns when the gateway answers."""
        # Imported here because most runs of the command line only plan a gateway.
        from ._gateway_files import gateway_archive, gateway_config, gateway_files

        for sentence, hint in not_built(spec.tree()):
            raise NotBuilt(sentence, hint=hint)
        ctx.acked(SERVICE)
        paths = Paths(ctx.run.slug)
        config = gateway_config(paths, spec, _haproxy_version(self.script(ctx, spec, "/usr/sbin/haproxy -v")))
        files = gateway_files(config, spec, read_key(ctx.run, spec.key_source).reveal())
        self.script(ctx, spec, gateway_script(paths, spec), stdin=gateway_archive(config, files))
        return HostGatewayOutputs(
            port=spec.port,
            service=SERVICE,
            log=_service.log_location(paths, SERVICE, spec.supervisor),
            files={name: salted(paths, content) for name, content in files.items()},
        )

    def update(self, ctx: Context, prior: Prior, spec: HostGatewaySpec) -> HostGatewayOutputs:
        """Do the same again: what is as it should be stays untouched."""
        del prior
        return self.create(ctx, spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """End it, and remove its files and its log."""
        supervisor = prior.spec.get("supervisor")
        if isinstance(supervisor, str):
            spec = HostSpec(host=prior.spec["host"])
            self.script(ctx, spec, remove_script(Paths(ctx.run.slug), supervisor))

    def probe(self, paths: Paths, prior: Prior) -> str:
        """See HostType."""
        return probe_script(paths, prior.spec_as(HostGatewaySpec))

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """See HostType."""
        if not prior.outputs:
            return ReadResult(prior.address)
        if "folder" not in facts and facts.get("running") != "yes":
            return ReadResult(prior.address, exists=False)
        kept = HostGatewayOutputs.model_validate(prior.outputs)
        sentences = [*_file_drift(kept, facts), *_process_drift(facts)]
        return ReadResult(prior.address, drift=tuple(Drift(field, sentence) for field, sentence in sentences))


# --- what differs -----------------------------------------------------------------------------------------------------------


def _effect(planned: PlannedChange) -> str:
    paths = {change.path for change in planned.fields}
    if "log_retention_days" in paths:
        return "the gateway starts anew: open streams end"
    if paths == {"keys"}:
        return "the keys change in the running gateway: no reload, open streams go on"
    return "what differs is put right by a seamless reload: open streams go on"


def _without(tree: Tree, name: str) -> Tree:
    if isinstance(tree, Mapping):
        mapping = cast("Mapping[str, Tree]", tree)
        return {key: _without(value, name) for key, value in mapping.items() if key != name}
    if isinstance(tree, list | tuple):
        return [_without(item, name) for item in cast("Sequence[Tree]", tree)]
    return tree


def _file_drift(kept: HostGatewayOutputs, facts: Mapping[str, str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name in FILES:
        if name not in facts:
            found.append((name, f"gateway: {name} is missing"))
        elif facts[name] != kept.files.get(name):
            found.append((name, f"gateway: {name} was changed by hand"))
    return found


def _process_drift(facts: Mapping[str, str]) -> list[tuple[str, str]]:
    if facts.get("running") != "yes":
        return [("process", "gateway: the process is not running")]
    if facts.get("answers") != "yes":
        return [("process", "gateway: the process does not answer")]
    found: list[tuple[str, str]] = []
    if facts.get("definition") != facts.get("wanted_definition"):
        found.append(("process", "gateway: its service is defined otherwise"))
    if facts.get("loaded") != "yes":
        found.append(("process", "gateway: the running process has not loaded its configuration"))
    keys = facts.get("keys", "")
    if keys == "strange":
        found.append(("keys", "gateway: a key is live that is not in its keys.map"))
    elif keys != "same":
        found.append(("keys", "gateway: a key of keys.map is not live, or with other limits"))
    return found


def _haproxy_version(text: str) -> tuple[int, ...]:
    match = re.search(r"version (\d+)\.(\d+)", text)
    if match is None:
        raise ProviderError("haproxy does not tell its version", hint="reinstall the package haproxy")
    return int(match[1]), int(match[2])


RESOURCE = HostGateway()
