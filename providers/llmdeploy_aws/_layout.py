"""From a request to the provider's part of the graph. Pure."""

from __future__ import annotations

from llmdeploy.sdk import Fragment, LayoutRequest

from ._checks import check, egress, zones
from ._config import AwsConfig
from ._data import data, key_arn, secret_address
from ._front import ENTRY, front
from ._machines import HOSTS, machine, machines
from ._network import network
from ._security import rules_of, security
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
    entrance, inside = rules_of(guards)
    return Fragment(
        resources=(*data(site), *net.resources, *guards, *machines(site, net, kind, inside), *front(site, net, entrance)),
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
    return Site(request, config, request.region or "", zones(request, config), egress(request, config), heads)
