"""`host_gateway`: HAProxy before the engines of a machine: TLS, keys, limits, a log of metadata."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal, cast

from pydantic import Field

from llmdeploy.sdk import (
    Context,
    Drift,
    Identity,
    Input,
    LlmdeployError,
    NotBuilt,
    OperationResult,
    Outputs,
    PlannedChange,
    Prior,
    Problem,
    ProviderError,
    ReadResult,
    Replace,
    Run,
    Spec,
    Timeouts,
    Traits,
    Tree,
)

from . import _service
from ._connection import Connection, HostSpec, Paths
from ._host_type import HostType
from ._scripts import render
from ._session import run_script, session
from .api_key import Credential
from .certificate import read_key

SERVICE = "gateway"
FILES = ("haproxy.cfg", "usage.lua", "keys.map", "tls.pem")


class GatewayKey(Spec):
    """A key as the gateway enforces it: who, how much, and its credentials."""

    name: str
    principal: str
    requests_per_minute: int
    concurrency: int
    allow_fallback: bool = False
    credentials: Input[tuple[Credential, ...]]


class HostGatewaySpec(HostSpec):
    """address: where it listens. sticky: the header that keeps a session on one replica, "" for none.

    chain_pem and key_source: what `certificate` gives out. peers: addresses of the gateways of the stack's other replicas, which
    are reached over TLS with certificates on both sides, on peer_port. behind: address of the load balancer's resource through
    which alone clients reach it, None when they reach it directly.
    """

    engine_sockets: Annotated[tuple[Input[str], ...], Field(min_length=1)]
    peers: tuple[Input[str], ...] | None = None
    peer_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    behind: str | None = None
    keys: tuple[GatewayKey, ...] = ()
    chain_pem: Input[str]
    key_source: Input[str]
    address: str = "0.0.0.0"  # noqa: S104 - the gateway is the one part that is meant to be reached
    port: Annotated[int, Field(ge=1, le=65535)]
    sticky: str = "x-session-id"
    served_name: str
    log_retention_days: Annotated[int, Field(ge=1)] = 30
    user: Input[str]
    supervisor: Annotated[Input[Literal["systemd", "s6"]], Replace("it moves to another process supervisor")]


class HostGatewayOutputs(Outputs):
    """The port, the service's name, where its log is found, and a salted digest of each file that was written."""

    port: int
    service: str
    log: str
    files: dict[str, str]


class HostGateway(HostType[HostGatewaySpec, HostGatewayOutputs]):
    """Changes of keys reach the running process at once; all other changes are seamless reloads. Open streams go on."""

    name: ClassVar[str] = "host_gateway"
    spec = HostGatewaySpec
    outputs = HostGatewayOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"port", "log", "files"})
    timeouts: ClassVar[Timeouts] = Timeouts(create_s=180, update_s=180, delete_s=180)

    def __init__(self) -> None:
        self.operations = {"inspect": _inspect, "logs": _logs, "drain": _drain, "undrain": _undrain}

    def plan(self, prior: Prior | None, values: Mapping[str, Tree]) -> PlannedChange:
        """Decide as every type does; say what an update means for open streams, and how other replicas are reached."""
        planned = super().plan(prior, values)
        if planned.action == "update":
            return replace(planned, details=(_effect(planned),))
        return replace(planned, details=tuple(_peer_details(values))) if values.get("peers") else planned

    def _diffed(self, values: Mapping[str, Tree]) -> dict[str, Tree]:
        """Leave out where keys were handed over: that is no business of a gateway."""
        kept = super()._diffed(values)
        return {**kept, "keys": _without(kept.get("keys"), "location")}

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """Return port and service, and where the log lies once lineage and supervisor are known."""
        known: dict[str, Tree] = {"port": values["port"], "service": SERVICE}
        paths, kind = Paths.of(identity), values["supervisor"]
        return known | ({"log": _service.log_location(paths, SERVICE, kind)} if paths and isinstance(kind, str) else {})

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Return who can reach it, how data moves through it, and how long its log is kept."""
        return Traits(
            in_transit="encrypted",
            exposure="private" if values.get("behind") else _exposure(values["address"]),
            retention_days=values["log_retention_days"],
        )

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """Tell who else listens on the port."""
        del prior
        if values.get("peers"):
            return (Problem(_NOT_BUILT, "set replicas: 1"),)
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

        if spec.peers:
            raise NotBuilt(_NOT_BUILT, hint="set replicas: 1")
        ctx.acked(SERVICE)
        paths = Paths(ctx.run.slug)
        config = gateway_config(paths, spec, _haproxy_version(self.script(ctx, spec, "/usr/sbin/haproxy -v")))
        files = gateway_files(config, spec, read_key(ctx.run, spec.key_source).reveal())
        self.script(ctx, spec, gateway_script(paths, spec), stdin=gateway_archive(config, files))
        return HostGatewayOutputs(
            port=spec.port,
            service=SERVICE,
            log=_service.log_location(paths, SERVICE, spec.supervisor),
            files={name: _salted(paths, content) for name, content in files.items()},
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


# --- what is wanted, as text ------------------------------------------------------------------------------------------------


def gateway_service(paths: Paths, spec: HostGatewaySpec) -> _service.Service:
    """Return the process. Its master stays root, to bind and to read; the worker becomes the stack's user in a chroot."""
    return _service.Service(
        name=SERVICE,
        argv=("/usr/sbin/haproxy", "-W", "-db", "-f", f"{gateway_folder(paths)}/haproxy.cfg"),
        stop_timeout_s=10,
        log_retention_days=spec.log_retention_days,
        reload_signal="USR2",
        pre_start=render("gateway_pre_start.sh.j2", run=paths.run, folder=gateway_folder(paths), sockets=gateway_sockets(paths)),
    )


