"""Turns a layout request into the graph: the provider's part, and what the core puts on each of its machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from .diagnostics import Diagnostics, nearest
from .errors import LlmdeployError, StackError
from .graph import Graph
from .machine import Slot
from .manifest import Manifest
from .policy import Policy
from .process import ProcessSpec
from .resource import UNKNOWN, Ref, Resource, Tree
from .sdk import (
    Fragment,
    GatewayRequest,
    KeyRequest,
    LayoutRequest,
    Machine,
    PlansOnly,
    Provider,
    ResourceType,
    ServingRequest,
    StorageRequest,
)
from .serving import Engine, RenderRequest
from .sizing import Sizing
from .stack.load import Loaded
from .stack.model import Key

Types = Mapping[str, ResourceType[Any, Any]]

_PACKAGES = ("ca-certificates", "curl", "haproxy", "iproute2")
_VENV_PACKAGES = ("python3-venv", "s6")
_VOLUME_PACKAGES = {"gocryptfs": ("fuse3", "gocryptfs"), "luks2": ("cryptsetup",), "none": ()}
_TOOLKIT = "nvidia-container-toolkit"
_PEER_PORT = 9443
_SWITCHED_GPUS = 8
_WORK_BYTES = 20 * 10**9
"""Room on a machine beside model files and engine: system, logs, caches."""
_DEFAULT_CONTEXT = 8192
_NO_LIMIT = 1_000_000
_KEY_DAYS = 3650
_CA_DAYS = 3650
_CERTIFICATE_DAYS = 180


@dataclass(frozen=True)
class Blueprint:
    """The desired graph and the stack's outputs, a tree with references."""

    graph: Graph
    outputs: Mapping[str, Tree]


def refuse_unbuilt(loaded: Loaded, provider: Provider) -> None:
    """Refuse, with its place, what the stack file contract knows and this version can neither build nor plan.

    What a provider only plans may ask for more than what is applied.

    Raises:
        StackError: one line for each such part.
    """
    stack = loaded.stack
    asked: dict[str, tuple[bool, str]] = {
        "gateway.fallback": (stack.gateway.fallback is not None, "a hosted fallback"),
    }
    asked |= {f"keys.{i}.recipient": (key.recipient is not None, "delivery to a public key") for i, key in enumerate(stack.keys)}
    if not isinstance(provider, PlansOnly):
        asked |= {
            "engine.runtime": (stack.engine.runtime == "container", "the container runtime"),
            "hardware.gpu": (stack.hardware.gpu not in ("auto", "none"), "GPUs"),
            "replicas": (stack.replicas > 1, "more than one replica"),
            "storage.device": (stack.storage.device is not None, "a block device of its own for the weights"),
            "storage.encryption": (stack.storage.encryption == "luks2", "LUKS2"),
            "storage.unlock": (stack.storage.unlock == "tpm2", "unlocking by TPM"),
        }
    found = Diagnostics()
    for path, (used, what) in asked.items():
        if used:
            found.error(
                f"{what}: valid, but not part of this version", loaded.source.place(path), path=path, hint="remove it for now"
            )
    found.raise_if_errors()


def context_of(wanted: int | None, config: Mapping[str, Any]) -> int:
    """Return the tokens per request: what the stack file says, else what the model can, at most 8K."""
    return wanted or min(int(config.get("max_position_embeddings", _DEFAULT_CONTEXT)), _DEFAULT_CONTEXT)


@dataclass(frozen=True)
class Files:
    """The model's files: their manifest (None: not known yet), where they come from, what may be asked for a token, and whether
    the lock file names exactly them."""

    manifest: Manifest | None
    repository: str
    size_bytes: int
    token: str | None
    pinned: bool


