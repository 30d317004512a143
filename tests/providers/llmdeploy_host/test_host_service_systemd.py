"""Services under a real systemd, on a machine that it booted."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest

from llmdeploy_host import _service, _systemd
from llmdeploy_host._connection import Paths
from llmdeploy_host._host_type import locked, parse_facts
from llmdeploy_host._service import Service
from llmdeploy_host.host_home import home_script
from llmdeploy_host.host_packages import packages_script
from llmdeploy_host.host_volume import close_script, open_script
from tests.lab.systemd_machine import SystemdMachine
from tests.providers.llmdeploy_host.test_host_service_live import DETACHED
from tests.support import require_root, require_tool

pytestmark = pytest.mark.integration

LINEAGE = "1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d"
PATHS = Paths(f"units-{LINEAGE[:8]}")


class Units:
    """A stack's services on the machine."""

    def __init__(self, machine: SystemdMachine) -> None:
        self.machine = machine

    def run(self, script: str, *, stdin: str = "") -> str:
        return self.machine.run(locked(PATHS, "test", script), stdin=stdin)

    def install(self, service: Service) -> None:
        self.run(_service.install_script(PATHS, service, "systemd"))

    def remove(self, name: str) -> None:
        self.run(_service.remove_script(PATHS, name, "systemd"))

    def python(self, code: str) -> tuple[str, ...]:
        file = f"{PATHS.lib}/{sha256(code.encode()).hexdigest()[:8]}.py"
        self.machine.run(f"cat >{file}; chmod 0644 {file}", stdin=code)
        return ("/usr/bin/python3", "-u", file)

    def probe(self, name: str) -> dict[str, str]:
        return parse_facts("::resource x\n" + self.machine.run(_service.probe(PATHS, name, "systemd")))["x"]

    def pid(self, name: str) -> int:
        return int(self.probe(name)["pid"])

    def log(self, name: str, lines: int = 1000) -> str:
        return self.machine.run(_service.log_script(PATHS, name, lines, "systemd"))

    def kill(self, name: str) -> None:
        self.machine.run(f"kill -s KILL {self.pid(name)}")

    def processes(self, name: str) -> list[int]:
        """Every living process of the service, as the machine numbers them."""
        group = f"/sys/fs/cgroup/system.slice/{_systemd.unit_name(PATHS, name)}/cgroup.procs"
        return [int(pid) for pid in self.machine.run(f"cat {group} 2>/dev/null || true").split()]

    def traces(self) -> list[str]:
        """Whatever of the services lies outside the stack's own folders."""
        names = f"\\( -name '*{PATHS.slug}*' -o -name '*{PATHS.user}*' \\)"
        return self.machine.run(f"find /etc /var /run /sys/fs/cgroup {names} ! -path '*/llmdeploy/*' 2>/dev/null || true").split()


def wait_for(condition: Callable[[], Any], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdMachine]:
    require_root()
    require_tool("/lib/systemd/systemd", "unshare", "nsenter", "gocryptfs")
    machine = SystemdMachine(tmp_path_factory.mktemp("machine"))
    machine.start()
    machine.run(home_script(PATHS, "units", LINEAGE))
    yield machine
    machine.stop()


@pytest.fixture
def units(machine: SystemdMachine) -> Iterator[Units]:
    units = Units(machine)
    yield units
    for name in machine.run(f"ls {PATHS.lib}/services 2>/dev/null || true").split():
        units.remove(name.removesuffix(".pre_start"))
    assert units.traces() == []
    assert machine.run("systemctl list-units --all --plain --no-legend 'llmdeploy-*' 'systemd-journald*@llmd-*'") == ""


def _sleeper(**changes: Any) -> Service:
    usual: dict[str, Any] = {"name": "sleeper", "argv": ("/bin/sh", "-c", "echo started; exec sleep 86400")}
    return Service(**usual | changes)


