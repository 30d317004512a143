"""From a request to the provider's part of the graph. Pure."""

from __future__ import annotations

from llmdeploy.sdk import Fragment, LayoutRequest

from ._checks import check, egress, zones_of
from ._config import AwsConfig
from ._data import data, key_arn, secret_address
from ._front import ENTRY, front
from ._machines import HOSTS, machine, machines
from ._network import network
from ._security import security
from ._site import Site, heads_of


def lay_out(request: LayoutRequest, config: AwsConfig) -> Fragment:
    """Lay the stack out in one region.

    Raises:
        StackError: the stack file asks for what cannot be, each part with its path.
    """
    check(request, config)
    site, kind = _site(request, config), request.placement.type
    assert request.region is not None  # noqa: S101 - checked
    assert kind is not None  # noqa: S101 - checked
    net = network(site)
    guards = security(site, net)
    rules = frozenset(one.address for one in guards if one.address.startswith("aws_security_group_rule.node."))
    return Fragment(
        resources=(*data(site), *net.resources, *guards, *machines(site, net, kind, rules), *front(site, net)),
        machines=tuple(machine(site, index) for index in site.machines),
        hosts=HOSTS,
        entry=ENTRY,
        keys={key.name: secret_address(key) for key in request.keys},
        kms_key=key_arn(site),
        encryption="luks2",
        hardened=True,
    )


def _site(request: LayoutRequest, config: AwsConfig) -> Site:
    heads = heads_of(request.placement)
    # A zone more than there are replicas would hold nothing.
    zones = zones_of(request.placement.type, config)[: len(set(heads))]
    return Site(request, config, request.region or "", zones, egress(request, config), heads)
