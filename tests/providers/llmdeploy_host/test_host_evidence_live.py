"""Probes of weights, engine runtimes, homes, keys and certificates: what is right, and what somebody broke by hand."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.sdk import Manifest, Observation, Prior
from llmdeploy_host import api_key, certificate, host_engine_runtime, host_home, host_weights, tls_ca
from llmdeploy_host._connection import HostSpec
from llmdeploy_host._evidence import private_question, script_of
from llmdeploy_host.host import RESOURCE as MACHINE
from tests.providers.llmdeploy_host import keys_lab
from tests.providers.llmdeploy_host.evidence_lab import answer, check_shell, seen, values
from tests.providers.llmdeploy_host.gateway_world import World
from tests.providers.llmdeploy_host.host_lab import HOST, Stack
from tests.providers.llmdeploy_host.weights_lab import Lab, lab, manifest
from tests.support import require_root, require_tool

pytestmark = pytest.mark.integration

HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = struct.pack("<Q", len(HEADER)) + HEADER + b"\0\0\0\0"
FILES = {"config.json": b"{}", "model.safetensors": SAFETENSORS, "sub/more.safetensors": SAFETENSORS + b"\1"}


# --- weights ----------------------------------------------------------------------------------------------------------------


class Weights:
    """Weights in place, and what an audit knows of them."""

    def __init__(self, place: Lab, source: Path, files: dict[str, bytes]) -> None:
        for path, body in files.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(body)
        self.place = place
        self.manifest: Manifest = manifest("folder", str(source), files)
        self.prior = place.prior(self.manifest, place.create(self.manifest))

    def seen(self) -> dict[str, Observation]:
        return seen(host_weights.RESOURCE, self.place.run, self.prior)

    def put(self, path: str, body: bytes, mode: int = 0o400) -> None:
        """Write a file by hand, as its owner."""
        file = self.place.weights / path
        file.unlink(missing_ok=True)
        file.write_bytes(body)
        file.chmod(mode)
        shutil.chown(file, self.place.user, self.place.user)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Lab]:
    require_root()
    require_tool("setpriv")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    with lab(tmp_path) as place:
        yield place


@pytest.fixture
def weights(place: Lab, tmp_path: Path) -> Weights:
    return Weights(place, tmp_path / "source", FILES)


def test_weights_as_applied_are_intact_safe_and_private(weights: Weights) -> None:
    found = weights.seen()
    assert values(found) == {"intact": True, "formats": ["safetensors"], "private": True, "pinned": True}
    assert all(one.command for one in found.values())


def test_one_changed_byte_is_found_though_size_and_time_are_the_same(weights: Weights) -> None:
    file = weights.place.weights / "model.safetensors"
    before = file.stat()
    weights.put("model.safetensors", SAFETENSORS[:-1] + b"\1")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    one = weights.seen()["intact"]
    assert one.value is False
    assert "changed model.safetensors" in one.output.splitlines()


def test_a_receipt_that_was_made_to_fit_does_not_help(weights: Weights) -> None:
    weights.put("config.json", b"[]")
    receipt = weights.place.volume / "weights.receipt"
    receipt.write_text("\n".join(line for line in receipt.read_text().splitlines() if "config.json" not in line) + "\n")
    assert weights.seen()["intact"].value is False


def test_missing_and_extra_files_and_links_are_found(weights: Weights) -> None:
    (weights.place.weights / "config.json").unlink()
    (weights.place.weights / "a\tname").touch()
    (weights.place.weights / "sub/more.safetensors").rename(weights.place.volume / "kept")
    (weights.place.weights / "sub/more.safetensors").symlink_to(weights.place.volume / "kept")
    one = weights.seen()["intact"]
    assert one.value is False
    assert {"missing config.json", "missing sub/more.safetensors", "extra a?name"} <= set(one.output.splitlines())


def test_weights_that_are_linked_from_elsewhere_are_not_what_was_brought(weights: Weights) -> None:
    weights.place.weights.rename(weights.place.volume / "elsewhere")
    weights.place.weights.symlink_to(weights.place.volume / "elsewhere")
    found = weights.seen()
    assert found["intact"].value is False
    assert "is a link" in found["private"].reason


@pytest.mark.parametrize(
    ("path", "body", "formats"),
    [
        ("extra.bin", b"\x80\x04\x95pickle", ("pickle", "safetensors")),
        ("harmless.json", b"\x80\x02}q\x00.", ("pickle", "safetensors")),
        ("hidden.safetensors", b"\x80\x02}q\x00.", ("pickle", "safetensors")),
        ("zip.safetensors", b"PK\3\4" + bytes(26) + b"archive/data.pkl", ("pickle", "safetensors")),
        ("old.pt", b"no known beginning", ("pickle", "safetensors")),
        ("model.gguf", b"GGUF\3\0\0\0", ("gguf", "safetensors")),
        ("short.safetensors", struct.pack("<Q", 10**6) + b"{}", ("safetensors", "unknown")),
        ("huge.safetensors", struct.pack("<Q", 2**64 - 1) + b"{}", ("safetensors", "unknown")),
        ("text.safetensors", b"hello, world", ("safetensors", "unknown")),
        ("empty.safetensors", b"", ("safetensors", "unknown")),
        ("notes.txt", b"nothing", ("safetensors",)),
    ],
)
def test_formats_are_what_files_hold_and_not_what_they_are_called(
    weights: Weights, path: str, body: bytes, formats: tuple[str, ...]
) -> None:
    weights.put(path, body)
    found = weights.seen()
    assert found["formats"].value == list(formats)
    assert found["intact"].value is False


def test_weights_that_others_can_read_are_found(weights: Weights) -> None:
    weights.place.weights.chmod(0o755)
    (weights.place.weights / "model.safetensors").chmod(0o444)
    found = weights.seen()
    assert found["private"].value is False
    assert found["intact"].value is True


def test_weights_on_a_locked_volume_tell_nothing(weights: Weights) -> None:
    weights.place.volume.with_name("volume.enc").mkdir()
    found = weights.seen()
    assert found["intact"].reason == found["formats"].reason == "the volume is not mounted"
    weights.place.volume.with_name("volume.enc").rmdir()
    shutil.rmtree(weights.place.weights)
    assert weights.seen()["intact"].value is False


def test_the_scripts_of_weights_and_runtimes_pass_shellcheck(weights: Weights) -> None:
    require_tool("shellcheck")
    runtime = host_engine_runtime.packages_question(_runtime())
    check_shell(script_of((host_weights.files_question(weights.place.spec(weights.manifest)), runtime)))


# --- engine runtime -----------------------------------------------------------------------------------------------------------

PINS = "probedengine-cpu==1.0+cpu\nProbed_Helper==2.0\n"


def _runtime(pins: str = PINS) -> host_engine_runtime.RuntimeSpec:
    return host_engine_runtime.RuntimeSpec(host=HOST, engine="probedengine", version="1.0", requirements=pins)


class Runtime:
    """A virtual environment of this Python where the stack's would lie; packages are records only, nothing is imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = Stack(folder)
        self.spec = _runtime()
        self.root = Path(host_engine_runtime.outputs_of(self.spec).folder)
        subprocess.run(["python3", "-m", "venv", "--without-pip", str(self.root / "venv")], check=True)
        (self.packages,) = (self.root / "venv/lib").glob("python3*/site-packages")
        self.install("probedengine-cpu", "1.0+cpu")
        self.install("probed-helper", "2.0")
        self.install("pip", "23.0")

    def install(self, name: str, version: str) -> Path:
        info = self.packages / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        module = name.removesuffix("-cpu").replace("-", "_")
        (info / "RECORD").write_text(f"{module}/__init__.py,sha256=x,1\n{info.name}/METADATA,,\n")
        return info

    def seen(self) -> dict[str, Observation]:
        prior = Prior("host_engine_runtime.local", "id", self.spec.model_dump(mode="json"), {})
        return seen(host_engine_runtime.RESOURCE, self.stack.run, prior)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    require_root()
    runtime = Runtime(tmp_path)
    yield runtime
    shutil.rmtree(runtime.root)


