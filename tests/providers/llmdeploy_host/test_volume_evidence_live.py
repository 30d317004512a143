"""The probe of volumes on the real gocryptfs: what is right is seen as right, and what somebody breaks by hand is not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmdeploy.sdk import Observation, Prior
from llmdeploy_host._connection import HostSpec
from llmdeploy_host._evidence import script_of
from llmdeploy_host._volume_evidence import volume_questions
from llmdeploy_host.host import RESOURCE as MACHINE
from llmdeploy_host.host_home import RESOURCE as HOME
from llmdeploy_host.host_home import HomeSpec
from llmdeploy_host.host_volume import CUSTODY_NAME, Volume, VolumeSpec
from tests.providers.llmdeploy_host.evidence_lab import answer, check_shell, seen, values
from tests.providers.llmdeploy_host.gateway_lab import wait_for
from tests.providers.llmdeploy_host.host_lab import HOST, Stack
from tests.support import require_root, require_tool

pytestmark = pytest.mark.integration

VOLUME = Volume()


class World:
    """A stack with its home and a file of its user on its volume."""

    def __init__(self, folder: Path, encryption: str = "gocryptfs") -> None:
        self.stack = Stack(folder)
        self.host = self.stack.create(MACHINE, HostSpec(host=HOST))
        self.home = self.stack.create(HOME, HomeSpec(host=HOST, name=self.stack.name))
        self.mount = Path(self.stack.paths.lib, "volume")
        self.backing = Path(self.stack.paths.lib, "volume.enc")
        self.prior = self.stack.create(VOLUME, self.spec(encryption=encryption))
        self.file = self.mount / "file"
        self.file.write_bytes(b"weights")
        self.file.chmod(0o400)
        os.chown(self.file, int(self.home.outputs["uid"]), int(self.home.outputs["uid"]))

    def spec(self, **more: str) -> VolumeSpec:
        return VolumeSpec.model_validate({"host": HOST, "home": self.stack.paths.lib, "encryption": "gocryptfs", **more})

    def seen(self, prior: Prior | None = None) -> dict[str, Observation]:
        return seen(VOLUME, self.stack.run, prior or self.prior)

    def remount(self, *options: str, source: Path | None = None) -> None:
        """Put another mount of the same data in place, as somebody could by hand."""
        self.unmount()
        key = self.stack.run.custody.read(CUSTODY_NAME)
        assert key is not None
        command = ["gocryptfs", "-q", *options, str(source or self.backing / "fs"), str(self.mount)]
        subprocess.run(command, input=key.reveal() + b"\n", check=True, capture_output=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.mount)], check=True)

    def process(self) -> int:
        """The pid of the gocryptfs that serves the mount."""
        lines = {entry: entry.read_bytes() for entry in Path("/proc").glob("[0-9]*/cmdline") if entry.exists()}
        (found,) = [entry for entry, line in lines.items() if b"gocryptfs" in line and bytes(self.mount) in line.split(b"\0")]
        return int(found.parent.name)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.mount)], capture_output=True)
        self.stack.delete(HOME, self.home)
        self.stack.delete(MACHINE, self.host)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    require_root()
    require_tool("gocryptfs", "fusermount3", "/dev/fuse", "findmnt", "setpriv")
    world = World(tmp_path)
    yield world
    world.close()


def test_the_scripts_pass_shellcheck() -> None:
    require_tool("shellcheck")
    for encrypted in (True, False):
        check_shell(script_of(volume_questions("/var/lib/a b/volume.enc", "/var/lib/a b/volume", "user", encrypted)))


def test_an_encrypted_volume_is_seen_to_be_and_nothing_is_left_of_the_look(world: World) -> None:
    before = {path: path.stat().st_size for path in (*world.mount.rglob("*"), *world.backing.rglob("*"))}
    found = world.seen()
    assert values(found) == {"at_rest": "encrypted", "private": True, "custody": "operator-file"}
    output = found["at_rest"].output
    assert "fuse.gocryptfs" in output
    assert re.search(r"below it in 0 names and in the content of 0 of [1-9][0-9]* files written since", output)
    assert {path: path.stat().st_size for path in (*world.mount.rglob("*"), *world.backing.rglob("*"))} == before
    assert world.stack.drift(VOLUME, world.prior) == []


def test_no_secret_is_in_the_evidence(world: World) -> None:
    key = world.stack.run.custody.read(CUSTODY_NAME)
    assert key is not None
    told = "".join(one.model_dump_json() for one in world.seen().values())
    assert key.reveal().decode() not in told
    assert "EncryptedKey" not in told


def test_a_locked_volume_tells_nothing_and_plain_files_in_its_place_are_plain(world: World) -> None:
    world.unmount()
    assert "not mounted" in world.seen()["at_rest"].reason
    (world.mount / "weights").write_bytes(b"plain")
    assert world.seen()["at_rest"].value == "plain"
    (world.mount / "weights").unlink()


def _tmpfs(world: World) -> None:
    world.unmount()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(world.mount)], check=True)


def _bind(world: World) -> None:
    world.unmount()
    (world.backing / "plain").mkdir()
    subprocess.run(["mount", "--bind", str(world.backing / "plain"), str(world.mount)], check=True)


def _clear_names(world: World) -> None:
    world.unmount()
    other = world.backing / "fs"
    subprocess.run(["rm", "-rf", str(other)], check=True)
    other.mkdir()
    key = world.stack.run.custody.read(CUSTODY_NAME)
    assert key is not None
    command = ["gocryptfs", "-q", "-init", "-plaintextnames", str(other)]
    subprocess.run(command, input=key.reveal() + b"\n", check=True, capture_output=True)
    subprocess.run(["gocryptfs", "-q", str(other), str(world.mount)], input=key.reveal() + b"\n", check=True)


def _no_encrypted_key(world: World) -> None:
    conf = world.backing / "fs" / "gocryptfs.conf"
    conf.chmod(0o600)
    conf.write_text(re.sub(r'"EncryptedKey": "[^"]*"', '"MasterKey": "AAAA"', conf.read_text()))


def _zero_key(world: World) -> None:
    world.unmount()
    subprocess.run(["gocryptfs", "-q", "-zerokey", str(world.backing / "fs"), str(world.mount)], check=True)


def _part_on_tmpfs(world: World) -> None:
    (world.mount / "weights").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(world.mount / "weights")], check=True)


def _part_linked_away(world: World) -> None:
    (world.mount / "weights").symlink_to(world.backing.parent)


@pytest.mark.parametrize("how", [_tmpfs, _bind, _clear_names, _no_encrypted_key, _zero_key, _part_on_tmpfs, _part_linked_away])
def test_what_only_looks_like_the_volume_is_plain(world: World, how: Callable[[World], None]) -> None:
    how(world)
    one = world.seen()["at_rest"]
    assert (one.value, one.reason) == ("plain", "")


def test_a_marker_that_arrives_in_clear_is_found(world: World) -> None:
    """What is written through the mount also lands in clear below: a copy that somebody keeps there."""
    copy = world.backing / "fs" / "copy"
    copy.write_text("")
    watch = f"while [ -d {world.backing} ]; do cat {world.mount}/.llmdeploy-evidence-* >>{copy} 2>/dev/null; done"
    process = subprocess.Popen(["sh", "-c", watch], start_new_session=True)
    try:
        assert world.seen()["at_rest"].value == "plain"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_without_its_conf_or_from_elsewhere_nothing_is_told(world: World) -> None:
    conf = world.backing / "fs" / "gocryptfs.conf"
    saved = conf.read_bytes()
    conf.unlink()
    assert "gocryptfs.conf is gone" in world.seen()["at_rest"].reason
    conf.write_bytes(saved)
    other = world.backing / "other"
    subprocess.run(["cp", "-a", str(world.backing / "fs"), str(other)], check=True)
    world.remount(source=other)
    assert f"served from {other}" in world.seen()["at_rest"].reason


def test_a_mount_whose_process_died_tells_nothing(world: World) -> None:
    os.kill(world.process(), signal.SIGKILL)
    wait_for(lambda: subprocess.run(["stat", f"{world.mount}/."], capture_output=True).returncode != 0)
    found = world.seen()
    assert "does not answer" in found["at_rest"].reason
    assert "does not answer" in found["private"].reason


def test_rights_that_let_others_in_are_found(world: World) -> None:
    world.file.chmod(0o444)
    assert world.seen()["private"].value is False
    world.file.chmod(0o400)
    assert world.seen()["private"].value is True
    world.remount("-allow_other")
    assert world.seen()["private"].value is True


@pytest.mark.parametrize(("options", "private"), [("rw,allow_other,default_permissions", True), ("rw,allow_other", False)])
def test_a_mount_for_every_user_must_have_its_rights_checked(world: World, options: str, private: bool) -> None:
    """A double prints the options: gocryptfs itself never leaves `default_permissions` out."""
    _at_rest, question = volume_questions(str(world.backing), str(world.mount), world.stack.paths.user, True)
    told = replace(question, script=f"findmnt() {{ echo {options}; }}\n{question.script}")
    assert answer(world.stack.folder, told)["private"].value is private


def test_a_backing_folder_that_others_can_read_is_found(world: World) -> None:
    conf = world.backing / "fs" / "gocryptfs.conf"
    for path in (world.backing, world.backing / "fs"):
        path.chmod(0o755)
    conf.chmod(0o644)
    one = world.seen()["private"]
    assert one.value is False
    assert "gocryptfs.conf" in one.output


def test_custody_is_where_the_key_really_lies(world: World) -> None:
    reference = Prior(world.prior.address, "id", world.spec(key="env:KEY").model_dump(mode="json"), world.prior.outputs)
    assert world.seen(reference)["custody"].value == "operator-file"
    world.stack.run.custody.forget(CUSTODY_NAME)
    assert world.seen(reference)["custody"].value == "reference"
    assert "is not there" in world.seen()["custody"].reason


def test_a_plain_volume_is_plain(tmp_path: Path) -> None:
    require_root()
    world = World(tmp_path, "none")
    try:
        found = world.seen()
        assert values(found) == {"at_rest": "plain", "private": True}
        world.file.chmod(0o444)
        assert world.seen()["private"].value is False
        world.stack.delete(VOLUME, world.prior)
        assert not values(world.seen())
    finally:
        world.close()