def layout_request(loaded: Loaded, policy: Policy, files: Files, size: Sizing, engine: Engine) -> LayoutRequest:
    """Put together what a provider needs to know. Pure."""
    stack = loaded.stack
    return LayoutRequest(
        stack=stack.name,
        config=stack.provider.config,
        region=stack.region,
        replicas=size.replicas,
        machines_per_replica=size.machines_per_replica,
        gpu=size.gpu,
        gpus_per_machine=size.gpus_per_machine,
        policy=policy,
        serving=_serving(loaded, files, size, engine),
        storage=StorageRequest(
            encryption=stack.storage.encryption,
            device=stack.storage.device,
            unlock=stack.storage.unlock,
            key=stack.storage.key,
            on_destroy=stack.storage.on_destroy,
            erase=stack.storage.erase,
        ),
        gateway=GatewayRequest(
            domain=stack.gateway.domain,
            port=stack.gateway.port,
            tls_cert=stack.gateway.tls.cert if stack.gateway.tls else None,
            tls_key=stack.gateway.tls.key if stack.gateway.tls else None,
            sticky=stack.gateway.sticky or "",
            log_retention_days=stack.logs.retention_days,
            peer_port=_peer_port(stack.gateway.port) if size.placement.count > size.machines_per_replica else None,
        ),
        keys=tuple(_key_request(key) for key in stack.keys),
        placement=size.placement,
        disk_bytes=size.disk_bytes + _WORK_BYTES,
        market=stack.hardware.market,
    )


def _peer_port(gateway_port: int) -> int:
    return _PEER_PORT if gateway_port != _PEER_PORT else _PEER_PORT + 1


def _serving(loaded: Loaded, files: Files, size: Sizing, engine: Engine) -> ServingRequest:
    stack = loaded.stack
    version = stack.engine.version or engine.default_version
    container = size.device != "cpu"
    first, *workers = (_process(loaded, size, engine, rank) for rank in range(size.machines_per_replica))
    return ServingRequest(
        engine=engine.name,
        version=version,
        runtime="container" if container else "venv",
        requirements="" if container else engine.requirements(version, "cpu"),
        process=first,
        manifest=files.manifest,
        served_name=stack.model.name,
        token=files.token,
        pinned=files.pinned,
        image=engine.image(version) if container else "",
        workers=tuple(workers),
        repository=files.repository,
        weights_bytes=files.size_bytes,
    )


def _process(loaded: Loaded, size: Sizing, engine: Engine, rank: int) -> ProcessSpec:
    stack = loaded.stack
    return engine.render(
        RenderRequest(
            served_name=stack.model.name,
            context=size.max_model_len,
            concurrency=size.max_num_seqs,
            kv_cache_bytes=size.kv_cache_bytes,
            weight_bytes=size.weight_bytes,
            device=size.device,
            quant=stack.model.quant,
            extra_args=stack.engine.args,
            kv_cache_tokens=size.kv_cache_tokens,
            quantization=size.quantization,
            parallel=size.parallel,
            rank=rank,
            batched_tokens=size.batched_tokens,
            gpu=size.placement.type.gpu if size.placement.type else None,
        )
    )


def _key_request(key: Key) -> KeyRequest:
    return KeyRequest(
        name=key.name,
        principal=key.principal,
        recipient=key.recipient,
        requests_per_minute=key.requests_per_minute or _NO_LIMIT,
        concurrency=key.concurrency or _NO_LIMIT,
        max_age_days=key.max_age_days or _KEY_DAYS,
        allow_fallback=key.allow_fallback,
    )


def build(request: LayoutRequest, provider: str, fragment: Fragment, types: Types, *, shared_state: bool = False) -> Blueprint:
    """Put the core's resources beside those of the provider's fragment. Pure.

    types: of the provider, and of the owner of the host types. shared_state: the state lies where others can go on from, without
    the operator's files.

    Raises:
        StackError: a secret that llmdeploy makes would lie in a file of the operator, where it may not.
        LlmdeployError: the provider's resources do not fit their own types, or form no graph.
    """
    if fragment.serves:
        resources, outputs = fragment.resources, fragment.outputs
    else:
        _check_custody(request, fragment, shared_state)
        builder = _Builder(request, fragment.hosts or provider, fragment)
        resources, outputs = (*fragment.resources, *builder.resources()), builder.outputs()
    return Blueprint(Graph(_checked(resource, types) for resource in resources), outputs)


def protected(graph: Graph, loaded: Loaded) -> Graph:
    """Return the graph with the resources that the stack file lists under `prevent_destroy` marked.

    Raises:
        StackError: an address that is not in the graph, with its place.
    """
    listed = loaded.stack.prevent_destroy
    if not listed:
        return graph
    found = Diagnostics()
    for index, address in enumerate(listed):
        if address not in graph:
            path = f"prevent_destroy[{index}]"
            hint = nearest(address, [resource.address for resource in graph]) or "`llmdeploy graph` lists the addresses"
            found.error(f"there is no resource {address} in this stack", loaded.source.place(path), path=path, hint=hint)
    found.raise_if_errors()
    return Graph(
        replace(resource, prevent_destroy=resource.prevent_destroy or resource.address in listed) for resource in graph
    )  # fmt: skip


