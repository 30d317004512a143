"""The provider `local`: everything on the machine where the command line runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from socket import gethostname
from typing import Any

from pydantic import BaseModel, ConfigDict

from llmdeploy.sdk import (
    Fragment,
    LayoutRequest,
    Machine,
    NotBuilt,
    ReadRequest,
    ReadResult,
    Ref,
    Resource,
    ResourceType,
    Run,
    StorageRequest,
)

from ._connection import Connection
from ._host_type import refresh_hosts
from ._types import host_types
from .host_volume import KEEP


class LocalConfig(BaseModel):
    """Body of `provider: {local: {}}`: this machine needs no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Local:
    """The provider `local`: everything on the machine where the command line runs, secrets in the operator's own files."""

    name = "local"
    Config: type[BaseModel] = LocalConfig

    @property
    def types(self) -> Mapping[str, ResourceType[Any, Any]]:
        """The types of every machine."""
        return host_types()

    def layout(self, request: LayoutRequest) -> Fragment:
        """Put the whole stack on this machine.

        Raises:
            NotBuilt: the stack file asks for more than one machine, a GPU, or a way of storage that is not there yet.
        """
        _check_machines(request)
        _check_storage(request.storage)
        machine = Machine(key="local", host=Ref("host.local", "connection"))
        values = {"host": Connection().tree(), "region": request.region}
        host = Resource("host.local", "host", self.name, values, group="local", path="provider")
        return Fragment((host,), (machine,), front="localhost", custody=True)

    def account(self, run: Run, config: BaseModel) -> Mapping[str, str]:
        """Tell this machine from others: a saved plan is for the machine that it was made on."""
        del run, config
        try:
            name = Path("/etc/machine-id").read_text(encoding="ascii").strip()
        except OSError:
            name = ""
        return {"machine": sha256((name or gethostname()).encode()).hexdigest()[:12]}

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Look at this machine with one script."""
        return refresh_hosts(self.types, run, requests)


def _check_machines(request: LayoutRequest) -> None:
    if request.replicas > 1:
        raise NotBuilt(f"provider local runs one replica, the stack file asks for {request.replicas}", hint="set replicas: 1")
    if request.machines_per_replica > 1:
        raise NotBuilt(f"provider local is one machine, this model needs {request.machines_per_replica} for each replica")
    if request.gpu not in (None, "auto", "cpu"):
        raise NotBuilt(f"provider local serves on the CPU only so far, not on {request.gpu}", hint="set hardware: {gpu: cpu}")


def _check_storage(storage: StorageRequest) -> None:
    if storage.encryption == "luks2":
        raise NotBuilt("storage.encryption: luks2 is not built yet for provider local", hint="use gocryptfs")
    if storage.on_destroy == "keep":
        raise NotBuilt("storage.on_destroy: keep is not built yet for provider local: destroy erases the volume", hint=KEEP)
    if storage.device is not None:
        raise NotBuilt("storage.device is not built yet for provider local: the volume lies in a folder", hint="leave it out")
