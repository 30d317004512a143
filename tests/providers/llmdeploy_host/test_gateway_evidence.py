"""The parts of the gateway's probe, without a gateway."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import string
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.sdk import EVIDENCE, LlmdeployError, Observation, Traits
from llmdeploy_host import _gateway_evidence, _key_format
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._gateway_spec import HostGatewaySpec
from llmdeploy_host.host_gateway import RESOURCE
from llmdeploy_templates.host.evidence import scan
from llmdeploy_templates.host.evidence.kernel import Unclear
from llmdeploy_templates.host.gateway_evidence import files, keys, model, processes, records, tls
from llmdeploy_templates.host.gateway_evidence.main import look
from llmdeploy_templates.host.gateway_evidence.model import Wanted
from llmdeploy_templates.host.gateway_evidence.processes import Listener

from ...support import require_root
from .gateway_lab import certificate
from .keys_lab import context, prior_of, run_in
from .test_host_gateway import ADDRESS, OUTPUTS, PATHS, spec

SLUG = PATHS.slug


def wanted(folder: Path, **changes: Any) -> Wanted:
    """A gateway whose folders lie below `folder`."""
    values = _gateway_evidence.told(Paths(SLUG), spec(), prior_of(ADDRESS, spec(), OUTPUTS))
    places: dict[str, Any] = {
        name: str(folder / name) for name in ("folder", "sockets", "run", "logs", "log", "service", "janitor")
    }
    for name in ("folder", "sockets", "run", "logs", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Wanted(**(values | places | changes))


# --- the program ------------------------------------------------------------------------------------------------------------


def test_both_sides_tell_the_same_facts_and_they_are_traits() -> None:
    assert _gateway_evidence.FACTS == model.FACTS
    assert set(model.FACTS) <= set(Traits.model_fields)


@pytest.mark.parametrize("kind", ["s6", "systemd"])
def test_what_the_program_is_told_is_what_it_takes_and_no_secret(kind: str) -> None:
    wished = spec(supervisor=kind, behind="aws_lb.front", generic_errors=True)
    told = _gateway_evidence.told(PATHS, wished, prior_of(ADDRESS, wished, OUTPUTS))
    assert set(told) == {one.name for one in fields(Wanted)}
    assert told["digest"] == OUTPUTS.files["haproxy.cfg"]
    assert "a" * 64 not in json.dumps(told)
    assert Wanted(**told).config == f"{PATHS.lib}/gateway/haproxy.cfg"


def test_the_program_runs_as_it_is_sent() -> None:
    """With nothing but Python's standard library, as it is on any machine."""
    told = json.dumps(_gateway_evidence.told(PATHS, spec(), prior_of(ADDRESS, spec(), OUTPUTS)))
    done = subprocess.run(
        [sys.executable, "-IS", "-", told], input=_gateway_evidence.program(), capture_output=True, check=True, timeout=60
    )
    found = _gateway_evidence.read("node1", done.stdout.decode())
    assert done.stderr == b""
    assert [one.fact for one in found] == list(model.FACTS)
    assert {(one.host, one.value) for one in found} == {("node1", None)}
    assert all(one.reason.startswith("no process of the gateway is running") for one in found)


@pytest.mark.parametrize("output", ["", "no json", "[]", '[{"fact": "exposure"}]', "{}", "3"])
def test_anything_else_than_all_facts_is_refused(output: str) -> None:
    with pytest.raises(LlmdeployError, match="means nothing"):
        _gateway_evidence.read("node1", output)


def test_a_machine_that_cannot_be_asked_has_a_reason_for_every_fact(tmp_path: Path) -> None:
    far = Connection(transport="ssh", address="node7", user="ops")
    prior = prior_of(ADDRESS, spec(host=far), OUTPUTS)
    result = RESOURCE.operations[EVIDENCE](context(run_in(tmp_path), ADDRESS), prior, {})
    found = [Observation.model_validate(one) for one in result.data]
    assert [one.fact for one in found] == list(model.FACTS)
    assert all(one.host == "node7" and one.reason.startswith("node7 could not be asked: ") for one in found)


def test_a_gateway_without_outputs_was_never_whole(tmp_path: Path) -> None:
    prior = prior_of(ADDRESS, spec(), OUTPUTS)
    half = type(prior)(prior.address, prior.id, prior.spec, {})
    assert _gateway_evidence.told(PATHS, HostGatewaySpec.model_validate(half.spec), half)["digest"] == ""


# --- sockets ----------------------------------------------------------------------------------------------------------------


def listener(ip: str, port: int = 8443) -> Listener:
    return Listener(ip, port, (7,), "line")


