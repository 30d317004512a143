"""The operation `evidence` of `host_gateway`: a Python program that looks at the running gateway on its own machine.

The program is the package `gateway_evidence` of the templates; it travels by standard input, and what it is told by argument.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from llmdeploy.sdk import CommandFailed, Context, Interrupted, LlmdeployError, Observation, OperationResult, Prior, Tree, observed

from . import _s6, _systemd
from ._connection import Paths
from ._evidence import bounded
from ._gateway_scripts import gateway_folder, gateway_sockets
from ._gateway_spec import SERVICE, HostGatewayOutputs, HostGatewaySpec
from ._key_format import PATTERN
from ._probe_program import program as probe_program
from ._session import run_script
from .host_supervisor import JANITOR

FACTS = (
    *("exposure", "in_transit", "tls_min", "authenticated", "guards", "log_fields", "stored_keys", "private"),
    *("retention_days", "content_found", "data_flows"),
)
"""What the program tells, each with a value or a reason."""

_MODULES = ("model", "processes", "tls", "runtime", "records", "keys", "requests", "files", "main")


def evidence(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Return what was seen of every fact in `FACTS`. A machine that cannot be asked gives each of them a reason."""
    del arguments
    spec = prior.spec_as(HostGatewaySpec)
    host = str(spec.host.address)
    try:
        wanted = told(Paths(ctx.run.slug), spec, prior)
        script = f"exec /usr/bin/python3 -IS - {shlex.quote(json.dumps(wanted))}"
        return observed(read(host, run_script(ctx, spec.host, script, stdin=program())))
    except Interrupted:
        raise
    except LlmdeployError as error:
        tail = f": {error.tail.splitlines()[-1]}" if isinstance(error, CommandFailed) and error.tail else ""
        reason = bounded(f"{host} could not be asked: {error.message}{tail}")
    return observed(Observation(fact=fact, host=host, reason=reason) for fact in FACTS)


def told(paths: Paths, spec: HostGatewaySpec, prior: Prior) -> dict[str, Any]:
    """Return what the program is told of where to look and what was applied: the fields of its `Wanted`. No secrets."""
    applied = HostGatewayOutputs.model_validate(prior.outputs).files if prior.outputs else {}
    return {
        "folder": gateway_folder(paths),
        "sockets": gateway_sockets(paths),
        "run": paths.run,
        "logs": paths.log,
        **_keeper(paths, spec.supervisor),
        "supervisor": spec.supervisor,
        "port": spec.port,
        "behind": spec.behind or "",
        "generic_errors": spec.generic_errors,
        "salt": paths.slug,
        "digest": applied.get("haproxy.cfg", ""),
        "key_pattern": PATTERN.pattern.replace("llmd_live_", "llmd_(?:live|test)_"),
    }


def _keeper(paths: Paths, supervisor: str) -> dict[str, str]:
    if supervisor == "s6":
        scan = _s6.scan_folder(paths)
        return {"log": f"{paths.log}/{SERVICE}", "service": f"{scan}/{SERVICE}", "janitor": f"{scan}/{JANITOR}"}
    return {"log": _systemd.namespace(paths, SERVICE), "service": _systemd.files(paths, SERVICE)[1], "janitor": ""}


def program() -> bytes:
    """Return the program as Python reads it from standard input."""
    shared = ("evidence.kernel", "evidence.kept", "evidence.scan")
    return probe_program((*shared, *(f"gateway_evidence.{name}" for name in _MODULES))).encode()


def read(host: str, output: str) -> list[Observation]:
    """Return what the program told. Raises LlmdeployError for anything else than all of `FACTS`."""
    try:
        found = {one["fact"]: one for one in json.loads(output)}
        return [
            Observation(
                fact=fact,
                value=found[fact]["value"],
                host=host,
                command=bounded(found[fact]["command"]),
                output=bounded(found[fact]["output"]),
                reason=bounded(found[fact]["reason"]),
            )
            for fact in FACTS
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise LlmdeployError(f"the probe told something that means nothing ({type(error).__name__})") from None
