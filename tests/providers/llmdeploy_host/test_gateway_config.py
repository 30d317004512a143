"""What the gateway's configuration says, without running it."""

from __future__ import annotations

import hashlib
import os
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmdeploy_host._gateway_config import (
    NEVER,
    PAYLOAD_BYTES,
    GatewayConfig,
    KeyRecord,
    Limits,
    Replica,
    parse_keys_map,
    prepare_map_command,
    prepared_version,
    render_config,
    render_keys_map,
    render_usage_lua,
    runtime_map_text,
    runtime_sync_commands,
    server_state_command,
)
from llmdeploy_host._gateway_spec import LOG_FIELDS
from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden" / "gateway"
RUN = "/run/llmdeploy-demo"


def config(**changes: Any) -> GatewayConfig:
    values: dict[str, Any] = {
        "port": 8443,
        "tls_pem": "/etc/llmdeploy-demo/edge.pem",
        "keys_map": "/etc/llmdeploy-demo/keys.map",
        "usage_lua": "/etc/llmdeploy-demo/usage.lua",
        "sockets_dir": "/run/llmdeploy-demo-ops",
        "replicas": (Replica(name="r1", socket=f"{RUN}/r1.sock"),),
        "served_models": ("llama-3.3-70b-instruct",),
        "haproxy_version": (2, 6, 12),
    }
    return GatewayConfig(**(values | changes))


