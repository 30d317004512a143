"""The list of machines in the stack file: what it says, and how it is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmdeploy.errors import StackError
from llmdeploy.registry import restored_config, stored_config
from llmdeploy_host import hosts
from llmdeploy_host._connection import Connection
from llmdeploy_host._hosts_config import HostConfig, HostsConfig
from tests.providers.llmdeploy_host.hosts_lab import HOST_KEY, RACK, config, load_hosts


def test_a_list_of_machines_is_read_from_the_stack_file(tmp_path: Path) -> None:
    first_line = (
        f'    - {{address: node-1.example.com, user: ubuntu, port: 2222, host_key: "{HOST_KEY}", gpus: {{type: l40s}}}}\n'
    )
    read = load_hosts(tmp_path, first_line + "    - address: 10.0.0.12\n").stack.provider.config
    assert isinstance(read, HostsConfig)
    first, second = read.root
    assert first.connection == Connection(
        transport="ssh", address="node-1.example.com", port=2222, user="ubuntu", host_key=HOST_KEY, sudo=True
    )
    assert (first.key, second.key) == ("node-1-example-com", "10-0-0-12")
    assert second.connection == Connection(transport="ssh", address="10.0.0.12", user="root", sudo=False)


def test_every_error_is_told_with_its_place(tmp_path: Path) -> None:
    body = """\
    - {address: 10.0.0.11, usr: ubuntu, gpus: {type: l40s, coutn: 2}}
    - {address: 10.0.0.300}
    - {address: a, name: Not a name, port: "22"}
    - {user: ubuntu}
    - {address: b, identity: not-a-reference, host_key: abc, proxy_jump: "x y", user: ops, sudo: false}
"""
    with pytest.raises(StackError) as caught:
        load_hosts(tmp_path, body)
    told = [re.sub(r"^.*stack\.yaml:", "", line) for line in caught.value.message.splitlines()]
    assert told == [
        '6:28: error: provider.hosts[0]: unknown key "usr" (did you mean "user"?)',
        '6:60: error: provider.hosts[0].gpus: unknown key "coutn" (did you mean "count"?)',
        "7:17: error: provider.hosts[1].address: must be a host name or an IP address, such as node-1.example.com or 10.0.0.11",
        "8:26: error: provider.hosts[2].name: must be a short name: at most 40 small letters, digits and dashes",
        "8:44: error: provider.hosts[2].port: must be a whole number, not text (remove the quotes)",
        "9:7: error: provider.hosts[3].address: is required (Host name or IP address of the machine)",
        "10:30: error: provider.hosts[4].identity: must be a reference to a secret: env:NAME, file:PATH or aws-secret:NAME, "
        "never the secret itself",
        "10:57: error: provider.hosts[4].host_key: must be the public key of the host: ssh-ed25519 AAAA..., as ssh-keyscan "
        "prints it after the address",
        "10:74: error: provider.hosts[4].proxy_jump: must be USER@HOST:PORT of the machine to go through; user and port may be "
        "left out",
        "10:98: error: provider.hosts[4].sudo: this user is not root: leave sudo out, and allow it passwordless sudo on the "
        "machine",
        "10 errors",
    ]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("    []\n", "hosts: must list at least one machine"),
        ("    {address: 10.0.0.1}\n", "hosts: must be a list, not a mapping"),
        (
            "    - address: 10.0.0.1\n    - address: 10.0.0.1\n",
            r"yaml:7:16.*hosts\[1\].address: the machine 10.0.0.1 stands above",
        ),
        (
            "    - address: 10.0.0.1\n    - {address: 10.0.0.2, name: 10-0-0-1}\n",
            r'\[1\].name: a machine named "10-0-0-1" stands',
        ),
    ],
)
def test_what_is_no_list_of_different_machines_is_refused(body: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=sentence):
        load_hosts(tmp_path, body)


@pytest.mark.parametrize("good", ["10.0.0.1", "fd00::11", "node-1", "Node-1.Example.com", "gpu.rack1.internal"])
def test_addresses_that_are_taken(good: str) -> None:
    key = HostConfig(address=good).key
    assert re.fullmatch(r"[a-z0-9-]+", key)


@pytest.mark.parametrize("bad", ["", "10.0.0", "::", "a b", "-x", "user@host", "host:22", "a..b", "x" * 64, "ssh://a"])
def test_addresses_that_are_none(bad: str) -> None:
    with pytest.raises(ValidationError, match="host name or an IP address"):
        HostConfig(address=bad)


@pytest.mark.parametrize(
    ("jump", "good"),
    [("bastion", True), ("ops@bastion.example.com:2222", True), ("ops@[fd00::1]:22", True), ("a:0", False), ("@a", False)],
)
def test_a_machine_to_go_through(jump: str, good: bool) -> None:
    if good:
        assert HostConfig(address="a", proxy_jump=jump).connection.proxy_jump == jump
    else:
        with pytest.raises(ValidationError, match="USER@HOST:PORT"):
            HostConfig(address="a", proxy_jump=jump)


@pytest.mark.parametrize(
    "values", [{"gpus": {"type": "l40s", "count": 0}}, {"memory_gib": 0}, {"port": 65536}, {"gpus": {"count": 1}}]
)
def test_numbers_have_bounds(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HostConfig.model_validate({"address": "a", **values})


def test_the_list_survives_the_way_through_plan_and_state() -> None:
    body = config(*RACK)
    assert restored_config(hosts, stored_config(body)) == body