def test_a_runtime_as_pinned_tells_its_engine(runtime: Runtime) -> None:
    found = runtime.seen()
    assert values(found) == {"pinned": True, "software": [{"name": "probedengine", "version": "1.0"}]}
    assert "3 packages are installed, 2 are pinned" in found["pinned"].output


def test_another_version_beside_or_in_place_is_found(runtime: Runtime) -> None:
    fake = runtime.install("probedengine-cpu", "0.9")
    found = runtime.seen()
    assert found["pinned"].value is False
    assert "installed probedengine-cpu 0.9 and 1.0+cpu, pinned 1.0+cpu" in found["pinned"].output
    assert found["software"].reason == "the module probedengine is of probedengine-cpu 0.9 and probedengine-cpu 1.0+cpu"
    shutil.rmtree(runtime.packages / "probedengine-cpu-1.0+cpu.dist-info")
    found = runtime.seen()
    assert found["pinned"].value is False
    assert found["software"].value == [{"name": "probedengine", "version": "0.9"}]
    shutil.rmtree(fake)
    found = runtime.seen()
    assert found["pinned"].value is False
    assert found["software"].reason == "the module probedengine is of no package"


def test_a_package_that_nobody_pinned_is_found(runtime: Runtime) -> None:
    runtime.install("stranger", "1")
    one = runtime.seen()["pinned"]
    assert one.value is False
    assert "not pinned stranger 1" in one.output


