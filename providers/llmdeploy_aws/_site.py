"""What every part of the layout needs to know: the request, the zones, and how its machines belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from llmdeploy.sdk import LayoutRequest, Placement, Resource, Tree

from ._config import AwsConfig
from ._names import tags

PROVIDER = "aws"


@dataclass(frozen=True)
class Site:
    """One stack in one region.

    zones: the ids of those that it uses. egress: nat, endpoints or none. heads: for each machine, the first one of its replica.
    """

    request: LayoutRequest
    config: AwsConfig
    region: str
    zones: tuple[str, ...]
    egress: str
    heads: tuple[int, ...]

    @property
    def stack(self) -> str:
        """Name of the stack."""
        return self.request.stack

    @property
    def name(self) -> str:
        """What the names of everything begin with."""
        return f"llmdeploy-{self.stack}"

    @property
    def port(self) -> int:
        """Port of the load balancer and of every gateway."""
        return self.request.gateway.port

    @property
    def machines(self) -> range:
        """Index of each machine."""
        return range(self.request.placement.count)

    @property
    def spans_machines(self) -> bool:
        """Whether a replica needs more than one machine."""
        return len(self.clusters) < len(self.heads)

    @cached_property
    def clusters(self) -> Mapping[int, int]:
        """The first machine of each replica that has machines of its own, with its place among them."""
        return {head: index for index, head in enumerate(sorted(set(self.heads)))}

    def zone(self, machine: int) -> str:
        """Return the zone of a machine. Machines of one replica share a zone; replicas are spread."""
        return self.zones[self.clusters[self.heads[machine]] % len(self.zones)]

    def resource(
        self,
        address: str,
        values: Mapping[str, Tree],
        *,
        group: str,
        path: str = "provider.aws",
        after: Iterable[str] = (),
    ) -> Resource:
        """Return a resource of this provider in the stack's region, with its tags where it can have some."""
        kind = address.split(".", 1)[0]
        own = {"tags": tags(self.stack, address)} if kind not in UNTAGGED else {}
        return Resource(address, kind, PROVIDER, {"region": self.region, **own, **values}, frozenset(after), group, path)


UNTAGGED = frozenset({"aws_account", "aws_existing_key", "aws_image", "aws_target"})
"""Types that make nothing of their own, or nothing that can carry tags: their specs are no `TaggedSpec`."""


def machine_key(machine: int) -> str:
    """Return the key of a machine in addresses."""
    return f"node-{machine}"


def heads_of(placement: Placement) -> tuple[int, ...]:
    """Return, for each machine, the first machine that shares a replica with it."""
    of_replica: dict[int, int] = {}
    for slot in placement.slots:
        of_replica[slot.replica] = min(slot.machine, of_replica.get(slot.replica, slot.machine))
    found = list(range(placement.count))
    for slot in placement.slots:
        found[slot.machine] = min(found[slot.machine], of_replica[slot.replica])
    return tuple(found)
