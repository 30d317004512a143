"""`aws_listener`: the port of the load balancer that clients call.

Elastic Load Balancing v2: CreateListener, ModifyListenerAttributes; DescribeListeners; ModifyListener, AddTags; DeleteListener.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llmdeploy.sdk import Identity, Input, NotDiffed, Outputs, Replace, Traits, Tree

from ._spec import AwsType, Part, Port, TaggedSpec, passed_on


class Forward(Part):
    """Where connections go."""

    type: Literal["forward"] = "forward"
    target_group_arn: Input[str]


class ListenerSpec(TaggedSpec):
    """TCP: the load balancer's own TLS cuts a connection that is silent for 350 seconds. dns_name: no parameter of a call."""

    load_balancer_arn: Annotated[Input[str], Replace("a listener belongs to one load balancer")]
    protocol: Literal["TCP"] = "TCP"
    port: Port
    default_actions: Annotated[
        tuple[Forward, ...],
        Field(min_length=1, max_length=1),
        Replace("a target group stays as long as a listener forwards to it"),
    ]
    attributes: Mapping[str, str]
    dns_name: Annotated[Input[str], NotDiffed()]


class ListenerOutputs(Outputs):
    """What clients call: the name, `https://` with it, and that with `/v1`."""

    listener_arn: str
    dns_name: str
    endpoint: str
    base_url: str


class AwsListener(AwsType[ListenerSpec, ListenerOutputs]):
    """A listener."""

    name: ClassVar[str] = "aws_listener"
    service: ClassVar[str] = "elasticloadbalancing"
    spec = ListenerSpec
    outputs = ListenerOutputs

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The name is the load balancer's."""
        del identity
        name = values["dns_name"]
        return addresses(name, values["port"]) if isinstance(name, str) else {}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """What passes through it is the gateways' own TLS, as long as it only passes it on."""
        return self._told(values, in_transit=passed_on(values["protocol"]))


def addresses(dns_name: str, port: int) -> dict[str, str]:
    """Return the outputs that follow from the name and the port."""
    endpoint = f"https://{dns_name}" + ("" if port == 443 else f":{port}")
    return {"dns_name": dns_name, "endpoint": endpoint, "base_url": f"{endpoint}/v1"}


RESOURCE = AwsListener()
