"""Services as systemd units, each with a journal of its own.

A journal namespace keeps a service's lines apart from the machine's, and journald itself enforces their size and age, so no
further program is needed. systemd's cgroup makes sure that no process is left.
"""

from __future__ import annotations

import shlex

from ._connection import Paths
from ._scripts import render
from ._service_spec import Service

UNITS = "/etc/systemd/system"
WANTS = f"{UNITS}/multi-user.target.wants"
JOURNALS = "/etc/systemd"
# What systemd puts into the environment of a service by itself.
GIVEN = (
    *("HOME", "INVOCATION_ID", "JOURNAL_STREAM", "LANG", "LOGNAME", "LOG_NAMESPACE"),
    *("MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "SHELL", "SYSTEMD_EXEC_PID", "USER"),
)


def definition(paths: Paths, service: Service) -> dict[str, str]:
    """Return the files of the definition, by their absolute path."""
    unit, journal, pre_start = files(paths, service.name)
    values = {
        "service": service,
        "paths": paths,
        "volume": volume_scope(paths),
        "namespace": namespace(paths, service.name),
        "pre_start": pre_start,
        "argv": " ".join(_argument(part) for part in service.argv),
        "unset": [name for name in GIVEN if name not in service.env],
        "environment": [_quoted(f"{name}={value}") for name, value in service.env.items()],
    }
    return {
        unit: render("systemd_service.j2", **values),
        journal: render("systemd_journal.j2", service=service),
        pre_start: service.pre_start.rstrip("\n") + "\n",
    }


def files(paths: Paths, name: str) -> tuple[str, str, str]:
    """Return the paths of the unit, of the journal's settings and of the preparation script, in the order of hashing."""
    return (
        f"{UNITS}/{unit_name(paths, name)}",
        f"{JOURNALS}/journald@{namespace(paths, name)}.conf",
        f"{paths.lib}/services/{name}.pre_start",
    )


def unit_name(paths: Paths, name: str) -> str:
    """Return the name of the unit."""
    return f"llmdeploy-{paths.slug}-{name}.service"


def volume_scope(paths: Paths) -> str:
    """Return the name of the scope in which the process behind the encrypted volume lives, on a machine with systemd."""
    return f"llmdeploy-{paths.slug}-volume.scope"


def namespace(paths: Paths, name: str) -> str:
    """Return the name of the journal namespace."""
    return f"{paths.user}-{name}"


def install_script(paths: Paths, service: Service, digest: str) -> str:
    """See `_service`."""
    return render(
        "systemd_install.sh.j2",
        files=definition(paths, service),
        unit=unit_name(paths, service.name),
        namespace=namespace(paths, service.name),
        applied=f"{paths.run}/applied/{service.name}",
        digest=digest,
    )


def reload_script(paths: Paths, name: str, signal: str) -> str:
    """See `_service`."""
    return f"systemctl kill --kill-who=main --signal={signal} {shlex.quote(unit_name(paths, name))}\n"


def stop_script(paths: Paths, name: str) -> str:
    """See `_service`."""
    return render("systemd_stop.sh.j2", unit=unit_name(paths, name), wants=WANTS)


def remove_script(paths: Paths, name: str) -> str:
    """See `_service`."""
    return render(
        "systemd_remove.sh.j2",
        wants=WANTS,
        files=files(paths, name),
        unit=unit_name(paths, name),
        namespace=namespace(paths, name),
        applied=f"{paths.run}/applied/{name}",
    )


def probe(paths: Paths, name: str) -> str:
    """See `_service`."""
    return render("systemd_probe.sh.j2", files=files(paths, name), unit=unit_name(paths, name))


def log_script(paths: Paths, name: str, lines: int) -> str:
    """See `_service`."""
    return f"{_show(paths, name, lines)}\n"


def follow_script(paths: Paths, name: str, lines: int) -> str:
    """See `_service`."""
    return f"exec {_show(paths, name, lines)} --follow\n"


def log_location(paths: Paths, name: str) -> str:
    """See `_service`."""
    return f"journalctl --namespace={namespace(paths, name)}"


def _show(paths: Paths, name: str, lines: int) -> str:
    # journald writes lines of its own into every journal.
    return f"{log_location(paths, name)} --identifier={name} --quiet --output=cat --lines={lines}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _argument(text: str) -> str:
    return _quoted(text.replace("$", "$$"))
