"""What a provider is asked, from the stack file, the model's files and the sizing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ..layout import FallbackRequest, GatewayRequest, KeyRequest, LayoutRequest, ServingRequest, StorageRequest
from ..manifest import Manifest
from ..pins import PinnedEngine
from ..policy import Policy
from ..process import ProcessSpec
from ..serving import Engine, RenderRequest, stack_error
from ..serving.config_fields import number, text_fields
from ..sizing import Sizing
from ..stack.load import Loaded
from ..stack.model import Fallback, Key

_PEER_PORT = 9443
_WORK_BYTES = 20 * 10**9
"""Room on a machine beside model files and engine: system, logs, caches."""
_DEFAULT_CONTEXT = 8192
_NO_LIMIT = 1_000_000
_KEY_DAYS = 3650


def context_of(wanted: int | None, config: Mapping[str, Any]) -> int:
    """Return the tokens per request: what the stack file says, else what the model can, at most 8K."""
    limit = number(text_fields(config), "max_position_embeddings", "n_positions", "max_seq_len")
    return wanted or max(1, min(limit or _DEFAULT_CONTEXT, _DEFAULT_CONTEXT))


@dataclass(frozen=True)
class Files:
    """The model's files: their manifest (None: not known yet), where they come from, what may be asked for a token, and whether
    the lock file names exactly them."""

    manifest: Manifest | None
    repository: str
    size_bytes: int
    token: str | None
    pinned: bool


def engine_pin(loaded: Loaded, size: Sizing, engine: Engine) -> PinnedEngine:
    """Return what there is to pin of the engine; of an image, its tag without the digest. Pure.

    Raises:
        StackError: the stack file asks for a version or a runtime that is not known.
    """
    stack = loaded.stack
    version = stack.engine.version or engine.default_version
    container = size.device != "cpu"
    if stack.engine.runtime not in ("auto", "container" if container else "venv"):
        runs, other = ("GPUs", "container") if container else ("the CPU", "venv")
        raise stack_error(
            "engine.runtime", f"on {runs} this version knows the runtime {other} only", hint=f"write {other}, or auto"
        )
    if container:
        return PinnedEngine(name=engine.name, version=version, runtime="container", image=engine.image(version))
    digest = sha256(engine.requirements(version, "cpu").encode()).hexdigest()
    return PinnedEngine(name=engine.name, version=version, runtime="venv", requirements_sha256=digest)


def layout_request(
    loaded: Loaded, policy: Policy, files: Files, size: Sizing, engine: Engine, pinned: PinnedEngine | None
) -> LayoutRequest:
    """Put together what a provider needs to know. Pure.

    pinned: the engine of the lock file, None without one.

    Raises:
        StackError: the stack file asks for an engine that is not known, or the lock file pins another one.
    """
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
        serving=_serving(loaded, files, size, engine, pinned),
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
            log_retention_days=int(policy.value("logs.retention_days") or stack.logs.retention_days),
            peer_port=_peer_port(stack.gateway.port) if size.placement.count > size.machines_per_replica else None,
            generic_errors=policy.strict("LOG-02"),
            fallback=_fallback(stack.gateway.fallback),
        ),
        keys=tuple(_key_request(key, policy) for key in stack.keys),
        placement=size.placement,
        disk_bytes=size.disk_bytes + _WORK_BYTES,
        market=stack.hardware.market,
    )


def _peer_port(gateway_port: int) -> int:
    return _PEER_PORT if gateway_port != _PEER_PORT else _PEER_PORT + 1


def _serving(loaded: Loaded, files: Files, size: Sizing, engine: Engine, pinned: PinnedEngine | None) -> ServingRequest:
    stack, wanted = loaded.stack, engine_pin(loaded, size, engine)
    _refuse_stale(pinned, wanted)
    digest = pinned.image_digest if pinned else None
    first, *workers = (_process(loaded, size, engine, rank) for rank in range(size.machines_per_replica))
    return ServingRequest(
        engine=engine.name,
        version=wanted.version,
        runtime=wanted.runtime,
        requirements=engine.requirements(wanted.version, "cpu") if wanted.image is None else "",
        process=first,
        manifest=files.manifest,
        served_name=stack.model.name,
        token=files.token,
        pinned=files.pinned,
        image=f"{wanted.image}@{digest}" if wanted.image and digest else wanted.image or "",
        workers=tuple(workers),
        repository=files.repository,
        weights_bytes=files.size_bytes,
    )


def _refuse_stale(pinned: PinnedEngine | None, wanted: PinnedEngine) -> None:
    """Refuse an engine that is not the pinned one. What an older lock file says nothing of is not pinned, and not stale."""
    if pinned is None or pinned.model_dump(exclude={"image_digest"}, exclude_none=True).items() <= wanted.model_dump().items():
        return
    one, other = (f"{pin.name} {pin.version} ({pin.image or pin.runtime})" for pin in (pinned, wanted))
    differs = f"pins {one}; the stack file asks for {other}"
    if one == other:
        differs = f"pins other packages of {one} than this version of llmdeploy installs"
    raise stack_error("engine.version", f"stack.lock.yaml {differs}", hint="run `llmdeploy lock`, and commit stack.lock.yaml")


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
            gpu=size.placement.type.gpu if size.placement.type else None,
        )
    )


def _fallback(fallback: Fallback | None) -> FallbackRequest | None:
    return FallbackRequest(fallback.base_url, fallback.model, fallback.api_key) if fallback else None


def _key_request(key: Key, policy: Policy) -> KeyRequest:
    return KeyRequest(
        name=key.name,
        principal=key.principal,
        recipient=key.recipient,
        requests_per_minute=key.requests_per_minute or _NO_LIMIT,
        concurrency=key.concurrency or _NO_LIMIT,
        max_age_days=key.max_age_days or int(policy.value("keys[].max_age_days") or _KEY_DAYS),
        allow_fallback=key.allow_fallback,
    )
