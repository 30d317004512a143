"""The provider `hosts`: its machines as an inventory, where it puts a stack, and what the whole plan of one says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest

from llmdeploy.blueprint import Blueprint, build
from llmdeploy.change import Change
from llmdeploy.compliance.profiles import demanded_by
from llmdeploy.errors import LlmdeployError, StackError
from llmdeploy.reconcile.diff import diff
from llmdeploy.resource import UNKNOWN, Ref
from llmdeploy.sdk import (
    Demand,
    HasInventory,
    Identity,
    LayoutRequest,
    MachineType,
    Manifest,
    PlansOnly,
    Policy,
    StorageRequest,
    WeightFile,
)
from llmdeploy.state.model import State
from llmdeploy_host import hosts
from tests.providers.llmdeploy_host.hosts_lab import DISK, GPUS, L40S, RACK, TLS, config, request


def _inventory(*members: dict[str, Any], region: str | None = None) -> list[MachineType]:
    return list(cast("HasInventory", hosts).inventory(config(*members), region, GPUS))


def _built(wanted: LayoutRequest) -> Blueprint:
    return build(wanted, "hosts", hosts.layout(wanted), hosts.types)


def _changes(wanted: LayoutRequest) -> dict[str, Change]:
    found = diff(_built(wanted).graph, State("", "demo"), {}, hosts.types, Identity("demo", None))
    return {change.address: change for change in found}


# --- the machines as an inventory -------------------------------------------------------------------------------------------


def test_machines_of_equal_gpus_are_one_kind_in_the_order_of_the_file() -> None:
    small = {"address": "10.0.0.20", "gpus": {"type": "l4"}}
    big, other = _inventory(RACK[0], small, RACK[1], region="de")
    assert (big.name, big.gpu, big.gpus, big.available, big.members) == ("2xl40s", L40S, 2, 2, ("gpu1", "gpu2"))
    assert (big.gpu_memory_bytes, big.price, big.region) == (48 * 10**9, None, "de")
    assert (other.name, other.gpus, other.members) == ("1xl4", 1, ("10-0-0-20",))


def test_a_kind_has_the_memory_and_disk_of_its_smallest_machine() -> None:
    sizes = ({"memory_gib": 512, "disk_gib": 2000}, {"memory_gib": 256, "disk_gib": 4000})
    (kind,) = _inventory(*({**host, **size} for host, size in zip(RACK, sizes, strict=True)))
    assert (kind.memory_bytes, kind.local_disk_bytes) == (256 * 2**30, 2000 * 2**30)


def test_one_machine_of_unknown_memory_makes_it_unknown() -> None:
    (kind,) = _inventory({**RACK[0], "memory_gib": 512}, RACK[1])
    assert kind.memory_bytes == 0


def test_machines_whose_gpus_nobody_named_count_as_machines_without() -> None:
    (kind,) = _inventory({"address": "10.0.0.1"}, {"address": "10.0.0.2"})
    assert (kind.gpu, kind.gpus, kind.available) == (None, 0, 2)


def test_a_gpu_that_the_catalogue_does_not_know_is_told_with_the_nearest_name() -> None:
    with pytest.raises(StackError, match=r'provider.hosts\[1\].gpus.type: there is no GPU "l40".*did you mean "l40s"'):
        _inventory(RACK[0], {"address": "a", "gpus": {"type": "l40"}})


def test_it_says_that_it_only_plans() -> None:
    assert isinstance(hosts, PlansOnly)
    assert "cannot apply" in hosts.plans_only


# --- where a stack is put ---------------------------------------------------------------------------------------------------


def test_two_replicas_lie_on_two_machines() -> None:
    fragment = hosts.layout(request())
    first, second = fragment.machines
    assert (first.key, first.host, first.address) == ("gpu1", Ref("host.gpu1", "connection"), "10.0.0.11")
    assert [(slot.replica, slot.gpus) for slot in second.slots] == [(1, (0, 1))]
    assert (fragment.front, fragment.custody, fragment.encryption, fragment.hardened) == ("10.0.0.11", False, "luks2", True)
    assert [resource.values["host"]["transport"] for resource in fragment.resources] == ["ssh", "ssh"]


def test_only_as_many_machines_are_used_as_the_stack_needs() -> None:
    wanted = request()
    one = replace(wanted, placement=replace(wanted.placement, count=1, slots=wanted.placement.slots[:1]), replicas=1)
    assert [machine.key for machine in hosts.layout(one).machines] == ["gpu1"]


def test_more_machines_than_there_are_are_refused() -> None:
    wanted = request()
    with pytest.raises(LlmdeployError, match="needs 3 machines of a kind, and 2 are listed"):
        hosts.layout(replace(wanted, placement=replace(wanted.placement, count=3)))


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        (StorageRequest("luks2", None, None, "env:K", "erase"), "storage.device: luks2 needs a disk of its own"),
        (StorageRequest("none", "/dev/sdb", None, None, "erase"), "storage.device: does not go together with encryption: none"),
        (StorageRequest("luks2", "/dev/sdb", "kms", "env:K", "erase"), "storage.unlock: .*no key service"),
        (StorageRequest("auto", None, "tpm2", "env:K", "erase"), "storage.unlock: a TPM unlocks LUKS2"),
    ],
)
def test_storage_that_cannot_be_is_refused(storage: StorageRequest, sentence: str) -> None:
    with pytest.raises(StackError, match=sentence):
        hosts.layout(request(storage=storage))


def test_without_a_disk_of_its_own_auto_means_gocryptfs() -> None:
    assert hosts.layout(request(storage=StorageRequest("auto", None, None, "env:K", "erase"))).encryption == "gocryptfs"


@pytest.mark.parametrize(
    ("changes", "secret"),
    [
        ({"storage": replace(DISK, key=None)}, "storage.key"),
        ({"gateway": replace(TLS, tls_cert=None, tls_key=None)}, "gateway.tls"),
    ],
)
def test_secrets_that_llmdeploy_would_make_are_refused(changes: dict[str, Any], secret: str) -> None:
    with pytest.raises(StackError, match=f"what {secret} would name"):
        _built(request(**changes))


# --- the whole plan ---------------------------------------------------------------------------------------------------------


def test_each_machine_gets_everything_from_the_driver_to_the_gateway() -> None:
    found = Counter(resource.type for resource in _built(request()).graph if resource.address.split(".")[1].startswith("gpu"))
    kinds = {
        "host", "host_packages", "host_home", "host_supervisor", "host_gpu_driver", "host_container_runtime", "host_hardening",
        "host_volume", "host_weights", "host_engine_runtime", "host_engine", "certificate", "host_gateway",
    }  # fmt: skip
    assert dict(found) == dict.fromkeys(kinds, 2)


def test_what_nobody_can_know_yet_is_known_after_apply() -> None:
    changes = _changes(request())
    weights = changes["host_weights.gpu1"]
    assert (weights.after or {})["manifest"] is UNKNOWN
    assert weights.details == (
        "downloads the files of acme/chat-70b (known after `llmdeploy lock`), each file verified by its SHA-256",
    )
    assert changes["host_engine_runtime.gpu1"].outputs["image"] == "vllm/vllm-openai:v0.32.0"
    assert changes["host.gpu2"].outputs["connection"]["address"] == "10.0.0.12"


def test_every_gateway_knows_the_replica_of_the_other_machine() -> None:
    changes = _changes(request())
    gateway = changes["host_gateway.gpu1"]
    assert (gateway.after or {})["peers"] == ["10.0.0.12"]
    assert "1 other machine" in gateway.details[0]
    assert gateway.traits.exposure == "public"


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        (
            "llm.example.com",
            "llm.example.com must lead to every gateway: to 10.0.0.11, 10.0.0.12 by DNS, or to one address that ",
        ),
        (None, "without gateway.domain clients call 10.0.0.11 only"),
    ],
)
def test_several_gateways_need_a_name_that_leads_to_all_of_them(domain: str | None, sentence: str) -> None:
    (note,) = hosts.layout(request(gateway=replace(TLS, domain=domain))).notes
    assert note.startswith(sentence)


def test_one_gateway_needs_nothing_before_it() -> None:
    assert hosts.layout(request(RACK[:1])).notes == ()


def test_the_volume_is_a_disk_that_is_formatted_and_its_key_a_reference() -> None:
    volume = _changes(request())["host_volume.gpu2"]
    assert "formats /dev/disk/by-id/nvme-data0 as LUKS2" in volume.details[0]
    assert "storage.erase (S4EVNX0R)" in volume.details[1]
    assert (volume.traits.at_rest, volume.traits.custody) == ("encrypted", "reference")


def test_nothing_lies_on_a_disk_in_clear_or_in_a_file_of_the_operator() -> None:
    changes = _changes(request(keys=()))
    assert {change.traits.at_rest for change in changes.values()} == {"encrypted", "none"}
    assert "operator-file" not in {change.traits.custody for change in changes.values()}


def test_everything_stands_in_the_region_of_the_stack() -> None:
    assert {change.traits.region for address, change in _changes(request()).items() if address.startswith("host.")} == {"de"}


def test_in_a_closed_network_only_servers_that_the_operator_names_are_asked() -> None:
    wanted = request()
    files = (WeightFile(path="model.safetensors", size_bytes=4, sha256="0" * 64),)
    folder = Manifest(kind="folder", location="/srv/models/chat-70b", revision="1", files=files)
    image = "registry.vault.internal:5000/vllm@sha256:" + "a" * 64
    changes = _changes(replace(wanted, serving=replace(wanted.serving, manifest=folder, pinned=True, image=image)))
    flows = {(address.split(".")[0], flow.to) for address, change in changes.items() for flow in change.traits.data_flows}
    assert flows == {
        ("host_container_runtime", "nvidia.github.io"),
        ("host_container_runtime", "the machine's package servers"),
        ("host_engine_runtime", "registry.vault.internal"),
        ("host_gpu_driver", "the machine's package servers"),
        ("host_packages", "the machine's package servers"),
    }
    assert {flow.carries for change in changes.values() for flow in change.traits.data_flows} == {"requests"}
    assert {change.traits.pinned for change in changes.values()} == {True, None}
    assert changes["host_weights.gpu1"].traits.in_transit == "local"


@pytest.mark.parametrize(
    ("profiles", "egress"), [((), "open"), (("soc2",), "open"), (("airgapped",), "listed"), (("pci-dss",), "listed")]
)
def test_a_profile_that_wants_it_closes_the_way_out(profiles: tuple[str, ...], egress: str) -> None:
    demands = tuple(Demand(control, names, "", strict=bool(names)) for control, names in demanded_by(profiles).items())
    change = _changes(replace(request(), policy=Policy(profiles=profiles, demands=demands)))["host_hardening.gpu1"]
    assert change.traits.egress == egress
    assert any("connections to what this plan names only" in line for line in change.details) is (egress == "listed")


@pytest.mark.parametrize(("wish", "erased"), [("erase", True), ("keep", False)])
def test_what_is_kept_when_the_stack_goes_is_told(wish: str, erased: bool) -> None:
    wanted = request()
    volume = _changes(replace(wanted, storage=replace(wanted.storage, on_destroy=wish)))["host_volume.gpu1"]
    assert volume.traits.erased is erased
    assert any("key slots and header are erased" in line for line in volume.details) is erased


def test_a_plan_of_them_is_the_same_every_time() -> None:
    assert _changes(request()) == _changes(request())
