"""Services under a real s6 tree of a stack of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from llmdeploy_host import _service
from llmdeploy_host._connection import HostSpec
from llmdeploy_host._host_type import locked, parse_facts
from llmdeploy_host._s6 import scan_folder
from llmdeploy_host._service import Service
from llmdeploy_host._session import session
from llmdeploy_host.host import RESOURCE as MACHINE
from llmdeploy_host.host_home import RESOURCE as HOME
from llmdeploy_host.host_home import HomeSpec
from llmdeploy_host.host_supervisor import JANITOR, SupervisorSpec
from llmdeploy_host.host_supervisor import RESOURCE as SUPERVISOR
from tests.providers.llmdeploy_host.gateway_lab import wait_for
from tests.providers.llmdeploy_host.host_lab import HOST, Stack
from tests.support import require_root, require_tool

pytestmark = pytest.mark.integration

CANARY = "canary-of-the-operator"
DETACHED = (  # leaves session, process group and environment behind, as engines with setproctitle do
    "import os, sys, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        os.execve('/bin/sleep', ['sleep', '86399'], {})\n"
    "    os._exit(0)\n"
    "print('main is up', os.getpid(), flush=True)\n"
    "time.sleep(86399)\n"
)


class Tree:
    """A stack with a running supervision tree."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder)
        self.stack.environ["AWS_SECRET_ACCESS_KEY"] = CANARY
        self.paths = self.stack.paths
        self.host = self.stack.create(MACHINE, HostSpec(host=HOST))
        self.home = self.stack.create(HOME, HomeSpec(host=HOST, name=self.stack.name))
        self.supervisor = self.stack.create(SUPERVISOR, SupervisorSpec(host=HOST, home=self.paths.lib, kind="s6"))

    def run(self, script: str) -> str:
        return session(self.stack.run, HOST).run(locked(self.paths, "test", script))

    def install(self, service: Service) -> None:
        self.run(_service.install_script(self.paths, service, "s6"))

    def python(self, code: str) -> tuple[str, ...]:
        """The command line of a Python program that the stack's user can read."""
        file = Path(self.paths.lib, f"{sha256(code.encode()).hexdigest()[:8]}.py")
        file.write_text(code)
        file.chmod(0o644)
        return ("/usr/bin/python3", "-u", str(file))

    def probe(self, name: str) -> dict[str, str]:
        output = session(self.stack.run, HOST).run(_service.probe(self.paths, name, "s6"))
        return parse_facts("::resource x\n" + output)["x"]

    def log(self, name: str, lines: int = 1000) -> str:
        return session(self.stack.run, HOST).run(_service.log_script(self.paths, name, lines, "s6"))

    def pid(self, name: str) -> int:
        """The pid once the process itself has taken over from the scripts that start it."""

        def started() -> int | None:
            pid = int(self.probe(name)["pid"])
            return pid if pid and processes(self.paths.user, name).count(pid) and not _is_script(pid) else None

        return wait_for(started)


def _is_script(pid: int) -> bool:
    try:
        return b"./data/start" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def processes(user: str, name: str) -> list[int]:
    """Every living process of the service: those in a UTS namespace with its label."""
    own = os.readlink("/proc/self/ns/uts")
    found: list[int] = []
    for link in Path("/proc").glob("[0-9]*/ns/uts"):
        try:
            if os.readlink(link) == own:
                continue
        except OSError:
            continue
        command = ["nsenter", f"--uts={link}", "cat", "/proc/sys/kernel/domainname"]
        if subprocess.run(command, capture_output=True, text=True).stdout.strip() == f"{user}.{name}":
            found.append(int(link.parts[2]))
    return found