def test_code_among_the_packages_is_found_and_not_run_by_the_look(runtime: Runtime) -> None:
    ran = runtime.folder / "ran"
    (runtime.packages / "evil.pth").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n")
    (runtime.packages / "sitecustomize.py").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n")
    one = runtime.seen()["pinned"]
    assert one.value is False
    assert {"of no package evil.pth", "of no package sitecustomize.py"} <= set(one.output.splitlines())
    assert not ran.exists()


def test_a_runtime_that_is_gone_or_broken_tells_nothing(runtime: Runtime) -> None:
    python = runtime.root / "venv/bin/python"
    python.unlink()
    found = runtime.seen()
    assert not values(found)
    assert "is not there" in found["pinned"].reason
    python.write_text("#!/bin/false\n")
    python.chmod(0o755)
    assert runtime.seen()["pinned"].reason == "its Python does not run"


# --- home -------------------------------------------------------------------------------------------------------------------


def test_a_home_is_private_until_a_file_in_it_is_not(tmp_path: Path) -> None:
    require_root()
    require_tool("setpriv")
    stack = Stack(tmp_path)
    machine = stack.create(MACHINE, HostSpec(host=HOST))
    home = stack.create(host_home.RESOURCE, host_home.HomeSpec(host=HOST, name=stack.name))
    try:
        assert values(seen(host_home.RESOURCE, stack.run, home)) == {"private": True}
        record = Path(stack.paths.log, "requests")
        record.write_text("who asked what")
        record.chmod(0o644)
        assert seen(host_home.RESOURCE, stack.run, home)["private"].value is True
        Path(stack.paths.log).chmod(0o755)
        one = seen(host_home.RESOURCE, stack.run, home)["private"]
        assert one.value is False
        assert str(record) in one.output
    finally:
        stack.delete(host_home.RESOURCE, home)
        stack.delete(MACHINE, machine)
    assert seen(host_home.RESOURCE, stack.run, home)["private"].reason == f"there is no user {stack.paths.user}"


def _of_a_group(folder: Path) -> None:
    os.chown(folder, 0, 44)
    folder.chmod(0o710)


def _of_somebody(folder: Path) -> None:
    os.chown(folder, 1, 0)


