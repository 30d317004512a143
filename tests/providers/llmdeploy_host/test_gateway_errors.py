"""What clients and the log learn of an engine's errors from the real HAProxy: none of its words, where that is asked for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from typing import Any

import pytest

from llmdeploy_host._gateway_config import Limits
from tests.support import require_tool

from .gateway_lab import KEY, MODEL, POSTS, ROUTES, Gateway, Reply, gateway, wait_for

pytestmark = pytest.mark.integration

CANARY = "canary7q2w"
KEPT = (400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 501, 502, 503, 504)
OTHERS = {402: 400, 418: 400, 451: 400, 499: 400, 505: 500, 507: 500, 529: 500, 599: 500}


@pytest.fixture(scope="module")
def general() -> Iterator[Gateway]:
    require_tool("haproxy")
    yield from gateway(generic_errors=True)


@pytest.fixture(scope="module")
def open_hearted() -> Iterator[Gateway]:
    """The same without the switch."""
    require_tool("haproxy")
    yield from gateway()


def failing(status: int, **script: Any) -> dict[str, Any]:
    """A request for which the engine fails with `status`, and repeats what it was sent."""
    echo = json.dumps({"error": {"message": f"no such model: {CANARY}", "type": CANARY, "param": CANARY, "code": CANARY}})
    return {"model": MODEL, "script": {"status": status, "pieces": [echo], "headers": {"x-echo": CANARY}} | script}


def said(reply: Reply) -> dict[str, Any]:
    """The error of an answer that is whole and in OpenAI's shape."""
    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert "transfer-encoding" not in reply.headers
    error = json.loads(reply.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] is None
    return error


def everything(reply: Reply) -> str:
    return f"{reply.headers} {reply.body!r}"


@pytest.mark.parametrize(("given", "told"), [*((status, status) for status in KEPT), *OTHERS.items()])
def test_an_error_of_the_engine_becomes_a_general_one_of_its_class(general: Gateway, given: int, told: int) -> None:
    reply = general.chat(body=failing(given))
    assert reply.status == told
    assert said(reply)["message"].startswith("the engine ")
    assert CANARY not in everything(reply)
    assert len(reply.headers["x-request-id"]) == 36
    entry = general.log_of(reply.headers["x-request-id"])
    assert (entry["status"], entry["replica"], entry["key_id"], entry["stream"]) == (told, "r1", "main", False)
    assert CANARY not in general.log_path.read_text()


@pytest.mark.parametrize("route", ROUTES)
def test_without_the_switch_the_engine_speaks_itself(open_hearted: Gateway, route: str) -> None:
    post = route in POSTS
    reply = open_hearted.ask("POST" if post else "GET", route, body=failing(418) if post else None)
    assert reply.status == (418 if post else 200)
    assert (CANARY in everything(reply)) is post
    assert CANARY not in open_hearted.log_path.read_text()


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_no_error_passes_untouched(general: Gateway, route: str) -> None:
    pieces = {"status": 203, "pieces": ['{"a":', "1}"], "headers": {"x-more": "kept"}}
    body = {"model": MODEL, "script": pieces} if route in POSTS else None
    reply = general.ask("POST" if body else "GET", route, body=body)
    assert (reply.status, reply.headers.get("x-more")) == ((203, "kept") if body else (200, None))
    assert json.loads(reply.body) == ({"a": 1} if body else {"object": "list", "data": []})


def test_no_coding_of_the_engines_text_survives(general: Gateway) -> None:
    packed = gzip.compress(CANARY.encode() * 100).decode("latin-1")
    coded = {"content-encoding": "gzip", "etag": f'"{CANARY}"', "retry-after": "1", "content-language": "en", "vary": "x"}
    reply = general.chat(body=failing(429, pieces=[packed], headers=coded), headers={"accept-encoding": "gzip"})
    assert said(reply)["code"] == "engine_busy"
    assert set(reply.headers) == {"content-length", "content-type", "x-request-id", "connection"}


