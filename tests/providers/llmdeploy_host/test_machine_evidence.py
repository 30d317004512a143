"""What a machine tells of itself. Kernel files and sshd are stand-ins where this machine's own cannot be set."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.sdk import Identity, Run
from llmdeploy_host import host
from llmdeploy_host._connection import Connection
from llmdeploy_host._evidence import script_of
from llmdeploy_host._machine_evidence import (
    LISTS_DAYS,
    cores_question,
    machine_questions,
    ssh_question,
    swap_question,
    updates_question,
)
from tests.providers.llmdeploy_host.evidence_lab import PATH, answer, check_shell, seen
from tests.providers.llmdeploy_host.gateway_lab import wait_for
from tests.providers.llmdeploy_host.host_lab import prior_of
from tests.support import require_root, require_tool

HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.fixture(autouse=True)
def root() -> None:
    require_root()


def test_the_scripts_pass_shellcheck() -> None:
    require_tool("shellcheck")
    check_shell(script_of(machine_questions()))


# --- swap -------------------------------------------------------------------------------------------------------------------


def _block(sys: Path, name: str, **files: str) -> None:
    folder = sys / "class" / "block" / name
    for path, text in files.items():
        file = folder / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    folder.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    """A /sys with a bare disk, compressed memory, dm-crypt with several keys, and LVM on dm-crypt and on a bare disk."""
    sys = tmp_path / "sys"
    _block(sys, "sda2")
    _block(sys, "zram0", backing_dev="none")
    _block(sys, "zram1", backing_dev="/dev/sda3")
    for number, name in enumerate(("random", "tpm", "file")):
        _block(sys, f"dm-{number}", dm__uuid=f"CRYPT-PLAIN-{name}", dm__name=name, slaves__sda2="")
    _block(sys, "dm-3", dm__uuid="LVM-x", dm__name="vg-swap", slaves__x="")
    (sys / "class/block/dm-3/slaves/x").rename(sys / "class/block/dm-3/slaves/dm-0")
    _block(sys, "dm-4", dm__uuid="LVM-y", dm__name="vg-bare", slaves__sda2="")
    (tmp_path / "crypttab").write_text(
        "random /dev/sda2 /dev/urandom swap\ntpm /dev/sda2 none luks\nfile /dev/sda2 /etc/swap.key\n"
    )
    return tmp_path


@pytest.mark.integration
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", "none"),
        ("/dev/zram0 partition 100 0 100\n", "none"),
        ("/dev/zram1 partition 100 0 100\n", "plain"),
        ("/dev/sda2 partition 100 0 -2\n", "plain"),
        ("/dev/gone partition 100 0 -2\n", "plain"),
        ("/dev/dm-0 partition 100 0 -2\n", "encrypted"),
        ("/dev/dm-1 partition 100 0 -2\n", "encrypted"),
        ("/dev/dm-2 partition 100 0 -2\n", "plain"),
        ("/dev/dm-3 partition 100 0 -2\n", "encrypted"),
        ("/dev/dm-4 partition 100 0 -2\n", "plain"),
        ("/swap\\040file file 100 0 -2\n", "plain"),
        ("/var/zram0 file 100 0 -2\n", "plain"),
        ("/dev/dm-0 partition 1 0 -2\n/dev/zram0 partition 1 0 1\n", "encrypted"),
        ("/dev/sda2 partition 1 0 -2\n/dev/dm-0 partition 1 0 -3\n", "plain"),
    ],
)
def test_swap_is_as_bad_as_its_worst_device(disks: Path, lines: str, expected: str) -> None:
    (disks / "swaps").write_text(HEAD + lines)
    question = swap_question(swaps=f"{disks}/swaps", sys=f"{disks}/sys", crypttab=f"{disks}/crypttab")
    one = answer(disks, question)["swap"]
    assert (one.value, one.reason) == (expected, "")
    assert HEAD.split()[0] in one.output


@pytest.mark.integration
def test_a_kernel_that_does_not_list_its_swap_tells_nothing(tmp_path: Path) -> None:
    one = answer(tmp_path, swap_question(swaps=f"{tmp_path}/none"))["swap"]
    assert one.value is None
    assert "cannot be read" in one.reason


@pytest.mark.integration
def test_a_swap_file_that_is_turned_on_by_hand_is_found(tmp_path: Path) -> None:
    file = tmp_path / "swap"
    file.write_bytes(bytes(2**20))
    file.chmod(0o600)
    subprocess.run(["mkswap", str(file)], check=True, capture_output=True)
    before = answer(tmp_path, swap_question())["swap"].value
    if subprocess.run(["swapon", str(file)], capture_output=True).returncode != 0:
        pytest.skip("this machine takes no swap file: the stand-ins above are all that can be shown here")
    try:
        assert answer(tmp_path, swap_question())["swap"].value == "plain"
    finally:
        subprocess.run(["swapoff", str(file)], check=True)
    assert answer(tmp_path, swap_question())["swap"].value == before


# --- core dumps -------------------------------------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize(
    ("pattern", "limit", "setuid", "storage", "expected"),
    [
        ("core", "0", "0", "", False),
        ("/var/crash/%p", "0", "0", "", False),
        ("core", "unlimited", "0", "", True),
        ("core", "1000", "0", "", True),
        ("core", "0", "2", "", True),
        ("|/bin/false", "unlimited", "0", "", False),
        ("|/usr/share/apport/apport %p", "0", "0", "", True),
        ("|/bin/falsehood", "0", "0", "", True),
        ("@/run/cores.sock", "0", "0", "", True),
        ("|/lib/systemd/systemd-coredump %P", "0", "0", "", True),
        ("|/lib/systemd/systemd-coredump %P", "0", "0", "Storage=none\nStorage=external", True),
        ("|/lib/systemd/systemd-coredump %P", "0", "0", "Storage=external", True),
        ("|/lib/systemd/systemd-coredump %P", "unlimited", "0", "Storage = none", False),
        ("", "unlimited", "0", "", False),
    ],
)
def test_cores_are_judged_by_who_gets_them(
    tmp_path: Path, pattern: str, limit: str, setuid: str, storage: str, expected: bool
) -> None:
    files = {
        "proc/sys/kernel/core_pattern": pattern,
        "proc/sys/kernel/core_uses_pid": "0",
        "proc/sys/fs/suid_dumpable": setuid,
        "proc/1/limits": f"Limit  Soft Limit  Hard Limit  Units\nMax core file size   {limit}   unlimited   bytes",
        "etc/systemd/coredump.conf.d/llmdeploy.conf": f"[Coredump]\n{storage}",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")
    one = answer(tmp_path, cores_question(proc=f"{tmp_path}/proc", etc=f"{tmp_path}/etc"))["core_dumps"]
    assert (one.value, one.reason) == (expected, "")
    assert f"kernel.core_pattern = {pattern}" in one.output


@pytest.mark.integration
def test_without_the_kernels_word_nothing_is_told_of_cores(tmp_path: Path) -> None:
    assert "does not tell" in answer(tmp_path, cores_question(proc=f"{tmp_path}/none"))["core_dumps"].reason


@pytest.mark.integration
def test_a_core_pattern_that_is_set_by_hand_is_found(tmp_path: Path) -> None:
    setting = Path("/proc/sys/kernel/core_pattern")
    before = setting.read_text()
    try:
        setting.write_text("|/usr/share/apport/apport %p")
    except OSError:
        pytest.skip("this machine's core_pattern cannot be set: the stand-ins above are all that can be shown here")
    try:
        assert answer(tmp_path, cores_question())["core_dumps"].value is True
        setting.write_text("|/bin/false")
        assert answer(tmp_path, cores_question())["core_dumps"].value is False
    finally:
        setting.write_text(before)


# --- updates, clock, SSH -----------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_old_or_missing_package_lists_tell_nothing_about_updates(tmp_path: Path) -> None:
    """However young the files are: a failed update touches them as well."""
    require_tool("apt-get")
    lists = tmp_path / "lists"
    question = updates_question(lists=str(lists))
    (lists / "partial").mkdir(parents=True)
    assert "no package lists" in answer(tmp_path, question)["updates_pending"].reason
    (lists / "host_dists_stable_main_Packages").touch()
    assert "no source of security updates" in answer(tmp_path, question)["updates_pending"].reason
    signed = time.gmtime(time.time() - (LISTS_DAYS + 1.5) * 86400)
    release = lists / "host_dists_stable-security_InRelease"
    release.write_text(f"Suite: stable-security\nDate: {time.strftime('%a, %d %b %Y %H:%M:%S UTC', signed)}\n")
    one = answer(tmp_path, question)["updates_pending"]
    assert (one.value, one.reason) == (None, f"the package lists are {LISTS_DAYS + 1} days old: run apt-get update")


@pytest.fixture
def sshd(tmp_path: Path) -> Path:
    """A folder for programs; `sshd` there is a double that prints settings: a real one would need a port and keys."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "etc/ssh/sshd_config.d").mkdir(parents=True)
    return programs


