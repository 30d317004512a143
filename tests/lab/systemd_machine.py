"""A throw-away machine that systemd boots, with its units, journal and cgroups; it can be shut down and booted again.

Nothing is enabled on it but what systemd itself brings, so that what this machine runs besides does not run there too. Kernel
settings and hardware cannot be changed from in there.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .machine import ROOT, Machine

# Its disk, which outlives a boot: the shell that holds it boots once for every line that it reads.
_DISK = r"""
set -eu
mount -t tmpfs -o size=12g,mode=0755 tmpfs {base}
cd {base}
mkdir upper work root cgroups
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
mount -t cgroup2 cgroup2 cgroups
(
    cd root
    rm -rf var/lib/llmdeploy var/log/llmdeploy root/.llmdeploy var/log/journal/* etc/systemd/system/*.wants
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    echo fresh >etc/hostname
    : >etc/fstab
    for unit in getty-static.service systemd-journald-audit.socket systemd-logind.service systemd-modules-load.service \
        systemd-sysctl.service; do
        ln -sf /dev/null "etc/systemd/system/$unit"
    done
)
mine=cgroups/llmdeploy-lab-$$
while read -r _; do
    mkdir "$mine"
    unshare --mount --pid --ipc --uts --fork --kill-child --propagation private sh -euc '
        echo 0 >"$1/cgroup.procs"
        exec unshare --cgroup sh -euc "$2"
    ' sh "$mine" "$boot" </dev/null >console 2>&1 || echo "ended with $?" >>console
    find "$mine" -depth -type d -exec rmdir {{}} +
done
"""

_BOOT = """
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs dev
for node in null zero full random urandom tty fuse; do
    : >dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
# A checkout that lies where memory was mounted would be hidden.
[ -d ".$checkout" ] || {
    mkdir -p ".$checkout"
    mount --bind "$checkout" ".$checkout"
}
hostname fresh
pivot_root . .
umount -l .
mount --make-rshared /
exec env -i container=llmdeploy-lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""


class SystemdMachine(Machine):
    """Start with `start`, end with `stop`; in between it may be booted again."""

    namespaces = (*Machine.namespaces, "--cgroup")

    def start(self) -> None:
        """Make its disk and boot it."""
        self._base.mkdir(parents=True, exist_ok=True)
        self._disk = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _DISK.format(base=shlex.quote(str(self._base)))],
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, "boot": _BOOT, "checkout": str(ROOT)},
        )
        try:
            self.boot()
        except BaseException:
            self.stop()
            raise

    def boot(self) -> None:
        """Boot it and wait until systemd has started everything."""
        assert self._disk.stdin is not None
        self._disk.stdin.write("boot\n")
        self._disk.stdin.flush()
        deadline = time.monotonic() + 60
        while not (found := self._systemd()):
            assert time.monotonic() < deadline, self.console()
            assert self._disk.poll() is None, self.console()
            time.sleep(0.05)
        self.init_pid = found
        self.wait_for("systemd's bus", "test -S /run/systemd/private")
        state = self.run("systemctl is-system-running --wait", status=None).strip()
        assert state == "running", state + self.run("systemctl --failed --no-legend --plain; systemctl list-jobs")

    def shut_down(self) -> None:
        """Shut it down in order: its disk stays, for the next boot."""
        self.run("systemctl poweroff", status=None)
        self._wait_for_end()

    def cut_power(self) -> None:
        """End every process of the machine at once; its disk stays."""
        os.kill(self.init_pid, signal.SIGKILL)
        self._wait_for_end()

    def stop(self) -> None:
        """End every process of the machine; its files go with it."""
        assert self._disk.stdin is not None
        self._disk.stdin.close()
        if self._systemd():
            os.kill(self.init_pid, signal.SIGKILL)
        self._disk.wait(timeout=60)

    def wrote(self, inside: str) -> bool:
        """Tell whether a path was made or changed in the machine: what changes outside meanwhile can be seen in it too."""
        in_memory = inside.startswith(("/run/", "/tmp/", "/dev/"))
        return in_memory or os.path.lexists(f"/proc/{self._disk.pid}/root{self._base}/upper{inside}")

    def console(self) -> str:
        """Return what the last boot printed."""
        return Path(f"/proc/{self._disk.pid}/root{self._base}/console").read_text(errors="replace")

    def _systemd(self) -> int | None:
        """Return the first process of the machine, once it is systemd."""
        for pid in descendants(self._disk.pid):
            try:
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/lib/systemd/systemd\0"):
                    return pid
            except OSError:
                continue
        return None

    def _wait_for_end(self) -> None:
        deadline = time.monotonic() + 120
        while Path(f"/proc/{self.init_pid}").exists() or list(descendants(self._disk.pid)):
            assert time.monotonic() < deadline, self.console()
            time.sleep(0.05)


def descendants(pid: int) -> Iterator[int]:
    """Name the living processes that come from `pid`."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield int(child)
        yield from descendants(int(child))
