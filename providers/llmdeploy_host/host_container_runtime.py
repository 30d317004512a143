"""`host_container_runtime`: Docker Engine, and NVIDIA's toolkit where containers are to see GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from llmdeploy.sdk import DataFlow, Identity, Outputs, Replace, Timeouts, Traits, Tree

from ._connection import HostSpec
from ._planned_type import PlannedHostType
from ._servers import PACKAGE_SERVERS, TOOLKIT_SERVER

SOCKET = "/run/docker.sock"


class ContainerRuntimeSpec(HostSpec):
    """engine: what runs containers. toolkit: what gives them GPUs; None for machines without."""

    engine: Annotated[Literal["docker"], Replace("containers of another engine are other containers")] = "docker"
    toolkit: Literal["nvidia-container-toolkit"] | None = None


class ContainerRuntimeOutputs(Outputs):
    """version: of the engine. socket: where it takes commands; whoever can write to it is root."""

    version: str
    socket: str


class HostContainerRuntime(PlannedHostType[ContainerRuntimeSpec, ContainerRuntimeOutputs]):
    """An engine that is there is used as it is: it goes only if llmdeploy brought it, with its last stack."""

    name: ClassVar[str] = "host_container_runtime"
    spec = ContainerRuntimeSpec
    outputs = ContainerRuntimeOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"version"})
    timeouts: ClassVar[Timeouts] = Timeouts(create_s=1800, update_s=1800, delete_s=900)

    def details(self, spec: ContainerRuntimeSpec) -> tuple[str, ...]:
        """Say what is installed, and what must not happen afterwards."""
        installed = "where there is no Docker Engine: installs the distribution's; one that is there is used and never changed"
        if spec.toolkit is None:
            return (installed,)
        return (
            installed,
            f"installs {spec.toolkit} from NVIDIA's package source, signed by its key, and registers it as a runtime of Docker",
            "restarts Docker once when that registration is new: containers of others on this machine restart with it",
        )

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The socket is always at the same place."""
        del values, identity
        return {"socket": SOCKET}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Commands come over a socket of the machine, never over a network; packages come from the machine's own servers, and
        the toolkit from NVIDIA's."""
        servers = (PACKAGE_SERVERS, *((TOOLKIT_SERVER,) if values.get("toolkit") else ()))
        flows = tuple(DataFlow(what="requests for packages", to=server) for server in servers)
        return Traits(in_transit="local", exposure="host", data_flows=flows)


RESOURCE = HostContainerRuntime()