def test_runs_in_a_clean_room(units: Units) -> None:
    code = (
        "import json, os, resource, signal, socket\n"
        "print(json.dumps(dict(os.environ)))\n"
        "print('core', resource.getrlimit(resource.RLIMIT_CORE)[0], 'umask', oct(os.umask(0)), 'cwd', os.getcwd())\n"
        "print(sorted(name for _, name in socket.if_nameindex()), os.getuid() != 0)\n"
        "listening = socket.create_server(('127.0.0.1', 4711))\n"
        "socket.create_connection(('127.0.0.1', 4711), 5)\n"
        "for path in ('/etc/mine', '/var/lib/mine', '/root'):\n"
        "    try: open(path, 'w'); print('wrote', path)\n"
        "    except OSError: pass\n"
        "print(open('/proc/self/status').read(), flush=True)\n"
        "signal.pause()\n"
    )
    units.machine.run(f"printf 'TOKEN=sesame=1\\n' >{PATHS.lib}/secret.env; chmod 0600 {PATHS.lib}/secret.env")
    service = Service(
        "room",
        units.python(code),
        {"GREETING": 'it\'s $HOME 50% "here"'},
        user=PATHS.user,
        umask="027",
        cwd="/usr",
        isolate_network=True,
        secret_env_file=f"{PATHS.lib}/secret.env",
    )
    units.install(service)
    wait_for(lambda: "NoNewPrivs" in units.log("room"))
    log = units.log("room")
    environment, limits, network, *_ = log.splitlines()
    given = json.loads(environment)
    expected = {"GREETING": 'it\'s $HOME 50% "here"', "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TOKEN": "sesame=1"}
    assert given == {**expected, "LC_CTYPE": "C.UTF-8"}, "Python itself adds LC_CTYPE"
    assert limits == "core 0 umask 0o27 cwd /usr"
    assert network == "['lo'] True"
    assert "wrote" not in log
    uid = units.machine.run(f"id -u {PATHS.user}").strip()
    nothing = "0" * 16
    for line in (f"Uid:\t{uid}\t{uid}", "NoNewPrivs:\t1", f"CapEff:\t{nothing}", f"CapBnd:\t{nothing}", "Seccomp:\t2"):
        assert line in log
    assert "sesame" not in units.machine.run(f"systemctl show {_systemd.unit_name(PATHS, 'room')}")


def test_probe_tells_the_truth(units: Units) -> None:
    assert units.probe("sleeper")["running"] == "no"
    service = _sleeper()
    units.install(service)
    pid, found = units.pid("sleeper"), units.probe("sleeper")
    assert (found["running"], found["restarts"]) == ("yes", "0")
    assert found["definition"] == _service.definition_sha256(PATHS, service, "systemd")
    units.install(service)
    assert units.pid("sleeper") == pid, "an unchanged service is left alone"
    unit, _, _ = _systemd.files(PATHS, "sleeper")
    units.machine.run(f"echo '# mine' >>{unit}")
    assert units.probe("sleeper")["definition"] != found["definition"]
    units.install(_sleeper(env={"A": "b"}))
    assert units.pid("sleeper") != pid, "a changed service is started again"
    assert units.probe("sleeper")["definition"] == _service.definition_sha256(PATHS, _sleeper(env={"A": "b"}), "systemd")


def test_a_killed_process_is_started_again_without_its_orphans(units: Units) -> None:
    units.install(Service("forker", units.python(DETACHED)))
    wait_for(lambda: len(units.processes("forker")) == 2)
    before = set(units.processes("forker"))
    units.kill("forker")
    wait_for(lambda: units.probe("forker")["restarts"] == "1" and len(units.processes("forker")) == 2)
    assert not before & set(units.processes("forker"))


def test_stop_leaves_nothing_and_install_starts_again(units: Units) -> None:
    service = Service("forker", units.python(DETACHED))
    units.install(service)
    wait_for(lambda: len(units.processes("forker")) == 2)
    units.run(_service.stop_script(PATHS, "forker", "systemd"))
    assert units.processes("forker") == []
    assert units.probe("forker")["running"] == "no"
    assert units.machine.run(f"systemctl is-enabled {_systemd.unit_name(PATHS, 'forker')}", status=1) == "disabled\n"
    units.install(service)
    wait_for(lambda: len(units.processes("forker")) == 2)


def test_remove_works_on_half_made_things(units: Units) -> None:
    units.remove("sleeper")
    units.install(_sleeper())
    units.machine.run(f"rm {' '.join(_systemd.files(PATHS, 'sleeper'))}; systemctl daemon-reload")
    assert units.processes("sleeper"), "it runs on without its definition"
    units.remove("sleeper")
    assert units.processes("sleeper") == []


def test_a_process_that_ignores_the_signal_is_killed_in_time(units: Units) -> None:
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); time.sleep(86399)"
    units.install(Service("deaf", units.python(code), stop_signal="INT", stop_timeout_s=1))
    wait_for(lambda: "deaf" in units.log("deaf"))
    units.run(_service.stop_script(PATHS, "deaf", "systemd"))
    assert units.processes("deaf") == []


def test_reload_sends_the_signal_to_the_main_process(units: Units) -> None:
    code = (
        "import signal\nsignal.signal(signal.SIGUSR2, lambda *_: print('again', flush=True))\n"
        "print('up', flush=True)\nwhile True: signal.pause()\n"
    )
    service = Service("reloads", units.python(code), reload_signal="USR2")
    units.install(service)
    wait_for(lambda: "up" in units.log("reloads"))
    pid = units.pid("reloads")
    units.run(_service.reload_script(PATHS, service, "systemd"))
    wait_for(lambda: "again" in units.log("reloads"))
    assert units.pid("reloads") == pid


