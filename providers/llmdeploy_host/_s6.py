"""Services under s6: one supervision tree per stack, its service folders below the stack's run folder.

Every process of a service lives in a UTS namespace of its own whose domain name is the service's label. That is how its
processes are found: a session, a process group and a marker in the environment can all be left behind (setproctitle overwrites
the environment), a namespace cannot.
"""

from __future__ import annotations

from ._connection import Paths
from ._scripts import render
from ._service_spec import Service

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
LAYOUT = (
    "run", "finish", "down-signal", "timeout-kill", "timeout-finish", "data/pre_start", "data/start", "data/sweep",
    "data/retention_minutes", "log/run",
)  # fmt: skip
"""The files of a definition, in the order in which they are hashed."""

_FINISH_TIMEOUT_MS = 150_000
"""Longer than the sweep and the longest pause between two starts."""


def scan_folder(paths: Paths) -> str:
    """Return the folder that s6-svscan watches."""
    return f"{paths.run}/services"


def label(paths: Paths, name: str) -> str:
    """Return the domain name of the service's UTS namespace: at most 64 characters, unique on the machine."""
    return f"{paths.user}.{name}"


def definition(paths: Paths, service: Service) -> dict[str, str]:
    """Return the files of the service folder, by their path in it."""
    values = {"service": service, "label": label(paths, service.name), "path": PATH, "log": _log_folder(paths, service.name)}
    scripts = {
        file: render(f"s6_{file.replace('/', '_')}.sh.j2", **values)
        for file in ("run", "finish", "data/start", "data/sweep", "log/run")
    }
    texts = {
        "down-signal": f"SIG{service.stop_signal}\n",
        "timeout-kill": f"{service.stop_timeout_s * 1000}\n",
        "timeout-finish": f"{_FINISH_TIMEOUT_MS}\n",
        "data/pre_start": service.pre_start.rstrip("\n") + "\n",
        "data/retention_minutes": f"{service.log_retention_days * 24 * 60}\n",
    }
    files = {**scripts, **texts}
    return {file: files[file] for file in LAYOUT}


def install_script(paths: Paths, service: Service, digest: str) -> str:
    """See `_service`."""
    files = definition(paths, service)
    return render("s6_install.sh.j2", scan=scan_folder(paths), name=service.name, files=files, digest=digest)


def reload_script(paths: Paths, name: str, signal: str) -> str:
    """See `_service`."""
    return render("s6_reload.sh.j2", folder=_folder(paths, name), signal=signal)


def stop_script(paths: Paths, name: str) -> str:
    """See `_service`."""
    return _stop(paths, name, remove=False)


def remove_script(paths: Paths, name: str) -> str:
    """See `_service`."""
    return _stop(paths, name, remove=True)


def _stop(paths: Paths, name: str, *, remove: bool) -> str:
    sweep = render("s6_data_sweep.sh.j2", label=label(paths, name))
    return render("s6_stop.sh.j2", scan=scan_folder(paths), name=name, sweep=sweep, remove=remove, log=_log_folder(paths, name))


def probe(paths: Paths, name: str) -> str:
    """See `_service`."""
    return render("s6_probe.sh.j2", scan=scan_folder(paths), name=name, layout=LAYOUT)


def log_script(paths: Paths, name: str, lines: int) -> str:
    """See `_service`."""
    return render("s6_log.sh.j2", log=_log_folder(paths, name), lines=lines)


def follow_script(paths: Paths, name: str, lines: int) -> str:
    """See `_service`."""
    return render("s6_follow.sh.j2", log=_log_folder(paths, name), lines=lines)


def log_location(paths: Paths, name: str) -> str:
    """See `_service`."""
    return f"{_log_folder(paths, name)}/current"


def _folder(paths: Paths, name: str) -> str:
    return f"{scan_folder(paths)}/{name}"


def _log_folder(paths: Paths, name: str) -> str:
    return f"{paths.log}/{name}"