def gateway_script(paths: Paths, spec: HostGatewaySpec) -> str:
    """Return the script that brings the machine to the files on standard input."""
    service, kind = gateway_service(paths, spec), spec.supervisor
    ip = ip_address(spec.address)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(str(ip), f"[{ip}]" if ip.version == 6 else str(ip))  # noqa: S104 - as above
    return render(
        "gateway.sh.j2",
        library=_library(paths),
        install=_service.install_script(paths, service, kind),
        reload=_service.reload_script(paths, service, kind),
        log=_service.log_script(paths, SERVICE, 20, kind),
        url=f"https://{host}:{spec.port}",
    )


def remove_script(paths: Paths, kind: str) -> str:
    """Return the script that leaves nothing of the gateway."""
    return render(
        "gateway_remove.sh.j2",
        remove=_service.remove_script(paths, SERVICE, kind),
        folder=gateway_folder(paths),
        sockets=gateway_sockets(paths),
    )


def probe_script(paths: Paths, spec: HostGatewaySpec) -> str:
    """Return the fragment that prints the digest of each file and the state of the process and its keys."""
    return render(
        "gateway_probe.sh.j2",
        library=_library(paths),
        service=_service.probe(paths, SERVICE, spec.supervisor),
        definition=_service.definition_sha256(paths, gateway_service(paths, spec), spec.supervisor),
        salt=paths.slug,
    )


def port_script(paths: Paths | None, port: int) -> str:
    """Return the script that prints `free`, or who listens on `port` and is not this stack's gateway."""
    own = f"{gateway_folder(paths)}/haproxy.cfg" if paths else "no gateway of this stack yet"
    return render("gateway_port.sh.j2", port=port, own=own)


def ask_script(paths: Paths) -> str:
    """Return the script that hands the commands on standard input to the running gateway, if there is one."""
    return f'{_library(paths)}\n[ ! -S "$admin" ] || ask || :\n'


def gateway_folder(paths: Paths) -> str:
    """Return where its files lie."""
    return f"{paths.lib}/gateway"


def gateway_sockets(paths: Paths) -> str:
    """Return where its sockets lie."""
    return f"{paths.run}/edge"


def _library(paths: Paths) -> str:
    runtime = render("gateway_runtime.py")
    return render("gateway_lib.sh.j2", folder=gateway_folder(paths), sockets=gateway_sockets(paths), runtime=runtime)


def _haproxy_version(text: str) -> tuple[int, ...]:
    match = re.search(r"version (\d+)\.(\d+)", text)
    if match is None:
        raise ProviderError("haproxy does not tell its version", hint="reinstall the package haproxy")
    return int(match[1]), int(match[2])


def _salted(paths: Paths, content: bytes) -> str:
    """Return what the probe prints for a file: tls.pem holds a secret, so that nothing unsalted of it may be kept."""
    return sha256(paths.slug.encode() + content).hexdigest()


# --- who reaches it ---------------------------------------------------------------------------------------------------------

_NOT_BUILT = "gateways that know the replicas of other machines can be planned and not made by this version"


def _exposure(address: str) -> Literal["host", "private", "public"]:
    ip = ip_address(address)
    if ip.is_loopback:
        return "host"
    # 0.0.0.0 counts as private for Python; here it means every address, public ones too.
    return "private" if ip.is_private and not ip.is_unspecified else "public"


def _peer_details(values: Mapping[str, Tree]) -> Iterator[str]:
    count, port = len(values["peers"]), values.get("peer_port")
    others = "1 other machine" if count == 1 else f"{count} other machines"
    where = f" on TCP {port}" if port else ""
    yield f"also sends requests to the replicas of {others}, through their gateways{where}: TLS with certificates on both sides"


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


# --- operations -------------------------------------------------------------------------------------------------------------


def _inspect(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Tell the state (running, degraded: a replica is out of service, down), each replica and the sessions it has."""
    del arguments
    replicas = _replicas(ctx, prior)
    down = not replicas or all(item["state"] == "down" for item in replicas)
    state = (
        "stopped" if not replicas else "down" if down else "running" if all(i["state"] == "up" for i in replicas) else "degraded"
    )
    port = prior.outputs.get("port")
    return OperationResult({"state": state, "port": port, "log": prior.outputs.get("log"), "replicas": replicas})


def _logs(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Stream the last `lines` lines of the log, then each new one with `follow`."""
    paths, spec, lines = Paths(ctx.run.slug), prior.spec_as(HostGatewaySpec), int(arguments.get("lines") or 100)
    make = _service.follow_script if arguments.get("follow") else _service.log_script
    script = f"(\n{make(paths, SERVICE, lines, spec.supervisor)}) | sed -u 's/^/::progress /'"
    if arguments.get("follow"):
        ctx.deadline = time.monotonic() + 10 * 365 * 86_400
    run_script(ctx, spec.host, script)
    return OperationResult()


def _drain(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
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


def _undrain(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
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


RESOURCE = HostGateway()