@pytest.mark.parametrize(
    ("ips", "value"),
    [
        (["127.0.0.1"], "host"),
        (["::1"], "host"),
        (["::ffff:127.0.0.1"], "host"),
        (["10.1.2.3"], "private"),
        (["fd00::1"], "private"),
        (["::ffff:10.0.0.1"], "private"),
        (["0.0.0.0"], "public"),  # noqa: S104 - compared
        (["::"], "public"),
        (["8.8.8.8"], "public"),
        (["127.0.0.1", "10.1.2.3"], "private"),
        (["::", "127.0.0.1"], "public"),
    ],
)
def test_the_widest_socket_counts(tmp_path: Path, ips: list[str], value: str) -> None:
    assert processes.exposure(wanted(tmp_path), [7], [listener(ip) for ip in ips]).value == value


def test_who_reaches_every_address_behind_a_balancer_is_not_known_here(tmp_path: Path) -> None:
    behind = wanted(tmp_path, behind="aws_lb.front")
    fact = processes.exposure(behind, [7], [listener("0.0.0.0")])  # noqa: S104 - compared
    assert "decided before this machine, by aws_lb.front" in fact.reason
    assert processes.exposure(behind, [7], [listener("10.0.0.1")]).value == "private"


def test_the_kernels_sockets_are_read_as_they_are() -> None:
    import os

    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        found = [one for one in processes.listeners([os.getpid()]) if one.port == port]
        assert [(one.ip, one.pids, one.name) for one in found] == [("127.0.0.1", (os.getpid(),), f"127.0.0.1:{port}")]
    assert not [one for one in processes.listeners([os.getpid()]) if one.port == port]
    assert abs(processes.started_at(os.getppid()) - time.time()) < 10 * 365 * 86_400
    assert processes.gateway_pids("/nowhere/haproxy.cfg") == ()


# --- handshakes -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pem") / "edge.pem"
    path.write_bytes(certificate())
    return str(path)


@contextmanager
def answering(reply: bytes, close: bool = True) -> Generator[Listener]:
    """A socket that says `reply` to whatever comes; it never ends the connection with close=False."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                held.append(link)
                link.recv(4096)
                if reply:
                    link.sendall(reply)
                if close:
                    link.close()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener("127.0.0.1", server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for link in held:
                link.close()


def test_this_openssl_speaks_every_version_and_no_certificate_is_no_proof(pem: str, tmp_path: Path) -> None:
    assert tls.can_offer("1.2", pem)
    assert tls.can_offer("1.3", pem)
    assert not tls.can_offer("1.3", str(tmp_path / "missing.pem"))


def test_versions_that_nobody_could_ask_for_are_not_refused() -> None:
    """A refusal by the probe's own OpenSSL says nothing about the gateway."""
    old = "the OpenSSL of this machine cannot offer TLS 1.0 and 1.1, so that nobody was asked"
    told = tls.oldest({"1.2", "1.3"}, ["1.2", "1.3"], "", "")
    assert (told.value, told.reason) == (None, old)
    assert tls.oldest({"1.2", "1.3"}, list(tls.VERSIONS), "", "").value == "1.2"
    assert tls.oldest({"1.3"}, list(tls.VERSIONS), "", "").value == "1.3"
    assert tls.oldest({"1.0", "1.3"}, ["1.0", "1.3"], "", "").value == "1.0"
    assert tls.oldest({"none", "1.3"}, ["1.3"], "", "").value == "none"


@pytest.mark.parametrize(
    ("reply", "spoken"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", True),
        (b"+PONG\r\n", True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\nThe plain HTTP request was sent to HTTPS port", False),
        (bytes([0x15, 3, 1, 0, 2, 2, 70]), False),
        (b"", False),
    ],
)
def test_who_answers_plain_text_speaks_it(reply: bytes, spoken: bool) -> None:
    with answering(reply) as one:
        assert tls.speaks_plainly(one) is spoken


def test_silence_is_no_refusal(monkeypatch: pytest.MonkeyPatch, pem: str) -> None:
    monkeypatch.setattr(tls, "_TIMEOUT_S", 0.2)
    with answering(b"", close=False) as one:
        with pytest.raises(Unclear):
            tls.speaks_plainly(one)
        with pytest.raises(Unclear):
            tls.handshake(one, "1.2")
        assert [(fact.value, bool(fact.reason)) for fact in tls.transport([one], pem)] == [(None, True)] * 2
    with pytest.raises(Unclear, match="takes no connection"):
        tls.handshake(one, "1.2")


def test_a_socket_that_speaks_neither_is_not_encrypted(pem: str) -> None:
    with answering(b"") as one:
        in_transit, tls_min = tls.transport([one], pem)
    assert in_transit.reason == tls_min.reason == f"{one.name} accepts neither TLS nor plain HTTP"


def test_a_client_of_one_version_offers_no_other() -> None:
    for version, wished in tls.VERSIONS.items():
        if wished >= ssl.TLSVersion.TLSv1_2:
            context = tls.client(version)
            assert context.minimum_version == context.maximum_version == wished


# --- keys -------------------------------------------------------------------------------------------------------------------


def test_a_stranger_is_well_formed_and_always_another() -> None:
    strangers = {keys.stranger() for _ in range(100)}
    assert len(strangers) == 100
    for text in strangers:
        assert _key_format.parse(text).secret.reveal().decode() == text


@given(st.text(string.ascii_letters + string.digits + "_", max_size=80))
def test_the_checksum_is_that_of_real_keys(body: str) -> None:
    assert keys.checksum(body) == _key_format.checksum(body)


def test_keys_are_told_from_what_only_looks_like_one(tmp_path: Path) -> None:
    import re

    pattern = re.compile(wanted(tmp_path).key_pattern.encode())
    real = _key_format.mint().secret.reveal()
    assert keys.keys_in(b"\x00" + real + b"\xff" + real, pattern) == 2
    assert keys.keys_in(real[:-1] + (b"0" if real[-1:] != b"0" else b"1"), pattern) == 0
    assert keys.keys_in(b"llmd_live_12345678_" + b"x" * 49, pattern) == 0


# --- content ----------------------------------------------------------------------------------------------------------------

MARKS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=24, max_size=24)


