"""Volumes with the real gocryptfs."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdeploy.sdk import Prior, ProviderError, SecretError
from llmdeploy_host._connection import HostSpec
from llmdeploy_host._host_type import locked
from llmdeploy_host.host import RESOURCE as MACHINE
from llmdeploy_host.host_home import RESOURCE as HOME
from llmdeploy_host.host_home import HomeSpec
from llmdeploy_host.host_volume import CUSTODY_NAME, Volume, VolumeSpec, open_script
from tests.providers.llmdeploy_host.gateway_lab import wait_for
from tests.providers.llmdeploy_host.host_lab import HOST, Stack
from tests.support import require_root, require_tool

pytestmark = pytest.mark.integration

VOLUME = Volume()
CANARY = b"canary-prompt-7f3a"
KEY = "correct horse battery staple"


class World:
    """A stack with its home; `volume` is deleted at the end."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder)
        self.paths = self.stack.paths
        self.host = self.stack.create(MACHINE, HostSpec(host=HOST))
        self.home = self.stack.create(HOME, HomeSpec(host=HOST, name=self.stack.name))
        self.mount = Path(self.paths.lib, "volume")
        self.backing = Path(self.paths.lib, "volume.enc")

    def spec(self, *, key: str | None = None, encryption: str = "gocryptfs") -> VolumeSpec:
        return VolumeSpec.model_validate({"host": HOST, "home": self.paths.lib, "encryption": encryption, "key": key})

    def create(self, key: str | None = None) -> Prior:
        return self.stack.create(VOLUME, self.spec(key=key))

    def drift(self, prior: Prior) -> list[str]:
        return self.stack.drift(VOLUME, prior)

    def process(self) -> int:
        """The pid of the gocryptfs that serves the mount."""
        found = [
            int(entry.parent.name)
            for entry in Path("/proc").glob("[0-9]*/cmdline")
            if entry.parent.exists() and str(self.mount).encode() in _bytes(entry) and b"gocryptfs" in _bytes(entry)
        ]
        assert len(found) <= 1
        return found[0] if found else 0


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _mounted(path: Path) -> bool:
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    require_root()
    require_tool("gocryptfs", "fusermount3", "/dev/fuse")
    world = World(tmp_path)
    yield world
    subprocess.run(["umount", "-l", str(world.mount)], capture_output=True)
    world.stack.delete(HOME, world.home)
    world.stack.delete(MACHINE, world.host)
    assert not Path(world.paths.lib).exists()


def test_generated_key(world: World) -> None:
    prior = world.create()
    key_file = world.stack.run.custody.path(CUSTODY_NAME)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_bytes()
    assert len(key) >= 43
    assert world.drift(prior) == []

    folder = world.mount / "canary-name"
    folder.mkdir()
    (folder / "canary-file").write_bytes(CANARY * 1000)
    os.sync()
    assert stat.S_IMODE(world.backing.stat().st_mode) == 0o700
    names = [name for _root, folders, files in os.walk(world.backing) for name in (*folders, *files)]
    assert len(names) >= 4
    assert not any("canary" in name for name in names)
    stored = b"".join(file.read_bytes() for file in world.backing.rglob("*") if file.is_file())
    assert CANARY not in stored
    assert key not in stored

    _nowhere(key)
    again = world.stack.update(VOLUME, prior)
    assert again.outputs == prior.outputs
    assert (folder / "canary-file").read_bytes() == CANARY * 1000
    world.stack.delete(VOLUME, prior)
    assert not key_file.exists()
    assert not world.backing.exists()
    assert not world.mount.exists()
    wait_for(lambda: world.process() == 0)
    world.stack.delete(VOLUME, prior)
    assert not world.stack.read(VOLUME, prior).exists


def _nowhere(key: bytes) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        assert key not in _bytes(entry / "cmdline")
        assert key not in _bytes(entry / "environ")


