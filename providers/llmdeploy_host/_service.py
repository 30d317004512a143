"""Long-lived processes on a machine, under systemd where it runs and under s6 elsewhere.

Pure: every function returns a POSIX sh script (or a digest) for `kind`, "systemd" or "s6", which is the output `kind` of
`host_supervisor`. A service that dies is started again for ever, after a pause. Its environment is exactly `Service.env` and
PATH, it gains no privileges, dumps no core, and no process of it is left when it stopped, however its children detached
themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Protocol

from . import _s6, _systemd
from ._connection import Paths
from ._service_spec import Service

__all__ = [
    "Service",
    "definition_sha256",
    "follow_script",
    "install_script",
    "log_location",
    "log_script",
    "probe",
    "reload_script",
    "remove_script",
    "stop_script",
]


def definition_sha256(paths: Paths, service: Service, kind: str) -> str:
    """Return what `probe` prints as `definition` while the definition on the machine is the one of `service`."""
    return sha256("".join(_backend(kind).definition(paths, service).values()).encode()).hexdigest()


def install_script(paths: Paths, service: Service, kind: str) -> str:
    """Return the script that writes the definition, and starts the service when it changed or is not running.

    It returns when the process was started, not when it is ready.
    """
    return _backend(kind).install_script(paths, service, definition_sha256(paths, service, kind))


def reload_script(paths: Paths, service: Service, kind: str) -> str:
    """Return the script that sends `reload_signal` to the main process. Fails when it is not running."""
    if service.reload_signal is None:
        raise ValueError(f"{service.name} has no reload signal")
    return _backend(kind).reload_script(paths, service.name, service.reload_signal)


def stop_script(paths: Paths, name: str, kind: str) -> str:
    """Return the script that stops the service until it is installed again. No process of it is left."""
    return _backend(kind).stop_script(paths, name)


def remove_script(paths: Paths, name: str, kind: str) -> str:
    """Return the script that stops the service and removes its definition and its log. Succeeds when nothing is there."""
    return _backend(kind).remove_script(paths, name)


def probe(paths: Paths, name: str, kind: str) -> str:
    """Return the fragment that prints `running` (yes or no), `pid`, `restarts` (since it was installed) and `definition`."""
    return _backend(kind).probe(paths, name)


def log_script(paths: Paths, name: str, lines: int, kind: str) -> str:
    """Return the script that prints the last `lines` lines of what the service wrote."""
    return _backend(kind).log_script(paths, name, lines)


def follow_script(paths: Paths, name: str, lines: int, kind: str) -> str:
    """Return the script that prints the last `lines` lines, then each new one, until it is ended."""
    return _backend(kind).follow_script(paths, name, lines)


def log_location(paths: Paths, name: str, kind: str) -> str:
    """Return where a person finds the log: a file, or the command that shows it."""
    return _backend(kind).log_location(paths, name)


class _Backend(Protocol):
    def definition(self, paths: Paths, service: Service) -> Mapping[str, str]: ...
    def install_script(self, paths: Paths, service: Service, digest: str) -> str: ...
    def reload_script(self, paths: Paths, name: str, signal: str) -> str: ...
    def stop_script(self, paths: Paths, name: str) -> str: ...
    def remove_script(self, paths: Paths, name: str) -> str: ...
    def probe(self, paths: Paths, name: str) -> str: ...
    def log_script(self, paths: Paths, name: str, lines: int) -> str: ...
    def follow_script(self, paths: Paths, name: str, lines: int) -> str: ...
    def log_location(self, paths: Paths, name: str) -> str: ...


def _backend(kind: str) -> _Backend:
    backends: dict[str, _Backend] = {"s6": _s6, "systemd": _systemd}
    return backends[kind]
