"""`host_gpu_driver`: the driver of NVIDIA's GPUs. One that is there and new enough is used as it is, and never removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from llmdeploy.sdk import DataFlow, NotDiffed, Outputs, Timeouts, Traits, Tree

from ._connection import HostSpec
from ._planned_type import PlannedHostType
from ._servers import PACKAGE_SERVERS

MINIMUM_OF_CUDA_13: Final = "580"
"""The oldest driver on which programs built for CUDA 13 run: NVIDIA's page on minor version compatibility."""

Branch = Annotated[str, Field(pattern=r"^[0-9]{3}$")]
Flavour = Literal["open", "proprietary"]


class GpuDriverSpec(HostSpec):
    """branch: NVIDIA's driver branch that is installed where none is. flavour: which kernel module.

    minimum: the oldest branch that will do. fabric_manager: the machine's GPUs are joined by NVSwitch, which needs that service
    in the driver's own version. adopt: a driver that is there and too old may be replaced by this one.
    """

    branch: Branch = MINIMUM_OF_CUDA_13
    flavour: Flavour = "open"
    minimum: Branch = MINIMUM_OF_CUDA_13
    fabric_manager: bool = False
    adopt: Annotated[bool, NotDiffed()] = False


class GpuDriverOutputs(Outputs):
    """version: of the driver that runs. reboot_needed: another one is loaded until the machine restarts."""

    version: str
    reboot_needed: bool


class HostGpuDriver(PlannedHostType[GpuDriverSpec, GpuDriverOutputs]):
    """A kernel module and its libraries, held at their version so that an upgrade never takes the GPUs from a running engine."""

    name: ClassVar[str] = "host_gpu_driver"
    spec = GpuDriverSpec
    outputs = GpuDriverOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"version", "reboot_needed"})
    timeouts: ClassVar[Timeouts] = Timeouts(create_s=3600, update_s=3600, delete_s=900)

    def details(self, spec: GpuDriverSpec) -> tuple[str, ...]:
        """Say what is installed, what is held, what an old driver means, and when the machine restarts."""
        manager = ", and the fabric manager of the same version" if spec.fabric_manager else ""
        old = f"replaced by branch {spec.branch}" if spec.adopt else "refused"
        return (
            f"where there is no driver: installs branch {spec.branch} with the {spec.flavour} kernel module, built for the "
            f"running kernel{manager}",
            f"a driver that is there is used and never removed when it is {spec.minimum} or newer; an older one is {old}",
            "holds driver and kernel packages at their versions: an automatic upgrade would take the GPUs away until a restart",
            "restarts the machine once, before any engine starts, when another driver or nouveau is loaded",
        )

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Packages from the machine's own package sources, as its administrator has set them up: not a stack's artefacts."""
        del values
        return Traits(data_flows=(DataFlow(what="requests for packages", to=PACKAGE_SERVERS),))


RESOURCE = HostGpuDriver()
