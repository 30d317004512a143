"""The scripts of `host_gateway` as text: pure functions of where the stack lies and what is wanted."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address

from . import _service
from ._connection import Paths
from ._gateway_spec import SERVICE, HostGatewaySpec
from ._scripts import render


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


def salted(paths: Paths, content: bytes) -> str:
    """Return what the probe prints for a file: tls.pem holds a secret, so that nothing unsalted of it may be kept."""
    return sha256(paths.slug.encode() + content).hexdigest()
