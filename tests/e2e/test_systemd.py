"""The main job on a machine that systemd booted, through two reboots, to a machine as it was before.

The tests run in order on one machine; each leaves it as it found it, and the last one destroys.
"""

from __future__ import annotations

import json
import os
import shlex
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.systemd_machine import SystemdMachine
from tests.support import ROOT, require_root, require_tool

from .laptop import ENGINE_PACKAGES, Http, files, packages

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

STACK = "/root/laptop"
PORT = 8543
ENVIRON = {"PYTHONPATH": ":".join(str(ROOT / folder) for folder in (".", "providers", "templates")), "COLUMNS": "120"}
CHAT: dict[str, Any] = {"model": "tiny-random", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}


class Site:
    """A machine with the stack of examples/laptop."""

    def __init__(self, machine: SystemdMachine) -> None:
        self.machine = machine
        self.before = snapshot(machine)
        example = (ROOT / "examples/laptop/stack.yaml").read_text()
        self.stack = f"{example}\ngateway: {{port: {PORT}}}\n"
        self.write(self.stack)
        self.printed = self.cli("apply --yes")

    def write(self, stack: str) -> None:
        self.machine.run(f"mkdir -p {STACK}; cat >{STACK}/stack.yaml", stdin=stack)

    def cli(self, arguments: str, *, status: int = 0) -> str:
        command = f"{shlex.quote(sys.executable)} -m llmdeploy {arguments}"
        return self.machine.run(command, environ=ENVIRON, cwd=STACK, status=status, timeout_s=900)

    def file(self, name: str) -> Path:
        return self.machine.path(f"{STACK}/.llmdeploy/{name}")

    def slug(self) -> str:
        state = json.loads(self.file("state.json").read_text())
        return f"{state['stack']}-{state['lineage'][:8]}"

    def unit(self, name: str) -> str:
        return f"llmdeploy-{self.slug()}-{name}"

    def property(self, unit: str, name: str) -> str:
        return self.machine.run(f"systemctl show --property {name} --value {self.unit(unit)}").strip()

    def ask(self, method: str, path: str, key: str = "me", body: Any = None) -> tuple[int, Any]:
        secret = self.file(f"keys/{key}.key").read_text().strip()
        tls = ssl.create_default_context(cadata=self.file("ca.pem").read_text())
        with Http(f"https://localhost:{PORT}", tls) as client:
            answer = client.request(method, path, headers={"authorization": f"Bearer {secret}"}, body=body)
        return answer.status_code, answer.json()

    def chat(self) -> int:
        """Return how many tokens the model answered."""
        status, answer = self.ask("POST", "/v1/chat/completions", body=CHAT)
        assert status == 200, answer
        return answer["usage"]["completion_tokens"]

    def is_well(self) -> bool:
        return "No changes." in self.cli("plan --detailed-exitcode") and self.chat() == 8


