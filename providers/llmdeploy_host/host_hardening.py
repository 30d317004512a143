"""`host_hardening`: what a machine must not do: swap, dump cores, take passwords over SSH, answer on ports nobody needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llmdeploy.sdk import Input, Outputs, Traits, Tree

from ._connection import HostSpec
from ._planned_type import PlannedHostType

Port = Annotated[int, Field(ge=1, le=65535)]


class HardeningSpec(HostSpec):
    """allowed_ports: TCP ports that everybody may open, besides SSH's. private_ports: those for the stack's own machines,
    whose addresses are `peers`. trusted: addresses of machines that may open any port: those that one replica spans. egress:
    where the machine may open connections to: anywhere, or only to what the plan names.
    """

    swap_off: bool = True
    core_dumps_off: bool = True
    ssh_password_off: bool = True
    allowed_ports: tuple[Port, ...] = ()
    private_ports: tuple[Port, ...] = ()
    peers: tuple[Input[str], ...] = ()
    trusted: tuple[Input[str], ...] = ()
    egress: Literal["open", "listed"] = "open"
    unattended_upgrades: bool = True


class HardeningOutputs(Outputs):
    """Nothing that others need."""


class HostHardening(PlannedHostType[HardeningSpec, HardeningOutputs]):
    """Settings in files of llmdeploy's own beside the machine's, so that destroy brings back what was there before."""

    name: ClassVar[str] = "host_hardening"
    spec = HardeningSpec
    outputs = HardeningOutputs

    def details(self, spec: HardeningSpec) -> tuple[str, ...]:
        """Say each setting that is made."""
        return tuple(_details(spec))

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """What the machine no longer does. A setting that is left alone may be as bad as it can be."""
        return Traits(
            swap="none" if values["swap_off"] else "plain",
            core_dumps=not values["core_dumps_off"],
            ssh_passwords=not values["ssh_password_off"],
            egress=values["egress"],
        )


def _details(spec: HardeningSpec) -> Iterator[str]:
    if spec.swap_off:
        yield "turns swap off, now and at boot: prompts and keys in memory never reach a disk in clear"
    if spec.core_dumps_off:
        yield "turns core dumps off: a crash writes no memory to a disk"
    if spec.ssh_password_off:
        yield "takes no passwords over SSH any more, for nobody on this machine: keys only"
    if spec.allowed_ports or spec.trusted:
        private = f", and {_ports(spec.private_ports)} from the stack's other machines only" if spec.private_ports else ""
        count = len(spec.trusted)
        whole = f", and everything from the {count} other machine{'s'[: count != 1]} of its replica" if count else ""
        opened = f" and {_ports(spec.allowed_ports)}" if spec.allowed_ports else ""
        yield f"firewall: lets in SSH{opened}{private}{whole}; all else from outside is dropped"
    if spec.egress == "listed":
        yield (
            "firewall: lets out answers, and connections to what this plan names only: the stack's other machines, name and time "
            "servers, servers of packages, images and model files; all else is dropped"
        )
    if spec.unattended_upgrades:
        yield "installs security updates by itself; never the GPU driver, the kernel or the container engine"


def _ports(ports: tuple[int, ...]) -> str:
    return "TCP " + ", ".join(map(str, ports))


RESOURCE = HostHardening()
