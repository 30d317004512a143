"""A stack under a profile, beside the laptop's on the same machine: what the canary is sent to, and what the audit looks at."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmdeploy_host._x509 import issue_ca, issue_server

from .laptop import CLI, Laptop

FOLDER: Final = "/root/guarded"
PORT: Final = 48443
DOMAIN: Final = "llm.guarded.example"
MODEL: Final = "tiny-random"
START_S: Final = 240

STACK_FILE: Final = f"""
version: 1
name: guarded
model: {{id: tiny-random, context: 2K, concurrency: 4}}
region: de
compliance:
  profiles: [gdpr]
  attest: {{ropa: true, dpia: true, dpa: true}}
provider: {{local: {{}}}}
storage: {{encryption: gocryptfs, key: "env:VOLUME_KEY"}}
gateway:
  domain: {DOMAIN}
  port: {PORT}
  tls: {{cert: "file:tls/chain.pem", key: "file:tls/key.pem"}}
keys:
  - {{name: me, principal: me, max_age_days: 90}}
logs: {{retention_days: 14}}
state:
  local: {{}}
  encryption: {{passphrase: "env:STATE_KEY"}}
"""


@dataclass(frozen=True)
class Endpoint:
    """Where a stack answers: connections are made to this machine, whatever the certificate's name is."""

    port: int
    tls: ssl.SSLContext
    name: str
    key: str

    def open(self, name: str = "") -> ssl.SSLSocket:
        """Return a connection. name: what the client says that it looks for, "" for the certificate's own name."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        context = self.tls
        if name:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain, server_hostname=name or self.name)

    def send(self, request: bytes, name: str = "") -> tuple[int, bytes]:
        """Send bytes as they are, and return status and body of the reply (0 and what came where it is no reply)."""
        with self.open(name) as connection:
            with contextlib.suppress(OSError):  # what is refused need not be read to its end
                connection.sendall(request)
            return reply_of(read_all(connection))

    def request(self, path: str, body: bytes, *, method: str = "POST", headers: tuple[tuple[str, str], ...] = ()) -> bytes:
        """Return a whole request, with the stack's key unless `headers` have another one."""
        given = {"host": self.name, "authorization": f"Bearer {self.key}", "content-type": "application/json"}
        lines = {**given, "connection": "close", "content-length": str(len(body))}
        lines |= {name.lower(): value for name, value in headers}
        head = "".join(f"{header}: {value}\r\n" for header, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body

    def ask(self, body: Any, path: str = "/v1/chat/completions") -> tuple[int, bytes]:
        """Send a request to the model."""
        return self.send(self.request(path, json.dumps({"model": MODEL, **body}).encode()))

    def wait(self) -> None:
        """Wait until the model answers. A very short first prompt once killed an engine that had come back by itself (SIGILL)."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                status, _ = self.ask({"prompt": "x", "max_tokens": 1}, "/v1/completions")
            except OSError:
                status = 0
            if status == 200:
                return
            assert time.monotonic() < deadline, f"the model did not answer in {START_S} s"
            time.sleep(0.5)  # nothing to wait on from outside


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side ends the connection, however it does."""
    parts: list[bytes] = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except (OSError, ssl.SSLError):
        pass
    return b"".join(parts)


def reply_of(raw: bytes) -> tuple[int, bytes]:
    """Return status and body of a reply."""
    head, _, body = raw.partition(b"\r\n\r\n")
    words = head.split()
    return (int(words[1]), body) if len(words) > 1 and words[0].startswith(b"HTTP/") else (0, raw)


def gateway_says(path: Path, command: str) -> bytes:
    """Return a reply of HAProxy's own socket."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(path))
        link.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: link.recv(65536), b""))


class Guarded:
    """The stack, and what it needs from its operator."""

    folder: Final = FOLDER

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop
        self.machine = laptop.machine
        self.secrets = {"VOLUME_KEY": secrets.token_hex(32), "STATE_KEY": secrets.token_hex(32)}
        self._tls: ssl.SSLContext | None = None

    def write(self) -> None:
        """Write stack file and certificate."""
        folder = self.machine.path(FOLDER)
        (folder / "tls").mkdir(parents=True, exist_ok=True)
        (folder / "stack.yaml").write_text(STACK_FILE)
        authority = issue_ca("the operator's own", 30)
        leaf = issue_server(authority.certificate_pem, authority.key_pem, (DOMAIN,), 30)
        (folder / "tls/chain.pem").write_text(leaf.certificate_pem)
        (folder / "tls/key.pem").touch(mode=0o600)
        (folder / "tls/key.pem").write_bytes(leaf.key_pem)
        self._tls = ssl.create_default_context(cadata=authority.certificate_pem)

    def cli(self, arguments: str, *, status: int | Sequence[int] = 0) -> str:
        """Run llmdeploy in the stack's folder, with its secrets."""
        return self.laptop.cli(arguments, status=status, folder=FOLDER, environ=self.secrets)

    def json(self, arguments: str, *, status: tuple[int, ...] = (0,)) -> Any:
        """Run a verb with `--format json`."""
        command = f"{CLI} {arguments} --format json 2>/dev/null"
        return json.loads(self.machine.run(command, environ=self.secrets, cwd=FOLDER, status=status))

    @property
    def slug(self) -> str:
        """The name under which the stack's things lie."""
        names = self.machine.run("ls /var/lib/llmdeploy").split()
        return next(name for name in names if name.startswith("guarded-"))

    def endpoint(self) -> Endpoint:
        """Return where it answers."""
        assert self._tls is not None
        key = self.machine.path(self.json("output")["keys"]["me"]["file"]).read_text().strip()
        return Endpoint(PORT, self._tls, DOMAIN, key)

    def destroy(self) -> None:
        """Take the stack away."""
        self.cli("destroy --yes")