def snapshot(machine: SystemdMachine) -> dict[str, frozenset[str]]:
    """Return what destroy must leave as it was. systemd's own run-time records and the machine's journal come and go."""
    own = ("/run/systemd/", "/run/user", "/tmp/systemd-private", "/var/tmp/systemd-private", "/var/log/journal/", "/run/log/")
    units = "systemctl list-units --all --plain --no-legend --type=service,socket,timer,scope,target | cut -d ' ' -f 1"
    return {
        "files": frozenset(path for path in files(machine) if not path.startswith(own)),
        "packages": packages(machine),
        "users": frozenset(machine.run("getent passwd; getent group").splitlines()),
        "units": frozenset(machine.run(units).splitlines()),
        "processes": frozenset(process.command for process in machine.processes()),
        "mounts": frozenset(machine.run("cut -d ' ' -f 2 /proc/mounts").splitlines()),
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_root()
    require_tool("/lib/systemd/systemd", "unshare", "nsenter", "haproxy", "gocryptfs", "curl")
    if os.environ.get("LLMDEPLOY_REQUIRE_ALL") != "1":
        pytest.skip("installs vLLM on a throw-away machine, about 5 minutes: set LLMDEPLOY_REQUIRE_ALL=1")
    machine = SystemdMachine(tmp_path_factory.mktemp("machine"))
    machine.start()
    try:
        apt = "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -y -qq"
        machine.run(f"{apt} purge --autoremove {' '.join(ENGINE_PACKAGES)} >/dev/null 2>&1; systemctl daemon-reload")
        yield Site(machine)
    finally:
        machine.stop()


def test_apply_makes_units_that_are_shut_in(site: Site) -> None:
    assert site.machine.run("systemctl is-system-running") == "running\n"
    user = f"llmd-{site.slug()[-8:]}"
    for unit, wanted in {"engine-0": {"PrivateNetwork": "yes", "User": user}, "gateway": {"User": ""}}.items():
        both = {"ActiveState": "active", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "UnitFileState": "enabled"}
        for name, value in {**both, **wanted, "LimitCORE": "0", "LogNamespace": f"{user}-{unit}"}.items():
            assert site.property(unit, name) == value, (unit, name)
    assert site.machine.run("systemctl is-enabled haproxy.service", status=1) == "disabled\n"
    assert site.is_well()


def test_status_and_logs_read_the_journal_namespace(site: Site) -> None:
    assert "state: ready" in site.cli("status")
    assert "Application startup complete" in site.cli("logs host_engine.local -n 200")
    requests = [json.loads(line) for line in site.cli("logs host_gateway.local -n 50").splitlines() if '"request_id"' in line]
    assert [(line["principal"], line["tokens_out"]) for line in requests if line["tokens_out"]] == [("me", 8)]
    assert "request_id" not in site.machine.run("journalctl --no-pager --output=cat"), "the machine's own journal has none of it"


def test_the_engine_comes_back_when_it_dies(site: Site) -> None:
    site.machine.run(f"kill -s KILL {site.property('engine-0', 'MainPID')}")
    site.machine.wait_for("the engine's end", f"[ $(systemctl show -P NRestarts {site.unit('engine-0')}) = 1 ]")
    socket = f"/run/llmdeploy/{site.slug()}/engine/0.sock"
    site.machine.wait_for("the engine", f"curl -sf -m 2 --unix-socket {socket} http://engine/health", timeout_s=180)
    site.machine.wait_for("the gateway to see it", f"curl -skf https://localhost:{PORT}/healthz")
    assert site.is_well()


def test_a_removed_key_is_refused(site: Site) -> None:
    site.write(site.stack.replace("keys:\n", "keys:\n  - {name: guest, principal: guest}\n"))
    site.cli("apply --yes")
    assert site.ask("GET", "/v1/models", "guest")[0] == 200
    gateway, guest = site.property("gateway", "MainPID"), site.file("keys/guest.key").read_text()
    site.write(site.stack)
    site.cli("apply --yes")
    site.file("keys/removed.key").write_text(guest)
    assert site.ask("GET", "/v1/models", "removed")[0] == 401
    site.file("keys/removed.key").unlink()
    assert site.property("gateway", "MainPID") == gateway


@pytest.mark.parametrize("end", ["shut_down", "cut_power"])
def test_after_a_reboot_the_next_apply_unlocks_and_starts(site: Site, end: str) -> None:
    getattr(site.machine, end)()
    site.machine.boot()
    lib = f"/var/lib/llmdeploy/{site.slug()}"
    assert lib not in site.machine.run("cat /proc/mounts"), "the volume is locked"
    assert not site.machine.path(f"{lib}/volume/weights").exists()
    assert site.machine.run("systemctl is-active haproxy.service", status=3) == "inactive\n"
    site.machine.wait_for("the gateway", f"curl -sk https://localhost:{PORT}/healthz")
    status, answer = site.ask("GET", "/v1/models")
    assert (status, answer["error"]["code"]) == (503, "no_replica")
    assert "the volume is locked" in site.cli("logs host_engine.local -n 1")
    named = site.cli("plan --detailed-exitcode", status=2)
    assert "volume: not mounted" in named
    assert "the engine is not running" in named

    # As a service, the way a CI runner or a timer applies: what it started must outlive it.
    given = " ".join(f"--setenv={name}={shlex.quote(value)}" for name, value in {**ENVIRON, "HOME": "/root"}.items())
    service = f"systemd-run --quiet --property=Type=oneshot --property=StandardOutput=file:/root/printed -d {given}"
    site.machine.run(f"{service} {shlex.quote(sys.executable)} -m llmdeploy apply --yes", cwd=STACK, timeout_s=300)
    assert "ownloading" not in site.machine.run("cat /root/printed")
    assert site.is_well()


def test_destroy_leaves_the_machine_as_it_was(site: Site) -> None:
    site.cli("destroy --yes")
    after = snapshot(site.machine)
    for what, before in site.before.items():
        left = after[what] - before
        assert sorted(path for path in left if what != "files" or site.machine.wrote(path)) == [], what
    assert sorted(site.before["packages"] - after["packages"]) == []
    assert site.machine.run("ls /var/log/journal").split() == [site.machine.path("/etc/machine-id").read_text().strip()]
    assert site.machine.run("systemctl is-system-running") == "running\n"