def of_slug(slug: str) -> list[str]:
    """Command lines of every living process that names the stack."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if slug in command and int(entry.parent.name) != os.getpid():
            found.append(command)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    require_root()
    require_tool("s6-svscan", "ip", "setpriv", "unshare", "nsenter")
    tree = Tree(tmp_path)
    yield tree
    tree.stack.delete(SUPERVISOR, tree.supervisor)
    tree.stack.delete(HOME, tree.home)
    tree.stack.delete(MACHINE, tree.host)
    assert not Path(tree.paths.locks).exists()
    assert not Path(tree.paths.lib).exists()
    assert not Path(tree.paths.run).exists()
    assert of_slug(tree.paths.slug) == []


def _sleeper(**changes: object) -> Service:
    argv = ("/bin/sh", "-c", "echo started; exec sleep 86400")
    return Service(**{"name": "sleeper", "argv": argv, **changes})  # type: ignore[arg-type]  # the changes name fields


def test_runs_in_a_clean_room(tree: Tree) -> None:
    code = (
        "import os, resource, socket\n"
        "print(sorted(os.environ.items()))\n"
        "print('core', resource.getrlimit(resource.RLIMIT_CORE)[0], 'umask', oct(os.umask(0)), 'cwd', os.getcwd())\n"
        "print(sorted(name for _, name in socket.if_nameindex()), os.getuid() != 0, os.getgroups())\n"
        "listening = socket.create_server(('127.0.0.1', 4711))\n"
        "socket.create_connection(('127.0.0.1', 4711), 5)\n"
        "print('loopback works', flush=True)\n"
        "print(open('/proc/self/status').read(), flush=True)\n"
        "import signal; signal.pause()\n"
    )
    secret = Path(tree.paths.lib, "secret.env")
    secret.write_text("TOKEN=sesame=1\n")
    secret.chmod(0o600)
    service = Service(
        "room",
        tree.python(code),
        {"GREETING": 'it\'s $HOME "here"'},
        user=tree.paths.user,
        umask="027",
        cwd="/usr",
        isolate_network=True,
        secret_env_file=str(secret),
    )
    tree.install(service)
    wait_for(lambda: "NoNewPrivs" in tree.log("room"))
    log = tree.log("room")
    environment, limits, network, *_ = log.splitlines()
    expected = {"GREETING": 'it\'s $HOME "here"', "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TOKEN": "sesame=1"}
    assert environment == str(sorted({**expected, "LC_CTYPE": "C.UTF-8"}.items()))  # Python itself adds LC_CTYPE
    assert limits == "core 0 umask 0o27 cwd /usr"
    uid = tree.home.outputs["uid"]
    assert network.startswith("['lo'] True")
    assert "loopback works" in log
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in log
    assert "NoNewPrivs:\t1" in log
    assert "CapEff:\t0000000000000000" in log
    assert "CapBnd:\t0000000000000000" in log
    assert "sesame" not in "".join(of_slug(tree.paths.slug))


def test_probe_tells_the_truth(tree: Tree) -> None:
    assert tree.probe("sleeper")["running"] == "no"
    service = _sleeper()
    tree.install(service)
    pid = tree.pid("sleeper")
    found = tree.probe("sleeper")
    assert found["running"] == "yes"
    assert found["restarts"] == "0"
    assert found["definition"] == _service.definition_sha256(tree.paths, service, "s6")
    tree.install(service)
    assert tree.pid("sleeper") == pid, "an unchanged service is left alone"

    Path(scan_folder(tree.paths), "sleeper", "run").write_text("#!/bin/sh\nexec sleep 5\n")
    assert tree.probe("sleeper")["definition"] != found["definition"]
    tree.install(_sleeper(env={"A": "b"}))
    assert tree.pid("sleeper") != pid, "a changed service is started again"
    assert tree.probe("sleeper")["definition"] == _service.definition_sha256(tree.paths, _sleeper(env={"A": "b"}), "s6")


def test_a_killed_process_is_started_again_without_its_orphans(tree: Tree) -> None:
    tree.install(Service("forker", tree.python(DETACHED)))
    wait_for(lambda: len(processes(tree.paths.user, "forker")) == 2)
    first = tree.pid("forker")
    orphan = next(pid for pid in processes(tree.paths.user, "forker") if pid != first)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: tree.probe("forker")["restarts"] == "1" and len(processes(tree.paths.user, "forker")) == 2)
    assert not {first, orphan} & set(processes(tree.paths.user, "forker"))
    assert "ended with signal 9; it is started again in 1 s" in tree.log("forker")


def test_stop_leaves_nothing_and_install_starts_again(tree: Tree) -> None:
    service = Service("forker", tree.python(DETACHED))
    tree.install(service)
    wait_for(lambda: len(processes(tree.paths.user, "forker")) == 2)
    tree.run(_service.stop_script(tree.paths, "forker", "s6"))
    assert processes(tree.paths.user, "forker") == []
    assert tree.probe("forker")["running"] == "no"
    tree.install(service)
    wait_for(lambda: len(processes(tree.paths.user, "forker")) == 2)
    tree.run(_service.remove_script(tree.paths, "forker", "s6"))
    assert processes(tree.paths.user, "forker") == []
    assert [p for p in of_slug(tree.paths.slug) if "forker" in p] == []
    assert not Path(scan_folder(tree.paths), "forker").exists()
    assert not Path(tree.paths.log, "forker").exists()
    tree.run(_service.remove_script(tree.paths, "forker", "s6"))


def test_a_process_that_ignores_the_signal_is_killed_in_time(tree: Tree) -> None:
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); time.sleep(86399)"
    tree.install(Service("deaf", tree.python(code), stop_signal="INT", stop_timeout_s=1))
    wait_for(lambda: "deaf" in tree.log("deaf"))
    tree.run(_service.stop_script(tree.paths, "deaf", "s6"))
    assert processes(tree.paths.user, "deaf") == []


def test_the_stop_signal_is_the_one_asked_for(tree: Tree) -> None:
    code = "import signal, time\ntry:\n  print('up', flush=True); time.sleep(86399)\nexcept KeyboardInterrupt: print('bye')"
    tree.install(Service("polite", tree.python(code), stop_signal="INT"))
    wait_for(lambda: "up" in tree.log("polite"))
    tree.run(_service.stop_script(tree.paths, "polite", "s6"))
    wait_for(lambda: "bye" in tree.log("polite"))


def test_reload_sends_the_signal_to_the_main_process(tree: Tree) -> None:
    code = (
        "import signal\nsignal.signal(signal.SIGUSR2, lambda *_: print('again', flush=True))\n"
        "print('up', flush=True)\nwhile True: signal.pause()\n"
    )
    service = Service("reloads", tree.python(code), reload_signal="USR2")
    tree.install(service)
    wait_for(lambda: "up" in tree.log("reloads"))
    pid = tree.pid("reloads")
    tree.run(_service.reload_script(tree.paths, service, "s6"))
    wait_for(lambda: "again" in tree.log("reloads"))
    assert tree.pid("reloads") == pid


def test_a_crash_loop_slows_down_and_goes_on(tree: Tree) -> None:
    tree.install(Service("crasher", ("/bin/sh", "-c", "echo bad luck; exit 3")))
    wait_for(lambda: "started again in 4 s" in tree.log("crasher"), timeout_s=30)
    log = tree.log("crasher")
    assert [line.rsplit(" ", 2)[1] for line in log.splitlines() if "started again" in line] == ["1", "2", "4"]
    assert "crasher ended with status 3" in log
    # A corrected definition does not wait for the pause to end, nor does stopping.
    tree.install(Service("crasher", ("/bin/sh", "-c", "echo good luck; exec sleep 86400")))
    wait_for(lambda: "good luck" in tree.log("crasher"))


def test_a_failing_preparation_is_told_and_tried_again(tree: Tree) -> None:
    flag = Path(tree.paths.lib, "ready")
    tree.install(_sleeper(pre_start=f"test -e {flag}\necho prepared"))
    wait_for(lambda: "its preparation failed with status 1" in tree.log("sleeper"))
    flag.touch()
    wait_for(lambda: "prepared\nstarted" in tree.log("sleeper"), timeout_s=30)


def test_the_starter_can_die(tree: Tree) -> None:
    """The whole process group of the command line is killed, as Ctrl-C's last resort or a closed terminal do."""
    script = locked(tree.paths, "test", _service.install_script(tree.paths, _sleeper(), "s6") + "\nkill -KILL 0\n")
    subprocess.run(["sh", "-c", script], start_new_session=True)
    pid = tree.pid("sleeper")
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    assert int(fields[3]) == pid, "it leads a session of its own"
    assert tree.stack.drift(SUPERVISOR, tree.supervisor) == []


