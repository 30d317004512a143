"""`aws_nat_gateway`: the way out to the internet for machines that have no public address. Nothing can come in through it.

EC2: CreateNatGateway; DescribeNatGateways until `available`; CreateTags; DeleteNatGateway, and wait until it is `deleted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from llmdeploy.sdk import CostLine, Input, NotDiffed, Outputs, Replace, Tariff, Traits, Tree

from ._spec import AwsType, TaggedSpec
from ._usage import weights_gb

_RUNTIME_GB = 10


class NatGatewaySpec(TaggedSpec):
    """machines: how many fetch their files through it; elsewhere: those of them in other zones. No parameters of a call."""

    subnet_id: Annotated[Input[str], Replace("it cannot move to another subnet")]
    allocation_id: Annotated[Input[str], Replace("its first address cannot change")]
    connectivity_type: Annotated[Literal["public"], Replace("its kind cannot change")] = "public"
    machines: Annotated[int, NotDiffed(), Field(ge=1)]
    elsewhere: Annotated[int, NotDiffed(), Field(ge=0)] = 0


class NatGatewayOutputs(Outputs):
    """Its id."""

    nat_gateway_id: str


class AwsNatGateway(AwsType[NatGatewaySpec, NatGatewayOutputs]):
    """A way out."""

    name = "aws_nat_gateway"
    spec = NatGatewaySpec
    outputs = NatGatewayOutputs

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """It leads to the whole internet. What leaves through it, and where to, the rules of the machines' group say."""
        return self._told(values, egress="open")

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return the gateway by the hour, and once what the machines fetch when they are set up."""
        machines, elsewhere = values["machines"], values["elsewhere"]
        each = "once for the machine" if machines == 1 else f"once for each of {machines} machines"
        weights, runtime = weights_gb(tariff.usage), f"assumed: {_RUNTIME_GB} GB, fetched {each}"
        found = (
            tariff.line("NAT gateway", 1, "nat.hour"),
            tariff.line("model files through the NAT gateway", weights * machines, "nat.gb", "once", note=f"fetched {each}"),
            tariff.line("engine and packages through the NAT gateway", _RUNTIME_GB * machines, "nat.gb", "once", note=runtime),
        )
        if not elsewhere:
            return found
        gigabytes, note = (weights + _RUNTIME_GB) * elsewhere, f"for {elsewhere} of {machines} machines"
        return (
            *found,
            tariff.line("from the NAT gateway into other zones", gigabytes, "transfer.cross_az_gb", "once", note=note),
        )


RESOURCE = AwsNatGateway()