@given(mark=MARKS, before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_a_marker_is_found_however_it_was_written_down(mark: str, before: bytes, after: bytes) -> None:
    raw = mark.encode()
    coded = base64.b64encode(before + raw + after)
    texts = (before + raw + after, raw[::-1], raw.lower(), raw.hex().encode(), "".join(f"%{c:02X}" for c in raw).encode(), coded)
    for text in texts:
        assert any(needle in text for needle in scan.forms(mark))


@given(MARKS, MARKS)
def test_a_marker_is_not_found_where_it_is_not(mark: str, other: str) -> None:
    text = b" ".join(scan.forms(other))
    assert (mark == other) or not any(needle in text for needle in scan.forms(mark))


def test_every_field_has_a_marker_of_its_own() -> None:
    marks = scan.Marks()
    fields = [f"field {number}" for number in range(32)]
    assert len({marks[field] for field in fields}) == 32
    assert [marks.field(marks[field][-1]) for field in fields] == fields


def s6_log(folder: Path) -> tuple[Wanted, records.Files]:
    told = wanted(folder)
    (folder / "log" / "current").write_bytes(b"")
    return told, records.Files(told)


def test_content_is_found_in_what_was_written_since(tmp_path: Path) -> None:
    told, log = s6_log(tmp_path)
    planted = scan.Marks()
    assert files.content(told, log, planted).value == []
    (tmp_path / "run" / "deep").mkdir()
    (tmp_path / "run" / "deep" / "file").write_bytes(planted["query"][::-1].encode() + planted["path"].encode())
    fact = files.content(told, log, planted)
    assert fact.value == [f"content reversed in {tmp_path}/run/deep/file", f"path in {tmp_path}/run/deep/file"]
    assert not any(form.decode() in f"{fact.command} {fact.output}" for form in scan.forms(planted.stem))
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "deep"], "what was planted is gone"


def test_a_scan_that_does_not_find_what_was_planted_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, log = s6_log(tmp_path)

    def nothing(_folder: str, _since: float) -> list[str]:
        return []

    def too_little(search: scan.Search, file: Any, name: str) -> None:
        search.found.add(f"content in {name}")

    monkeypatch.setattr(scan, "changed_files", nothing)
    fact = files.content(told, log, scan.Marks())
    assert (fact.value, "does not find what was planted" in fact.reason) == (None, True)
    monkeypatch.undo()
    monkeypatch.setattr(scan.Search, "stream", too_little)
    assert "does not find what was planted" in files.content(told, log, scan.Marks()).reason


def test_nowhere_to_plant_is_no_good_news(tmp_path: Path) -> None:
    told, log = s6_log(tmp_path)
    (tmp_path / "run").rmdir()
    assert files.content(told, log, scan.Marks()).reason.startswith("not everything could be looked at")


def test_a_huge_file_or_a_pipe_does_not_stop_the_scan(tmp_path: Path) -> None:
    told, log = s6_log(tmp_path)
    with (tmp_path / "run" / "huge").open("wb") as file:
        file.truncate(scan.MOST_BYTES + 1)
    assert "GiB to search" in files.content(told, log, scan.Marks()).reason
    (tmp_path / "run" / "huge").unlink()
    os.mkfifo(tmp_path / "run" / "pipe")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "run" / "pipe")
    assert files.content(told, log, scan.Marks()).value == []


# --- the log ----------------------------------------------------------------------------------------------------------------


