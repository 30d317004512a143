"""The types of `llmdeploy_host` keep what the conformance suite asks of every provider."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from llmdeploy.sdk import Identity, Ref, Run
from llmdeploy.testing.conformance import Conformance, Sample, World
from llmdeploy_host import local
from llmdeploy_host._connection import Paths
from tests.providers.llmdeploy_host.weights_lab import manifest
from tests.support import ROOT, require_root, require_tool

CANARY = "canary-9e4d-long-enough-for-a-key"
HOST = {"host": Ref("host.local", "connection")}

CA = Sample("tls_ca.stack", {"common_name": "conformance"}, {"common_name": "another"}, tells_gone=False)
CERTIFICATE = Sample(
    "certificate.local",
    {"ca": Ref("tls_ca.stack", "certificate_pem"), "names": ["localhost"]},
    {"ca": Ref("tls_ca.stack", "certificate_pem"), "names": ["localhost", "llm.example.com"]},
    tells_gone=False,
)
_KEY = {"name": "support", "principal": "support@example.com", "requests_per_minute": 60, "concurrency": 4, "max_age_days": 90}
API_KEY = Sample("api_key.support", _KEY, {**_KEY, "max_age_days": 30}, tells_gone=False)


class TestKeys(Conformance):
    """What lies with the operator needs no machine."""

    samples = (CA, CERTIFICATE, API_KEY)

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return World(local, lambda: Run(Identity("conformance", "0" * 32), tmp_path, {}))


def _weights(*names: str) -> dict[str, Any]:
    """Any files do for weights: these lie in the checkout."""
    wanted = manifest("folder", str(ROOT), {name: (ROOT / name).read_bytes() for name in names}).model_dump()
    return {
        **HOST,
        "volume": Ref("host_volume.local", "path"),
        "user": Ref("host_home.local", "user"),
        "manifest": wanted,
    }


def _volume(encryption: str, key: str | None = None) -> dict[str, Any]:
    return {**HOST, "home": Ref("host_home.local", "lib"), "encryption": encryption, "key": key}


def machine(folder: Path) -> Iterator[World]:
    """Give this machine as a world."""
    require_root()
    require_tool("flock")
    identity = Identity("conformance", uuid4().hex)
    environ = {"PATH": os.environ["PATH"], "VOLUME_KEY": CANARY, "OTHER_KEY": f"other-{CANARY}"}
    yield World(local, lambda: Run(identity, folder, environ), secrets=(CANARY,))
    shutil.rmtree(Paths(identity.slug or "").locks, ignore_errors=True)


MACHINE = Sample("host.local", {"host": {}}, tells_gone=False)
HOME = Sample("host_home.local", {**HOST, "name": "conformance"}, replacing={**HOST, "name": "other"})


@pytest.mark.integration
class TestMachine(Conformance):
    """This machine, as root: folders, a user, a plain volume, weights from a folder."""

    samples = (
        MACHINE,
        HOME,
        Sample("host_volume.local", _volume("none"), replacing=_volume("gocryptfs", "env:VOLUME_KEY")),
        Sample("host_weights.local", _weights("README.md"), _weights("README.md", "CHANGELOG.md")),
    )

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        yield from machine(tmp_path)


@pytest.mark.integration
class TestEncryptedVolume(Conformance):
    """The volume as it is meant to be, with a key of the user's own."""

    samples = (
        MACHINE,
        HOME,
        Sample(
            "host_volume.local", _volume("gocryptfs", "env:VOLUME_KEY"), _volume("gocryptfs", "env:OTHER_KEY"), _volume("none")
        ),
    )

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        require_tool("gocryptfs", "fusermount3", "/dev/fuse")
        yield from machine(tmp_path)
