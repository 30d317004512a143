"""An S3 and a KMS of this machine: moto's server as a process of its own, and a proxy that breaks chosen requests."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REGION = "eu-central-1"


@dataclass(frozen=True)
class ObjectStore:
    """A running server: its address, and its process id."""

    url: str
    pid: int

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to talk to this server, and to nothing else."""
        return environment(self.url)


def environment(url: str) -> dict[str, str]:
    """Return what a process needs to talk to the service at `url`, and to nothing else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@contextmanager
def object_store(log: Path) -> Generator[ObjectStore]:
    """Run a server until the body is done; what it says goes to `log`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            _wait(process, port, log)
            yield ObjectStore(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)  # between two looks whether it listens
    raise AssertionError(f"the object store did not start: {log.read_text()}")


# --- a proxy that breaks requests -------------------------------------------------------------------------------------------


@dataclass
class Request:
    """One request on its way: its number (from 1), method, path and headers."""

    number: int
    method: str
    path: str
    headers: dict[str, str]


Trouble = Callable[[Request], str]
"""What happens to a request.

"": it passes. "500", "503", "409", "501": that is the answer, and nothing is done. "page": a proxy answers with its own page.
"reset": the connection breaks, and nothing is done. "reset after": it is done, and the connection breaks. "hang after": it is
done, and no answer comes. "cut": the answer breaks off in its middle. It may change the headers.
"""


@contextmanager
def proxy(target: str, trouble: Trouble) -> Generator[str]:
    """Stand between clients and `target`; give the address."""
    host, port = target.removeprefix("http://").split(":")
    counter = iter(range(1, 10**9))
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            request = Request(next(counter), self.command, self.path, headers)
            what = trouble(request)
            if what.isdigit():
                return self._answer(int(what), {"Content-Type": "application/xml"}, _error(what))
            if what == "page":
                return self._answer(200, {"Content-Type": "text/html"}, b"<html><p>Log in<br></html>")
            if what == "reset":
                return self._break()
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.request(request.method, request.path, body, request.headers)
            answer = connection.getresponse()
            content, fields = answer.read(), dict(answer.getheaders())
            connection.close()
            if what == "hang after":
                over.wait(60)
            if what in ("reset after", "hang after"):
                return self._break()
            self._answer(answer.status, fields, content, cut=what == "cut")
            return None

        def _answer(self, status: int, fields: Mapping[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in fields.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header(
                "Content-Length", fields.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
            )
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self._break()

        def _break(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
        setattr(Handler, f"do_{method}", Handler._any)  # pyright: ignore[reportPrivateUsage]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _error(status: str) -> bytes:
    code = {"409": "ConditionalRequestConflict", "503": "SlowDown", "500": "InternalError", "501": "NotImplemented"}[status]
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>made by a test</Message></Error>".encode()
