"""What the gateway's probe sees under a real systemd: the process as a unit, the log as a journal of its own."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from llmdeploy.sdk import Observation
from llmdeploy_host import _gateway_evidence
from llmdeploy_host._connection import Paths
from llmdeploy_host._gateway_files import gateway_archive, gateway_config, gateway_files
from llmdeploy_host._gateway_scripts import gateway_script, remove_script, salted
from llmdeploy_host._gateway_spec import LOG_FIELDS, SERVICE, HostGatewayOutputs
from llmdeploy_host._host_type import locked
from llmdeploy_host._systemd import files as unit_files
from llmdeploy_host._systemd import unit_name
from llmdeploy_host.host_gateway import RESOURCE
from llmdeploy_host.host_home import home_script
from tests.lab.systemd_machine import SystemdMachine

from ...support import require_root, require_tool
from .gateway_lab import certificate, free_port
from .keys_lab import prior_of
from .test_host_gateway import ADDRESS, spec

pytestmark = pytest.mark.integration

LINEAGE = "5e1f7a8b9c0d1e2f3a4b5c6d1a2b3c4d"
PATHS = Paths(f"gateway-{LINEAGE[:8]}")


class Gateway:
    """A gateway on the machine, whose engine never came up: no probe needs one."""

    def __init__(self, machine: SystemdMachine) -> None:
        self.machine = machine
        self.spec = spec(
            engine_sockets=(f"{PATHS.run}/engine/local.sock",),
            chain_pem=certificate().decode(),
            address="127.0.0.1",
            port=free_port(),
            user=PATHS.user,
            supervisor="systemd",
            generic_errors=True,
            log_retention_days=7,
        )

    def create(self) -> None:
        config = gateway_config(PATHS, self.spec, (2, 6))
        # the chain holds the key already
        self.files = gateway_files(config, self.spec, b"")
        archive = gateway_archive(config, self.files).decode()
        self.machine.run(locked(PATHS, ADDRESS, gateway_script(PATHS, self.spec)), stdin=archive)

    def look(self) -> dict[str, Observation]:
        outputs = HostGatewayOutputs(
            port=self.spec.port, service=SERVICE, log="", files={name: salted(PATHS, data) for name, data in self.files.items()}
        )
        told = _gateway_evidence.told(PATHS, self.spec, prior_of(ADDRESS, self.spec, outputs))
        script = f"/usr/bin/python3 -IS - {shlex.quote(json.dumps(told))}"
        output = self.machine.run(script, stdin=_gateway_evidence.program().decode())
        return {one.fact: one for one in _gateway_evidence.read("machine", output)}

    def bad(self, *, unclear: tuple[str, ...] = ()) -> dict[str, Any]:
        found, planned = self.look(), RESOURCE.traits(self.spec.tree()).model_dump(mode="json")
        untold = {fact for fact, one in found.items() if one.reason}
        assert untold - {"data_flows"} == set(unclear) - {"data_flows"}, [one.reason for one in found.values()]
        return {fact: one.value for fact, one in found.items() if not one.reason and one.value != planned[fact]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    require_root()
    require_tool("/lib/systemd/systemd", "unshare", "nsenter", "haproxy", "curl")
    machine = SystemdMachine(tmp_path_factory.mktemp("machine"))
    machine.start()
    try:
        machine.run(home_script(PATHS, "gateway", LINEAGE))
        made = Gateway(machine)
        made.create()
        yield made
        machine.run(locked(PATHS, ADDRESS, remove_script(PATHS, "systemd")))
    finally:
        machine.stop()


def test_everything_is_as_it_was_planned(gateway: Gateway) -> None:
    assert gateway.bad() == {}


def test_a_journal_that_is_kept_longer_is_seen(gateway: Gateway) -> None:
    settings = unit_files(PATHS, SERVICE)[1]
    gateway.machine.run(f"sed -i s/=7day/=90day/ {settings}")
    assert gateway.bad() == {"retention_days": 90}
    gateway.machine.run(f"sed -i /MaxRetentionSec/d {settings}")
    assert gateway.bad(unclear=("retention_days",)) == {}
    gateway.machine.run(f"echo MaxRetentionSec=7day >>{settings}")
    assert gateway.bad() == {}


def test_a_query_in_the_journal_is_found(gateway: Gateway) -> None:
    config, unit = f"{PATHS.lib}/gateway/haproxy.cfg", unit_name(PATHS, SERVICE)
    edited = re.sub(r"^(  log-format '{)", r'\1"uri":"%HU",', gateway.files["haproxy.cfg"].decode(), flags=re.MULTILINE)
    gateway.machine.run(f"cat >{config} && systemctl restart {unit}", stdin=edited)
    gateway.machine.wait_for("the gateway", f"curl -sk https://127.0.0.1:{gateway.spec.port}/healthz")
    # at a start, what is loaded is noted, and it is not what was applied
    found = gateway.bad(unclear=("guards",))
    assert set(found.pop("log_fields")) == {"uri", *LOG_FIELDS}
    assert found == {"content_found": ["path in a journal", "query in a journal"]}
    gateway.create()
    gateway.machine.run(f"journalctl --namespace={PATHS.user}-gateway --rotate --vacuum-time=1s")


def test_of_a_gateway_that_was_stopped_nothing_is_told(gateway: Gateway) -> None:
    unit = unit_name(PATHS, SERVICE)
    gateway.machine.run(f"systemctl stop {unit}")
    assert gateway.bad(unclear=_gateway_evidence.FACTS) == {}
    gateway.machine.run(f"systemctl start {unit}")
