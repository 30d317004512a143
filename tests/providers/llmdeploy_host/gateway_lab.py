"""A real HAProxy with the rendered configuration, before small engines that speak OpenAI's JSON and SSE on Unix sockets."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llmdeploy_host._gateway_config import (
    GatewayConfig,
    KeyRecord,
    Limits,
    Replica,
    prepare_map_command,
    prepared_version,
    render_config,
    render_keys_map,
    render_usage_lua,
    runtime_sync_commands,
)

MODEL = "tiny"
KEY = "llmd_live_abcd1234_secret"
POSTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
ROUTES = (*POSTS, "/v1/models")
Value = TypeVar("Value")


def wait_for(read: Callable[[], Value | None], timeout_s: float = 15.0) -> Value:
    """What `read` gives as soon as it is true; AssertionError when it never is."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = read()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.005)


def record(key: str = KEY, key_id: str = "main", **changes: Any) -> KeyRecord:
    digest = hashlib.sha256(key.encode()).hexdigest()
    values: dict[str, Any] = {"principal": f"team {key_id}", "requests_per_minute": 1_000_000, "concurrency": 1000}
    return KeyRecord(key_id=key_id, sha256=digest, **(values | changes))


@dataclass
class Seen:
    """One request as an engine saw it."""

    head: bytes
    body: bytes
    rest: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


