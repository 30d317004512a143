"""The files of a gateway on its machine, made from the spec of `host_gateway`, and how they travel there."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from ._connection import Paths
from ._gateway_config import (
    GatewayConfig,
    KeyRecord,
    Replica,
    prepare_map_command,
    render_config,
    render_keys_map,
    render_usage_lua,
    runtime_sync_commands,
)
from ._gateway_scripts import gateway_folder, gateway_sockets
from ._gateway_spec import HostGatewaySpec

# The stack file asks for no header: nobody sends this one, and then the beginning of the body decides.
_NO_HEADER = "x-llmdeploy-no-sticky-header"


def gateway_config(paths: Paths, spec: HostGatewaySpec, haproxy_version: tuple[int, ...]) -> GatewayConfig:
    """Return what haproxy.cfg is made of."""
    folder = gateway_folder(paths)
    return GatewayConfig(
        address=spec.address,
        port=spec.port,
        tls_pem=f"{folder}/tls.pem",
        keys_map=f"{folder}/keys.map",
        usage_lua=f"{folder}/usage.lua",
        sockets_dir=gateway_sockets(paths),
        replicas=tuple(Replica(name=PurePosixPath(path).stem, socket=path) for path in spec.engine_sockets),
        served_models=(spec.served_name,),
        sticky_header=spec.sticky or _NO_HEADER,
        generic_errors=spec.generic_errors,
        haproxy_version=haproxy_version,
        user=spec.user,
        group=spec.user,
        chroot=paths.run,
    )


def key_records(spec: HostGatewaySpec) -> tuple[KeyRecord, ...]:
    """Return what the key map holds: every credential that is not revoked. HAProxy itself looks at the times."""
    return tuple(
        KeyRecord(
            key_id=credential.key_id,
            sha256=credential.sha256,
            principal=key.principal,
            requests_per_minute=key.requests_per_minute,
            concurrency=key.concurrency,
            not_before=credential.not_before,
            not_after=credential.not_after,
            allow_fallback=key.allow_fallback,
        )
        for key in spec.keys
        for credential in key.credentials
        if not credential.revoked
    )


def gateway_files(config: GatewayConfig, spec: HostGatewaySpec, key_pem: bytes) -> dict[str, bytes]:
    """Return the content of each of `FILES`."""
    return {
        "haproxy.cfg": render_config(config).encode(),
        "usage.lua": render_usage_lua().encode(),
        "keys.map": render_keys_map(key_records(spec)).encode(),
        "tls.pem": spec.chain_pem.encode().rstrip(b"\n") + b"\n" + key_pem.rstrip(b"\n") + b"\n",
    }


def gateway_archive(config: GatewayConfig, files: Mapping[str, bytes]) -> bytes:
    """Return the files as a tar archive, with the commands that bring the running key map to keys.map."""
    sync = (prepare_map_command(config.keys_map), *runtime_sync_commands(config.keys_map, files["keys.map"].decode(), 0))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in {**files, "commands": "\0".join(sync).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