def _on_an_access_list(folder: Path) -> None:
    """Let user 1 in: the list that `setfacl -m u:1:rx` makes."""
    entries = [(1, 7, -1), (2, 5, 1), (4, 0, -1), (16, 5, -1), (32, 0, -1)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(folder, "system.posix_acl_access", packed)
    except OSError:
        pytest.skip("this file system has no access lists")


def _linked_to(folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    folder.symlink_to(folder.parent / "moved")


@pytest.mark.parametrize("let_in", [_of_a_group, _of_somebody, _on_an_access_list, _linked_to])
def test_files_that_only_some_can_read_are_not_private(tmp_path: Path, let_in: Callable[[Path], None]) -> None:
    require_root()
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    (folder / "file").write_text("content")
    (folder / "file").chmod(0o604)
    assert answer(tmp_path, private_question([str(folder)], []))["private"].value is True
    let_in(folder)
    one = answer(tmp_path, private_question([str(folder)], []))["private"]
    assert one.value is False or "is a link" in one.reason


def test_the_home_of_a_running_stack_is_private(tmp_path: Path) -> None:
    require_root()
    require_tool("haproxy", "setpriv", "s6-svscan")
    world = World(tmp_path)
    world.begin()
    try:
        world.create()
        home = keys_lab.prior_of("host_home.local", world.home, world.home_outputs)
        assert values(seen(host_home.RESOURCE, world.run, home)) == {"private": True}
    finally:
        world.end()


# --- keys and certificates, on the operator's side ----------------------------------------------------------------------------


def _key(folder: Path) -> tuple[Any, Any, Prior, Path]:
    kind, run = api_key.RESOURCE, keys_lab.run_in(folder)
    spec = api_key.ApiKeySpec(name="app", principal="team", requests_per_minute=1, concurrency=1, max_age_days=90)
    outputs = kind.create(keys_lab.context(run, "api_key.app"), spec)
    return kind, run, keys_lab.prior_of("api_key.app", spec, outputs), Path(outputs.file)


def test_an_api_key_tells_who_reads_it_and_how_long_it_is_valid(tmp_path: Path) -> None:
    kind, run, prior, file = _key(tmp_path)
    found = seen(kind, run, prior)
    assert values(found) == {"private": True, "custody": "operator-file", "max_age_days": 90}
    assert "90 days left" in found["max_age_days"].output or "89 days left" in found["max_age_days"].output
    secret = file.read_text().strip()
    assert all(secret not in one.model_dump_json() for one in found.values())
    file.chmod(0o644)
    assert seen(kind, run, prior)["private"].value is False


def test_an_api_key_that_was_handed_over_lies_nowhere(tmp_path: Path) -> None:
    kind, run, prior, file = _key(tmp_path)
    file.unlink()
    assert values(seen(kind, run, prior)) == {"private": True, "custody": "none", "max_age_days": 90}


def test_a_credential_that_lives_longer_than_the_stack_file_says_is_seen(tmp_path: Path) -> None:
    kind, run, prior, _file = _key(tmp_path)
    tree = json.loads(json.dumps(prior.outputs))
    tree["credentials"][0]["not_after"] += 275 * 86400 + 1
    found = seen(kind, run, Prior(prior.address, prior.id, prior.spec, tree))
    assert found["max_age_days"].value == 366
    tree["credentials"][0]["revoked"] = True
    assert seen(kind, run, Prior(prior.address, prior.id, prior.spec, tree))["max_age_days"].value == 0


def test_the_keys_of_ca_and_certificate_are_private_files(tmp_path: Path) -> None:
    run = keys_lab.run_in(tmp_path)
    ca_spec = tls_ca.TlsCaSpec(common_name="lab")
    ca = keys_lab.prior_of("tls_ca.stack", ca_spec, tls_ca.RESOURCE.create(keys_lab.context(run, "tls_ca.stack"), ca_spec))
    spec = certificate.CertificateSpec(ca=ca.outputs["certificate_pem"], names=("localhost",), days=180)
    made = certificate.RESOURCE.create(keys_lab.context(run, "certificate.local"), spec)
    leaf = keys_lab.prior_of("certificate.local", spec, made)
    for kind, prior, name in ((tls_ca.RESOURCE, ca, tls_ca.KEY), (certificate.RESOURCE, leaf, "certificate.local.key")):
        assert values(seen(kind, run, prior)) == {"private": True, "custody": "operator-file"}
        file = run.custody.path(name)
        file.chmod(0o644)
        assert seen(kind, run, prior)["private"].value is False
        file.unlink()
        found = seen(kind, run, prior)
        assert not values(found)
        assert all("is not there" in one.reason for one in found.values())
    assert "the certificate ends in 179 days" in seen(certificate.RESOURCE, run, leaf)["private"].output


def test_a_certificate_of_ones_own_is_read_where_its_reference_leads(tmp_path: Path) -> None:
    run = keys_lab.run_in(tmp_path)
    key = tmp_path / "own.key"
    key.write_text("key")
    key.chmod(0o600)
    end = "2099-01-01T00:00:00+00:00"
    made = certificate.CertificateOutputs(chain_pem="", key_source="", not_after=end, fingerprint="", key_mark="")
    for reference, private in (("file:own.key", True), ("env:KEY", None)):
        spec = certificate.CertificateSpec(names=("a",), cert_ref="file:own.pem", key_ref=reference)
        found = seen(certificate.RESOURCE, run, keys_lab.prior_of("certificate.local", spec, made))
        assert (found["custody"].value, found["private"].value) == ("reference", private)
    key.chmod(0o640)
    spec = certificate.CertificateSpec(names=("a",), cert_ref="file:own.pem", key_ref="file:own.key")
    assert seen(certificate.RESOURCE, run, keys_lab.prior_of("certificate.local", spec, made))["private"].value is False