CASES = {
    "one-replica": config(),
    "two-replicas-chroot": config(
        address="::",
        replicas=(Replica(name="r1", socket=f"{RUN}/r1.sock"), Replica(name="r2", address="127.0.0.1:9001")),
        served_models=("llama-3.3-70b-instruct", "org/adapter:v2"),
        user="llmd-gw",
        group="llmd-gw",
        chroot=RUN,
        threads=4,
        sticky_header="x-conversation",
        limits=Limits(body_bytes=1024 * 1024, drain_timeout_s=60),
    ),
    "haproxy-3.2-without-accounting": config(haproxy_version=(3, 2, 1), token_accounting=False),
    "generic-errors": config(generic_errors=True),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    path, text = GOLDEN / f"{name}.cfg", render_config(CASES[name])
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", CASES)
def test_rules_that_hold_for_every_configuration(name: str) -> None:
    text = render_config(CASES[name])
    assert not re.search(r"lua-load ", text)
    assert "backup" not in text
    assert "hosted" not in text
    assert "ssl-min-ver TLSv1.2" in text
    assert "fallback" not in text
    assert len(re.findall(r"^  bind (?!unix@)", text, re.MULTILINE)) == 1
    assert not re.search(r"%(r|HU|HP|HQ|HV|hr|hs|ci|b|U)\b|capture", text), "client text in the log"


def test_http2_only_where_a_refusal_is_not_lost() -> None:
    assert "alpn http/1.1\n" in render_config(config(haproxy_version=(3, 1, 9)))
    assert "alpn h2,http/1.1\n" in render_config(config(haproxy_version=(3, 2)))


@pytest.mark.parametrize("name", CASES)
def test_the_fields_of_a_log_line_are_those_that_the_plan_tells(name: str) -> None:
    for directive in ("log-format", "error-log-format"):
        (line,) = re.findall(rf"^  {directive} '(.*)'$", render_config(CASES[name]), re.MULTILINE)
        assert tuple(re.findall(r'"([a-z_]+)":', line)) == LOG_FIELDS


def test_generic_errors_are_asked_for() -> None:
    without, asked = render_config(CASES["one-replica"]), render_config(config(generic_errors=True))
    assert "http-response return" not in without
    assert asked.count("http-response return") == 18


def test_token_accounting_decides_about_lua() -> None:
    assert "lua" in render_config(config())
    assert "lua" not in render_config(config(token_accounting=False))
    assert "core.register_filter" in render_usage_lua()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"haproxy_version": (2, 4, 9)}, "2.6 or newer"),
        ({"replicas": ()}, "at least 1 item"),
        ({"replicas": (Replica(name="r1", socket="/a"), Replica(name="r1", socket="/b"))}, "same name"),
        ({"chroot": "/srv"}, "outside of /srv"),
        ({"keys_map": "/etc/keys map"}, "match pattern"),
        ({"tls_pem": "edge.pem"}, "match pattern"),
        ({"sockets_dir": "/run/x\n  bind :80"}, "match pattern"),
        ({"served_models": ("a b",)}, "match pattern"),
        ({"served_models": ("-m",)}, "match pattern"),
        ({"sticky_header": "x) -m reg"}, "match pattern"),
        ({"address": "example.com"}, "IPv4 or IPv6"),
        ({"port": 0}, "greater than"),
        ({"usr": "x"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_a_gateway(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    "values",
    [{}, {"socket": "/a", "address": "127.0.0.1:1"}, {"address": "10.0.0.1:8000"}, {"address": "127.0.0.1"}],
)
def test_what_cannot_be_a_replica(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Replica(name="r1", **values)


PRINTABLE = st.text(min_size=1, max_size=256).filter(lambda text: text.isprintable() and max(text) < "\U00010000")
EPOCHS = st.none() | st.integers(1, NEVER - 1)
RECORDS = st.builds(
    KeyRecord,
    key_id=st.text(string.ascii_letters + string.digits, min_size=1, max_size=64),
    sha256=st.binary(max_size=8).map(lambda key: hashlib.sha256(key).hexdigest()),
    principal=PRINTABLE,
    requests_per_minute=st.integers(1, 1_000_000_000),
    concurrency=st.integers(1, 1_000_000),
    not_before=EPOCHS,
    not_after=EPOCHS,
    allow_fallback=st.booleans(),
)
KEYS = st.lists(RECORDS, max_size=8, unique_by=(lambda key: key.sha256, lambda key: key.key_id))


@given(KEYS)
def test_the_map_holds_the_keys_and_does_not_depend_on_their_order(keys: list[KeyRecord]) -> None:
    text = render_keys_map(keys)
    assert parse_keys_map(text) == tuple(sorted(keys, key=lambda key: key.sha256))
    assert render_keys_map(reversed(keys)) == text
    assert text.isascii()
    for line in text.splitlines():
        assert re.fullmatch(r"[0-9a-f]{64} [\w.-]+\|[\w.~/:@+=,%-]+\|\d+\|\d+\|[01]\|\d+\|\d+", line, re.ASCII)


@given(KEYS, st.integers(1, 2**32 - 1))
def test_the_commands_carry_the_whole_map_and_nothing_else(keys: list[KeyRecord], version: int) -> None:
    text = render_keys_map(keys)
    *adds, commit = runtime_sync_commands("/k.map", text, version)
    head = f"add map @{version} /k.map <<\n"
    assert all(command.startswith(head) and command.endswith("\n\n") for command in adds)
    assert "".join(command.removeprefix(head)[:-1] for command in adds) == text
    assert commit == f"commit map @{version} /k.map\n"
    shown = "".join(f"0x55d0{number:08x} {line}\n" for number, line in enumerate(reversed(text.splitlines())))
    assert runtime_map_text(f"{shown}\n") == text


def test_commands_stay_below_the_buffer() -> None:
    one = KeyRecord(key_id="k", sha256="0" * 64, principal="ü" * 256, requests_per_minute=1, concurrency=1)
    keys = [one.model_copy(update={"key_id": f"k{n}", "sha256": f"{n:064x}"}) for n in range(500)]
    commands = runtime_sync_commands("/k.map", render_keys_map(keys), 7)
    assert len(commands) > 20
    assert max(map(len, commands)) < PAYLOAD_BYTES + 100


def test_a_line_in_full() -> None:
    key = KeyRecord(
        key_id="abcd1234",
        sha256="0" * 64,
        principal="arn:aws:iam::111122223333:role/support|Zoë 1",
        requests_per_minute=600,
        concurrency=32,
        not_after=1_800_000_000,
        allow_fallback=True,
    )
    assert render_keys_map([key]) == (
        f"{'0' * 64} abcd1234|arn:aws:iam::111122223333:role/support%7CZo%C3%AB%201|600|32|1|0|1800000000\n"
    )


@pytest.mark.parametrize("principal", ["", "a\nb", "a\0b", "\u2028", "\U0001f600", "x" * 257])
def test_principals_that_a_log_line_cannot_carry(principal: str) -> None:
    with pytest.raises(ValidationError):
        KeyRecord(key_id="k", sha256="0" * 64, principal=principal, requests_per_minute=1, concurrency=1)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "# x",
        *(f"{'0' * 64} k|{rest}" for rest in ("p|1|1|0|0", "p|1|1|2|0|0", "p|0|1|0|0|9", "%FF|1|1|0|0|9", "%0A|1|1|0|0|9")),
    ],
)
def test_a_map_that_is_not_ours_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line 1 of the key map"):
        parse_keys_map(f"{line}\n")


def test_twins_are_refused() -> None:
    one = KeyRecord(key_id="k", sha256="0" * 64, principal="p", requests_per_minute=1, concurrency=1)
    with pytest.raises(ValueError, match="two keys have the hash"):
        render_keys_map([one, one.model_copy(update={"key_id": "l"})])
    with pytest.raises(ValueError, match="two keys have the id k"):
        render_keys_map([one, one.model_copy(update={"sha256": "1" * 64})])


def test_replies_of_the_socket() -> None:
    assert prepare_map_command("/k.map") == "prepare map /k.map\n"
    assert prepared_version("New version created: 3\n\n") == 3
    with pytest.raises(ValueError, match="Unknown map"):
        prepared_version("Unknown map identifier. Please use #<id> or <file>.\n")
    assert server_state_command("r1", "drain") == "set server engine/r1 state drain\n"


def test_nothing_in_the_golden_files_was_left_behind() -> None:
    assert {path.stem for path in Path(GOLDEN).glob("*.cfg")} == set(CASES)
