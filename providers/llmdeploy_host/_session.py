"""Runs POSIX shell scripts on a machine. One session per machine and run; several threads may use it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

from llmdeploy.sdk import CommandFailed, Context, Interrupted, NotBuilt, ProviderError, Run

from ._connection import Connection

PROGRESS = "::progress "
"""A script's line with this prefix on standard output is told to the user."""

_PASSED = {
    "PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "APT_CONFIG",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
}  # fmt: skip


def script_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of the operator's environment a script may see: search path, proxies, certificates, pip's settings.

    Everything else stays behind, so that no token of the operator ends in a long-lived process.
    """
    passed = {name: value for name, value in environ.items() if name in _PASSED or name.startswith("PIP_")}
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        **passed,
    }


class Session:
    """A way to run scripts on this machine.

    Scripts are POSIX sh and travel as an argument; they never contain a secret. Secrets and file contents travel by standard
    input, which the script reads.
    """

    def __init__(self, connection: Connection, run: Run) -> None:
        self._run = run
        self._prefix = [] if os.geteuid() == 0 and not connection.sudo else ["sudo", "-n", "--preserve-env"]

    def run(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        timeout_s: float = 600.0,
        on_progress: Callable[[str], None] = lambda _message: None,
    ) -> str:
        """Run `script` and return its standard output without progress lines.

        Raises:
            CommandFailed: the exit status is not 0 (carries the last lines), or the time is over (status 124).
            Interrupted: the user stopped the run; the script and its children in the foreground were ended.
            ProviderError: this user is not root and there is no sudo.
        """
        process = self._start(script)
        output: list[str] = []
        errors: deque[str] = deque(maxlen=40)
        failures: list[Exception] = []
        readers = [
            _reader(process.stdout, lambda line: _sort(line, output, on_progress), failures),
            _reader(process.stderr, errors.append, failures),
        ]
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(BrokenPipeError):
            process.stdin.write(stdin)
        with suppress(BrokenPipeError):
            process.stdin.close()
        status = self._wait(process, time.monotonic() + timeout_s, failures)
        for reader in readers:
            # A daemon that the script started may hold the pipe open; what the script itself said has arrived by now.
            reader.join(timeout=5)
        if failures:
            # Whoever listens to the progress gave up, such as a closed pipe: that is the end of it, not the script's status.
            raise failures[0]
        if status != 0:
            tail = "\n".join([*errors] or output[-20:])
            message = "took longer than allowed and was ended" if status == 124 else f"a command failed with status {status}"
            raise CommandFailed(message, status=status, tail=tail)
        return "".join(f"{line}\n" for line in output)

    def _start(self, script: str) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*self._prefix, "sh", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=script_environment(self._run.environ),
            )
        except FileNotFoundError as error:
            if not self._prefix:
                raise
            raise ProviderError(f"this needs root, and {error.filename} is not installed", hint="run it as root") from None

    def _wait(self, process: subprocess.Popen[bytes], deadline: float, failures: Sequence[Exception]) -> int:
        while True:
            try:
                return process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                if self._run.abort.is_set():
                    _end(process)
                    raise Interrupted("stopped a command on the machine") from None
                if failures or time.monotonic() > deadline:
                    _end(process)
                    return 124


def session(run: Run, connection: Connection) -> Session:
    """Return the session to `connection`, made once per run.

    Raises:
        NotBuilt: the machine is another one than this.
    """
    if connection.transport != "local":
        raise NotBuilt(f"{connection.address}: machines reached over SSH can be planned, not changed, by this version")
    key = f"session:{connection.transport}:{connection.user}@{connection.address}:{connection.port}"
    return run.shared(key, lambda: Session(connection, run))


def run_script(ctx: Context, connection: Connection, script: str, *, stdin: bytes = b"") -> str:
    """Run `script` for one operation: its progress is told, its time is what the operation has left."""
    left_s = max(1.0, ctx.deadline - time.monotonic())
    return session(ctx.run, connection).run(script, stdin=stdin, timeout_s=left_s, on_progress=ctx.progress)


def _sort(line: str, output: list[str], on_progress: Callable[[str], None]) -> None:
    if line.startswith(PROGRESS):
        on_progress(line.removeprefix(PROGRESS))
    else:
        output.append(line)


def _reader(pipe: IO[bytes] | None, sink: Callable[[str], None], failures: list[Exception]) -> threading.Thread:
    def read() -> None:
        assert pipe is not None  # noqa: S101 - a pipe was asked for
        try:
            with pipe:
                for line in pipe:
                    sink(line.decode(errors="replace").rstrip("\n"))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            return
