"""The machine itself, and the folders and user of a stack, on this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdeploy.sdk import CommandFailed, NotOwned
from llmdeploy_host._connection import HostSpec
from llmdeploy_host.host import RESOURCE as MACHINE
from llmdeploy_host.host import Facts
from llmdeploy_host.host_home import RESOURCE as HOME
from llmdeploy_host.host_home import HomeSpec
from tests.providers.llmdeploy_host.host_lab import HOST, Stack, prior_of
from tests.support import require_root

pytestmark = pytest.mark.integration


def _spec(stack: Stack) -> HomeSpec:
    return HomeSpec(host=HOST, name=stack.name)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    require_root()
    stack = Stack(tmp_path, name="lab-home")
    host = stack.create(MACHINE, HostSpec(host=HOST))
    yield stack
    stack.delete(HOME, prior_of(HOME, _spec(stack), {}))
    stack.delete(MACHINE, host)
    stack.delete(MACHINE, host)
    for folder in (stack.paths.lib, stack.paths.run, stack.paths.log, stack.paths.locks):
        assert not Path(folder).exists()


def test_the_machine(stack: Stack) -> None:
    host = stack.create(MACHINE, HostSpec(host=HOST))
    facts = Facts.model_validate(host.outputs["facts"])
    assert facts.os_id in ("debian", "ubuntu")
    assert facts.kernel == os.uname().release
    assert facts.architecture == os.uname().machine
    assert facts.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts.systemd == Path("/run/systemd/system").is_dir()
    read = stack.read(MACHINE, host)
    assert (read.exists, read.drift, read.outputs) == (True, (), host.outputs)
    assert MACHINE.preflight(stack.run, HostSpec(host=HOST).tree(), None) == ()


def test_create_and_delete(stack: Stack) -> None:
    assert HOME.preflight(stack.run, _spec(stack).tree(), None) == ()
    prior = stack.create(HOME, _spec(stack))
    user = pwd.getpwnam(stack.paths.user)
    assert prior.outputs["uid"] == user.pw_uid
    assert (user.pw_shell, user.pw_dir) == ("/usr/sbin/nologin", "/nonexistent")
    modes = {folder: stat.S_IMODE(Path(prior.outputs[folder]).stat().st_mode) for folder in ("lib", "run", "log")}
    assert modes == {"lib": 0o711, "run": 0o711, "log": 0o700}
    assert stack.drift(HOME, prior) == []
    assert stack.update(HOME, prior).outputs == prior.outputs

    left = subprocess.Popen(["sleep", "86399"], user=user.pw_uid, group=user.pw_gid)
    temporary = Path("/dev/shm", f"{stack.paths.slug}-left")
    temporary.touch()
    os.chown(temporary, user.pw_uid, user.pw_gid)
    stack.delete(HOME, prior)
    assert left.wait(5) == -9
    assert not temporary.exists()
    with pytest.raises(KeyError):
        pwd.getpwnam(stack.paths.user)
    assert not stack.read(HOME, prior).exists
    stack.delete(HOME, prior)


def test_delete_ends_the_users_processes_and_not_those_of_a_container_with_the_same_number(stack: Stack, tmp_path: Path) -> None:
    prior = stack.create(HOME, _spec(stack))
    uid = str(pwd.getpwnam(stack.paths.user).pw_uid)
    sleep = ["sh", "-c", f"echo up; exec chroot --userspec={uid} $0 sleep 86399"]
    for name in ("bin", "lib", "lib64"):
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root" / name).symlink_to(f"usr/{name}")
    (tmp_path / "root/usr").mkdir()
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    mount = [*apart, "sh", "-euc", 'mount --bind /usr "$1/usr"; shift; exec "$@"', "sh", tmp_path / "root"]
    with (
        subprocess.Popen([*sleep, "/"], stdout=subprocess.PIPE) as own,
        subprocess.Popen([*mount, *sleep, tmp_path / "root"], stdout=subprocess.PIPE) as container,
    ):
        try:
            assert own.stdout is not None
            assert container.stdout is not None
            assert own.stdout.readline() == container.stdout.readline() == b"up\n"
            stack.delete(HOME, prior)
            assert own.wait(timeout=10) == -signal.SIGKILL
            assert container.poll() is None
        finally:
            own.kill()
            child = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text()
            os.kill(int(child), signal.SIGKILL)


def test_what_is_missing_is_named_and_made_again(stack: Stack) -> None:
    prior = stack.create(HOME, _spec(stack))
    shutil.rmtree(stack.paths.run)  # as after a reboot
    Path(stack.paths.log).chmod(0o755)
    assert stack.drift(HOME, prior) == [
        "home: the run folder is missing",
        "home: the log folder has other rights (755 root, not 700 root)",
    ]
    assert stack.update(HOME, prior).outputs == prior.outputs
    assert stack.drift(HOME, prior) == []

    subprocess.run(["userdel", stack.paths.user], check=True)
    assert stack.drift(HOME, prior) == [f"home: the user {stack.paths.user} is missing"]
    assert stack.update(HOME, prior).outputs == prior.outputs, "files on the volume carry the number of the user"


def test_another_lineage_is_refused(stack: Stack, tmp_path: Path) -> None:
    prior = stack.create(HOME, _spec(stack))
    other = Stack(tmp_path / "other", name=stack.name)
    problems = HOME.preflight(other.run, _spec(other).tree(), None)
    assert [problem.sentence for problem in problems] == [
        f"localhost: a stack named lab-home with another lineage lies in {stack.paths.lib}"
    ]
    assert "another name" in problems[0].hint
    with pytest.raises(NotOwned, match="with another lineage"):
        other.create(HOME, _spec(other))
    assert not Path(other.paths.lib).exists()
    shutil.rmtree(other.paths.locks)

    # A stack whose name merely begins alike stands beside it.
    neighbour = Stack(tmp_path / "neighbour", name="lab")
    theirs = neighbour.create(HOME, _spec(neighbour))
    assert stack.update(HOME, prior).outputs == prior.outputs
    neighbour.delete(HOME, theirs)
    shutil.rmtree(neighbour.paths.locks)
    assert Path(stack.paths.lib).is_dir()


def test_a_foreign_user_is_refused(stack: Stack) -> None:
    subprocess.run(["useradd", "--system", stack.paths.user], check=True)
    try:
        with pytest.raises(NotOwned, match=f"the user {stack.paths.user} exists"):
            stack.create(HOME, _spec(stack))
        stack.delete(HOME, prior_of(HOME, _spec(stack), {}))
        assert pwd.getpwnam(stack.paths.user)
    finally:
        subprocess.run(["userdel", stack.paths.user], check=True)


def test_a_mount_below_stops_delete(stack: Stack) -> None:
    prior = stack.create(HOME, _spec(stack))
    folder = Path(stack.paths.lib, "volume")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        with pytest.raises(CommandFailed) as caught:
            stack.delete(HOME, prior)
        assert "still mounted" in caught.value.tail
        assert folder.is_dir()
    finally:
        subprocess.run(["umount", str(folder)], check=True)
