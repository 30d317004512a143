"""What a provider is asked to lay out, and its answer: values that the stages pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from .machine import Placement, Slot
from .manifest import Manifest
from .policy import Policy
from .process import ProcessSpec
from .resource import Ref, Resource, Tree


@dataclass(frozen=True)
class KeyRequest:
    """One API key of the stack file."""

    name: str
    principal: str
    recipient: str | None
    requests_per_minute: int
    concurrency: int
    max_age_days: int
    allow_fallback: bool


@dataclass(frozen=True)
class FallbackRequest:
    """A hosted OpenAI-compatible API for requests that no replica can take; api_key is a reference."""

    base_url: str
    model: str
    api_key: str


@dataclass(frozen=True)
class GatewayRequest:
    """What clients see: name and port they call, own certificate (references) or None for a CA of the stack's own.

    peer_port: where gateways of several machines reach each other; None when there is only one. generic_errors: an engine's error
    texts, which can repeat what a client sent, are replaced by general ones.
    """

    domain: str | None
    port: int
    tls_cert: str | None
    tls_key: str | None
    sticky: str
    log_retention_days: int
    peer_port: int | None = None
    generic_errors: bool = False
    fallback: FallbackRequest | None = None


@dataclass(frozen=True)
class StorageRequest:
    """How weights lie on disk: encryption ("auto", "luks2", "gocryptfs", "none"), key reference, and what destroy does.

    erase: serial numbers of the disks whose present content may be lost.
    """

    encryption: str
    device: str | None
    unlock: str | None
    key: str | None
    on_destroy: str
    erase: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServingRequest:
    """What to serve: the engine, where its runtime comes from, its process, the model's files, and the name clients pass.

    runtime: `venv` (packages: `requirements`) or `container` (image: `image`). process: of a replica's first machine; workers: of
    its further ones, by rank. manifest: None when the files are not known yet; repository: where they will come from then.
    weights_bytes: of all its files, as far as known. token: reference to what the files' server may ask for. pinned: the lock
    file names exactly these files.
    """

    engine: str
    version: str
    runtime: str
    requirements: str
    process: ProcessSpec
    manifest: Manifest | None
    served_name: str
    token: str | None = None
    pinned: bool = False
    image: str = ""
    workers: tuple[ProcessSpec, ...] = ()
    repository: str = ""
    weights_bytes: int = 0


@dataclass(frozen=True)
class LayoutRequest:
    """What a provider needs to lay a stack out.

    placement: the kind and number of machines, and what runs where. gpus_per_machine: GPUs of one machine that one replica uses.
    disk_bytes: what one machine must hold: model files, engine and room to work. market: how rented machines are paid.
    """

    stack: str
    config: BaseModel
    region: str | None
    replicas: int
    machines_per_replica: int
    gpu: str | None
    gpus_per_machine: int
    policy: Policy
    serving: ServingRequest
    storage: StorageRequest
    gateway: GatewayRequest
    keys: tuple[KeyRequest, ...]
    placement: Placement = field(default_factory=Placement)
    disk_bytes: int = 0
    market: str = "on-demand"


@dataclass(frozen=True)
class Machine:
    """A machine that the core puts host resources on: its key in addresses, its connection, and what runs on it.

    address: where the other machines of the stack reach it; None for the only one. device: the disk that the provider made for
    the volume; None where the stack file names one, or nobody does.
    """

    key: str
    host: Ref
    slots: tuple[Slot, ...] = (Slot(),)
    address: Ref | str | None = None
    device: Ref | str | None = None


@dataclass(frozen=True)
class Fragment:
    """A provider's part of the graph.

    machines: where the core adds host resources. hosts: the provider that owns the host types, "" for this one. front: the name
    clients call when the stack file gives no domain; entry: where that name is known after apply only, the address of the
    resource whose outputs `dns_name`, `endpoint` and `base_url` tell it. keys: name of an API key -> address of the provider's
    own resource that mints and delivers it, with the outputs `credentials` and `location`; the core makes the others, in files of
    the operator. custody: whether generated secrets may lie in the operator's own files. kms_key: the key that wraps generated
    secrets, which then need no file. encryption: what `auto` means on these machines. hardened: whether the machines are
    llmdeploy's to harden. serves: the provider brings its own serving resources; then `outputs` holds the stack's outputs. notes:
    sentences that the plan must say of the stack as a whole.
    """

    resources: tuple[Resource, ...]
    machines: tuple[Machine, ...] = ()
    hosts: str = ""
    front: str = "localhost"
    entry: str = ""
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    custody: bool = False
    kms_key: Ref | None = None
    encryption: str = "gocryptfs"
    hardened: bool = False
    serves: bool = False
    outputs: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    notes: tuple[str, ...] = ()
