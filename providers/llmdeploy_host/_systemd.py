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
JOURNALS = "/etc/systemd"


def definition(paths: Paths, service: Service) -> dict[str, str]:
    """Return the files of the definition, by their absolute path."""
    unit, journal, pre_start = files(paths, service.name)
    values = {
        "service": service,
        "paths": paths,
        "namespace": namespace(paths, service.name),
        "pre_start": pre_start,
        "argv": " ".join(_argument(part) for part in service.argv),
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
    return render("systemd_stop.sh.j2", unit=unit_name(paths, name))


def remove_script(paths: Paths, name: str) -> str:
    """See `_service`."""
    return render(
        "systemd_remove.sh.j2",
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
    return f"{log_location(paths, name)} --quiet --output=cat --lines={lines}\n"


def follow_script(paths: Paths, name: str, lines: int) -> str:
    """See `_service`."""
    return f"exec {log_location(paths, name)} --quiet --output=cat --lines={lines} --follow\n"


def log_location(paths: Paths, name: str) -> str:
    """See `_service`."""
    return f"journalctl --namespace={namespace(paths, name)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _argument(text: str) -> str:
    return _quoted(text.replace("$", "$$"))
