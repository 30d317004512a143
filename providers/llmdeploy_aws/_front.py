"""The load balancer before the gateways."""

from __future__ import annotations

from typing import Final

from llmdeploy.sdk import Ref, Resource, Tree

from ._names import fitted
from ._network import Network
from ._security import group_id
from ._site import Site, machine_key

ENTRY: Final = "aws_listener.front"
_BALANCER, _TARGETS = "aws_load_balancer.front", "aws_target_group.front"
_MAX_NAME = 32
_HEALTH_PATH = "/healthz"
_SILENCE_S = 3600
"""The longest silence of an engine that gateways wait for, which is also the longest that AWS waits for a leaving target."""


def front(site: Site, net: Network, rules: frozenset[str]) -> list[Resource]:
    """Return load balancer, listener, target group, and one target for each machine that answers requests.

    rules: what must hold before clients come.
    """
    name = fitted(site.name, _MAX_NAME)
    public = site.config.public
    balancer: dict[str, Tree] = {
        "name": name,
        "scheme": "internet-facing" if public else "internal",
        "vpc_id": net.vpc_id,
        "subnets": tuple((net.public if public else net.private).values()),
        "security_groups": (group_id("lb"),),
        "attributes": {"deletion_protection.enabled": "false", "load_balancing.cross_zone.enabled": "true"},
    }
    targets: dict[str, Tree] = {
        "name": name,
        "port": site.port,
        "vpc_id": net.vpc_id,
        "health_check_path": _HEALTH_PATH,
        "attributes": {
            "deregistration_delay.timeout_seconds": str(_SILENCE_S),
            "preserve_client_ip.enabled": "true",
            "proxy_protocol_v2.enabled": "false",
        },
    }
    listener: dict[str, Tree] = {
        "load_balancer_arn": Ref(_BALANCER, "load_balancer_arn"),
        "port": site.port,
        "default_actions": ({"target_group_arn": Ref(_TARGETS, "target_group_arn")},),
        "attributes": {"tcp.idle_timeout.seconds": str(_SILENCE_S)},
        "dns_name": Ref(_BALANCER, "dns_name"),
    }
    answering = [index for index in site.machines if any(slot.rank == 0 for slot in site.request.placement.on(index))]
    return [
        site.resource(_BALANCER, balancer, group="load balancer", path="provider.aws.public", after=net.door if public else ()),
        site.resource(_TARGETS, targets, group="load balancer", path="gateway.port"),
        site.resource(ENTRY, listener, group="load balancer", path="gateway.port", after=rules),
        *(_target(site, index) for index in answering),
    ]


def _target(site: Site, index: int) -> Resource:
    key = machine_key(index)
    values: dict[str, Tree] = {
        "target_group_arn": Ref(_TARGETS, "target_group_arn"),
        "target_id": Ref(f"aws_instance.{key}", "instance_id"),
        "port": site.port,
    }
    # A target is healthy once a listener asks its gateway, and must have left before that gateway goes.
    after = (ENTRY, f"host_gateway.{key}")
    return site.resource(f"aws_target.{key}", values, group="load balancer", path="replicas", after=after)