def _check_custody(request: LayoutRequest, fragment: Fragment, shared_state: bool) -> None:
    if fragment.kms_key or (fragment.custody and not shared_state):
        return
    secrets = (
        ("storage.key", request.storage.encryption != "none" and request.storage.key is None),
        ("gateway.tls", request.gateway.tls_cert is None),
    )
    generated = [name for name, made in secrets if made]
    if generated:
        rule = "with the state in S3, nobody else could go on" if fragment.custody else "only `local` may do that"
        raise StackError(
            f"what {' and '.join(generated)} would name is left to llmdeploy, and would lie in a file of the operator: {rule}",
            hint="give references: storage.key: file:PATH or env:NAME, gateway.tls: {cert: file:PATH, key: file:PATH}",
        )


def _checked(resource: Resource, types: Types) -> Resource:
    """Return the resource with its spec validated, defaults filled in, references kept."""
    kind = types.get(resource.type)
    if kind is None:
        raise LlmdeployError(f"{resource.address}: no installed provider has the type {resource.type}")
    try:
        values = kind.spec.model_validate(dict(resource.values)).tree()
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise LlmdeployError(f"{resource.address} does not fit its type {resource.type}: {problems}") from None
    return replace(resource, values=values)


class _Builder:
    """Host resources of one stack, the same on every kind of machine."""

    def __init__(self, request: LayoutRequest, provider: str, fragment: Fragment) -> None:
        self._request = request
        self._provider = provider
        self._fragment = fragment
        front: Tree = Ref(fragment.entry, "dns_name") if fragment.entry else fragment.front
        self._names: tuple[Tree, ...] = (request.gateway.domain or front,)
        self._local = not fragment.entry and fragment.front == "localhost"

    def resources(self) -> list[Resource]:
        """Return everything the core adds."""
        own = [key for key in self._request.keys if key.name not in self._fragment.keys]
        found = [self._resource("api_key", key.name, self._key(key), "keys") for key in own]
        if self._request.gateway.tls_cert is None:
            name = f"llmdeploy {self._request.stack}"
            values: dict[str, Tree] = {"common_name": name, "days": _CA_DAYS, "kms_key": self._fragment.kms_key}
            found.append(self._resource("tls_ca", "stack", values, "gateway"))
        for machine in self._fragment.machines:
            found += self._machine(machine)
        return found

    def outputs(self) -> dict[str, Tree]:
        """Return what a client needs: endpoint, base_url, model, ca_file, the file or secret of each key."""
        gateway, entry = self._request.gateway, self._fragment.entry
        keys = {key.name: self._key_output(key.name) for key in self._request.keys}
        ca: dict[str, Tree] = {} if gateway.tls_cert else {"ca_file": Ref("tls_ca.stack", "ca_file")}
        if entry and not gateway.domain:
            where: dict[str, Tree] = {"endpoint": Ref(entry, "endpoint"), "base_url": Ref(entry, "base_url")}
        else:
            endpoint = f"https://{self._names[0]}" + ("" if gateway.port == 443 else f":{gateway.port}")
            where = {"endpoint": endpoint, "base_url": f"{endpoint}/v1"}
        return {**where, "model": self._request.serving.served_name, **ca, "keys": keys}

    def _key_output(self, name: str) -> dict[str, Tree]:
        made = self._fragment.keys.get(name)
        return {"secret": Ref(made, "location")} if made else {"file": Ref(f"api_key.{name}", "file")}

    def _resource(
        self, kind: str, key: str, values: dict[str, Tree], path: str, group: str = "stack", after: tuple[str, ...] = ()
    ) -> Resource:
        return Resource(f"{kind}.{key}", kind, self._provider, values, frozenset(after), group, path)

    def _key(self, key: KeyRequest) -> dict[str, Tree]:
        return {
            "name": key.name,
            "principal": key.principal,
            "requests_per_minute": key.requests_per_minute,
            "concurrency": key.concurrency,
            "max_age_days": key.max_age_days,
            "allow_fallback": key.allow_fallback,
        }

    # --- one machine ---------------------------------------------------------------------------------------------------------

    def _machine(self, machine: Machine) -> list[Resource]:
        found = [*self._system(machine), *self._storage(machine), self._runtime(machine)]
        found += [self._engine(machine, slot) for slot in machine.slots]
        answers = any(slot.rank == 0 for slot in machine.slots)
        return [*found, *(self._gateway(machine) if answers else ())]

    @property
    def _container(self) -> bool:
        return self._request.serving.runtime == "container"

    @property
    def _encryption(self) -> str:
        wanted = self._request.storage.encryption
        return self._fragment.encryption if wanted == "auto" else wanted

    def _system(self, machine: Machine) -> list[Resource]:
        key, host = machine.key, machine.host
        packages = f"host_packages.{key}"
        wanted = (*_PACKAGES, *_VOLUME_PACKAGES[self._encryption], *(() if self._container else _VENV_PACKAGES))
        found = [
            self._resource("host_packages", key, {"host": host, "packages": tuple(sorted(wanted))}, "provider", key),
            self._resource("host_home", key, {"host": host, "name": self._request.stack}, "name", key),
            self._resource(
                "host_supervisor", key, {"host": host, "home": Ref(f"host_home.{key}", "lib")}, "provider", key, (packages,)
            ),
        ]
        if any(slot.gpus for slot in machine.slots):
            found.append(self._driver(machine))
        if self._container:
            toolkit = _TOOLKIT if any(slot.gpus for slot in machine.slots) else None
            found.append(
                self._resource("host_container_runtime", key, {"host": host, "toolkit": toolkit}, "engine", key, (packages,))
            )
        if self._fragment.hardened:
            ports: dict[str, Tree] = {"allowed_ports": (self._request.gateway.port,)}
            if self._request.gateway.peer_port:
                ports["private_ports"] = (self._request.gateway.peer_port,)
            if trusted := self._partners(machine):
                ports["trusted"] = trusted
            found.append(self._resource("host_hardening", key, {"host": host, **ports}, "provider", key, (packages,)))
        return found

    def _driver(self, machine: Machine) -> Resource:
        kind = self._request.placement.type
        # Machines whose GPUs hang on an NVSwitch need NVIDIA's fabric manager in the driver's very version.
        switched = kind is not None and kind.gpus >= _SWITCHED_GPUS and kind.gpu is not None and kind.gpu.link > 0
        values: dict[str, Tree] = {"host": machine.host, "fabric_manager": switched}
        return self._resource("host_gpu_driver", machine.key, values, "hardware", machine.key)

    def _storage(self, machine: Machine) -> list[Resource]:
        request, key, host = self._request, machine.key, machine.host
        packages, home = f"host_packages.{key}", f"host_home.{key}"
        volume: dict[str, Tree] = {
            "host": host,
            "encryption": self._encryption,
            "key": request.storage.key,
            "home": Ref(home, "lib"),
        }
        if self._encryption == "luks2":
            wrapped = None if request.storage.key else self._fragment.kms_key
            volume |= {
                "device": machine.device or request.storage.device,
                "erase": request.storage.erase,
                "unlock": "kms" if wrapped and request.storage.unlock == "auto" else request.storage.unlock,
                "kms_key": wrapped,
            }
        manifest = request.serving.manifest
        weights: dict[str, Tree] = {
            "host": host,
            "volume": Ref(f"host_volume.{key}", "path"),
            "user": Ref(home, "user"),
            "manifest": UNKNOWN if manifest is None else manifest.model_dump(mode="json"),
            "token": request.serving.token,
            "pinned": request.serving.pinned,
        }
        if manifest is None:
            weights["repository"] = request.serving.repository
        return [
            self._resource("host_volume", key, volume, "storage", key, (packages,)),
            self._resource("host_weights", key, weights, "model", key, (packages,)),
        ]

    def _runtime(self, machine: Machine) -> Resource:
        serving, key = self._request.serving, machine.key
        values: dict[str, Tree] = {"host": machine.host, "engine": serving.engine, "version": serving.version}
        if self._container:
            values |= {"kind": "container", "image": serving.image}
            return self._resource("host_engine_runtime", key, values, "engine", key, (f"host_container_runtime.{key}",))
        values["requirements"] = serving.requirements
        return self._resource("host_engine_runtime", key, values, "engine", key, (f"host_packages.{key}",))

    def _engine(self, machine: Machine, slot: Slot) -> Resource:
        serving, key, runtime = self._request.serving, machine.key, f"host_engine_runtime.{machine.key}"
        process = serving.workers[slot.rank - 1] if slot.rank else serving.process
        values: dict[str, Tree] = {
            "host": machine.host,
            "key": str(slot.replica),
            "runtime_digest": Ref(runtime, "digest"),
            "weights": Ref(f"host_weights.{key}", "path"),
            "weights_digest": Ref(f"host_weights.{key}", "digest"),
            "volume": Ref(f"host_volume.{key}", "path"),
            "process": process.model_dump(mode="json"),
            "user": Ref(f"host_home.{key}", "user"),
            "supervisor": Ref(f"host_supervisor.{key}", "kind"),
            "log_retention_days": self._request.gateway.log_retention_days,
        }
        if self._container:
            values |= {"image": Ref(runtime, "image")}
        else:
            values["python"] = Ref(runtime, "python")
        if slot.gpus:
            values["gpu_indices"] = slot.gpus
        if self._request.machines_per_replica > 1:
            values["head"] = self._head(slot)
        driver = (f"host_gpu_driver.{key}",) if slot.gpus else ()
        return self._resource("host_engine", _engine_key(machine, slot), values, "engine", key, driver)

    def _head(self, slot: Slot) -> Tree:
        heads = (m for m in self._fragment.machines if any((s.replica, s.rank) == (slot.replica, 0) for s in m.slots))
        return next(heads).address

    # --- what clients see ----------------------------------------------------------------------------------------------------

    def _gateway(self, machine: Machine) -> list[Resource]:
        request, key = self._request, machine.key
        gateway = request.gateway
        # A certificate of the stack's own also answers to this machine's names; one that is given need not.
        extra = ("localhost", "127.0.0.1", "::1") if self._local and not gateway.tls_cert else ()
        certificate: dict[str, Tree] = {
            "ca": None if gateway.tls_cert else Ref("tls_ca.stack", "certificate_pem"),
            "names": tuple(dict.fromkeys((*self._names, *extra))),
            "days": _CERTIFICATE_DAYS,
            "cert_ref": gateway.tls_cert,
            "key_ref": gateway.tls_key,
            "kms_key": None if gateway.tls_cert else self._fragment.kms_key,
        }
        engines = [f"host_engine.{_engine_key(machine, slot)}" for slot in machine.slots if slot.rank == 0]
        edge: dict[str, Tree] = {
            "host": machine.host,
            "engine_sockets": tuple(Ref(engine, "socket") for engine in engines),
            "keys": tuple(self._gateway_key(k) for k in request.keys),
            "chain_pem": Ref(f"certificate.{key}", "chain_pem"),
            "key_source": Ref(f"certificate.{key}", "key_source"),
            # Without a name of its own the endpoint is for this machine: the certificate says localhost.
            "address": "127.0.0.1" if self._local and not gateway.domain else "0.0.0.0",  # noqa: S104 - a name is asked for
            "port": gateway.port,
            "sticky": gateway.sticky,
            "served_name": request.serving.served_name,
            "log_retention_days": gateway.log_retention_days,
            "user": Ref(f"host_home.{key}", "user"),
            "supervisor": Ref(f"host_supervisor.{key}", "kind"),
        }
        if peers := self._peers(machine):
            edge |= {"peers": peers, "peer_port": gateway.peer_port}
        return [
            self._resource("certificate", key, certificate, "gateway.tls", key),
            self._resource("host_gateway", key, edge, "gateway", key, (f"host_packages.{key}",)),
        ]

    def _partners(self, machine: Machine) -> tuple[Tree, ...]:
        """Return the addresses of the machines that this one's replicas span as well."""
        mine = {slot.replica for slot in machine.slots}
        others = (m for m in self._fragment.machines if m.key != machine.key)
        return tuple(other.address for other in others if any(slot.replica in mine for slot in other.slots))

    def _peers(self, machine: Machine) -> tuple[Tree, ...]:
        others = (m for m in self._fragment.machines if m.key != machine.key)
        return tuple(other.address for other in others if any(slot.rank == 0 for slot in other.slots))

    def _gateway_key(self, key: KeyRequest) -> dict[str, Tree]:
        made = self._fragment.keys.get(key.name) or f"api_key.{key.name}"
        return {
            "name": key.name,
            "principal": key.principal,
            "requests_per_minute": key.requests_per_minute,
            "concurrency": key.concurrency,
            "allow_fallback": key.allow_fallback,
            "credentials": Ref(made, "credentials"),
        }


def _engine_key(machine: Machine, slot: Slot) -> str:
    """Return the address of an engine without its type: the machine alone where only one runs on it."""
    return machine.key if len(machine.slots) == 1 else f"{machine.key}.{slot.replica}"
