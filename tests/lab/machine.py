"""A throw-away machine: this one's files under a copy-on-write layer, with its own processes, mounts, IPC and host name.

What happens in it is gone with it. It shares the network, so that the package registries of this machine can be reached, and
its kernel. Needs root; about 20 MiB of memory plus what is written.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[2]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SETUP = """
set -eu
mount -t tmpfs -o size=12g,mode=0755 tmpfs {base}
mkdir {base}/upper {base}/work {base}/root
mount -t overlay overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {base}/root
cd {base}/root
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
rm -rf var/lib/llmdeploy var/log/llmdeploy root/.llmdeploy
hostname fresh
exec chroot . /usr/bin/python3 -c '
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
print("ready", flush=True)
while True:
    signal.sigwait([signal.SIGCHLD])
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
'
"""


@dataclass(frozen=True)
class Process:
    """One process of the machine, with its number as this machine's host sees it."""

    pid: int
    user_id: int
    command: str


class Machine:
    """Start with `start`, end with `stop`; `run` runs a shell script in it."""

    namespaces: ClassVar[tuple[str, ...]] = ("--mount", "--pid", "--ipc", "--uts")

    def __init__(self, base: Path) -> None:
        self._base = base
        self._unshare: subprocess.Popen[str] | None = None
        self.init_pid = 0

    def start(self) -> None:
        """Bring the machine up."""
        self._base.mkdir(parents=True, exist_ok=True)
        options = [*self.namespaces, "--fork", "--kill-child", "--propagation", "private"]
        self._unshare = subprocess.Popen(
            ["unshare", *options, "sh", "-c", _SETUP.format(base=shlex.quote(str(self._base)))],
            stdout=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text()
        self.init_pid = int(children.split()[0])
        # What follows installs and purges packages: never on the machine itself.
        assert self.run("stat -f -c %T /").strip() == "overlayfs"

    def stop(self) -> None:
        """End every process of the machine; its files go with it."""
        if self._unshare is not None:
            os.kill(self.init_pid, signal.SIGKILL)
            self._unshare.wait(timeout=60)
            assert self._unshare.stdout is not None
            self._unshare.stdout.close()

    @property
    def upper(self) -> Path:
        """Where everything that was written outside its mounts lies, as seen from outside."""
        assert self._unshare is not None
        return Path(f"/proc/{self._unshare.pid}/root{self._base}/upper")

    def command(self, script: str, environ: Mapping[str, str] | None = None, cwd: str = "/root") -> list[str]:
        """Return the argument list that runs `script` in the machine, with a bare environment."""
        given = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", **(environ or {})}
        enter = ["nsenter", f"--target={self.init_pid}", *self.namespaces, "--root"]
        bare = ["env", "-i", f"--chdir={cwd}", *(f"{name}={value}" for name, value in given.items())]
        return [*enter, *bare, "sh", "-c", script]

    def run(
        self,
        script: str,
        *,
        environ: Mapping[str, str] | None = None,
        cwd: str = "/root",
        stdin: str = "",
        status: int | Sequence[int] | None = 0,
        timeout_s: float = 300,
    ) -> str:
        """Run `script` to its end and return what it printed on both outputs; the exit status must be as given."""
        done = subprocess.run(
            self.command(script, environ, cwd),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            timeout=timeout_s,
            check=False,
        )
        wanted = [status] if isinstance(status, int) else status
        assert wanted is None or done.returncode in wanted, f"{script}\nstatus {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def path(self, inside: str) -> Path:
        """Return where a file of the machine can be seen from outside (mounts in it included)."""
        return Path(f"/proc/{self.init_pid}/root{inside}")

    def processes(self) -> list[Process]:
        """Return the machine's processes, without its first one."""
        namespace = os.readlink(f"/proc/{self.init_pid}/ns/pid")
        found: list[Process] = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns/pid") != namespace or int(folder.name) == self.init_pid:
                    continue
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if command:
                    found.append(Process(int(folder.name), folder.stat().st_uid, command))
            except OSError:
                continue
        return found

    def wait_for(self, what: str, condition: str, timeout_s: float = 60) -> None:
        """Wait until the shell condition holds in the machine."""
        deadline = time.monotonic() + timeout_s
        while subprocess.run(self.command(condition), cwd="/", capture_output=True, check=False).returncode != 0:
            assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"

    def bring_checkout(self, inside: str) -> None:
        """Copy this checkout without what git ignores, as a fresh clone of it would be."""
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
        there = b"\0".join(name for name in names.split(b"\0") if name and (ROOT / os.fsdecode(name)).exists())
        pack = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=there, capture_output=True, check=True).stdout
        subprocess.run(self.command(f"mkdir -p {inside} && tar -x -C {inside}"), cwd="/", input=pack, check=True)
