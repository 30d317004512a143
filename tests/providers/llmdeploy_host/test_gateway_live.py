"""The rendered gateway, run by the real HAProxy before engines on Unix sockets."""

from __future__ import annotations

import json
import os
import signal
import ssl
import stat
import time
from collections.abc import Iterator
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from llmdeploy_host._gateway_config import (
    render_keys_map,
    runtime_map_text,
    server_state_command,
    show_map_command,
)
from tests.providers.llmdeploy_host.gateway_lab import (
    KEY,
    MODEL,
    POSTS,
    ROUTES,
    Gateway,
    Reply,
    gateway,
    record,
    tls_context,
    wait_for,
)
from tests.support import require_tool

pytestmark = pytest.mark.integration

USAGE = {"prompt_tokens": 11, "total_tokens": 18, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    """One gateway for the tests that leave it as it was."""
    require_tool("haproxy")
    yield from gateway()


@pytest.fixture
def own() -> Iterator[Gateway]:
    """A gateway with two engines that a test may break."""
    require_tool("haproxy")
    yield from gateway(replicas=2)


def method_of(route: str) -> str:
    return "POST" if route in POSTS else "GET"


def error_of(reply: Reply) -> str:
    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert len(reply.headers["x-request-id"]) == 36
    error = json.loads(reply.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["code"])


# who may come in


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_needs_a_key_that_is_valid_now(shared: Gateway, route: str) -> None:
    now = int(time.time())
    shared.sync(record(), record("old", "old", not_after=now - 1), record("early", "early", not_before=now + 3600))
    seen = len(shared.engines[0].seen)
    for key in (None, "wrong", "old", "early", "", KEY + "x", KEY[:-1]):
        reply = shared.ask(method_of(route), route, key=key)
        assert (reply.status, error_of(reply)) == (401, "invalid_api_key"), key
        assert reply.headers["www-authenticate"] == "Bearer"
    for header in (f"Basic {KEY}", KEY, "Bearer", f"Digest {KEY}"):
        assert shared.ask(method_of(route), route, key=None, headers={"authorization": header}).status == 401
    assert len(shared.engines[0].seen) == seen
    assert shared.ask(method_of(route), route).status == 200


def test_an_expired_key_is_named_in_the_log_and_an_unknown_one_is_not(shared: Gateway) -> None:
    shared.sync(record(), record("old", "old", principal='Zoë | <é> "%"', not_after=int(time.time()) - 1))
    entry = shared.log_of(shared.chat(key="old").headers["x-request-id"])
    assert (entry["status"], entry["key_id"], entry["principal"]) == (401, "old", 'Zoë | <é> "%"')
    assert shared.log_of(shared.chat(key="wrong").headers["x-request-id"])["key_id"] is None


HIDDEN = """
    / /metrics /tokenize /detokenize /invocations /version /load /ping /docs /openapi.json /health /v1 /v1/
    /v1/models/ //v1/models /v1//models /v1/../metrics /v1/models/../../metrics /v1/models%2f /v1%2fmodels
    /%761/models /V1/models /v1/models;x /v1/load_lora_adapter /v1/unload_lora_adapter
    /v1/chat/completions/render /v1/audio/transcriptions /v1/realtime /healthz/ /is_scaling_elastic_ep
    /v1/models%00 /v1/models. /v1/models%20 /v1/responses/resp_1 *
""".split()  # noqa: SIM905 - forty lines of list would hide the table


@pytest.mark.parametrize("target", HIDDEN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_else_exists(shared: Gateway, target: str, method: str) -> None:
    seen = len(shared.engines[0].seen)
    head = f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
    assert shared.raw(head.encode()).split(b" ")[1] in ({b"404", b"400"} if target == "*" else {b"404"})
    assert len(shared.engines[0].seen) == seen


@pytest.mark.parametrize("route", [*ROUTES, "/healthz"])
def test_wrong_method(shared: Gateway, route: str) -> None:
    allowed = method_of(route)
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"} - {allowed}:
        reply = shared.ask(method, route)
        assert (reply.status, reply.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("route", [*ROUTES, "/healthz"])
def test_a_query_is_refused_and_not_logged(shared: Gateway, route: str) -> None:
    for query in ("?", "?x=canary-query"):
        reply = shared.ask(method_of(route), route + query)
        assert (reply.status, error_of(reply)) == (400, "query_not_accepted")
        assert shared.log_of(reply.headers["x-request-id"])["route"] == route
    assert "canary-query" not in shared.log_path.read_text()


def test_health_needs_no_key_and_says_nothing(own: Gateway) -> None:
    reply = own.ask("GET", "/healthz", key=None)
    assert (reply.status, reply.body) == (200, b"ok")
    for engine in own.engines:
        engine.healthy = False
    wait_for(lambda: own.answers(503))
    assert error_of(own.chat()) == "no_replica"
    own.engines[1].healthy = True
    wait_for(lambda: own.answers(200))
    assert own.chat().headers["x-engine"] == "r2"


# how much one key may use


@pytest.mark.parametrize("route", ROUTES)
def test_rate(shared: Gateway, route: str) -> None:
    key_id = f"slow-{POSTS.index(route) if route in POSTS else 9}"
    shared.sync(record(), record("slow", key_id, requests_per_minute=5))
    replies = [shared.ask(method_of(route), route, key="slow") for _ in range(7)]
    assert [reply.status for reply in replies] == [200] * 5 + [429] * 2
    assert (error_of(replies[-1]), replies[-1].headers["retry-after"]) == ("rate_limit_exceeded", "12")
    assert shared.ask(method_of(route), route).status == 200
    assert shared.log_of(replies[-1].headers["x-request-id"])["key_id"] == key_id


def test_concurrency(shared: Gateway) -> None:
    shared.sync(record(), record("pair", "pair", concurrency=2, requests_per_minute=50))
    streams = [shared.hold("pair") for _ in range(2)]
    refused = [shared.chat(key="pair") for _ in range(60)]
    assert {(reply.status, error_of(reply), reply.headers["retry-after"]) for reply in refused} == {
        (429, "concurrency_limit_exceeded", "1")
    }
    shared.engines[0].release()
    for stream in streams:
        assert stream.read().endswith(b"data: [DONE]\n\n")
    # the 60 refused ones did not use up the rate
    wait_for(lambda: shared.chat(key="pair").status == 200)


def test_body_limit(shared: Gateway) -> None:
    limit = shared.config.limits.body_bytes
    assert shared.chat(body=b"x" * limit).status == 200
    assert len(shared.engines[0].seen[-1].body) == limit
    too_large = shared.chat(body=b"x" * (limit + 1))
    assert (too_large.status, error_of(too_large)) == (413, "body_too_large")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    announced = f"{head}content-length: 99999999999\r\n\r\n".encode()
    assert shared.raw(announced).startswith(b"HTTP/1.1 413")
    huge = f"{head}content-length: 9999999999999999999999999\r\n\r\n".encode()
    assert shared.raw(huge)[9:12] in (b"400", b"413")
    for route in ("/v1/models",):
        reply = shared.ask("GET", route, body=b"x")
        assert reply.status == 413


@pytest.mark.parametrize(
    ("pieces", "size", "status"),
    [(1, 30_000, b"200"), (3000, 10, b"200"), (2, 30_000, b"413"), (1, 400_000, b"413"), (9000, 10, b"413")],
)
def test_body_limit_without_a_length(shared: Gateway, pieces: int, size: int, status: bytes) -> None:
    for padding in (0, 14_000, 20_000):
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
            f"x-padding: {'p' * padding}\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        body = (b"%x\r\n%s\r\n" % (size, b"x" * size)) * pieces + b"0\r\n\r\n"
        answer = shared.raw(head.encode() + body)
        assert answer[9:12] == (b"413" if padding > 16_384 else status), padding


# what the engine and the client see


def test_the_engine_sees_no_key_no_cookie_and_a_path_of_ours(shared: Gateway) -> None:
    headers = {
        "cookie": "c=1",
        "x-data-parallel-rank": "3",
        "x_session_id": "4",
        "upgrade": "h2c",
        "x-request-id": "mine",
        "accept-encoding": "gzip",
        "content-type": "application/json",
        "expect": "100-continue",
    }
    reply = shared.chat(headers=headers)
    seen = shared.engines[0].seen[-1]
    assert seen.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert set(seen.headers) <= {"host", "content-type", "content-length", "x-request-id", "connection"}
    assert seen.headers["x-request-id"] == reply.headers["x-request-id"] != "mine"
    assert seen.headers["host"] == "engine"
    assert "server" not in reply.headers
    absolute = f"GET https://a.example/v1/models HTTP/1.1\r\nhost: a.example\r\nauthorization: Bearer {KEY}\r\n"
    assert shared.raw(f"{absolute}connection: close\r\n\r\n".encode()).startswith(b"HTTP/1.1 200")
    assert shared.engines[0].seen[-1].head.startswith(b"GET /v1/models HTTP/1.1\r\n")


SMUGGLED = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"content-length: 0\r\ncontent-length: 40\r\n\r\n" + SMUGGLED,
        b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"content-length: +0\r\n\r\n" + SMUGGLED,
        b"content-length: 0x22\r\n\r\n" + SMUGGLED,
        b"content_length: 34\r\n\r\n" + SMUGGLED,
        b": x\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
        b"x: y\n\ncontent-length: 0\r\n\r\n" + SMUGGLED,
        b"connection: content-length\r\ncontent-length: 34\r\n\r\n" + SMUGGLED,
        b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\nconnection: upgrade, http2-settings\r\n\r\n" + SMUGGLED,
    ],
)
def test_nothing_can_be_smuggled(shared: Gateway, framing: bytes) -> None:
    before = len(shared.engines[0].seen)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + KEY.encode() + b"\r\n"
    shared.raw(head + framing, half_close=True)
    assert shared.chat().status == 200
    *attacked, _ = shared.engines[0].seen[before:]
    assert len(attacked) <= 1
    for seen in attacked:
        assert seen.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert b"metrics" not in seen.head
        assert seen.rest == b""


def test_tls(shared: Gateway) -> None:
    offered = tls_context()
    offered.set_alpn_protocols(["h2", "http/1.1"])
    with shared.connect(offered) as tls:
        assert (tls.selected_alpn_protocol(), tls.version()) == ("http/1.1", "TLSv1.3")
    old = tls_context()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shared.connect(old)


def test_a_client_that_leaves_frees_the_engine(shared: Gateway) -> None:
    engine = shared.engines[0]
    before, seen = engine.left_early, len(engine.seen)
    body = json.dumps({"model": MODEL, "script": {"silent": True}}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    with shared.connect() as tls:
        tls.sendall(head.encode() + body)
        wait_for(lambda: len(engine.seen) > seen)
    wait_for(lambda: engine.left_early > before)
    entry = shared.log_of(engine.seen[seen].headers["x-request-id"])
    assert (entry["status"], entry["termination"][0], entry["key_id"]) == (None, "C", "main")


def test_operations_are_on_sockets_that_only_root_can_open(shared: Gateway) -> None:
    for path in (shared.config.admin_socket, shared.config.metrics_socket):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert b"haproxy_frontend_http_requests_total" in unix_get(shared.config.metrics_socket, "/metrics")
    inodes = {os.readlink(link) for pid in shared.worker_pids() for link in Path(f"/proc/{pid}/fd").iterdir()}
    listening = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    ports = {int(row[1].rpartition(":")[2], 16) for row in listening if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}
    assert ports == {shared.config.port}
    if os.geteuid() == 0:
        assert {Path(f"/proc/{pid}").owner() for pid in shared.worker_pids()} == {"haproxy"}


def unix_get(path: str, target: str) -> bytes:
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        return answer


# change while it runs


def test_keys_come_and_go_while_a_stream_runs(own: Gateway) -> None:
    own.sync(record(), record("leaving", "leaving"))
    stream = own.hold("leaving")
    assert own.chat(key="coming").status == 401
    own.sync(record(), record("coming", "coming"))
    assert own.chat(key="coming").status == 200
    assert own.chat(key="leaving").status == 401
    for engine in own.engines:
        engine.release()
    assert stream.read().endswith(b"data: [DONE]\n\n")


def test_a_key_expires_without_a_reload(own: Gateway) -> None:
    ends = int(time.time()) + 2
    own.sync(record(), record("brief", "brief", not_after=ends))
    assert own.chat(key="brief").status == 200
    wait_for(lambda: own.chat(key="brief").status == 401)
    assert time.time() >= ends


def test_a_key_begins_without_a_reload(own: Gateway) -> None:
    begins = int(time.time()) + 2
    own.sync(record(), record("soon", "soon", not_before=begins))
    assert own.chat(key="soon").status == 401
    wait_for(lambda: own.chat(key="soon").status == 200)
    assert time.time() >= begins


def test_sync_of_a_thousand_keys(own: Gateway) -> None:
    keys = [record(f"k{n}", f"k{n}", principal=f"arn:aws:iam::1:role/ü {n}|%20") for n in range(1000)]
    own.sync(*keys)
    shown = own.admin(show_map_command(own.config.keys_map))
    assert runtime_map_text(shown) == render_keys_map(keys)
    assert own.chat(key="k0").status == own.chat(key="k999").status == 200
    assert own.chat().status == 401
    own.sync(record())
    assert own.chat(key="k0").status == 401
    own.sync()
    assert own.chat().status == 401
    assert runtime_map_text(own.admin(show_map_command(own.config.keys_map))) == ""


def test_a_reload_loses_no_stream_and_brings_back_no_key(own: Gateway) -> None:
    own.sync(record(), record("gone", "gone"))
    streams = [own.hold() for _ in range(8)]
    own.sync(record())
    before = own.worker_pids()
    own.process.send_signal(signal.SIGUSR2)

    def replaced() -> bool:
        # one that arrives while the workers change places must be answered as well
        assert own.chat().status == 200
        return bool(set(own.worker_pids()) - set(before))

    wait_for(replaced)
    assert own.chat(key="gone").status == 401
    for engine in own.engines:
        engine.release()
    for stream in streams:
        assert stream.read().endswith(b"data: [DONE]\n\n")
    wait_for(lambda: not set(own.worker_pids()) & set(before))
    ended = [json.loads(line) for line in own.log_lines() if '"stream":true' in line]
    assert len(ended) == 8


def test_a_killed_engine_cuts_its_stream_and_nothing_else(own: Gateway) -> None:
    first = json.dumps({"choices": [], "usage": USAGE})
    stream = own.hold(pieces=[f"data: {first}\n\n", "data: [DONE]\n\n"])
    victim = next(engine for engine in own.engines if engine.name == stream.headers["x-engine"])
    survivor = next(engine for engine in own.engines if engine is not victim)
    victim.kill()
    with pytest.raises(IncompleteRead):
        stream.read()
    entry = own.log_of(stream.headers["x-request-id"])
    assert (entry["termination"], entry["replica"], entry["tokens_in"]) == ("SD", victim.name, 11)
    for number in range(20):
        reply = own.chat(headers={"x-session-id": str(number)})
        assert (reply.status, reply.headers["x-engine"]) == (200, survivor.name)
    victim.start()
    wait_for(lambda: victim.name in {own.chat(headers={"x-session-id": str(n)}).headers["x-engine"] for n in range(20)})


def test_a_session_stays_on_its_replica(own: Gateway) -> None:
    homes = {str(n): {own.chat(headers={"x-session-id": str(n)}).headers["x-engine"] for _ in range(5)} for n in range(20)}
    assert all(len(home) == 1 for home in homes.values())
    assert {name for home in homes.values() for name in home} == {"r1", "r2"}


def test_a_conversation_without_a_session_stays_on_its_replica(own: Gateway) -> None:
    for number in range(20):
        start = {"role": "system", "content": f"{number} " * 1024}
        turns = [{"model": MODEL, "messages": [start, {"role": "user", "content": "x" * turn}]} for turn in range(5)]
        assert len({own.chat(body=turn).headers["x-engine"] for turn in turns}) == 1


def test_drain(own: Gateway) -> None:
    stream = own.hold()
    drained = stream.headers["x-engine"]
    assert own.admin(server_state_command(drained, "drain")).strip() == ""
    others = {own.chat(headers={"x-session-id": str(n)}).headers["x-engine"] for n in range(20)}
    assert others == {"r1", "r2"} - {drained}
    for engine in own.engines:
        engine.release()
    assert stream.read().endswith(b"data: [DONE]\n\n")
    assert own.admin(server_state_command(drained, "ready")).strip() == ""
    wait_for(lambda: drained in {own.chat(headers={"x-session-id": str(n)}).headers["x-engine"] for n in range(20)})


@pytest.mark.parametrize("changes", [{"token_accounting": False}, {"threads": 4}, {"address": "::1"}], ids=str)
def test_other_configurations(changes: dict[str, Any]) -> None:
    require_tool("haproxy")
    if "address" in changes and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    for other in gateway(**changes):
        reply = other.chat(body={"model": MODEL, "script": {"pieces": [json.dumps({"usage": USAGE})]}})
        counted = other.log_of(reply.headers["x-request-id"])["tokens_in"]
        assert counted == (11 if other.config.token_accounting else None)