@pytest.mark.parametrize("everything", [False, True], ids=["s6-svscan", "s6-supervise too"])
def test_a_killed_supervisor_is_drift_and_is_repaired(tree: Tree, everything: bool) -> None:
    tree.install(Service("forker", tree.python(DETACHED)))
    wait_for(lambda: len(processes(tree.paths.user, "forker")) == 2)
    before = set(processes(tree.paths.user, "forker"))
    _kill_tree(tree, everything=everything)
    assert tree.stack.drift(SUPERVISOR, tree.supervisor) == ["supervisor: the process supervisor is not running"]
    assert tree.probe("forker")["running"] == "no"
    assert set(processes(tree.paths.user, "forker")) == before
    prior = tree.stack.update(SUPERVISOR, tree.supervisor)
    assert tree.stack.drift(SUPERVISOR, prior) == []
    wait_for(lambda: len(set(processes(tree.paths.user, "forker")) - before) == 2)
    assert not before & set(processes(tree.paths.user, "forker"))


def _kill_tree(tree: Tree, *, everything: bool) -> None:
    wanted = ("s6-svscan", "s6-supervise") if everything else ("s6-svscan",)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().decode().split("\0")
            cwd = os.readlink(entry.parent / "cwd")
        except OSError:
            continue
        if command[0] in wanted and cwd.startswith(scan_folder(tree.paths)):
            os.kill(int(entry.parent.name), signal.SIGKILL)


def test_logs_rotate_by_size_and_leave_by_age(tree: Tree) -> None:
    code = "import time\nfor n in range(4000): print('%04d' % n, 'x' * 100)\nprint('done', flush=True); time.sleep(86399)"
    tree.install(Service("chatty", tree.python(code), log_max_bytes=50_000, log_keep=3, log_retention_days=1))
    wait_for(lambda: tree.log("chatty", 1) == "done\n")
    folder = Path(tree.paths.log, "chatty")
    assert 1 <= len(list(folder.glob("@*"))) <= 4
    assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000
    assert tree.log("chatty", 3).splitlines()[0].startswith("3998 ")

    old = folder / "@4000000000000000000000.s"
    old.write_text("last week\n")
    os.utime(old, (1, 1))
    stamp = Path(scan_folder(tree.paths), "chatty", "state", "log_ended")
    stamp.unlink(missing_ok=True)
    names = set(folder.glob("@*")) - {old}
    subprocess.run(["./sweep"], cwd=Path(scan_folder(tree.paths), JANITOR), check=True)
    assert not old.exists()
    wait_for(lambda: set(folder.glob("@*")) - names)
    assert stamp.exists()
    assert tree.log("chatty", 1) == "done\n"


def test_follow_prints_what_comes(tree: Tree) -> None:
    tree.install(_sleeper())
    wait_for(lambda: "started" in tree.log("sleeper"))
    script = _service.follow_script(tree.paths, "sleeper", 1, "s6")
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "started\n"
        follower.terminate()