def test_only_whole_new_lines_are_read_also_when_the_file_was_ended(tmp_path: Path) -> None:
    told, log = s6_log(tmp_path)
    current = tmp_path / "log" / "current"
    current.write_bytes(b"old\n")
    log = records.Files(told)
    with current.open("ab") as file:
        file.write(b"one\ntwo\nthr")
    assert log.new_lines() == [b"one", b"two"]
    current.rename(tmp_path / "log" / "@4000000000000000deadbeef.s")
    current.write_bytes(b"four\n")
    assert log.new_lines() == [b"one", b"two", b"four"]
    assert dict(log.everything()) == {
        f"{tmp_path}/log/@4000000000000000deadbeef.s": b"old\none\ntwo\nthr",
        f"{tmp_path}/log/current": b"four\n",
    }


def test_the_fields_of_the_probes_own_lines_and_of_broken_requests_count(tmp_path: Path) -> None:
    log = s6_log(tmp_path)[1]
    lines = [
        b'{"request_id":"id-1","a":1}',
        b'{"request_id":"somebody-else","theirs":1}',
        b'{"request_id":null,"broken":1}',
        b"a sentence",
    ]
    assert records.fields(log, lines, ["id-1"]).value == ["request_id", "a", "broken"]
    assert records.fields(log, [*lines, b"free text of id-1"], ["id-1"]).value[-1] == "text that is no JSON"
    assert records.fields(log, lines, ["id-2"]).reason == "none of the probe's requests is in the log"


def test_a_request_that_is_not_written_down_in_time_is_unclear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_WAIT_S", 0.1)
    log = s6_log(tmp_path)[1]
    (tmp_path / "log" / "current").write_bytes(b"id-1\n")
    assert records.wait_for_lines(log, ["id-1"]) == [b"id-1"]
    with pytest.raises(Unclear, match="1 of 2 requests are not in the log"):
        records.wait_for_lines(log, ["id-1", "id-2"])


JOURNALCTL = """#!/bin/sh
# A double of journalctl: says what it was asked, and what the test wrote.
echo "$@" >>"$0.asked"
case "$*" in
    *--namespace=llmd-broken*) echo "no such namespace" >&2; exit 1 ;;
    *short-unix*) echo "1700000000.123456 host gateway[1]: line" ;;
    *output=cat*) printf '{"request_id":"id-1"}\\n{"request_id":"id-2"}\\n' ;;
esac
"""


def test_a_journal_is_read_by_its_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a double of journalctl; the real one is in test_gateway_evidence_systemd."""
    (tmp_path / "journalctl").write_text(JOURNALCTL)
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "journald.conf").write_text("[Journal]\nMaxRetentionSec=7day\n")
    told = wanted(tmp_path, supervisor="systemd", log="llmd-1-gateway", service=str(tmp_path / "journald.conf"))
    log = records.open_log(told)
    assert log.new_lines() == [b'{"request_id":"id-1"}', b'{"request_id":"id-2"}']
    assert log.kept_days() == 7
    assert log.oldest() == 1_700_000_000.123456
    assert records.retention(log).value > 365, "a line is older than the journal says"
    asked = (tmp_path / "journalctl.asked").read_text().splitlines()
    assert all(line.startswith("--namespace=llmd-1-gateway ") for line in asked)
    journal = b"".join(text for _, text in log.everything())
    assert journal == b'{"request_id":"id-1"}\n{"request_id":"id-2"}\n'
    (tmp_path / "journald.conf").write_text("[Journal]\n")
    assert "does not say" in records.retention(log).reason
    with pytest.raises(Unclear, match="no such namespace"):
        records.open_log(wanted(tmp_path, supervisor="systemd", log="llmd-broken"))


# --- files ------------------------------------------------------------------------------------------------------------------


def test_guards_that_do_not_hold_are_not_excused_by_what_is_not_known(tmp_path: Path) -> None:
    told = wanted(tmp_path, generic_errors=True)
    assert files.guards(told, [], []).reason.startswith("generic-errors: its configuration cannot be read")
    assert files.guards(told, ["no-query"], []).value == ["own-request-ids"]
    assert files.guards(wanted(tmp_path), [], []).value == ["no-query", "own-request-ids"]


def test_files_that_are_missing_are_not_private(tmp_path: Path) -> None:
    require_root()
    told, log = s6_log(tmp_path)
    for name in ("folder", "sockets", "log"):
        (tmp_path / name).chmod(0o700)
    assert files.private(told, log).reason == "haproxy.cfg, keys.map, tls.pem is not there"
    (tmp_path / "folder").rmdir()
    assert files.private(told, log).reason.startswith("not everything")


def test_of_no_gateway_everything_is_unclear(tmp_path: Path) -> None:
    found = look(wanted(tmp_path))
    assert [(one.fact, one.value) for one in found] == [(fact, None) for fact in model.FACTS]
    assert all(asdict(one)["reason"] for one in found)
