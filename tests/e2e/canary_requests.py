"""Every way in which a client can bring a text to the endpoint, each with the status that it must get."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from .guarded import MODEL, Endpoint

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
REFUSED: Final = (400, 404, 405, 413, 422)
TALK: Final = 24
"""Tokens of an answer: long enough to occur nowhere else."""
TALKS: Final = {"max_tokens": TALK, "ignore_eos": True}


@dataclass(frozen=True)
class Canary:
    """A request that carries the marker: name of the field, the bytes, and which statuses show that it got where it should.

    name_asked_for: what the client says that it looks for when it connects (SNI), "" for the real name. answered: whether the
    model talks in its reply.
    """

    field: str
    raw: bytes
    statuses: tuple[int, ...] = (200,)
    name_asked_for: str = ""
    answered: bool = False


class Bodies:
    """Makes requests to one endpoint in which fields hold the marker and their own name."""

    def __init__(self, endpoint: Endpoint, marker: str, card: str) -> None:
        self._endpoint = endpoint
        self._marker = marker
        self._card = card

    def text(self, field: str) -> str:
        """Return the marker with the name of the field behind it, so that a leak says where it came from."""
        return self._marker + field.replace(" ", "").replace("-", "")

    def all(self) -> Iterator[Canary]:
        """Yield every request."""
        yield from self._accepted()
        yield from self._streamed()
        yield from self._refused_by_the_engine()
        yield from self._refused_by_the_gateway()
        yield from self._no_requests()

    def stream(self, field: str, tokens: int = 1900) -> bytes:
        """Return a request for a long answer in pieces."""
        messages = [{"role": "user", "content": self.text(field)}]
        body = {"messages": messages, "max_tokens": tokens, "stream": True, "ignore_eos": True, "stop": [self.text("stop")]}
        return self.post(body)

    def post(self, body: Any, path: str = CHAT, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
        """Return a request with a JSON body."""
        return self._endpoint.request(path, json.dumps({"model": MODEL, **body}).encode(), headers=headers)

    def _chat(self, field: str, **more: Any) -> bytes:
        content = f"{self.text(field)} {self._card}"
        return self.post({"messages": [{"role": "user", "content": content}], **TALKS, **more})

    def _accepted(self) -> Iterator[Canary]:
        text = self.text
        roles = [{"role": role, "content": text(role), "name": text("name")} for role in ("system", "user", "assistant", "user")]
        names = ("user", "safety_identifier", "prompt_cache_key", "cache_salt", "request_id")
        everything = {"messages": roles, **TALKS, "metadata": {text("key"): text("value")}}
        everything |= {name: text(name) for name in names}
        told = (
            "x-request-id",
            "x-session-id",
            "cookie",
            "user-agent",
            "referer",
            "x-forwarded-for",
            "traceparent",
            "accept-language",
        )
        headers = (*((name, text(name)) for name in told), (f"x-{text('header')}", text("own header")))
        yield Canary("messages, user and headers", self.post(everything, headers=headers), answered=True)
        yield Canary(
            "host", self.post({"prompt": "a house", "max_tokens": 1}, COMPLETIONS, (("host", f"{text('host')}.example"),))
        )
        yield Canary("prompt", self.post({"prompt": text("prompt"), **TALKS}, COMPLETIONS), answered=True)
        yield Canary("echo", self.post({"prompt": text("echo"), "max_tokens": 2, "echo": True, "logprobs": 2}, COMPLETIONS))
        yield Canary("stop", self._chat("stop", stop=[text("stop")]), answered=True)
        yield Canary("bad words", self._chat("bad words", bad_words=[text("bad words")]), answered=True)
        yield Canary("choice", self._chat("choice", structured_outputs={"choice": [text("one"), text("two")]}))
        schema = {"type": "object", "properties": {text("property"): {"type": "string", "description": text("description")}}}
        form = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
        yield Canary("schema", self._chat("schema", response_format=form))
        yield Canary("unknown field", self._chat("extra", **{text("field"): text("content")}), answered=True)
        yield Canary("tools", self._tools())
        answer = {"input": text("input"), "instructions": text("instructions"), "max_output_tokens": TALK, "store": True}
        yield Canary("responses", self.post({**answer, "metadata": {"one": text("metadata")}}, "/v1/responses"), (200, 400, 404))

    def _tools(self) -> bytes:
        text = self.text
        parameters = {"type": "object", "properties": {text("argument"): {"type": "string"}}}
        function = {"name": text("function"), "description": text("description"), "parameters": parameters}
        call = {"name": text("function"), "arguments": json.dumps({text("argument"): text("value")})}
        said = {"role": "assistant", "content": "", "tool_calls": [{"id": text("call"), "type": "function", "function": call}]}
        result = {"role": "tool", "tool_call_id": text("call"), "content": text("result")}
        messages = [{"role": "user", "content": text("question")}, said, result]
        tools = [{"type": "function", "function": function}]
        return self.post({"messages": messages, "tools": tools, "tool_choice": "none", "max_tokens": TALK})

    def _streamed(self) -> Iterator[Canary]:
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        yield Canary("streamed chat", self._chat("streamed", **usage))
        yield Canary("streamed prompt", self.post({"prompt": self.text("streamed"), "max_tokens": TALK, **usage}, COMPLETIONS))
        choice = {"structured_outputs": {"choice": [self.text("one"), self.text("two")]}}
        yield Canary("streamed choice", self._chat("streamed", **choice, **usage))

    def _refused_by_the_engine(self) -> Iterator[Canary]:
        text = self.text
        picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + text("picture").encode()).decode()
        bodies: dict[str, dict[str, Any]] = {
            "bad regex": {"structured_outputs": {"regex": f"[{text('regex')}"}},
            "bad grammar": {"structured_outputs": {"grammar": f"root ::= {text('grammar')} ("}},
            "unknown model": {"model": text("model")},
            "unknown role": {"messages": [{"role": text("role"), "content": text("content")}]},
            "wrong type": {"messages": [{"role": "user", "content": {text("key"): text("value")}}]},
            "wrong number": {"max_tokens": text("number")},
            "bias": {"logit_bias": {text("bias"): 1}},
            "tool choice": {"tool_choice": {"type": "function", "function": {"name": text("choice")}}},
            "template": {"chat_template": "{{ " + text("template")},
            "picture": _with_image(f"data:image/png;base64,{picture}"),
            "picture elsewhere": _with_image(f"https://{text('place')}.example/{text('path')}.png"),
        }
        for field, body in bodies.items():
            yield Canary(field, self._chat(field, **body), REFUSED)
        yield Canary("wrong prompt", self.post({"prompt": {"text": text("prompt")}}, COMPLETIONS), REFUSED)
        yield Canary("long prompt", self.post({"prompt": text("long") * 500}, COMPLETIONS), REFUSED)
        yield Canary("two megabytes", self.post({"prompt": text("large") * (2**21 // 30)}, COMPLETIONS), REFUSED)
        yield Canary("malformed JSON", self._raw(b'{"model": "tiny-random", "prompt": "' + text("open").encode()), REFUSED)
        yield Canary("no JSON", self._raw(text("body").encode(), ("content-type", f"text/{text('type')}")), (*REFUSED, 415))

    def _raw(self, body: bytes, *headers: tuple[str, str], path: str = COMPLETIONS, method: str = "POST") -> bytes:
        return self._endpoint.request(path, body, method=method, headers=headers)

    def _refused_by_the_gateway(self) -> Iterator[Canary]:
        text, good = self.text, b'{"model": "tiny-random", "prompt": "x", "max_tokens": 1}'
        yield Canary("query", self._raw(good, path=f"{COMPLETIONS}?{text('name')}={text('value')}"), REFUSED)
        yield Canary("path", self._raw(good, path=f"/v1/{text('path')}/../{text('dots')}"), REFUSED)
        yield Canary("method", self._raw(b"", method=text("method"), path="/v1/models"), REFUSED)
        stranger = replace(self._endpoint, key=text("key"))
        yield Canary("wrong key", stranger.request(COMPLETIONS, good), (401,))
        login = base64.b64encode(f"{text('login')}:{text('password')}".encode()).decode()
        yield Canary("login", self._raw(good, ("authorization", f"Basic {login}")), (401,))
        yield Canary("large header", self._raw(good, ("x-large", text("header") * 4000)), (*REFUSED, 0, 431))
        endless = self._raw(b"", ("transfer-encoding", "chunked")).replace(b"content-length: 0\r\n", b"")
        chunk = text("chunk").encode() * 1500
        yield Canary("in chunks", endless + b"%x\r\n" % len(chunk) + chunk + b"\r\n0\r\n\r\n", (413,))
        yield Canary("coding", self._raw(good, ("transfer-encoding", text("coding"))), (*REFUSED, 0, 501))
        yield Canary("expectation", self._raw(good, ("expect", text("expect"))), (*REFUSED, 200, 417))
        yield Canary("upgrade", self._raw(good, ("connection", "upgrade, close"), ("upgrade", text("protocol"))), (*REFUSED, 200))

    def _no_requests(self) -> Iterator[Canary]:
        text = self.text
        yield Canary("no HTTP", f"{text('line')} {text('words')}\r\n\r\n".encode(), (*REFUSED, 0))
        yield Canary("old HTTP", f"GET /{text('path')}\r\n".encode(), (*REFUSED, 0))
        yield Canary(
            "not for us", self.post({"prompt": text("prompt")}, COMPLETIONS), (200, 0), f"{text('name')}.example".lower()
        )


def _with_image(url: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": parts}]}