def test_the_process_survives_and_is_clean(world: World) -> None:
    world.stack.environ["HF_TOKEN"] = "canary-token"
    world.create()
    pid = world.process()
    assert os.getsid(pid) == pid
    assert b"canary" not in _bytes(Path(f"/proc/{pid}/environ"))
    assert not [target for target in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()) if "/lock/" in target]
    flags = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(world.mount) in line)
    assert "nosuid,nodev" in flags
    assert "fuse.gocryptfs" in flags


def test_the_stacks_user_can_work_there_and_others_cannot(world: World) -> None:
    world.create()
    cache = world.mount / "cache"
    cache.mkdir(mode=0o700)
    uid = int(world.home.outputs["uid"])
    os.chown(cache, uid, uid)
    write = ["sh", "-c", f"echo hello >{cache}/file && cat {cache}/file"]
    assert subprocess.run(write, user=uid, group=uid, capture_output=True, text=True).stdout == "hello\n"
    assert (cache / "file").stat().st_uid == uid
    assert subprocess.run(write, user="nobody", group="nogroup", capture_output=True).returncode != 0
    listing = subprocess.run(["ls", str(world.backing)], user=uid, group=uid, capture_output=True)
    assert listing.returncode != 0


@pytest.mark.parametrize("how", ["kill -9", "umount"])
def test_lost_mount_is_drift_and_comes_back(world: World, how: str) -> None:
    prior = world.create()
    (world.mount / "file").write_bytes(CANARY)
    if how == "umount":
        subprocess.run(["umount", str(world.mount)], check=True)
        assert world.drift(prior) == ["volume: not mounted"]
    else:
        os.kill(world.process(), signal.SIGKILL)
        wait_for(lambda: world.drift(prior))
        assert world.drift(prior) == ["volume: its process died, the mount does not answer"]
    prior = world.stack.update(VOLUME, prior)
    assert world.drift(prior) == []
    assert (world.mount / "file").read_bytes() == CANARY


def test_referenced_key_and_a_wrong_one(world: World) -> None:
    world.stack.environ["VOLUME_KEY"] = KEY
    prior = world.create("env:VOLUME_KEY")
    (world.mount / "file").write_bytes(CANARY)
    assert world.stack.run.custody.read(CUSTODY_NAME) is None
    _nowhere(KEY.encode())
    subprocess.run(["umount", str(world.mount)], check=True)

    world.stack.environ["VOLUME_KEY"] = "wrong"
    with pytest.raises(SecretError, match="does not open the volume; nothing was changed"):
        world.stack.update(VOLUME, prior)
    del world.stack.environ["VOLUME_KEY"]
    with pytest.raises(SecretError, match="VOLUME_KEY is not set"):
        world.stack.update(VOLUME, prior)
    world.stack.environ["VOLUME_KEY"] = "two\nlines"
    with pytest.raises(SecretError, match="must be one line"):
        world.stack.update(VOLUME, prior)
    assert not _mounted(world.mount)

    world.stack.environ["VOLUME_KEY"] = KEY
    world.stack.update(VOLUME, prior)
    assert (world.mount / "file").read_bytes() == CANARY


def test_a_lost_generated_key_is_never_made_anew(world: World) -> None:
    prior = world.create()
    subprocess.run(["umount", str(world.mount)], check=True)
    key = world.stack.run.custody.read(CUSTODY_NAME)
    assert key is not None
    world.stack.run.custody.forget(CUSTODY_NAME)
    with pytest.raises(SecretError, match="is gone") as caught:
        world.stack.update(VOLUME, prior)
    assert "backup" in caught.value.hint
    assert world.stack.run.custody.read(CUSTODY_NAME) is None
    world.stack.run.custody.keep(CUSTODY_NAME, key.reveal())
    world.stack.update(VOLUME, prior)
    assert world.drift(prior) == []


