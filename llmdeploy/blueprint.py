"""Turns a layout request into the graph: the provider's part, and what the core puts on each of its machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from .diagnostics import Diagnostics, nearest
from .errors import LlmdeployError, StackError
from .graph import Graph
from .policy import Policy
from .resource import Ref, Resource, Tree
from .sdk import (
    Fragment,
    GatewayRequest,
    KeyRequest,
    LayoutRequest,
    Machine,
    Provider,
    ResourceType,
    ServingRequest,
    StorageRequest,
)
from .serving import Engine, RenderRequest
from .sizing import Sizing
from .sources import ResolvedModel
from .stack.load import Loaded
from .stack.model import Key

Types = Mapping[str, ResourceType[Any, Any]]

_PACKAGES = ("ca-certificates", "curl", "fuse3", "gocryptfs", "haproxy", "iproute2", "python3-venv", "s6")
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


def refuse_unbuilt(loaded: Loaded) -> None:
    """Refuse, with its place, what the stack file contract knows and this version cannot build yet.

    Raises:
        StackError: one line for each such part.
    """
    stack = loaded.stack
    asked: dict[str, tuple[bool, str]] = {
        "gateway.fallback": (stack.gateway.fallback is not None, "a hosted fallback"),
        "engine.runtime": (stack.engine.runtime == "container", "the container runtime"),
        "hardware.gpu": (stack.hardware.gpu not in ("auto", "none"), "GPUs"),
        "model.variant": (stack.model.variant is not None, "a separate repository for quantized weights"),
        "replicas": (stack.replicas > 1, "more than one replica"),
        "storage.device": (stack.storage.device is not None, "a block device of its own for the weights"),
        "storage.encryption": (stack.storage.encryption == "luks2", "LUKS2"),
        "storage.unlock": (stack.storage.unlock == "tpm2", "unlocking by TPM"),
    }
    asked |= {f"keys.{i}.recipient": (key.recipient is not None, "delivery to a public key") for i, key in enumerate(stack.keys)}
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


def layout_request(
    loaded: Loaded, policy: Policy, model: ResolvedModel, size: Sizing, engine: Engine, *, pinned: bool
) -> LayoutRequest:
    """Put together what a provider needs to know. Pure."""
    stack = loaded.stack
    version = stack.engine.version or engine.default_version
    process = engine.render(
        RenderRequest(
            served_name=stack.model.name,
            context=size.max_model_len,
            concurrency=size.max_num_seqs,
            kv_cache_bytes=size.kv_cache_bytes,
            weight_bytes=size.weight_bytes,
            device="cpu",
            quant=stack.model.quant,
            extra_args=stack.engine.args,
        )
    )
    return LayoutRequest(
        stack=stack.name,
        config=stack.provider.config,
        region=stack.region,
        replicas=size.replicas,
        machines_per_replica=size.machines_per_replica,
        gpu=size.gpu,
        gpus_per_machine=size.gpus_per_machine,
        policy=policy,
        serving=ServingRequest(
            engine=engine.name,
            version=version,
            runtime="venv",
            requirements=engine.requirements(version, "cpu"),
            process=process,
            manifest=model.manifest,
            served_name=stack.model.name,
            token=model.token,
            pinned=pinned,
        ),
        storage=StorageRequest(
            encryption=stack.storage.encryption,
            device=stack.storage.device,
            unlock=stack.storage.unlock,
            key=stack.storage.key,
            on_destroy=stack.storage.on_destroy,
        ),
        gateway=GatewayRequest(
            domain=stack.gateway.domain,
            port=stack.gateway.port,
            tls_cert=stack.gateway.tls.cert if stack.gateway.tls else None,
            tls_key=stack.gateway.tls.key if stack.gateway.tls else None,
            sticky=stack.gateway.sticky or "",
            log_retention_days=stack.logs.retention_days,
        ),
        keys=tuple(_key_request(key) for key in stack.keys),
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


def build(request: LayoutRequest, provider: Provider, types: Types, *, shared_state: bool = False) -> Blueprint:
    """Lay the stack out. Pure. shared_state: the state lies where others can go on from, without the operator's files.

    Raises:
        StackError: a secret that llmdeploy makes would lie in a file of the operator, where it may not.
        LlmdeployError: the provider's resources do not fit their own types, or form no graph.
    """
    fragment = provider.layout(request)
    if fragment.serves:
        resources, outputs = fragment.resources, fragment.outputs
    else:
        _check_custody(request, fragment, shared_state)
        builder = _Builder(request, provider.name, fragment)
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
    if fragment.custody and not shared_state:
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
        self._names = (request.gateway.domain,) if request.gateway.domain else (fragment.front,)

    def resources(self) -> list[Resource]:
        """Return everything the core adds."""
        found = [self._resource("api_key", key.name, self._key(key), "keys") for key in self._request.keys]
        if self._request.gateway.tls_cert is None:
            name = f"llmdeploy {self._request.stack}"
            found.append(self._resource("tls_ca", "stack", {"common_name": name, "days": _CA_DAYS}, "gateway"))
        for machine in self._fragment.machines:
            found += self._machine(machine)
        return found

    def outputs(self) -> dict[str, Tree]:
        """Return what a client needs: endpoint, base_url, model, ca_file, the file of each key."""
        gateway = self._request.gateway
        endpoint = f"https://{self._names[0]}" + ("" if gateway.port == 443 else f":{gateway.port}")
        keys = {key.name: {"file": Ref(f"api_key.{key.name}", "file")} for key in self._request.keys}
        ca: dict[str, Tree] = {} if gateway.tls_cert else {"ca_file": Ref("tls_ca.stack", "ca_file")}
        serving = self._request.serving
        return {"endpoint": endpoint, "base_url": f"{endpoint}/v1", "model": serving.served_name, **ca, "keys": keys}

    def _resource(
        self, kind: str, key: str, values: dict[str, Tree], path: str, group: str = "stack", after: str = ""
    ) -> Resource:
        depends_on = frozenset({after}) if after else frozenset[str]()
        return Resource(f"{kind}.{key}", kind, self._provider, values, depends_on, group, path)

    def _key(self, key: KeyRequest) -> dict[str, Tree]:
        return {
            "name": key.name,
            "principal": key.principal,
            "requests_per_minute": key.requests_per_minute,
            "concurrency": key.concurrency,
            "max_age_days": key.max_age_days,
            "allow_fallback": key.allow_fallback,
        }

    def _machine(self, machine: Machine) -> list[Resource]:
        base = self._base(machine)
        return [*base, *self._engine(machine), *self._gateway(machine)]

    def _base(self, machine: Machine) -> list[Resource]:
        request, key, host = self._request, machine.key, machine.host
        packages, home = f"host_packages.{key}", f"host_home.{key}"
        weights: dict[str, Tree] = {
            "host": host,
            "volume": Ref(f"host_volume.{key}", "path"),
            "user": Ref(home, "user"),
            "manifest": request.serving.manifest.model_dump(mode="json"),
            "token": request.serving.token,
            "pinned": request.serving.pinned,
        }
        volume: dict[str, Tree] = {
            "host": host,
            "encryption": "gocryptfs" if request.storage.encryption == "auto" else request.storage.encryption,
            "key": request.storage.key,
            "home": Ref(home, "lib"),
        }
        return [
            self._resource("host_packages", key, {"host": host, "packages": _PACKAGES}, "provider", key),
            self._resource("host_home", key, {"host": host, "name": request.stack}, "name", key),
            self._resource("host_supervisor", key, {"host": host, "home": Ref(home, "lib")}, "provider", key, packages),
            self._resource("host_volume", key, volume, "storage", key, packages),
            self._resource("host_weights", key, weights, "model", key, packages),
        ]

    def _engine(self, machine: Machine) -> list[Resource]:
        serving, key, host = self._request.serving, machine.key, machine.host
        runtime: dict[str, Tree] = {
            "host": host,
            "engine": serving.engine,
            "version": serving.version,
            "requirements": serving.requirements,
        }
        engine: dict[str, Tree] = {
            "host": host,
            "python": Ref(f"host_engine_runtime.{key}", "python"),
            "runtime_digest": Ref(f"host_engine_runtime.{key}", "digest"),
            "weights": Ref(f"host_weights.{key}", "path"),
            "weights_digest": Ref(f"host_weights.{key}", "digest"),
            "volume": Ref(f"host_volume.{key}", "path"),
            "process": serving.process.model_dump(mode="json"),
            "user": Ref(f"host_home.{key}", "user"),
            "supervisor": Ref(f"host_supervisor.{key}", "kind"),
            "log_retention_days": self._request.gateway.log_retention_days,
        }
        return [
            self._resource("host_engine_runtime", key, runtime, "engine", key, f"host_packages.{key}"),
            self._resource("host_engine", key, engine, "engine", key),
        ]

    def _gateway(self, machine: Machine) -> list[Resource]:
        request, key, host = self._request, machine.key, machine.host
        gateway = request.gateway
        # A certificate of the stack's own also answers to this machine's names; one that is given need not.
        extra = ("localhost", "127.0.0.1", "::1") if self._fragment.front == "localhost" and not gateway.tls_cert else ()
        names = (*self._names, *extra)
        certificate: dict[str, Tree] = {
            "ca": None if gateway.tls_cert else Ref("tls_ca.stack", "certificate_pem"),
            "names": tuple(dict.fromkeys(names)),
            "days": _CERTIFICATE_DAYS,
            "cert_ref": gateway.tls_cert,
            "key_ref": gateway.tls_key,
        }
        edge: dict[str, Tree] = {
            "host": host,
            "engine_sockets": (Ref(f"host_engine.{key}", "socket"),),
            "keys": tuple(self._gateway_key(k) for k in request.keys),
            "chain_pem": Ref(f"certificate.{key}", "chain_pem"),
            "key_source": Ref(f"certificate.{key}", "key_source"),
            # Without a name of its own the endpoint is for this machine: the certificate says localhost.
            "address": "0.0.0.0" if gateway.domain else "127.0.0.1",  # noqa: S104 - a public name is asked for
            "port": gateway.port,
            "sticky": gateway.sticky,
            "served_name": request.serving.served_name,
            "log_retention_days": gateway.log_retention_days,
            "user": Ref(f"host_home.{key}", "user"),
            "supervisor": Ref(f"host_supervisor.{key}", "kind"),
        }
        return [
            self._resource("certificate", key, certificate, "gateway.tls", key),
            self._resource("host_gateway", key, edge, "gateway", key, f"host_packages.{key}"),
        ]

    def _gateway_key(self, key: KeyRequest) -> dict[str, Tree]:
        return {
            "name": key.name,
            "principal": key.principal,
            "requests_per_minute": key.requests_per_minute,
            "concurrency": key.concurrency,
            "allow_fallback": key.allow_fallback,
            "credentials": Ref(f"api_key.{key.name}", "credentials"),
        }
