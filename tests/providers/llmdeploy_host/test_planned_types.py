"""What can be planned on a machine and not made yet: what happens inside it, its traits, and that nothing makes it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmdeploy.graph import Graph
from llmdeploy.reconcile.diff import diff
from llmdeploy.resource import UNKNOWN, Ref, Resource
from llmdeploy.sdk import (
    Context,
    Identity,
    ManagedType,
    Manifest,
    NotBuilt,
    Placement,
    Price,
    Prior,
    ResourceType,
    Run,
    Slot,
    Software,
    Tariff,
    WeightFile,
)
from llmdeploy.state.model import State
from llmdeploy.views.human import change_lines
from llmdeploy.views.screen import Screen
from llmdeploy_host import (
    certificate,
    host,
    host_engine_runtime,
    host_gateway,
    host_gpu_driver,
    host_volume,
    host_weights,
    hosts,
    tls_ca,
)
from llmdeploy_host._connection import Connection, HostSpec
from llmdeploy_host._session import session
from tests.providers.llmdeploy_host.evidence_lab import seen
from tests.providers.llmdeploy_host.host_lab import prior_of
from tests.providers.llmdeploy_host.hosts_lab import DISK, RACK, request
from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden" / "hosts"
SSH = Connection(transport="ssh", address="10.0.0.11", user="ops", sudo=True).tree()
LUKS = {"host": SSH, "home": "/var/lib/llmdeploy/demo", "encryption": "luks2", "device": "/dev/sdb", "key": "env:VOLUME_KEY"}
IMAGE = {"host": SSH, "engine": "vllm", "version": "0.32.0", "kind": "container", "image": "vllm/vllm-openai:v0.32.0"}
WEIGHTS = {"host": SSH, "volume": "/v", "user": "u", "manifest": UNKNOWN, "repository": "acme/chat"}
NAMES = {"common_name": "demo"}


def _golden(name: str, content: str) -> None:
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        (GOLDEN / name).parent.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(content)
    assert (GOLDEN / name).read_text() == content, "run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"


def _plan_text(resources: list[Resource]) -> str:
    screen = Screen(text := io.StringIO(), {"COLUMNS": "110"})
    for change in diff(Graph(resources), State("", "demo"), {}, hosts.types, Identity("demo", None)):
        screen.write(change_lines(change, {"host"}))
    return text.getvalue()


# --- what a plan says -------------------------------------------------------------------------------------------------------


VARIANTS: dict[str, dict[str, Any]] = {
    "host_gpu_driver.plain": {},
    "host_gpu_driver.eight-sxm": {"fabric_manager": True, "flavour": "proprietary", "branch": "590", "adopt": True},
    "host_container_runtime.cpu": {},
    "host_container_runtime.gpu": {"toolkit": "nvidia-container-toolkit"},
    "host_hardening.public": {"allowed_ports": [443], "private_ports": [8444, 29500]},
    "host_hardening.closed": {"allowed_ports": [443], "egress": "listed"},
    "host_hardening.nothing": dict.fromkeys(
        ("swap_off", "core_dumps_off", "ssh_password_off", "unattended_upgrades"), False
    ),
    "host_volume.disk": LUKS,
    "host_volume.tpm": {**LUKS, "unlock": "tpm2", "erase": ["S4EVNX0R", "S4EVNX0S"], "filesystem": "xfs"},
    "host_volume.kept": {**LUKS, "on_destroy": "keep"},
    "host_volume.operator": {**LUKS, "unlock": "operator"},
    "host_volume.kms": {**LUKS, "key": None, "kms_key": "arn:aws:kms:eu-central-1:1:key/k", "device": UNKNOWN, "unlock": "kms"},
    "host_engine_runtime.tag": IMAGE,
    "host_engine_runtime.digest": {**IMAGE, "image": "vllm/vllm-openai@sha256:" + "a" * 64},
    "host_weights.unpinned": WEIGHTS,
    "host_gateway.alone": {},
    "host_gateway.peers": {"peers": ["10.0.0.12", "10.0.0.13"], "peer_port": 8444},
}  # fmt: skip
_GATEWAY = {
    "engine_sockets": ["/run/e.sock"], "chain_pem": "PEM", "key_source": "file:k", "port": 443, "served_name": "m", "user": "u",
    "supervisor": "systemd",
}  # fmt: skip


def test_plans_say_what_happens_inside_the_machine() -> None:
    resources: list[Resource] = []
    for address, values in VARIANTS.items():
        name = address.split(".")[0]
        given = {"host": SSH, **(_GATEWAY if name == "host_gateway" else {}), **values}
        resources.append(Resource(address, name, "hosts", hosts.types[name].spec.model_validate(given).tree()))
    _golden("details.txt", _plan_text(resources))


def test_what_is_as_wanted_is_not_told_again() -> None:
    kind = host_gpu_driver.RESOURCE
    values = kind.spec.model_validate({"host": SSH}).tree()
    planned = kind.plan(Prior("host_gpu_driver.a", "id", values, {}), values)
    assert (planned.action, planned.details) == ("no-op", ())


def test_a_permission_to_erase_or_to_adopt_is_no_change() -> None:
    for kind, before, after in (
        (host_volume.RESOURCE, LUKS, {**LUKS, "erase": ["S4EVNX0R"]}),
        (host_gpu_driver.RESOURCE, {"host": SSH}, {"host": SSH, "adopt": True}),
    ):
        old, new = (kind.spec.model_validate(values).tree() for values in (before, after))
        assert kind.plan(Prior("x.a", "id", old, {}), new).action == "no-op"


def test_a_new_unlocking_formats_nothing() -> None:
    kind = host_volume.RESOURCE
    old, new = (kind.spec.model_validate({**LUKS, "unlock": unlock}).tree() for unlock in ("operator", "tpm2"))
    planned = kind.plan(Prior("host_volume.a", "id", old, {}), new)
    assert planned.action == "update"
    assert not [line for line in planned.details if "formats" in line]


def test_another_disk_is_another_volume() -> None:
    kind = host_volume.RESOURCE
    old, new = (kind.spec.model_validate({**LUKS, "device": device}).tree() for device in ("/dev/sdb", "/dev/sdc"))
    planned = kind.plan(Prior("host_volume.a", "id", old, {}), new)
    assert planned.action == "replace"
    assert "formats /dev/sdc" in planned.details[0]


# --- what is known, and what compliance judges -------------------------------------------------------------------------------


def test_the_digest_of_an_image_pins_it_and_a_tag_does_not() -> None:
    kind = host_engine_runtime.RESOURCE
    assert kind.traits(IMAGE).pinned is False
    assert kind.traits({**IMAGE, "image": "vllm@sha256:" + "a" * 64}).pinned is True
    assert kind.traits({**IMAGE, "kind": "venv", "image": "", "requirements": "vllm==1"}).pinned is True


def test_an_image_is_known_before_apply_and_changes_the_digest() -> None:
    one, other = (
        host_engine_runtime.RESOURCE.predict({**IMAGE, "requirements": "", "image": image}, Identity("demo", None))
        for image in "ab"
    )
    assert (one["image"], one["python"]) == ("a", "")
    assert one["digest"] != other["digest"]


@pytest.mark.parametrize("wrong", [{"image": ""}, {"requirements": "vllm==1"}, {"kind": "venv"}])
def test_a_runtime_is_either_packages_or_an_image(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="a venv is made of requirements, a container of an image"):
        host_engine_runtime.RuntimeSpec.model_validate({**IMAGE, **wrong})


def test_weights_that_nobody_knows_yet_can_be_planned() -> None:
    kind = host_weights.RESOURCE
    values = kind.spec.model_validate(WEIGHTS).tree()
    assert kind.predict(values, Identity("demo", None)) == {"path": "/v/weights"}
    traits = kind.traits(values)
    assert (traits.pinned, traits.in_transit) == (False, "encrypted")
    assert [flow.what for flow in traits.data_flows] == ["requests for the model's files"]


PLAIN = {**LUKS, "encryption": "none", "device": None, "key": None}
MINE = {**LUKS, "encryption": "gocryptfs", "device": None, "key": None}
SETTINGS = ("swap_off", "core_dumps_off", "ssh_password_off")
KEY = {"name": "app", "principal": "team", "requests_per_minute": 1, "concurrency": 1, "max_age_days": 90}
CERTIFICATE = {"ca": "PEM", "names": ["a"], "cert_ref": None, "key_ref": None}
VENV = {**IMAGE, "kind": "venv", "image": None, "requirements": "vllm==0.32.0"}
VLLM = (Software(name="vllm", version="0.32.0"),)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("host", {"region": "DE"}, {"region": "DE", "machine": True, "in_transit": "encrypted"}),
        ("host_home", {"name": "demo"}, {"private": True}),
        ("host_hardening", {}, {"swap": "none", "core_dumps": False, "ssh_passwords": False, "egress": "open"}),
        ("host_hardening", dict.fromkeys(SETTINGS, False), {"swap": "plain", "core_dumps": True, "ssh_passwords": True}),
        ("host_hardening", {"egress": "listed"}, {"egress": "listed"}),
        ("host_volume", LUKS, {"at_rest": "encrypted", "custody": "reference", "secret": "volume-key", "erased": True}),
        ("host_volume", {**LUKS, "on_destroy": "keep"}, {"at_rest": "encrypted", "erased": False}),
        ("host_volume", MINE, {"custody": "operator-file", "secret": "volume-key", "erased": True, "private": True}),
        ("host_volume", PLAIN, {"at_rest": "plain", "custody": "none", "secret": "", "erased": False, "private": True}),
        ("host_weights", WEIGHTS, {"pinned": False, "formats": None, "intact": True, "private": True}),
        ("host_engine_runtime", IMAGE, {"pinned": False, "software": VLLM}),
        ("host_engine_runtime", VENV, {"pinned": True, "software": VLLM}),
        ("api_key", KEY, {"secret": "api-key", "principal": "team", "max_age_days": 90, "custody": "operator-file"}),
        ("tls_ca", NAMES, {"secret": "ca-key", "custody": "operator-file", "private": True}),
        ("tls_ca", {**NAMES, "kms_key": "k"}, {"secret": "ca-key", "custody": "kms", "private": None}),
        ("certificate", CERTIFICATE, {"secret": "tls-key", "custody": "operator-file", "private": True}),
        (
            "certificate",
            {**CERTIFICATE, "ca": None, "cert_ref": "file:c", "key_ref": "file:k"},
            {"custody": "reference", "private": None},
        ),
    ],
)
def test_traits_follow_from_the_values(name: str, values: dict[str, Any], expected: dict[str, Any]) -> None:
    kind = hosts.types[name]
    given = values if "host" not in kind.spec.model_fields else {"host": SSH, **values}
    traits = kind.traits(kind.spec.model_validate(given).tree())
    assert {fact: getattr(traits, fact) for fact in expected} == expected


@pytest.mark.parametrize(
    ("name", "values", "servers"),
    [
        ("host_packages", {"packages": ["curl"]}, ["the machine's package servers"]),
        ("host_gpu_driver", {}, ["the machine's package servers"]),
        ("host_container_runtime", {}, ["the machine's package servers"]),
        (
            "host_container_runtime",
            {"toolkit": "nvidia-container-toolkit"},
            ["the machine's package servers", "nvidia.github.io"],
        ),
        ("host_engine_runtime", VENV, ["the machine's package index"]),
        ("host_engine_runtime", IMAGE, ["registry-1.docker.io"]),
        ("host_engine_runtime", {**IMAGE, "image": "vllm@sha256:" + "a" * 64}, ["registry-1.docker.io"]),
        ("host_engine_runtime", {**IMAGE, "image": "registry.example:5000/a/vllm:1"}, ["registry.example"]),
        ("host_engine_runtime", {**IMAGE, "image": "localhost/vllm:1"}, ["localhost"]),
        ("host_weights", WEIGHTS, ["the model's hub"]),
    ],
)
def test_who_is_asked_for_what_a_machine_needs_is_told(name: str, values: dict[str, Any], servers: list[str]) -> None:
    kind = hosts.types[name]
    flows = kind.traits(kind.spec.model_validate({"host": SSH, **values}).tree()).data_flows
    assert [flow.to for flow in flows] == servers
    assert {flow.carries for flow in flows} == {"requests"}


@pytest.mark.parametrize(
    ("names", "formats"),
    [
        (("model.safetensors", "config.json", "tokenizer.model"), ("safetensors",)),
        (("model.GGUF",), ("gguf",)),
        (("pytorch_model.bin", "sub/a.safetensors", "training_args.bin"), ("pickle", "safetensors")),
        (("a.pt",), ("pickle",)),
        (("a.pth",), ("pickle",)),
        (("a.ckpt",), ("pickle",)),
        (("a.pkl",), ("pickle",)),
        (("config.json",), ()),
    ],
)
def test_formats_of_weights_are_told_by_their_names(names: tuple[str, ...], formats: tuple[str, ...]) -> None:
    files = tuple(WeightFile(path=name, size_bytes=1, sha256="0" * 64) for name in names)
    manifest = Manifest(kind="folder", location="/srv/models", revision="1", files=files)
    traits = host_weights.RESOURCE.traits({**WEIGHTS, "manifest": manifest.model_dump(mode="json")})
    assert (traits.formats, traits.data_flows) == (formats, ())
    assert bool(traits.notes) is ("pickle" in formats)


def test_weights_tell_each_server_that_they_come_from_once() -> None:
    urls = ("https://hub.example.com/a", "https://hub.example.com/b", None)
    files = tuple(WeightFile(path=f"{i}.safetensors", size_bytes=1, sha256="0" * 64, url=url) for i, url in enumerate(urls))
    manifest = Manifest(kind="hub", location="acme/chat", revision="1", files=files)
    traits = host_weights.RESOURCE.traits({**WEIGHTS, "manifest": manifest.model_dump(mode="json")})
    assert [flow.to for flow in traits.data_flows] == ["hub.example.com"]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (host_volume.RESOURCE, {**LUKS, "key": None, "kms_key": UNKNOWN}),
        (tls_ca.RESOURCE, {**NAMES, "kms_key": UNKNOWN}),
        (certificate.RESOURCE, {"ca": "PEM", "names": ["a"], "kms_key": UNKNOWN}),
    ],
)
def test_a_key_that_a_key_service_wraps_is_in_its_custody(kind: ResourceType[Any, Any], values: dict[str, Any]) -> None:
    traits = kind.traits(kind.spec.model_validate(values).tree())
    assert (traits.custody, traits.notes) == ("kms", ())


@pytest.mark.parametrize(
    ("address", "exposure"), [("10.0.0.11", "private"), ("::", "public"), ("8.8.8.8", "public"), ("::1", "host")]
)
def test_the_address_of_a_gateway_says_who_reaches_it(address: str, exposure: str) -> None:
    values = host_gateway.HostGatewaySpec.model_validate({"host": SSH, **_GATEWAY, "address": address}).tree()
    assert host_gateway.RESOURCE.traits(values).exposure == exposure


@pytest.mark.parametrize("name", ["host_gpu_driver", "host_container_runtime", "host_hardening"])
def test_what_only_plans_is_no_managed_type(name: str) -> None:
    assert not isinstance(hosts.types[name], ManagedType)


# --- the machine itself -----------------------------------------------------------------------------------------------------


def test_a_connection_may_wait_for_what_makes_the_machine() -> None:
    address, key = Ref("aws_instance.a", "private_ip"), Ref("aws_instance.a", "host_key")
    spec = HostSpec.model_validate({"host": {"transport": "ssh", "address": address, "host_key": key}})
    assert (spec.tree()["host"]["address"], spec.tree()["host"]["host_key"]) == (address, key)


@pytest.mark.parametrize(
    ("connection", "pinned"),
    [
        (SSH, False),
        ({**SSH, "host_key": "ssh-ed25519 AAAA"}, True),
        ({**SSH, "address": UNKNOWN, "host_key": UNKNOWN}, True),
        ({**SSH, "address": UNKNOWN}, False),
        (UNKNOWN, None),
        (Connection().tree(), None),
    ],
)
def test_whether_the_host_key_is_pinned_is_told_of_machines_over_ssh(connection: Any, pinned: bool | None) -> None:
    traits = host.RESOURCE.traits(host.MachineSpec.model_validate({"host": connection}).tree())
    assert traits.host_key_pinned is pinned


def test_an_audit_sees_whether_its_own_connection_took_one_host_key_only(tmp_path: Path) -> None:
    refused = {"transport": "ssh", "address": "127.0.0.1", "port": 1, "user": "ops"}
    for key, pinned in ((None, False), ("ssh-ed25519 AAAA", True)):
        spec = host.MachineSpec.model_validate({"host": {**refused, "host_key": key}})
        found = seen(host.RESOURCE, Run(Identity("lab", "1" * 32), tmp_path, {}), prior_of(host.RESOURCE, spec, {}))
        assert (found["host_key_pinned"].value, found["host_key_pinned"].reason) == (pinned, "")
        assert found["swap"].reason


def test_gpus_that_nobody_named_are_told() -> None:
    connection = {**SSH, "host_key": "ssh-ed25519 AAAA"}
    (note,) = host.RESOURCE.traits(host.MachineSpec.model_validate({"host": connection, "owned": True}).tree()).notes
    assert "its GPUs are read when the stack is applied" in note


@pytest.mark.parametrize("connection", [UNKNOWN, {**SSH, "address": UNKNOWN}, Connection().tree()])
def test_a_rented_machine_and_this_one_are_told_nothing(connection: Any) -> None:
    traits = host.RESOURCE.traits(host.MachineSpec.model_validate({"host": connection}).tree())
    assert (traits.notes, traits.region) == ((), None)


def test_a_machine_over_ssh_is_never_taken_for_this_one(tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match=r"10\.0\.0\.11: machines reached over SSH can be planned, not changed"):
        session(Run(Identity("demo", "1" * 32), tmp_path, {}), Connection.model_validate(SSH))


# --- what owned machines cost -----------------------------------------------------------------------------------------------


def _prices(**usd: float) -> Tariff:
    return Tariff({name.replace("__", "."): Price(value, "", "your stack file", "", "seen") for name, value in usd.items()})


def test_an_owned_machine_costs_its_purchase_its_power_and_its_room() -> None:
    tariff = _prices(
        machine__purchase=26000, machine__months=36, machine__watts=1100, power__kwh=0.28, colocation__machine_month=150
    )
    lines = host.RESOURCE.cost({"host": SSH, "owned": True}, tariff)
    assert [line.label for line in lines] == [f"machine (owned): {what}" for what in ("purchase", "power", "colocation")]
    assert [round(line.usd_per_month or 0, 2) for line in lines] == [722.22, 224.84, 150.0]
    assert (lines[1].quantity, lines[1].unit, lines[1].note) == (803.0, "kWh", "1100 W x 730 h")
    assert lines[0].note == "26,000 USD over 36 months"


@pytest.mark.parametrize(
    ("tariff", "source"),
    [
        (_prices(), "no price of it"),
        (_prices(machine__purchase=26000), "no price machine.months"),
        (_prices(machine__purchase=26000, machine__months=0), "no price machine.months"),
        (_prices(machine__watts=1100), "no price power.kwh"),
        (_prices(power__kwh=0.28), "no price machine.watts"),
    ],
)
def test_what_has_no_price_is_unknown_and_never_zero(tariff: Tariff, source: str) -> None:
    (line,) = host.RESOURCE.cost({"host": SSH, "owned": True}, tariff)
    assert (line.usd_per_month, line.source, line.quantity > 0) == (None, source, True)


@pytest.mark.parametrize("connection", [UNKNOWN, SSH, Connection().tree()])
def test_a_machine_that_nobody_owns_is_not_on_this_bill(connection: Any) -> None:
    assert host.RESOURCE.cost({"host": connection, "owned": None}, _prices(machine__purchase=1, machine__months=1)) == ()


# --- nothing of it is made --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (host_volume.RESOURCE, LUKS),
        (host_engine_runtime.RESOURCE, IMAGE),
        (host_gateway.RESOURCE, {"host": SSH, **_GATEWAY, "peers": ["10.0.0.12"]}),
        (tls_ca.RESOURCE, {**NAMES, "kms_key": "k"}),
        (certificate.RESOURCE, {"ca": "PEM", "names": ["a"], "kms_key": "k"}),
    ],
)
def test_what_only_plans_is_refused_before_and_during_apply(
    kind: ManagedType[Any, Any], values: dict[str, Any], tmp_path: Path
) -> None:
    spec = kind.spec.model_validate(values)
    run = Run(Identity("demo", "1" * 32), tmp_path, {})
    (problem,) = kind.preflight(run, spec.tree(), None)
    with pytest.raises(NotBuilt) as caught:
        kind.create(Context(run, f"{kind.name}.a", timeout_s=1), spec)
    assert caught.value.message == problem.sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [host_volume.RESOURCE, host_engine_runtime.RESOURCE], ids=lambda kind: kind.name)
def test_a_disk_or_an_image_is_neither_changed_nor_removed(kind: ManagedType[Any, Any], tmp_path: Path) -> None:
    spec = kind.spec.model_validate(LUKS if kind.name == "host_volume" else IMAGE)
    ctx = Context(Run(Identity("demo", "1" * 32), tmp_path, {}), f"{kind.name}.a", timeout_s=1)
    prior = Prior(f"{kind.name}.a", "id", spec.tree(), {})
    attempts: tuple[Callable[[], object], ...] = (lambda: kind.update(ctx, prior, spec), lambda: kind.delete(ctx, prior))
    for attempt in attempts:
        with pytest.raises(NotBuilt):
            attempt()


# --- several engines on one machine -----------------------------------------------------------------------------------------


def test_one_machine_may_carry_two_replicas() -> None:
    wanted = request(RACK[:1])
    slots = (Slot(0, 0, 0, (0,)), Slot(0, 1, 0, (1,)))
    placed = replace(wanted, replicas=2, placement=Placement(wanted.placement.type, 1, slots), storage=DISK)
    (machine,) = hosts.layout(placed).machines
    assert machine.slots == slots
