"""A whole gateway of a stack of its own: home, s6, CA, certificate, keys, HAProxy, and a small engine on a Unix socket."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmdeploy.sdk import Context, Identity, Prior, ReadRequest, Run
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._gateway_files import gateway_archive, gateway_config, gateway_files
from llmdeploy_host._gateway_scripts import gateway_script
from llmdeploy_host._host_type import locked, refresh_hosts
from llmdeploy_host.api_key import RESOURCE as API_KEY
from llmdeploy_host.api_key import ApiKeyOutputs, ApiKeySpec
from llmdeploy_host.certificate import RESOURCE as CERTIFICATE
from llmdeploy_host.certificate import CertificateSpec, read_key
from llmdeploy_host.host_gateway import RESOURCE as GATEWAY
from llmdeploy_host.host_gateway import GatewayKey, HostGatewayOutputs, HostGatewaySpec
from llmdeploy_host.host_home import RESOURCE as HOME
from llmdeploy_host.host_home import HomeSpec
from llmdeploy_host.host_supervisor import RESOURCE as SUPERVISOR
from llmdeploy_host.host_supervisor import SupervisorSpec
from llmdeploy_host.tls_ca import RESOURCE as CA
from llmdeploy_host.tls_ca import TlsCaSpec

from .gateway_lab import MODEL, Engine, free_port
from .keys_lab import prior_of

HOST = Connection()
ADDRESS = "host_gateway.local"
TYPES = {GATEWAY.name: GATEWAY}


class Upstream(Engine):
    """An engine whose streams can be held again after they were released."""

    async def _held(self, reader: asyncio.StreamReader) -> None:
        del reader
        await self._released.wait()

    def release(self) -> None:
        super().release()
        self._loop.call_soon_threadsafe(self._released.clear)


class World:
    """Everything below one random lineage; `end` removes it all."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(Identity("gw-test", secrets.token_hex(16)), folder, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        self.paths = Paths(self.run.slug)
        self.progress: list[str] = []
        self.responses: list[http.client.HTTPResponse] = []
        self.home = HomeSpec(host=HOST, name="gw-test")
        self.supervisor = SupervisorSpec(host=HOST, home=self.paths.lib, kind="s6")
        self.keys: dict[str, ApiKeyOutputs] = {}
        self.outputs: HostGatewayOutputs | None = None

    def begin(self) -> None:
        self.home_outputs = HOME.create(self.context("host_home.local"), self.home)
        self.supervisor_outputs = SUPERVISOR.create(self.context("host_supervisor.local"), self.supervisor)
        self.start_engine()
        self.ca = CA.create(self.context("tls_ca.stack"), TlsCaSpec(common_name="gw-test"))
        self.certify(180)
        self.spec = HostGatewaySpec(
            host=HOST,
            engine_sockets=(str(self.engine.path),),
            keys=(self.key("one"), self.key("two")),
            chain_pem=self.certificate.chain_pem,
            key_source=self.certificate.key_source,
            address="127.0.0.1",
            port=free_port(),
            served_name=MODEL,
            user=self.paths.user,
            supervisor="s6",
        )

    def start_engine(self) -> None:
        sockets = Path(self.paths.run, "engine")
        sockets.mkdir(mode=0o700)
        shutil.chown(sockets, self.paths.user, self.paths.user)
        self.engine = Upstream(sockets / "local.sock", "local")
        self.engine.start()

    def reboot(self) -> None:
        """What a reboot leaves: no process and no /run; then home, supervisor and engine come back."""
        self.engine.kill()
        prior = prior_of("host_supervisor.local", self.supervisor, self.supervisor_outputs)
        SUPERVISOR.delete(self.context("host_supervisor.local"), prior)
        shutil.rmtree(self.paths.run)
        HOME.update(self.context("host_home.local"), prior_of("host_home.local", self.home, self.home_outputs), self.home)
        SUPERVISOR.create(self.context("host_supervisor.local"), self.supervisor)
        self.start_engine()

    def certify(self, days: int) -> None:
        spec = CertificateSpec(ca=self.ca.certificate_pem, names=("localhost", "127.0.0.1", "::1"), days=days)
        self.certificate = CERTIFICATE.create(self.context("certificate.local"), spec)

    def key(self, name: str) -> GatewayKey:
        spec = self.key_spec(name)
        self.keys[name] = API_KEY.create(self.context(f"api_key.{name}"), spec)
        return self.gateway_key(name)

    def key_spec(self, name: str) -> ApiKeySpec:
        return ApiKeySpec(name=name, principal=f"label:{name}", requests_per_minute=1000, concurrency=100, max_age_days=90)

    def gateway_key(self, name: str) -> GatewayKey:
        spec = self.key_spec(name)
        return GatewayKey(
            name=name,
            principal=spec.principal,
            requests_per_minute=spec.requests_per_minute,
            concurrency=spec.concurrency,
            credentials=self.keys[name].credentials,
        )

    def secret(self, name: str) -> str:
        return Path(self.keys[name].file).read_text().strip()

    # --- operations, as the reconciler calls them ---

    def context(self, address: str) -> Context:
        return Context(self.run, address, timeout_s=60, on_progress=self.progress.append)

    def create(self) -> HostGatewayOutputs:
        self.outputs = GATEWAY.create(self.context(ADDRESS), self.spec)
        return self.outputs

    def update(self, **changes: Any) -> HostGatewayOutputs:
        prior = self.prior()
        self.spec = self.spec.model_copy(update=changes)
        self.outputs = GATEWAY.update(self.context(ADDRESS), prior, self.spec)
        return self.outputs

    def killed_at(self, told: str) -> bool:
        """Bring the machine to `spec`, and SIGKILL everything when the script tells `told`; whether it came so far."""
        key = read_key(self.run, self.spec.key_source).reveal()
        config = gateway_config(self.paths, self.spec, (2, 6))
        archive = gateway_archive(config, gateway_files(config, self.spec, key))
        script = locked(self.paths, ADDRESS, gateway_script(self.paths, self.spec))
        with subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(archive)
            process.stdin.close()
            reached = any(line.decode().startswith(f"::progress {told}") for line in process.stdout)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return reached

    def prior(self) -> Prior:
        assert self.outputs is not None
        return prior_of(ADDRESS, self.spec, self.outputs)

    def drift(self) -> list[str]:
        """The sentences of one refresh, as the provider does it."""
        (result,) = refresh_hosts(TYPES, self.run, [ReadRequest(GATEWAY.name, self.prior())])
        assert result.error == ""
        assert result.exists
        return [drift.sentence for drift in result.drift]

    def operate(self, name: str, **arguments: Any) -> Any:
        return GATEWAY.operations[name](self.context(ADDRESS), self.prior(), arguments).data

    def operate_key(self, key: str, operation: str, **arguments: Any) -> None:
        prior = prior_of(f"api_key.{key}", self.key_spec(key), self.keys[key])
        result = API_KEY.operations[operation](self.context(f"api_key.{key}"), prior, arguments)
        self.keys[key] = ApiKeyOutputs.model_validate(result.outputs)

    # --- a client ---

    def open(self, method: str, path: str, key: str | None, body: Any = None) -> http.client.HTTPResponse:
        context = ssl.create_default_context(cadata=self.ca.certificate_pem)
        connection = http.client.HTTPSConnection("localhost", self.spec.port, timeout=20, context=context)
        headers = {"connection": "close"} | ({"authorization": f"Bearer {key}"} if key else {})
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        response = connection.getresponse()
        self.responses.append(response)
        return response

    def status(self, key: str | None, path: str = "/v1/models") -> int:
        with self.open("GET", path, key) as response:
            return response.status

    def stream(self, key: str) -> http.client.HTTPResponse:
        """A stream that has begun and stays open until `finish`."""
        script = {"type": "text/event-stream", "pieces": ["data: {}\n\n", "data: [DONE]\n\n"], "hold": True}
        response = self.open("POST", "/v1/chat/completions", key, {"model": MODEL, "script": script})
        assert response.status == 200
        assert response.readline() == b"data: {}\n"
        return response

    def finish(self, *streams: http.client.HTTPResponse) -> None:
        """Let the engine go on; every stream must come to its end."""
        self.engine.release()
        assert [stream.read() for stream in streams] == [b"\ndata: [DONE]\n\n"] * len(streams)

    def master(self) -> int:
        """The process that s6 supervises."""
        pids = [pid for pid, command in processes().items() if command.startswith("/usr/sbin/haproxy") and self.slug in command]
        masters = [pid for pid in pids if parent(pid) not in pids]
        assert len(masters) == 1, masters
        return masters[0]

    def is_gone(self) -> bool:
        """Whether a refresh says that the gateway is gone."""
        (result,) = refresh_hosts(TYPES, self.run, [ReadRequest(GATEWAY.name, self.prior())])
        return not result.exists

    @property
    def slug(self) -> str:
        return self.paths.slug

    def end(self) -> None:
        for response in self.responses:
            response.close()
        if hasattr(self, "spec"):
            outputs = self.outputs or HostGatewayOutputs(port=1, service="", log="", files={})
            GATEWAY.delete(self.context(ADDRESS), prior_of(ADDRESS, self.spec, outputs))
        if hasattr(self, "engine"):
            self.engine.kill()
        if hasattr(self, "supervisor_outputs"):
            prior = prior_of("host_supervisor.local", self.supervisor, self.supervisor_outputs)
            SUPERVISOR.delete(self.context("host_supervisor.local"), prior)
        if hasattr(self, "home_outputs"):
            HOME.delete(self.context("host_home.local"), prior_of("host_home.local", self.home, self.home_outputs))


def processes() -> dict[int, str]:
    """Command line of every process."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
