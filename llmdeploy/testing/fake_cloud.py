"""The fake cloud as a process of its own, which outlives every client: `python -m llmdeploy.testing.fake_cloud --socket PATH`.

One request and one answer per line of JSON: `{"call": NAME, "arguments": {...}}` gives `{"answer": ...}` or
`{"error": CODE, "message": ...}`. Besides the calls of the cloud there are `audit` and `await_calls`, for tests. It prints
`ready` when it listens, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from .cloud import CloudError, FakeCloud, Json, habits_of


class SocketCloud:
    """A client of such a process. Safe for several threads; they take turns."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._lock = threading.Lock()
        self._stream: BinaryIO | None = None

    def call(self, name: str, /, **arguments: Json) -> Json:
        """Call one operation. Raises CloudError."""
        line = json.dumps({"call": name, "arguments": arguments}).encode() + b"\n"
        with self._lock:
            try:
                stream = self._stream or self._connect()
                stream.write(line)
                stream.flush()
                document = json.loads(stream.readline())
            except (OSError, ValueError) as error:
                self._drop()
                raise CloudError("ConnectionReset", f"{self._path}: {error}") from None
        if "error" in document:
            raise CloudError(document["error"], document["message"])
        return document["answer"]

    def _connect(self) -> BinaryIO:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(30)
            link.connect(self._path)
            stream = cast("BinaryIO", link.makefile("rwb"))
        self._stream = stream
        return stream

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._drop()


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        cloud = cast("_Server", self.server).cloud
        try:
            for line in self.rfile:
                self.wfile.write(json.dumps(_answer(cloud, json.loads(line))).encode() + b"\n")
        except (OSError, ValueError):
            return  # a client that was killed in the middle of a line


def _answer(cloud: FakeCloud, request: Mapping[str, Any]) -> dict[str, Json]:
    looks = {"audit": cloud.audit, "await_calls": cloud.await_calls}
    try:
        call, arguments = request["call"], request["arguments"]
        return {"answer": looks[call](**arguments) if call in looks else cloud.call(call, **arguments)}
    except CloudError as error:
        return {"error": error.code, "message": error.message}
    except TypeError as error:
        return {"error": "InvalidCall", "message": str(error)}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, cloud: FakeCloud) -> None:
        super().__init__(path, _Handler)
        self.cloud = cloud


@contextmanager
def cloud_process(socket_path: Path, habits: Mapping[str, Json] | None = None, seed: int = 0) -> Generator[SocketCloud]:
    """Run such a process while the body runs, in a session of its own; give a client."""
    argv = [sys.executable, "-m", __spec__.name, "--socket", str(socket_path)]
    argv += ["--habits", json.dumps(dict(habits or {})), "--seed", str(seed)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        client = SocketCloud(str(socket_path))
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("the fake cloud did not start")
            yield client
        finally:
            client.close()
            process.stdin.close()
            process.wait(timeout=10)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description="A fake cloud behind a socket.")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--habits", default="{}", help="JSON of llmdeploy.testing.cloud.Habits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with _Server(options.socket, FakeCloud(habits_of(json.loads(options.habits)), seed=options.seed)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print("ready", flush=True)
        while os.read(0, 4096):
            pass
        server.shutdown()


if __name__ == "__main__":
    main()
