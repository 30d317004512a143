"""`aws_internet_gateway`: the network's door to the internet. Only what has a public address can use it.

EC2: CreateInternetGateway, AttachInternetGateway; DescribeInternetGateways; CreateTags; DetachInternetGateway,
DeleteInternetGateway.
"""

from __future__ import annotations

from typing import Annotated

from llmdeploy.sdk import Input, Outputs, Replace

from ._spec import AwsType, TaggedSpec


class InternetGatewaySpec(TaggedSpec):
    """The network that it is attached to."""

    vpc_id: Annotated[Input[str], Replace("it belongs to one network")]


class InternetGatewayOutputs(Outputs):
    """Its id."""

    internet_gateway_id: str


class AwsInternetGateway(AwsType[InternetGatewaySpec, InternetGatewayOutputs]):
    """A door to the internet."""

    name = "aws_internet_gateway"
    spec = InternetGatewaySpec
    outputs = InternetGatewayOutputs


RESOURCE = AwsInternetGateway()
