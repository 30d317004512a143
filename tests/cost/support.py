"""What the tests of cost share: a type that is rented, prices of hosted APIs, and a stack of such machines."""

from __future__ import annotations

from collections.abc import Mapping

from llmdeploy.catalog import HostedModel
from llmdeploy.cost import Basis, Fleet, Ledger, Types
from llmdeploy.prices import CostLine, Price, Tariff
from llmdeploy.resource import Input, Tree
from llmdeploy.sdk import Outputs, ResourceType, Spec


class RentedSpec(Spec):
    """A rented machine: what it is called in the price list, and its disk."""

    machine: str
    disk_gb: Input[int] = 0


class Rented(ResourceType[RentedSpec, Outputs]):
    """A machine by the hour, its disk by the month, and the weights that it fetches once."""

    name = "rented"
    spec = RentedSpec
    outputs = Outputs

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        machine = tariff.line(values["machine"], 1, values["machine"])
        disk = [tariff.line("disk", values["disk_gb"], "disk", "month")] if isinstance(values.get("disk_gb"), int) else []
        return (machine, *disk, tariff.line("weights", tariff.usage.weights_bytes / 1e9, "transfer", "once"))


class Front(ResourceType[Spec, Outputs]):
    """A load balancer: by the hour, and by the gigabyte of answers."""

    name = "front"
    spec = Spec
    outputs = Outputs

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        del values
        traffic_gb = tariff.usage.tokens_out * 250 / 1e9
        return (
            tariff.line("front", 1, "front"),
            tariff.line("answers", traffic_gb, "traffic", "month", note="250 bytes a token"),
        )


TYPES: Types = {"rented": Rented(), "front": Front()}
PRICES: Mapping[str, Price] = {
    "big": Price(6.88, "hour", "a price list", "2026-07-20", "seen"),
    "disk": Price(0.08, "GB-month", "a price list", "2026-07-20", "derived"),
    "front": Price(0.0225, "hour", "from memory"),
    "traffic": Price(0.09, "GB", "from memory"),
    "transfer": Price(0.045, "GB", "from memory"),
}
FLEET = Fleet(replicas=1, machines=1, prefill_tokens_per_s=10_000, decode_tokens_per_s=1_000)


def hosted(
    name: str, input: float, cached: float | None, output: float, *, provider: str = "somebody", ends: str = ""
) -> HostedModel:
    """Return a hosted model; prices in USD per million tokens."""
    return HostedModel(name, provider, input, cached, output, "a price list", "2026-11-20", "seen", ends)


SONNET = hosted("sonnet", 3.0, 0.3, 15.0)
HOSTED: Mapping[str, HostedModel] = {
    one.name: one for one in (SONNET, hosted("flat", 1.0, None, 1.0), hosted("cheap", 0.01, None, 0.02, ends="2026-12-11"))
}


def stack(machines: int = 1, machine: str = "big", fleet: Fleet | None = FLEET) -> Basis:
    """Return a stack of so many machines behind one load balancer."""
    nodes = tuple(("rented", {"machine": machine, "disk_gb": 500}) for _ in range(machines))
    ledger = Ledger(nodes, (("front", {}),), TYPES, PRICES, 140_000_000_000)
    return Basis(ledger, fleet, HOSTED, ("sonnet", "flat"))