def _ssh(programs: Path, script: str | None) -> Any:
    if script is not None:
        (programs / "sshd").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "sshd").chmod(0o755)
    etc = programs.parent / "etc"
    question = ssh_question(etc=str(etc), path=f"{programs}:/usr/bin:/bin", pid=f"{programs}/sshd.pid")
    return answer(programs, question)["ssh_passwords"]


KEYS_ONLY = "printf 'passwordauthentication no\\nkbdinteractiveauthentication no\\npermitrootlogin without-password\\n'"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (KEYS_ONLY, False),
        (KEYS_ONLY.replace("passwordauthentication no", "passwordauthentication yes"), True),
        (KEYS_ONLY.replace("kbdinteractiveauthentication no", "kbdinteractiveauthentication yes"), True),
        (f"{KEYS_ONLY}; [ $# = 1 ] || echo 'passwordauthentication yes'", True),
    ],
)
def test_what_sshd_says_of_its_settings_counts(sshd: Path, script: str, expected: bool) -> None:
    one = _ssh(sshd, script)
    assert (one.value, one.reason) == (expected, "")
    assert "permitrootlogin" in one.output


@pytest.mark.integration
def test_a_match_block_that_takes_passwords_is_found(sshd: Path) -> None:
    config = sshd.parent / "etc/ssh/sshd_config"
    config.write_text("PasswordAuthentication no\nMatch User backup\n  X11Forwarding no\n")
    assert _ssh(sshd, KEYS_ONLY).value is False
    for line in ("PasswordAuthentication yes", "passwordauthentication=yes", 'PasswordAuthentication "yes"'):
        config.write_text(f"PasswordAuthentication no\nMatch User backup\n  {line}\n")
        assert _ssh(sshd, KEYS_ONLY).value is True
    config.write_text("Include other/*\n")
    assert _ssh(sshd, KEYS_ONLY).value is False
    (config.parent / "other").mkdir()
    (config.parent / "other/backup").write_text("Match User backup\nPasswordAuthentication yes\n")
    assert _ssh(sshd, KEYS_ONLY).value is True