@dataclass
class Engine:
    """An engine whose answers the request chooses: `{"script": {...}}` in its body.

    script: pieces (list of byte strings as text, written one by one), type (content type), status, headers (more of them), hold
    (wait for `release` after the first piece), silent (never answer).
    """

    path: Path
    name: str = "r1"
    seen: list[Seen] = field(default_factory=list[Seen])
    healthy: bool = True
    early: bytes = b""
    left_early: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    def start(self) -> None:
        ready = threading.Event()

        def serve() -> None:
            asyncio.run(self._main(ready))

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._released.set)

    def rearm(self) -> None:
        """Let the next held streams wait for a new `release`."""
        self._loop.call_soon_threadsafe(self._released.clear)

    def kill(self) -> None:
        """Close everything at once, as a killed process does."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._stop, self._released = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self.path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, str(self.path))
        self.path.chmod(0o666)
        ready.set()
        await self._stop.wait()
        server.close()
        self.path.unlink(missing_ok=True)
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left_early += 1
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /health "):
            writer.write(b"HTTP/1.1 %d x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % (200 if self.healthy else 503))
            return
        seen = Seen(head, b"")
        if self.early:
            writer.write(self.early)
            await writer.drain()
            return
        seen.body = await _body(reader, seen.headers)
        self.seen.append(seen)
        script = self._script(seen)
        if script.get("silent"):
            await reader.readexactly(1)
        more = "".join(f"{name}: {value}\r\n" for name, value in script["headers"].items())
        writer.write(
            f"HTTP/1.1 {script['status']} x\r\nserver: uvicorn\r\nx-engine: {self.name}\r\ncontent-type: {script['type']}\r\n"
            f"{more}connection: close\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        for number, piece in enumerate(script["pieces"]):
            data = piece.encode("latin-1")
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
            if number == 0 and script.get("hold"):
                await self._held(reader)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        seen.rest = await reader.read()

    async def _held(self, reader: asyncio.StreamReader) -> None:
        gone = asyncio.ensure_future(reader.read(1))
        freed = asyncio.ensure_future(self._released.wait())
        await asyncio.wait((gone, freed), return_when=asyncio.FIRST_COMPLETED)
        freed.cancel()
        if gone.done() and not self._released.is_set():
            raise ConnectionResetError
        gone.cancel()

    def _script(self, seen: Seen) -> dict[str, Any]:
        try:
            script = json.loads(seen.body)["script"]
        except (ValueError, KeyError, TypeError):
            script = {}
        usual: dict[str, Any] = {"pieces": ['{"object":"list","data":[]}'], "status": 200, "headers": {}}
        return {"type": "application/json", **usual, **script}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body
    return await reader.readexactly(int(headers.get("content-length", "0")))


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Gateway:
    """HAProxy in its own folder, as `host_gateway` runs it: master and worker, log to a file that is only appended to."""

    def __init__(self, replicas: int = 1, **changes: Any) -> None:
        # short, because a socket's path is
        self.folder = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.run, self.ops = self.folder / "run", self.folder / "ops"
        self.run.mkdir(mode=0o755)
        self.ops.mkdir(mode=0o700)
        self.engines = [Engine(self.run / f"r{n}.sock", f"r{n}") for n in range(1, replicas + 1)]
        as_root: dict[str, Any] = {"user": "haproxy", "group": "haproxy", "chroot": str(self.run)} if os.geteuid() == 0 else {}
        values: dict[str, Any] = {
            "address": "127.0.0.1",
            "port": free_port(),
            "tls_pem": str(self.folder / "edge.pem"),
            "keys_map": str(self.folder / "keys.map"),
            "usage_lua": str(self.folder / "usage.lua"),
            "sockets_dir": str(self.ops),
            "replicas": tuple(Replica(name=engine.name, socket=str(engine.path)) for engine in self.engines),
            "served_models": (MODEL, "tiny-lora"),
            "haproxy_version": (2, 6, 12),
            "limits": Limits(body_bytes=256 * 1024, request_timeout_s=5),
        }
        self.config = GatewayConfig(**(values | as_root | changes))
        self.log_path = self.folder / "log"
        self.keys: list[KeyRecord] = [record()]
        self.responses: list[http.client.HTTPResponse] = []

    def start(self) -> None:
        for engine in self.engines:
            engine.start()
        (self.folder / "edge.pem").write_bytes(certificate())
        (self.folder / "usage.lua").write_text(render_usage_lua())
        (self.folder / "keys.map").write_text(render_keys_map(self.keys))
        path = self.folder / "haproxy.cfg"
        path.write_text(render_config(self.config))
        check = subprocess.run(["haproxy", "-c", "-q", "-f", str(path)], capture_output=True, text=True)
        assert check.returncode == 0, check.stderr
        with self.log_path.open("ab") as log, (self.folder / "err").open("ab") as err:
            self.process = subprocess.Popen(["haproxy", "-W", "-f", str(path)], stdout=log, stderr=err)
        wait_for(lambda: self.answers(200))

    def answers(self, status: int) -> bool:
        """Whether /healthz answers so."""
        try:
            return self.ask("GET", "/healthz", key=None).status == status
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        for response in self.responses:
            response.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for engine in self.engines:
            engine.kill()
        lines = self.log_lines()
        shutil.rmtree(self.folder)
        # whatever a test did, every line is JSON, also those of reloads and of the end
        assert all(isinstance(json.loads(line), dict) for line in lines)

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection((self.config.address, self.config.port), timeout=20)
        try:
            return (context or tls_context()).wrap_socket(plain)
        except BaseException:
            plain.close()
            raise

    def open(
        self,
        method: str,
        path: str,
        *,
        key: str | None = KEY,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Send one request and give back the answer with its body unread."""
        connection = http.client.HTTPSConnection(self.config.address, self.config.port, timeout=20, context=tls_context())
        sent = {"connection": "close"} | dict(headers or {})
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.connect()
            # an answer may come before the body is sent, and the gateway closes then
            with suppress(OSError):
                connection.request(method, path, body=data, headers=sent)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        self.responses.append(response)
        return response

    def ask(self, method: str, path: str, **options: Any) -> Reply:
        with self.open(method, path, **options) as response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, headers, response.read())

    def chat(self, **options: Any) -> Reply:
        return self.ask("POST", "/v1/chat/completions", **({"body": {"model": MODEL}} | options))

    def hold(self, key: str = KEY, **script: Any) -> http.client.HTTPResponse:
        """A stream that has begun and stays open until its engine is released."""
        pieces = ["data: {}\n\n", "data: [DONE]\n\n"]
        chosen: dict[str, Any] = {"type": "text/event-stream", "pieces": pieces, "hold": True} | script
        response = self.open("POST", "/v1/chat/completions", key=key, body={"model": MODEL, "script": chosen})
        assert response.status == 200, response.read()
        assert response.readline().startswith(b"data: ")
        return response

    def raw(self, data: bytes, half_close: bool = False) -> bytes:
        """Everything that comes back for these bytes until the gateway closes."""
        answer = b""
        with suppress(OSError), self.connect() as tls:
            with suppress(OSError):
                tls.sendall(data)
            if half_close:
                tls.settimeout(1)
            while piece := tls.recv(65536):
                answer += piece
        return answer

    def admin(self, command: str) -> str:
        """The reply to one runtime command."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(self.config.admin_socket)
            client.sendall(command.encode())
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        return answer.decode()

    def sync(self, *keys: KeyRecord) -> None:
        """Make these the gateway's keys: first the file, then the running process."""
        text = render_keys_map(keys)
        Path(self.config.keys_map).write_text(text)
        version = prepared_version(self.admin(prepare_map_command(self.config.keys_map)))
        for command in runtime_sync_commands(self.config.keys_map, text, version):
            assert self.admin(command).strip() == ""

    def log_lines(self) -> list[str]:
        """The whole lines; one may just be being written."""
        return self.log_path.read_text().rpartition("\n")[0].splitlines()

    def log_of(self, request_id: str) -> dict[str, Any]:
        """The log line of one request, as soon as it is written."""
        line = wait_for(lambda: next((line for line in self.log_lines() if request_id in line), None))
        return json.loads(line)

    def worker_pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


def gateway(replicas: int = 1, **changes: Any) -> Iterator[Gateway]:
    """A running gateway; the body of a fixture."""
    running = Gateway(replicas, **changes)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate() -> bytes:
    """A self-signed certificate with its key, as HAProxy reads them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return signed.public_bytes(pem) + private