def test_an_error_instead_of_a_stream_is_a_general_one(general: Gateway) -> None:
    """The text may be an event stream that has not ended, or never does."""
    event = f"data: {CANARY}\n\n"
    body = failing(500, type="text/event-stream", pieces=[event, event], hold=True)
    reply = general.chat(body=body | {"stream": True})
    assert (reply.status, said(reply)["code"]) == (500, "engine_error")
    assert general.log_of(reply.headers["x-request-id"])["status"] == 500
    general.engines[0].release()


def test_a_stream_that_began_stays_as_it_is(general: Gateway) -> None:
    general.engines[0].rearm()
    error = f'data: {{"error": {{"message": "{CANARY}"}}}}\n\n'
    stream = general.hold(pieces=["data: {}\n\n", error, "data: [DONE]\n\n"])
    general.engines[0].release()
    assert stream.read() == f"\n{error}data: [DONE]\n\n".encode()
    assert general.log_of(stream.headers["x-request-id"])["status"] == 200
    assert CANARY not in general.log_path.read_text()


def test_the_gateways_own_errors_stay_its_own(general: Gateway) -> None:
    assert said(general.chat(key=None))["code"] == "invalid_api_key"
    assert said(general.ask("GET", "/v1/models?x"))["code"] == "query_not_accepted"
    assert said(general.ask("GET", f"/{CANARY}"))["code"] == "unknown_route"


def test_a_connection_lives_on_after_an_error(general: Gateway) -> None:
    body = json.dumps(failing(404)).encode()
    head = f"POST {POSTS[0]} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    end = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
    answer = general.raw((head.encode() + body) * 2 + end.encode())
    assert answer.count(b"HTTP/1.1 404") == 2
    assert answer.count(b"HTTP/1.1 200") == 1
    assert CANARY.encode() not in answer


@pytest.fixture(params=[True, False], ids=["general", "open"])
def own(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway whose engine a test may kill, with and without the switch."""
    require_tool("haproxy")
    yield from gateway(generic_errors=request.param)


def test_an_engine_that_dies_before_and_after_its_first_byte(own: Gateway) -> None:
    engine = own.engines[0]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(own.chat, body={"model": MODEL, "script": {"silent": True}, "user": CANARY})
        wait_for(lambda: engine.seen)
        engine.kill()
        reply = waiting.result(20)
    assert (reply.status, said(reply)["code"]) == (502, "bad_gateway")
    engine.start()
    wait_for(lambda: own.chat().status == 200)
    engine.rearm()
    stream = own.hold()
    engine.kill()
    with pytest.raises(IncompleteRead):
        stream.read()
    entry = own.log_of(stream.headers["x-request-id"])
    assert (entry["status"], entry["termination"]) == (200, "SD")
    assert CANARY not in own.log_path.read_text()


def test_many_errors_at_once_harm_nothing() -> None:
    """With large bodies, several threads, and the filter that counts tokens."""
    require_tool("haproxy")
    for own in gateway(replicas=2, generic_errors=True, threads=4, limits=Limits(body_bytes=4 * 2**20, request_timeout_s=20)):
        before, padding = own.worker_pids(), "x" * 2**20

        def one(number: int, own: Gateway = own, padding: str = padding) -> tuple[int, int]:
            wanted = (200, 400, 404, 500)[number % 4]
            body = failing(wanted, pieces=['{"usage":{}}', CANARY * 10_000]) | {"padding": padding if number % 3 else ""}
            return wanted, own.chat(body=body).status

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one, range(120)))
        assert all(wanted == got for wanted, got in answers)
        assert own.worker_pids() == before


def test_an_answer_before_the_body_has_arrived_is_a_general_one() -> None:
    """As long as the body fits HAProxy's buffer; see GatewayConfig for those that do not."""
    require_tool("haproxy")
    for own in gateway(generic_errors=True):
        own.engines[0].early = f"HTTP/1.1 413 x\r\ncontent-length: {len(CANARY)}\r\n\r\n{CANARY}".encode()
        for size in (100, 10_000, 40_000):
            reply = own.chat(body=b"x" * size)
            assert (reply.status, said(reply)["code"]) == (413, "body_too_large")
            assert own.log_of(reply.headers["x-request-id"])["status"] == 413
            assert CANARY not in everything(reply)