def test_a_failing_preparation_is_told_and_tried_again(units: Units) -> None:
    flag = f"{PATHS.lib}/ready"
    units.install(_sleeper(pre_start=f"test -e {flag} || {{ echo 'not ready' >&2; exit 1; }}\necho prepared"))
    wait_for(lambda: "not ready" in units.log("sleeper"))
    assert units.probe("sleeper")["running"] == "no"
    units.machine.run(f"touch {flag}")
    wait_for(lambda: units.log("sleeper").rstrip().endswith("prepared\nstarted"))
    assert units.probe("sleeper")["running"] == "yes"


def test_a_unit_that_systemd_refuses_is_told(units: Units) -> None:
    script = locked(PATHS, "test", _service.install_script(PATHS, _sleeper(argv=("",)), "systemd"))
    assert "bad unit file setting" in units.machine.run(script, status=1)


def test_the_log_is_apart_kept_within_its_limits_and_followed(units: Units) -> None:
    code = "import time\nfor n in range(4000): print('%04d' % n, 'x' * 100)\nprint('done', flush=True); time.sleep(86399)"
    units.install(Service("chatty", units.python(code), log_max_bytes=50_000, log_keep=3, log_retention_days=1))
    wait_for(lambda: units.log("chatty", 1) == "done\n")
    assert units.log("chatty", 3).splitlines()[0].startswith("3998 ")
    assert "3998 " not in units.machine.run("journalctl --no-pager --output=cat")
    assert units.machine.run("systemctl is-active 'systemd-journald@llmd-*.service'") == "active\n"
    command = units.machine.command(_service.follow_script(PATHS, "chatty", 1, "systemd"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "done\n"
        follower.terminate()


def test_a_machine_without_a_journal_on_disk_stays_so(units: Units) -> None:
    units.machine.run("mv /var/log/journal /var/log/away")
    units.install(_sleeper())
    wait_for(lambda: "started" in units.log("sleeper"))
    units.remove("sleeper")
    units.machine.run("test ! -e /var/log/journal && mv /var/log/away /var/log/journal")


def test_the_volume_outlives_the_service_that_unlocked_it(units: Units) -> None:
    machine = units.machine
    opened = locked(PATHS, "volume", open_script(PATHS))
    machine.run(f"cat >{PATHS.lib}/open.sh", stdin=opened)
    machine.run(f"systemd-run --quiet --property=Type=oneshot sh -c 'echo a key | sh {PATHS.lib}/open.sh'")
    machine.run(f"touch {PATHS.lib}/volume/file")
    scope = _systemd.volume_scope(PATHS)
    assert machine.run(f"systemctl is-active {scope}") == "active\n"
    machine.run(f"pkill -KILL -x gocryptfs --ns {machine.run('pgrep -x gocryptfs').strip()}")
    machine.run(f"stat {PATHS.lib}/volume/file", status=1)
    units.run(open_script(PATHS), stdin="a key\n")
    machine.run(f"stat {PATHS.lib}/volume/file")
    units.run(close_script(PATHS))
    machine.wait_for("the scope to go", f"! systemctl is-active --quiet {scope}")


def test_services_of_new_packages_do_not_start_with_the_machine(units: Units) -> None:
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -y -qq"
    units.machine.run(f"{apt} purge haproxy >/dev/null 2>&1")
    units.run(packages_script(PATHS, ("haproxy",)))
    assert units.machine.run("systemctl is-enabled haproxy.service", status=1) == "disabled\n"
    assert units.machine.run("systemctl is-active haproxy.service", status=3) == "inactive\n"
    units.machine.run("systemctl enable --quiet haproxy.service 2>/dev/null")
    units.run(packages_script(PATHS, ("haproxy",)))
    assert units.machine.run("systemctl is-enabled haproxy.service") == "enabled\n", "what an operator enables stays"
    units.run(packages_script(PATHS, ()))
    assert units.machine.run("find /etc /var/lib/systemd -name '*haproxy*'") == ""


@pytest.mark.parametrize("end", [SystemdMachine.shut_down, SystemdMachine.cut_power], ids=["shut down", "power cut"])
def test_services_come_back_with_the_machine(units: Units, end: Callable[[SystemdMachine], None]) -> None:
    units.install(_sleeper(user=PATHS.user, pre_start=f"mkdir -p {PATHS.run}"))
    wait_for(lambda: "started" in units.log("sleeper"))
    began = time.monotonic()
    end(units.machine)
    assert time.monotonic() - began < 20
    units.machine.boot()
    wait_for(lambda: units.probe("sleeper")["running"] == "yes")
    assert units.probe("sleeper")["definition"] == _service.definition_sha256(
        PATHS, _sleeper(user=PATHS.user, pre_start=f"mkdir -p {PATHS.run}"), "systemd"
    )