@pytest.mark.integration
def test_settings_that_the_running_sshd_did_not_read_tell_nothing(sshd: Path) -> None:
    config, pid = sshd.parent / "etc/ssh/sshd_config", sshd / "sshd.pid"
    config.write_text("PasswordAuthentication no\n")
    pid.touch()
    assert _ssh(sshd, KEYS_ONLY).value is False
    os.utime(pid, (1, 1))
    assert "not reloaded" in _ssh(sshd, KEYS_ONLY).reason
    os.utime(config.parent / "sshd_config.d", (0, 0))
    os.utime(config, (0, 0))
    assert _ssh(sshd, KEYS_ONLY).value is False
    command = "exec -a 'sshd: /usr/sbin/sshd -D -o PasswordAuthentication=yes [listener]' sleep 60"
    with subprocess.Popen(["bash", "-c", command]) as process:
        wait_for(lambda: b"listener" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        try:
            assert "settings of its own" in _ssh(sshd, KEYS_ONLY).reason
        finally:
            process.kill()


@pytest.mark.integration
def test_without_sshd_nobody_logs_in_and_a_broken_one_tells_nothing(sshd: Path) -> None:
    assert _ssh(sshd, None).value is False
    one = _ssh(sshd, "echo 'no hostkeys available' >&2; exit 1")
    assert (one.value, one.reason) == (None, "sshd -T fails")
    assert "no hostkeys available" in one.output


@pytest.mark.integration
def test_this_machine_tells_every_fact_or_why_not(tmp_path: Path) -> None:
    run = Run(Identity("lab", "1" * 32), tmp_path, PATH)
    found = seen(host.RESOURCE, run, prior_of(host.RESOURCE, host.MachineSpec(host=Connection()), {}))
    assert set(found) == {"swap", "core_dumps", "updates_pending", "clock_synced", "ssh_passwords"}
    assert all((one.value is None) == bool(one.reason) for one in found.values())
    assert all(one.command and one.host == "localhost" for one in found.values())
