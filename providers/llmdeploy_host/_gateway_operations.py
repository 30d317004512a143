"""What can be done with a gateway that runs: look at it, read its log, take replicas out of service and back."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from typing import Literal

from llmdeploy.sdk import Context, LlmdeployError, OperationResult, Prior, ProviderError, Tree

from . import _service
from ._connection import Paths
from ._gateway_scripts import ask_script
from ._gateway_spec import SERVICE, HostGatewaySpec
from ._session import run_script


def inspect(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Tell the state (running, degraded: a replica is out of service, down), each replica and the sessions it has."""
    del arguments
    replicas = _replicas(ctx, prior)
    down = not replicas or all(item["state"] == "down" for item in replicas)
    state = (
        "stopped" if not replicas else "down" if down else "running" if all(i["state"] == "up" for i in replicas) else "degraded"
    )
    port = prior.outputs.get("port")
    return OperationResult({"state": state, "port": port, "log": prior.outputs.get("log"), "replicas": replicas})


def logs(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Stream the last `lines` lines of the log, then each new one with `follow`."""
    paths, spec, lines = Paths(ctx.run.slug), prior.spec_as(HostGatewaySpec), int(arguments.get("lines") or 100)
    make = _service.follow_script if arguments.get("follow") else _service.log_script
    script = f"(\n{make(paths, SERVICE, lines, spec.supervisor)}) | sed -u 's/^/::progress /'"
    if arguments.get("follow"):
        ctx.deadline = time.monotonic() + 10 * 365 * 86_400
    run_script(ctx, spec.host, script)
    return OperationResult()


def drain(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Give no new request to `replica` (default: all) and wait up to `timeout_s` (default 600) until its requests have ended."""
    wanted = _chosen(ctx, prior, arguments)
    _set_state(ctx, prior, wanted, "drain")
    timeout_s = float(arguments.get("timeout_s") or 600)
    deadline = time.monotonic() + timeout_s
    while busy := [item for item in _replicas(ctx, prior) if item["replica"] in wanted and item["sessions"]]:
        if time.monotonic() > deadline:
            names = ", ".join(f"{item['replica']} ({item['sessions']})" for item in busy)
            raise ProviderError(f"after {timeout_s:.0f} s requests are still open: {names}", hint="wait longer, or stop anyway")
        if ctx.run.abort.wait(0.2):
            break
    return OperationResult({"drained": wanted})


def undrain(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Give requests to `replica` (default: all) again."""
    wanted = _chosen(ctx, prior, arguments)
    _set_state(ctx, prior, wanted, "ready")
    return OperationResult({"undrained": wanted})


def _set_state(ctx: Context, prior: Prior, replicas: Sequence[str], state: Literal["ready", "drain"]) -> None:
    from ._gateway_config import server_state_command

    _ask(ctx, prior, [server_state_command(replica, state) for replica in replicas])


def _chosen(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> list[str]:
    known = [item["replica"] for item in _replicas(ctx, prior)]
    if not known:
        raise ProviderError("the gateway is not running", hint="run `llmdeploy apply`")
    wanted = arguments.get("replica")
    if wanted is not None and wanted not in known:
        raise LlmdeployError(f"the gateway has no replica {wanted}", hint=f"it has: {', '.join(known)}")
    return known if wanted is None else [wanted]


def _replicas(ctx: Context, prior: Prior) -> list[dict[str, Tree]]:
    """Return name, state (up, down, draining) and open sessions of each replica; nothing when the gateway does not answer."""
    text = _ask(ctx, prior, ["show stat engine 4 -1\n"]).removeprefix("# ")
    states = {"UP": "up", "DRAIN": "draining", "MAINT": "draining"}
    return [
        {"replica": row["svname"], "state": states.get(row["status"].split()[0], "down"), "sessions": int(row["scur"])}
        for row in csv.DictReader(io.StringIO(text.strip()))
    ]


def _ask(ctx: Context, prior: Prior, commands: Sequence[str]) -> str:
    """Return what the running gateway replies; empty when it does not answer."""
    script = ask_script(Paths(ctx.run.slug))
    return run_script(ctx, prior.spec_as(HostGatewaySpec).host, script, stdin="\0".join(commands).encode())
