"""Requests that must be refused, over each socket of the gateway: without a key, with somebody's, with a query, with content."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..evidence.kernel import Unclear
from ..evidence.scan import Marks
from .keys import stranger
from .model import Fact, unclear
from .processes import Listener
from .tls import client, speaks_plainly

_TIMEOUT_S = 10.0
_MODELS, _CHAT = "/v1/models", "/v1/chat/completions"
_ROUTES = (
    ("GET", _MODELS, None),
    *(("POST", f"/v1/{name}", b"{}") for name in ("chat/completions", "completions", "embeddings", "responses")),
)
_ENGINE_ONLY = ("/metrics", "/version", "/v1/load", "/openapi.json")
"""What an engine answers to anybody, and nobody needs from outside."""


@dataclass(frozen=True)
class Answer:
    """What came back; the names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error in OpenAI's form, or ""."""
        try:
            return str(json.loads(self.body)["error"]["code"])
        except (ValueError, TypeError, KeyError):
            return ""


@dataclass
class Asked:
    """What the probe's requests brought: one line per refusal, what was not refused, and the ids of the requests."""

    ids: list[str] = field(default_factory=list[str])
    said: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    wrong: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def note(self, fact: str, line: str, right: bool) -> None:
        """Keep what one request showed."""
        self.said.setdefault(fact, []).append(line)
        if not right:
            self.wrong.setdefault(fact, []).append(line)


class Client:
    """Asks one listener, as a client would."""

    def __init__(self, listener: Listener, asked: Asked) -> None:
        self._listener, self._asked = listener, asked
        self.name, self._plain = listener.name, speaks_plainly(listener)

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send one request. Raises Unclear when there is no answer."""
        host, port = self._listener.reach, self._listener.port
        if self._plain:
            link = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        else:
            link = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=client())
        try:
            link.request(method, target, body=body, headers={"connection": "close", **headers})
            response = link.getresponse()
            answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise Unclear(f"{self.name} gave no answer to a request: {type(error).__name__}") from None
        finally:
            link.close()
        if identity := answer.headers.get("x-request-id"):
            self._asked.ids.append(identity)
        return answer

    def _link(self) -> socket.socket:
        link = socket.create_connection((self._listener.reach, self._listener.port), timeout=_TIMEOUT_S)
        return link if self._plain else client().wrap_socket(link)

    def say(self, text: bytes) -> None:
        """Send what is no HTTP; whatever comes back is no matter."""
        try:
            with self._link() as link:
                link.sendall(text)
                with suppress(OSError):
                    link.recv(4096)
        except OSError as error:
            raise Unclear(f"{self.name} gave no answer to a broken request: {type(error).__name__}") from None


def ask_everywhere(listeners: Sequence[Listener], planted: Marks) -> Asked:
    """Send all requests to every listener. Raises Unclear when one gets no answer."""
    asked = Asked()
    for listener in listeners:
        one = Client(listener, asked)
        _without_key(one, asked)
        _with_query(one, asked)
        _with_content(one, planted, asked)
    return asked


def _without_key(one: Client, asked: Asked) -> None:
    for method, target, body in _ROUTES:
        for name, headers in _refused_headers():
            answer = one.ask(method, target, headers, body)
            line = f"{one.name} {method} {target} {name}: {answer.status}"
            asked.note("authenticated", line, answer.status == 401)
    for target in _ENGINE_ONLY:
        answer = one.ask("GET", target, {})
        asked.note("authenticated", f"{one.name} GET {target} without a key: {answer.status}", answer.status in (401, 404))


def _refused_headers() -> Iterator[tuple[str, dict[str, str]]]:
    yield "without a key", {}
    yield "with a key that nobody has", {"authorization": f"Bearer {stranger()}"}
    yield "with Basic", {"authorization": "Basic bm9ib2R5Om5vYm9keQ=="}
    yield "with x-api-key", {"x-api-key": stranger()}


def _with_query(one: Client, asked: Asked) -> None:
    for method, target, body in (("GET", _MODELS, None), ("POST", _CHAT, b"{}"), ("GET", "/healthz", None)):
        answer = one.ask(method, f"{target}?probe=1", {}, body)
        line = f"{one.name} {method} {target} with a query: {answer.status} {answer.code}"
        asked.note("no-query", line, (answer.status, answer.code) == (400, "query_not_accepted"))


def _with_content(one: Client, mark: Marks, asked: Asked) -> None:
    """Send a marker of its own in every place where a client can put text."""
    headers = {
        "authorization": f"Bearer {mark['authorization']}",
        "cookie": f"session={mark['header']}",
        "user-agent": mark["header"],
        "referer": f"https://{mark['header']}.example/",
        "x-session-id": mark["header"],
        f"x-{mark['header']}": "1",
        "x-request-id": mark["request id"],
        "x-api-key": mark["authorization"],
    }
    body = json.dumps({"model": mark["body"], "user": mark["body"], "messages": [{"role": "user", "content": mark["body"]}]})
    answers = [
        one.ask("POST", _CHAT, headers, body.encode()),
        one.ask("GET", _MODELS, headers),
        one.ask("POST", f"{_CHAT}?q={mark['query']}", headers, body.encode()),
        one.ask("GET", f"/{mark['path']}", headers),
        one.ask("GET", f"/v1/{mark['path']}?{mark['query']}", headers),
        one.ask(mark["method"], _MODELS, headers),
    ]
    one.say(f"GET /{mark['path']} {mark['body']}\r\n\r\n".encode())
    taken = sum(mark["request id"] in f"{answer.headers} {answer.body!r}" for answer in answers)
    line = f"{one.name} x-request-id of the client in {taken} of {len(answers)} answers"
    asked.note("own-request-ids", line, taken == 0)
    one.ask("GET", _MODELS, {})


def authenticated(asked: Asked, listeners: Sequence[Listener]) -> Fact:
    """Tell whether everything that needs a key was refused with 401."""
    command = "; ".join(
        f"curl --insecure --header '{header}' https://{one.name}{_MODELS}"
        for one in listeners
        for header in ("x: no key", "authorization: Bearer KEY-OF-NOBODY", "authorization: Basic bm9ib2R5", "x-api-key: X")
    )
    said = asked.said.get("authenticated", [])
    if not said:
        return unclear("authenticated", "nothing was asked", command)
    return Fact("authenticated", not asked.wrong.get("authenticated"), command, "\n".join(said))
