"""A double of a container registry and of the server that gives tokens for it, because tests cannot reach a real one.

It was written from the OCI distribution specification 1.1 (pulling a manifest) and from the token specification of CNCF
Distribution. It was never compared with a registry that people use.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Manifest:
    """What a tag points at."""

    content: bytes
    kind: str = INDEX

    @property
    def digest(self) -> str:
        """What the registry calls it."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


def index(*platforms: str) -> Manifest:
    """Return the index of an image for these platforms (`linux/amd64`)."""
    rows = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": f"sha256:{hashlib.sha256(one.encode()).hexdigest()}",
            "size": 1000,
            "platform": dict(zip(("os", "architecture"), one.split("/"), strict=True)),
        }
        for one in platforms
    ]
    return Manifest(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}).encode())


@dataclass(frozen=True)
class Seen:
    """One request: method, path, credentials, and the media types that are wanted."""

    method: str
    path: str
    authorization: str | None
    accept: str


@dataclass
class Faults:
    """What goes wrong.

    status, token_status: of the next answers of the registry and of the server of tokens. no_head: status of answers to HEAD.
    hide_digest: no answer tells the digest. digest, kind, challenge: told instead of the right digest, media type, and way to a
    token. token_answer: instead of a token. redirect_to: another registry.
    """

    status: list[int] = field(default_factory=list[int])
    token_status: list[int] = field(default_factory=list[int])
    no_head: int | None = None
    hide_digest: bool = False
    digest: str | None = None
    kind: str | None = None
    challenge: str | None = None
    token_answer: bytes | None = None
    redirect_to: str | None = None


class RegistryServer:
    """Both servers. `with RegistryServer({"vllm/vllm-openai:v1": index("linux/amd64")}) as registry:`; requests are in `seen`.

    token: what everybody must fetch first, "" for a registry that wants none. field_name: under which name it is given.
    """

    def __init__(self, manifests: Mapping[str, Manifest], *, token: str = "", field_name: str = "token") -> None:
        self.manifests = dict(manifests)
        self.token = token
        self.field_name = field_name
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.asked_tokens: list[Mapping[str, list[str]]] = []
        self._registry = _server(self, _Registry)
        self._tokens = _server(self, _Tokens)

    def __enter__(self) -> RegistryServer:
        for server in (self._registry, self._tokens):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        for server in (self._registry, self._tokens):
            server.shutdown()
            server.server_close()

    @property
    def host(self) -> str:
        """How an image's name names the registry."""
        return f"127.0.0.1:{self._registry.server_address[1]}"

    @property
    def realm(self) -> str:
        """Where tokens are given."""
        return f"http://127.0.0.1:{self._tokens.server_address[1]}/token"


def _server(owner: RegistryServer, handler: type[_Handler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type(handler.__name__, (handler,), {"owner": owner}))
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    owner: RegistryServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class _Registry(_Handler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        owner, faults = self.owner, self.owner.faults
        owner.seen.append(Seen(self.command, self.path, self.headers["Authorization"], self.headers["Accept"] or ""))
        name, _, tag = self.path.removeprefix("/v2/").partition("/manifests/")
        if faults.status:
            return self.answer(faults.status.pop(0), b"", {})
        if self.command == "HEAD" and faults.no_head is not None:
            return self.answer(faults.no_head, b"", {})
        if owner.token and self.headers["Authorization"] != f"Bearer {owner.token}":
            asked = f'Bearer realm="{owner.realm}",service="double.example.com",scope="repository:{name}:pull"'
            challenge = asked if faults.challenge is None else faults.challenge
            return self.answer(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}', {"WWW-Authenticate": challenge})
        if faults.redirect_to is not None:
            return self.answer(307, b"", {"Location": f"{faults.redirect_to}{self.path}"})
        found = owner.manifests.get(f"{name}:{tag}")
        if found is None or found.kind not in (self.headers["Accept"] or ""):
            return self.answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', {"Content-Type": "application/json"})
        told = {} if faults.hide_digest else {"Docker-Content-Digest": found.digest if faults.digest is None else faults.digest}
        return self.answer(200, found.content, {"Content-Type": faults.kind or found.kind, **told})


class _Tokens(_Handler):
    def do_GET(self) -> None:
        owner = self.owner
        owner.asked_tokens.append(parse_qs(urlsplit(self.path).query))
        if owner.faults.token_status:
            return self.answer(owner.faults.token_status.pop(0), b"", {})
        body = owner.faults.token_answer
        body = json.dumps({owner.field_name: owner.token, "expires_in": 300}).encode() if body is None else body
        return self.answer(200, body, {"Content-Type": "application/json"})
