"""`aws_nat_gateway`: the way out to the internet for machines that have no public address. Nothing can come in through it.

EC2: CreateNatGateway; DescribeNatGateways until `available`; CreateTags; DeleteNatGateway, and wait until it is `deleted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from llmdeploy.sdk import CostLine, DataFlow, Input, NotDiffed, Outputs, Replace, Tariff, Traits, Tree

from ._spec import AwsType, TaggedSpec
from ._usage import weights_gb

_RUNTIME_GB = 10


class NatGatewaySpec(TaggedSpec):
    """machines: how many fetch their files through it; no parameter of a call."""

    subnet_id: Annotated[Input[str], Replace("it cannot move to another subnet")]
    allocation_id: Annotated[Input[str], Replace("its first address cannot change")]
    connectivity_type: Annotated[Literal["public"], Replace("its kind cannot change")] = "public"
    machines: Annotated[int, NotDiffed(), Field(ge=1)]


class NatGatewayOutputs(Outputs):
    """Its id."""

    nat_gateway_id: str


class AwsNatGateway(AwsType[NatGatewaySpec, NatGatewayOutputs]):
    """A way out."""

    name = "aws_nat_gateway"
    spec = NatGatewaySpec
    outputs = NatGatewayOutputs

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Machines can open connections to anywhere."""
        flow = DataFlow(what="requests for packages, images and model files", to="the internet")
        return Traits(region=values["region"], in_transit="encrypted", data_flows=(flow,))

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return the gateway by the hour, and once what the machines fetch when they are set up."""
        machines = values["machines"]
        each = "once for the machine" if machines == 1 else f"once for each of {machines} machines"
        return (
            tariff.line("NAT gateway", 1, "nat.hour"),
            tariff.line(
                "model files through the NAT gateway",
                weights_gb(tariff.usage) * machines,
                "nat.gb",
                "once",
                note=f"fetched {each}",
            ),
            tariff.line(
                "engine and packages through the NAT gateway",
                _RUNTIME_GB * machines,
                "nat.gb",
                "once",
                note=f"assumed: {_RUNTIME_GB} GB, fetched {each}",
            ),
        )


RESOURCE = AwsNatGateway()
