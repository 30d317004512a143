"""What a provider is asked to lay out, and its answer: values that the stages pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

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
class GatewayRequest:
    """What clients see: name and port they call, own certificate (references) or None for a CA of the stack's own."""

    domain: str | None
    port: int
    tls_cert: str | None
    tls_key: str | None
    sticky: str
    log_retention_days: int


@dataclass(frozen=True)
class StorageRequest:
    """How weights lie on disk: encryption ("auto", "luks2", "gocryptfs", "none"), key reference, and what destroy does."""

    encryption: str
    device: str | None
    unlock: str | None
    key: str | None
    on_destroy: str


@dataclass(frozen=True)
class ServingRequest:
    """What to serve: the engine, where its runtime comes from, its process, the model's files, and the name clients pass.

    token: reference to what the files' server may ask for. pinned: the lock file names exactly these files.
    """

    engine: str
    version: str
    runtime: str
    requirements: str
    process: ProcessSpec
    manifest: Manifest
    served_name: str
    token: str | None = None
    pinned: bool = False


@dataclass(frozen=True)
class LayoutRequest:
    """What a provider needs to lay a stack out."""

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


@dataclass(frozen=True)
class Machine:
    """A machine that the core puts host resources on: its key in addresses, its connection, its GPUs, the replica it serves."""

    key: str
    host: Ref
    gpu_indices: tuple[int, ...] = ()
    replica: str = "0"
    node_rank: int = 0
    nodes: int = 1


@dataclass(frozen=True)
class Fragment:
    """A provider's part of the graph.

    machines: where the core adds host resources. front: the name clients call when the stack file gives no domain. key_store:
    how keys reach their principals ("file" on the operator's machine). custody: whether generated secrets may lie in the
    operator's own files. serves: the provider brings its own serving resources; then `outputs` holds the stack's outputs.
    """

    resources: tuple[Resource, ...]
    machines: tuple[Machine, ...] = ()
    front: str = "localhost"
    key_store: str = "file"
    custody: bool = False
    serves: bool = False
    outputs: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
