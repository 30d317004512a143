"""The provider `hosts`: machines that somebody owns, reached over SSH."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

from llmdeploy.sdk import (
    Diagnostics,
    Fragment,
    Gpu,
    LayoutRequest,
    LlmdeployError,
    Machine,
    MachineType,
    ReadRequest,
    ReadResult,
    Ref,
    Resource,
    ResourceType,
    Run,
    StorageRequest,
    nearest,
)

from ._host_type import refresh_hosts
from ._hosts_config import HostConfig, HostsConfig
from ._types import host_types

_GIB = 2**30


class Hosts:
    """The provider `hosts`: machines that somebody owns, reached over SSH. Secrets are references: several people may work."""

    name = "hosts"
    Config: type[BaseModel] = HostsConfig

    @property
    def types(self) -> Mapping[str, ResourceType[Any, Any]]:
        """The types of every machine."""
        return host_types()

    @property
    def plans_only(self) -> str:
        """What this version does not do yet."""
        return "this version plans stacks on machines reached over SSH and cannot apply them yet"

    def inventory(self, config: BaseModel, region: str | None, gpus: Mapping[str, Gpu]) -> Sequence[MachineType]:
        """Return the machines of the stack file, those of equal GPUs as one kind, in the order of the file.

        A machine whose GPUs nobody named counts as one without any: they are read when the stack is applied.

        Raises:
            StackError: a GPU is not in the catalogue.
        """
        hosts = _hosts(config)
        _check_gpus(hosts, gpus)
        kinds: dict[tuple[str, int], list[HostConfig]] = {}
        for host in hosts:
            kinds.setdefault((host.gpus.type, host.gpus.count) if host.gpus else ("", 0), []).append(host)
        return [_machine_type(gpus.get(name), count, members, region) for (name, count), members in kinds.items()]

    def layout(self, request: LayoutRequest) -> Fragment:
        """Put the stack on the first machines of the kind that was chosen.

        Raises:
            StackError: the storage that is asked for cannot be on machines like these.
            LlmdeployError: more machines are wanted than there are.
        """
        _check_storage(request.storage)
        chosen = _chosen(_hosts(request.config), request)
        resources = tuple(_host_resource(host, request.region) for host in chosen)
        machines = tuple(
            Machine(host.key, Ref(f"host.{host.key}", "connection"), request.placement.on(index), host.address)
            for index, host in enumerate(chosen)
        )
        # A disk of its own can be encrypted as a whole, names and all; in a folder only files can.
        encryption = "luks2" if request.storage.device else "gocryptfs"
        return Fragment(
            resources,
            machines,
            front=chosen[0].address,
            encryption=encryption,
            hardened=True,
            notes=tuple(_notes(request.gateway.domain, machines)),
        )

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Look at each machine with one script."""
        return refresh_hosts(self.types, run, requests)


def _hosts(config: BaseModel) -> tuple[HostConfig, ...]:
    return cast("HostsConfig", config).root


def _check_gpus(hosts: Sequence[HostConfig], gpus: Mapping[str, Gpu]) -> None:
    found = Diagnostics()
    for index, host in enumerate(hosts):
        if host.gpus and host.gpus.type not in gpus:
            hint = nearest(host.gpus.type, gpus) or "`llmdeploy catalog list gpus` lists them"
            sentence = f'there is no GPU "{host.gpus.type}" in the catalogue'
            found.error(sentence, path=f"provider.hosts[{index}].gpus.type", hint=hint)
    found.raise_if_errors()


def _machine_type(gpu: Gpu | None, count: int, members: Sequence[HostConfig], region: str | None) -> MachineType:
    return MachineType(
        name=f"{count}x{gpu.name}" if gpu else "machine",
        gpu=gpu,
        gpus=count,
        gpu_memory_bytes=gpu.memory_bytes if gpu else 0,
        memory_bytes=_smallest(host.memory_gib for host in members),
        local_disk_bytes=_smallest(host.disk_gib for host in members),
        available=len(members),
        members=tuple(host.key for host in members),
        region=region or "",
    )


def _smallest(sizes_gib: Iterable[int | None]) -> int:
    """Return the smallest in bytes; 0 when one of them is not known."""
    return min(size or 0 for size in sizes_gib) * _GIB


def _chosen(hosts: Sequence[HostConfig], request: LayoutRequest) -> list[HostConfig]:
    kind, count = request.placement.type, request.placement.count
    members = kind.members if kind else tuple(host.key for host in hosts)
    if count > len(members):
        raise LlmdeployError(
            f"this stack needs {count} machines of a kind, and {len(members)} are listed under provider.hosts",
            hint="list more of them, or lower replicas",
        )
    by_key = {host.key: host for host in hosts}
    return [by_key[name] for name in members[:count]]


def _host_resource(host: HostConfig, region: str | None) -> Resource:
    values = {
        "host": host.connection.tree(),
        "owned": True,
        "gpu": host.gpus.type if host.gpus else None,
        "gpus": host.gpus.count if host.gpus else None,
        "region": region,
    }
    return Resource(f"host.{host.key}", "host", Hosts.name, values, group=host.key, path="provider")


def _notes(domain: str | None, machines: Sequence[Machine]) -> Iterator[str]:
    """Say how clients find more than one gateway: nothing stands before them on machines of one's own."""
    answering = [str(machine.address) for machine in machines if any(slot.rank == 0 for slot in machine.slots)]
    if len(answering) < 2:
        return
    addresses = ", ".join(answering)
    if domain is None:
        yield (
            f"without gateway.domain clients call {answering[0]} only, and nobody answers when that machine is down: give a name "
            f"that leads to {addresses}"
        )
    else:
        yield (
            f"{domain} must lead to every gateway: to {addresses} by DNS, or to one address that keepalived moves between them, "
            "which you set up"
        )


def _check_storage(storage: StorageRequest) -> None:
    found = Diagnostics()
    if storage.encryption == "luks2" and storage.device is None:
        hint = "name it by a stable name, such as /dev/disk/by-id/..., or use gocryptfs, which needs none"
        found.error("luks2 needs a disk of its own for the weights", path="storage.device", hint=hint)
    if storage.encryption == "none" and storage.device is not None:
        found.error("does not go together with encryption: none", path="storage.device", hint="remove it, or use luks2")
    if storage.unlock == "kms":
        hint = "use tpm2, operator or auto"
        found.error("machines of your own have no key service of a cloud", path="storage.unlock", hint=hint)
    if storage.unlock == "tpm2" and storage.device is None:
        found.error("a TPM unlocks LUKS2 on a disk of its own only", path="storage.unlock", hint="set storage.device")
    found.raise_if_errors()