def test_change_of_the_key_keeps_the_data(world: World) -> None:
    prior = world.create()
    (world.mount / "file").write_bytes(CANARY)
    generated = world.stack.run.custody.read(CUSTODY_NAME)
    assert generated is not None
    world.stack.environ["VOLUME_KEY"] = KEY
    changed = world.stack.update(VOLUME, prior, world.spec(key="env:VOLUME_KEY"))
    assert world.stack.run.custody.read(CUSTODY_NAME) is None
    subprocess.run(["umount", str(world.mount)], check=True)
    world.stack.update(VOLUME, changed)
    assert (world.mount / "file").read_bytes() == CANARY

    # A try that was killed after the change of the key and before it was recorded.
    world.stack.run.custody.keep(CUSTODY_NAME, generated.reveal())
    world.stack.update(VOLUME, prior, world.spec(key="env:VOLUME_KEY"))
    back = world.stack.update(VOLUME, changed, world.spec())
    subprocess.run(["umount", str(world.mount)], check=True)
    world.stack.update(VOLUME, back)
    assert (world.mount / "file").read_bytes() == CANARY


def test_data_without_its_conf_is_not_overwritten(world: World) -> None:
    prior = world.create()
    (world.mount / "file").write_bytes(CANARY)
    subprocess.run(["umount", str(world.mount)], check=True)
    conf = world.backing / "fs" / "gocryptfs.conf"
    saved = conf.read_bytes()
    conf.unlink()
    assert not world.stack.read(VOLUME, prior).exists
    with pytest.raises(ProviderError, match=r"gocryptfs\.conf is gone"):
        world.stack.create(VOLUME, world.spec())
    conf.write_bytes(saved)
    world.stack.update(VOLUME, prior)
    assert (world.mount / "file").read_bytes() == CANARY


def test_files_under_the_mount_point_are_told(world: World) -> None:
    prior = world.create()
    subprocess.run(["umount", str(world.mount)], check=True)
    (world.mount / "stray").touch()
    with pytest.raises(ProviderError, match="files lie in the volume's folder"):
        world.stack.update(VOLUME, prior)


def test_a_volume_in_use_is_not_torn_away(world: World) -> None:
    prior = world.create()
    with (world.mount / "file").open("w"):
        with pytest.raises(ProviderError, match=rf"still used by {os.getpid()} \(.*\)") as caught:
            world.stack.delete(VOLUME, prior)
        assert caught.value.retryable
        assert (world.backing / "fs" / "gocryptfs.conf").exists()
        with pytest.raises(ProviderError):
            world.stack.delete(HOME, world.home)
        assert world.mount.is_mount()
    world.stack.delete(VOLUME, prior)
    assert not world.backing.exists()


def test_the_starter_can_die_at_any_line(world: World) -> None:
    script = open_script(world.paths)
    lines = script.splitlines()
    starts = [number for number, line in enumerate(lines) if line and not line.startswith((" ", "}", "f", "d", "#", "mount"))]
    cuts = 0
    for number in starts:
        cut = "\n".join([*lines[:number], "kill -KILL 0"])
        whole = subprocess.run(["sh", "-n"], input=cut, text=True, capture_output=True).returncode == 0
        if whole:
            cuts += 1
            command = ["sh", "-c", locked(world.paths, "test", cut)]
            subprocess.run(command, input=f"{KEY}\n", text=True, start_new_session=True, capture_output=True)
    assert cuts >= 8
    world.stack.environ["VOLUME_KEY"] = KEY
    prior = world.create("env:VOLUME_KEY")
    assert world.drift(prior) == []
    world.stack.delete(VOLUME, prior)


def test_plain(world: World) -> None:
    prior = world.stack.create(VOLUME, world.spec(encryption="none"))
    (world.mount / "file").write_bytes(CANARY)
    assert world.drift(prior) == []
    assert VOLUME.traits(prior.spec).at_rest == "plain"
    assert "NOT encrypted" in VOLUME.traits(prior.spec).notes[0]
    world.stack.update(VOLUME, prior)
    assert (world.mount / "file").exists()
    world.stack.delete(VOLUME, prior)
    assert not world.mount.exists()
