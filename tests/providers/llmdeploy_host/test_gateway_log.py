"""What the real HAProxy writes down about requests, and what it does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.providers.llmdeploy_host.gateway_lab import (
    KEY,
    MODEL,
    POSTS,
    ROUTES,
    Gateway,
    gateway,
)
from tests.support import require_tool

pytestmark = pytest.mark.integration

NUMBERS = {"status", "tokens_in", "tokens_out", "queue_ms", "ttft_ms", "duration_ms", "bytes_out"}
TEXTS = {"ts", "request_id", "key_id", "principal", "model", "route", "method", "replica", "termination"}
USAGE = {"prompt_tokens": 11, "total_tokens": 18, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}
LIE = 'so "prompt_tokens": 9999, "usage": {"prompt_tokens": 9999, "completion_tokens": 9999} \\" } {'


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    """One gateway for the tests that leave it as it was."""
    require_tool("haproxy")
    yield from gateway()


def check_line(line: str) -> dict[str, Any]:
    entry = json.loads(line)
    assert set(entry) == NUMBERS | TEXTS | {"stream"}, line
    for name, value in entry.items():
        wanted = int if name in NUMBERS else bool if name == "stream" else str
        assert value is None or type(value) is wanted, line
    assert len(entry["ts"]) == len("2026-11-21T01:02:03.004Z"), line
    return entry


# what is written down


def answers() -> list[Any]:
    chat = {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": LIE}}], "usage": USAGE}
    completion = {"id": "c", "choices": [{"text": LIE}], "usage": USAGE, "prompt_logprobs": [{"1": {"decoded_token": LIE * 200}}]}
    usage = {"input_tokens": 11, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 7, "total_tokens": 18}
    echo = {"usage": {"input_tokens": 9999, "output_tokens": 9999}, "prompt_tokens": 9999}
    response = {"metadata": echo, "output": [LIE], "tools": [echo], "usage": usage, "user": LIE, "input_messages": [echo]}
    chunks = [{"choices": [{"delta": {"content": LIE}}], "usage": USAGE | {"completion_tokens": n}} for n in range(8)]
    final: list[dict[str, Any]] = [{"choices": [{"delta": {"content": LIE}}], "usage": None}, {"choices": [], "usage": USAGE}]
    created = {"type": "response.created", "response": {"metadata": echo, "usage": None}}
    completed = {"type": "response.completed", "response": response}

    def case(name: str, route: str, text: str, kind: str = "application/json") -> Any:
        return pytest.param(route, text, kind, id=name)

    def sse(*events: Any) -> str:
        return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"

    named = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in (created, completed))
    stream = "text/event-stream; charset=utf-8"
    return [
        case("chat", POSTS[0], json.dumps(chat)),
        case("chat-compact", POSTS[0], json.dumps(chat, separators=(",", ":"))),
        case("chat-indented", POSTS[0], json.dumps(chat, indent=2)),
        case("completions", POSTS[1], json.dumps(completion)),
        case("responses", POSTS[3], json.dumps(response)),
        case("chat-stream-every-chunk", POSTS[0], sse(*chunks), stream),
        case("chat-stream-last-chunk", POSTS[0], sse(*final), stream),
        case("completions-stream", POSTS[1], sse({"choices": [{"text": LIE}]}, {"choices": [], "usage": USAGE}), stream),
        case("responses-stream", POSTS[3], named, stream),
    ]


@pytest.mark.parametrize("cut", [1, 7, 4000], ids=lambda cut: f"{cut}-byte-pieces")
@pytest.mark.parametrize(("route", "text", "kind"), answers())
def test_tokens_in_the_log_are_those_of_the_answer(shared: Gateway, route: str, text: str, kind: str, cut: int) -> None:
    pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
    if len(pieces) > 20_000:
        pieces = [text[:-15_000], *pieces[-15_000:]]
    reply = shared.ask("POST", route, body={"model": MODEL, "script": {"pieces": pieces, "type": kind}})
    assert reply.body.decode() == text
    entry = shared.log_of(reply.headers["x-request-id"])
    assert (entry["tokens_in"], entry["tokens_out"]) == (11, 7)
    assert entry["stream"] is kind.startswith("text/event-stream")
    assert 0 <= entry["ttft_ms"] <= entry["duration_ms"] + 1


SPLIT = 'data: {"a":"\\\\\\"","b":"x","usage":{"prompt_tokens":11,"completion_tokens":17},"c":"\\\\"}\n\n'


@pytest.mark.parametrize("cut", range(1, len(SPLIT)))
def test_tokens_are_read_wherever_the_answer_is_torn(shared: Gateway, cut: int) -> None:
    engine = shared.engines[0]
    engine.rearm()
    script = {"type": "text/event-stream", "pieces": [SPLIT[:cut], SPLIT[cut:]], "hold": True}
    response = shared.open("POST", POSTS[0], body={"script": script})
    # the first part has gone through the gateway before the second part exists
    start = response.read(1)
    engine.release()
    assert start + response.read() == SPLIT.encode()
    entry = shared.log_of(response.headers["x-request-id"])
    assert (entry["tokens_in"], entry["tokens_out"]) == (11, 17)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"choices": [{"message": {"content": '"prompt_tokens": 9999'}}]}),
        json.dumps({"choices": [{"usage": USAGE}], "x": {"usage": USAGE}, "y": ["usage", USAGE]}),
        json.dumps({"response": ["usage", {"usage": USAGE}], "usage": None}),
        json.dumps(["usage", USAGE]),
        "",
        '}}}]]]\\""{{{{',
        '"usage":{"prompt_tokens":1}',
    ],
)
def test_what_is_no_usage_is_not_counted(shared: Gateway, text: str) -> None:
    reply = shared.chat(body={"model": MODEL, "script": {"pieces": [text] if text else []}})
    entry = shared.log_of(reply.headers["x-request-id"])
    assert (entry["status"], entry["tokens_in"], entry["tokens_out"]) == (200, None, None)


def test_a_log_line_in_full(shared: Gateway) -> None:
    reply = shared.chat(body={"model": "tiny-lora", "script": {"pieces": [json.dumps({"usage": USAGE})]}})
    entry = check_line(json.dumps(shared.log_of(reply.headers["x-request-id"])))
    measured = {name: entry.pop(name) for name in ("ts", "ttft_ms", "duration_ms", "queue_ms", "bytes_out")}
    assert abs(time.time() - time.mktime(time.strptime(measured["ts"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 60
    assert measured["bytes_out"] > len(reply.body)
    assert entry == {
        "request_id": reply.headers["x-request-id"],
        "key_id": "main",
        "principal": "team main",
        "model": "tiny-lora",
        "route": "/v1/chat/completions",
        "method": "POST",
        "status": 200,
        "replica": "r1",
        "stream": False,
        "tokens_in": 11,
        "tokens_out": 7,
        "termination": "--",
    }


def test_a_model_that_is_not_served_is_not_written_down(shared: Gateway) -> None:
    bodies: list[Any] = [
        {"model": "canary"},
        {"model": MODEL + '"'},
        {"model": None},
        {},
        [],
        b"{",
        b'{"model":"' + b"x" * 100_000,
    ]
    for body in bodies:
        entry = shared.log_of(shared.chat(body=body).headers["x-request-id"])
        assert entry["model"] == "-"
    assert shared.log_of(shared.ask("GET", "/v1/models").headers["x-request-id"])["model"] is None


def test_nothing_that_a_client_says_is_written_down(shared: Gateway) -> None:
    canary = "canary5f3a"
    body = {"model": canary, "messages": [{"role": canary, "content": canary}], "user": canary}
    script = {"pieces": [json.dumps({"choices": [{"text": canary}], "model": canary, "usage": USAGE})]}
    headers = {"x-session-id": canary, "user-agent": canary, "cookie": canary, f"x-{canary}": "1", "x-request-id": canary}
    for route in (*ROUTES, f"/{canary}", f"/v1/models?{canary}", f"/v1/{canary}/models"):
        for method in ("GET", "POST", canary.upper()):
            shared.ask(method, route, body=body | {"script": script} if method == "POST" else None, headers=headers)
            shared.ask(method, route, key=canary, headers=headers)
    for line in (canary, f"GET /{canary}", f"GET / HTTP/1.1\r\n{canary}", f"GET /\0{canary} HTTP/1.1"):
        shared.raw(f"{line}\r\n\r\n".encode(), half_close=True)
    last = shared.chat().headers["x-request-id"]
    shared.log_of(last)
    written = shared.log_path.read_text() + (shared.folder / "err").read_text()
    assert canary not in written.lower()
    assert KEY not in written


WILD = st.binary(max_size=60)
TOKENS = st.sampled_from([b"GET", b"POST", b"get", b'"', b"\\", b"GET\t", b"{}", b"A" * 300]) | WILD
TARGETS = st.sampled_from([b"/v1/models", b'/"\\', b"/%22%00", b"/\xff\xfe", b"*", b"/" + b"\\" * 50, b"/v1/responses"]) | WILD
NAMES = st.sampled_from([b"authorization", b"x-session-id", b"host", b"content-length", b"\xe9"]) | WILD


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    start=st.tuples(TOKENS, TARGETS),
    headers=st.lists(st.tuples(NAMES, WILD), max_size=4),
    body=WILD,
    keyed=st.booleans(),
)
def test_every_log_line_is_json(
    shared: Gateway, start: tuple[bytes, bytes], headers: list[tuple[bytes, bytes]], body: bytes, keyed: bool
) -> None:
    before = len(shared.log_lines())
    lines = [name + b": " + value for name, value in headers]
    if keyed:
        lines.append(b"authorization: Bearer " + KEY.encode())
    shared.raw(b"\r\n".join([b" ".join(start) + b" HTTP/1.1", *lines, b"", body, b"", b"", b""]), half_close=True)
    shared.log_of(shared.chat().headers["x-request-id"])
    for line in shared.log_lines()[before:]:
        check_line(line)
