"""Packages with the real apt, on this machine. Only packages that nobody misses are touched, and never one that was there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdeploy.sdk import CommandFailed
from llmdeploy_host._connection import HostSpec
from llmdeploy_host.host import RESOURCE as MACHINE
from llmdeploy_host.host_packages import RESOURCE as PACKAGES
from llmdeploy_host.host_packages import PackagesSpec
from tests.providers.llmdeploy_host.host_lab import HOST, Stack, prior_of
from tests.support import require_root, require_tool

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TINY = "hello"
FAMILY, DEPENDENCY = "fortune-mod", "librecode0"
SERVICE, SERVICE_BINARY, SERVICE_USER = "tinyproxy", "tinyproxy-bin", "tinyproxy"
TOUCHED = (TINY, FAMILY, DEPENDENCY, SERVICE, SERVICE_BINARY)

POLICY = Path("/usr/sbin/policy-rc.d")
RECORDS = Path("/var/lib/llmdeploy/shared/packages")


def _installed(package: str) -> bool:
    status = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Abbrev}", package], capture_output=True, text=True).stdout
    return status == "ii "


def _packages() -> str:
    command = ["dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Abbrev}\n"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def _users() -> list[str]:
    lines = (Path("/etc/passwd").read_text() + Path("/etc/group").read_text()).splitlines()
    return [name for line in lines if not (name := line.split(":")[0]).startswith("llmd-")]


def _spec(*packages: str) -> PackagesSpec:
    return PackagesSpec(host=HOST, packages=packages)


def _policy() -> bytes | None:
    return POLICY.read_bytes() if POLICY.exists() else None


class World:
    """Two stacks on this machine."""

    def __init__(self, folder: Path) -> None:
        self.first, self.second = Stack(folder / "one", name="lab-one"), Stack(folder / "two", name="lab-two")
        self.hosts = {id(stack): stack.create(MACHINE, HostSpec(host=HOST)) for stack in (self.first, self.second)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    require_root()
    require_tool("apt-get")
    theirs = [package for package in TOUCHED if _installed(package)]
    if theirs:
        pytest.fail(f"this test would install and remove {theirs}, which somebody installed on this machine")
    before = (_packages(), _policy(), _users())
    world = World(tmp_path)
    yield world
    for stack in (world.first, world.second):
        stack.delete(PACKAGES, prior_of(PACKAGES, _spec(), {}))
        stack.delete(MACHINE, world.hosts[id(stack)])
        assert not Path(stack.paths.locks).exists()
    assert (_packages(), _policy(), _users()) == before
    assert not {file.name for file in RECORDS.glob("owners/*")} & set(TOUCHED)
    assert not [name for name in TOUCHED if (RECORDS / "added").exists() and name in (RECORDS / "added").read_text().split()]


def test_the_last_owner_takes_it_along(world: World) -> None:
    first = world.first.create(PACKAGES, _spec(TINY, "coreutils"))
    assert _installed(TINY)
    assert first.outputs["versions"][TINY]
    assert first.outputs["added"] == [TINY]
    assert world.first.drift(PACKAGES, first) == []
    assert any(TINY in line for line in world.first.progress)
    second = world.second.create(PACKAGES, _spec(TINY))
    assert not any(TINY in line for line in world.second.progress)

    world.first.delete(PACKAGES, first)
    assert _installed(TINY)
    assert world.second.drift(PACKAGES, second) == []
    world.second.delete(PACKAGES, second)
    assert not _installed(TINY)
    assert _installed("coreutils")
    world.second.delete(PACKAGES, second)


def test_dependencies_leave_with_it(world: World) -> None:
    prior = world.first.create(PACKAGES, _spec(TINY, FAMILY))
    assert _installed(DEPENDENCY)
    prior = world.first.update(PACKAGES, prior, _spec(TINY))
    assert _installed(TINY)
    assert not _installed(FAMILY)
    assert not _installed(DEPENDENCY)


def test_what_was_there_before_stays(world: World) -> None:
    subprocess.run(["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", TINY], check=True, capture_output=True)
    try:
        prior = world.first.create(PACKAGES, _spec(TINY))
        assert prior.outputs["added"] == []
        world.first.delete(PACKAGES, prior)
        assert _installed(TINY)
    finally:
        subprocess.run(["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "purge", TINY], check=True, capture_output=True)


def test_what_somebody_else_needs_by_now_stays(world: World) -> None:
    """The dependency came with us; then a person installed something that needs it."""
    prior = world.first.create(PACKAGES, _spec(DEPENDENCY))
    subprocess.run(["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", FAMILY], check=True, capture_output=True)
    try:
        world.first.delete(PACKAGES, prior)
        assert _installed(FAMILY)
        assert _installed(DEPENDENCY)
    finally:
        command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "purge", "fortunes-min", FAMILY, DEPENDENCY]
        subprocess.run(command, check=True, capture_output=True)


def test_no_service_starts_and_its_user_leaves(world: World) -> None:
    before = _policy()
    prior = world.first.create(PACKAGES, _spec(SERVICE))
    assert SERVICE_USER in _users()
    assert subprocess.run(["pgrep", "-x", SERVICE]).returncode == 1
    assert _policy() == before
    world.first.delete(PACKAGES, prior)
    assert not _installed(SERVICE_BINARY)
    assert SERVICE_USER not in _users()


def test_drift_is_named_and_repaired(world: World) -> None:
    prior = world.first.create(PACKAGES, _spec(TINY))
    subprocess.run(["dpkg", "--purge", TINY], check=True, capture_output=True)
    assert world.first.drift(PACKAGES, prior) == [f"packages: {TINY} is not installed"]
    prior = world.first.update(PACKAGES, prior)
    assert world.first.drift(PACKAGES, prior) == []
    (RECORDS / "owners" / TINY / world.first.paths.slug).unlink()
    assert world.first.drift(PACKAGES, prior) == [f"packages: the record that this stack uses {TINY} is missing"]
    world.first.update(PACKAGES, prior)
    assert world.first.drift(PACKAGES, prior) == []


def test_goes_on_after_a_kill(world: World) -> None:
    """Unpacked and not configured, records without owner, the policy of an install still in place."""
    before = _policy()
    records = RECORDS / "owners"
    records.mkdir(parents=True)
    (RECORDS / "added").write_text(f"{TINY}\n")
    if POLICY.exists():
        POLICY.rename(f"{POLICY}.llmdeploy-saved")
    POLICY.write_text("#!/bin/sh\n# llmdeploy: while packages are installed\nexit 101\n")
    command = f"cd /tmp && apt-get -q download {TINY} && dpkg --unpack {TINY}_*.deb && rm {TINY}_*.deb"
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    prior = world.first.create(PACKAGES, _spec(TINY))
    assert _policy() == before
    assert _installed(TINY)
    assert prior.outputs["added"] == [TINY]


def test_an_unknown_package(world: World) -> None:
    problems = PACKAGES.preflight(world.first.run, _spec("no-such-package-anywhere", "coreutils").tree(), None)
    assert [problem.sentence for problem in problems] == ["localhost: the package sources have no no-such-package-anywhere"]
    with pytest.raises(CommandFailed) as caught:
        world.first.create(PACKAGES, _spec("no-such-package-anywhere"))
    assert "Unable to locate package no-such-package-anywhere" in caught.value.tail
