"""The rendered scripts and units of the base types: as recorded, clean for ShellCheck, and known to systemd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmdeploy_host import _s6, _service, _systemd, host, host_home, host_packages, host_supervisor, host_volume
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._host_type import HostType, locked
from llmdeploy_host._scripts import render
from llmdeploy_host._service import Service
from tests.providers.llmdeploy_host.host_lab import prior_of
from tests.support import ROOT, require_tool

GOLDEN = ROOT / "tests" / "golden" / "host"
PATHS = Paths("support-chat-1a2b3c4d")
LINEAGE = "1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d"
ENGINE = Service(
    name="engine-0",
    argv=("/opt/run time/bin/python", "-m", "serve", "--model", "$weights; rm -rf /", "--share", "50%", 'it\'s "quoted" \\'),
    env={"HOME": "/var/lib/a b", "GREETING": 'it\'s $HOME 100% \\ "here"'},
    user=PATHS.user,
    isolate_network=True,
    memory_max_bytes=8 * 2**30,
    secret_env_file=f"{PATHS.lib}/engine.env",
    pre_start=f"mountpoint -q {PATHS.lib}/volume\nmkdir -p {PATHS.run}/engine\n",
)
EDGE = Service(
    name="gateway", argv=("/usr/sbin/haproxy", "-W", "-db"), stop_signal="USR1", reload_signal="USR2", log_retention_days=7
)


def _home() -> HostType[host_home.HomeSpec, host_home.HomeOutputs]:
    return host_home.RESOURCE


def _probes() -> dict[str, str]:
    machine = Connection()
    home = host_home.HomeSpec(host=machine, name="support-chat")
    wanted = host_packages.PackagesSpec(host=machine, packages=("curl", "haproxy"))
    supervisor = host_supervisor.SupervisorSpec(host=machine, home=PATHS.lib)
    return {
        "host.probe": host.facts_script(),
        "home.probe": _home().probe(PATHS, prior_of(_home(), home, {})),
        "packages.probe": host_packages.RESOURCE.probe(PATHS, prior_of(host_packages.RESOURCE, wanted, {})),
        "supervisor.probe": host_supervisor.RESOURCE.probe(PATHS, prior_of(host_supervisor.RESOURCE, supervisor, {"kind": "s6"})),
        "volume.probe": host_volume.probe_script(PATHS),
    }


def _service_scripts(kind: str) -> dict[str, str]:
    return {
        f"{kind}.install": _service.install_script(PATHS, ENGINE, kind),
        f"{kind}.install-gateway": _service.install_script(PATHS, EDGE, kind),
        f"{kind}.reload": _service.reload_script(PATHS, EDGE, kind),
        f"{kind}.stop": _service.stop_script(PATHS, "engine-0", kind),
        f"{kind}.remove": _service.remove_script(PATHS, "engine-0", kind),
        f"{kind}.probe": _service.probe(PATHS, "engine-0", kind),
        f"{kind}.log": _service.log_script(PATHS, "engine-0", 50, kind),
        f"{kind}.follow": _service.follow_script(PATHS, "engine-0", 50, kind),
    }


def _scripts() -> Mapping[str, str]:
    return {
        "host.create": host.folders_script(PATHS),
        "host.delete": host.delete_script(PATHS),
        "host.preflight": render("host_preflight.sh.j2"),
        "home.create": host_home.home_script(PATHS, "support-chat", LINEAGE),
        "home.update": host_home.home_script(PATHS, "support-chat", LINEAGE, uid=998),
        "home.delete": host_home.home_delete_script(PATHS, LINEAGE),
        "packages": host_packages.packages_script(PATHS, ("curl", "haproxy")),
        "packages.none": host_packages.packages_script(PATHS, ()),
        "packages.preflight": render("packages_preflight.sh.j2", packages=("curl", "haproxy")),
        "supervisor.create": host_supervisor.supervisor_script(PATHS),
        "supervisor.delete": host_supervisor.supervisor_delete_script(PATHS),
        "volume.open": host_volume.open_script(PATHS),
        "volume.rekey": host_volume.open_script(PATHS, rekey=True),
        "volume.plain": host_volume.plain_script(PATHS),
        "volume.close": host_volume.close_script(PATHS),
        **_probes(),
        **_service_scripts("s6"),
        **_service_scripts("systemd"),
    }


def _inner_scripts() -> Mapping[str, str]:
    """Scripts inside of scripts, which ShellCheck sees as mere text."""
    found = {
        f"{service.name}/{file}": text
        for service in (ENGINE, EDGE)
        for file, text in _s6.definition(PATHS, service).items()
        if text.startswith("#!") or file == "data/pre_start"
    }
    values = {"scan": _s6.scan_folder(PATHS), "logs": PATHS.log, "messages": f"{PATHS.run}/supervisor.log"}
    return {**found, "janitor_run": render("janitor_run.sh.j2"), "janitor_sweep": render("janitor_sweep.sh.j2", **values)}


SCRIPTS = _scripts()
INNER = _inner_scripts()


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_recorded(name: str) -> None:
    file = GOLDEN / f"{name}.sh"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        file.write_text(SCRIPTS[name])
    assert SCRIPTS[name] == file.read_text()


@pytest.mark.parametrize("name", [*SCRIPTS, *INNER])
def test_shellcheck(name: str) -> None:
    require_tool("shellcheck")
    script = INNER.get(name) or locked(PATHS, "host_engine.local", SCRIPTS[name])
    found = subprocess.run(["shellcheck", "--shell=sh", "-"], input=script, text=True, capture_output=True)
    assert found.stdout == ""


@pytest.mark.parametrize("kind", ["s6", "systemd"])
def test_the_digest_is_that_of_the_definition(kind: str) -> None:
    digest = _service.definition_sha256(PATHS, ENGINE, kind)
    assert digest in _service.install_script(PATHS, ENGINE, kind)
    assert digest == _service.definition_sha256(PATHS, ENGINE, kind)
    assert digest != _service.definition_sha256(PATHS, EDGE, kind)


@pytest.mark.parametrize("service", [ENGINE, EDGE], ids=["engine", "gateway"])
def test_systemd_knows_every_line_of_the_unit(service: Service, tmp_path: Path) -> None:
    require_tool("systemd-analyze")
    unit, *_ = _systemd.definition(PATHS, service).values()
    # The programs of the examples are not all on this machine, and verify insists on them.
    unit = unit.replace('"/opt/run time/bin/python"', '"/bin/true"').replace('"/usr/sbin/haproxy"', '"/bin/true"')
    unit = unit.replace(f"User={PATHS.user}", "User=daemon").replace(f"Group={PATHS.user}", "Group=daemon")
    file = tmp_path / "llmdeploy-example.service"
    file.write_text(unit)
    found = subprocess.run(["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True)
    assert [line for line in found.stderr.splitlines() if file.name in line] == []
    exposure = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)], capture_output=True, text=True
    ).stdout
    level = float(exposure.rpartition("exposure level for")[2].split(":")[1].split()[0])
    assert level < (3.5 if service.user else 6.0)


def test_service_names_and_arguments_are_checked() -> None:
    for name in ("", "Engine", "a" * 33, "a/b", "-a"):
        with pytest.raises(ValueError, match="bad service name"):
            Service(name=name, argv=("true",))
    with pytest.raises(ValueError, match="single lines"):
        Service(name="a", argv=("a\nb",))
    with pytest.raises(ValueError, match="has no reload signal"):
        _service.reload_script(PATHS, ENGINE, "s6")
    longest = Service(name="a" * 32, argv=("true",))
    assert len(_s6.label(PATHS, longest.name)) <= 64
