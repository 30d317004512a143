"""The network: subnets in each zone, and how machines reach out. An existing one gets nothing but endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from llmdeploy.sdk import Ref, Resource, Tree

from ._config import MOST_ZONES
from ._policies import storage_endpoint_policy
from ._site import Site
from .aws_security_group_rule import EVERYWHERE

INTERFACE_SERVICES = ("ec2messages", "kms", "logs", "secretsmanager", "ssm", "ssmmessages")
"""Services that a machine without a way to the internet calls: Session Manager, the stack's key, its secrets and its log."""

_VPC, _DOOR, _NAT = "aws_vpc.main", "aws_internet_gateway.main", "aws_nat_gateway.main"
_PUBLIC_ROUTES, _PRIVATE_ROUTES = "aws_route_table.public", "aws_route_table.private"
_STORAGE_ENDPOINT = "aws_vpc_endpoint.s3"
_SUBNET_BITS = 4


@dataclass(frozen=True)
class Network:
    """private, public: subnets by zone. ready: what must be there before a machine can reach out; door: before what is public."""

    vpc_id: Tree
    private: Mapping[str, Tree]
    public: Mapping[str, Tree]
    resources: tuple[Resource, ...]
    ready: frozenset[str]
    door: frozenset[str] = frozenset()

    @property
    def storage_prefix_list(self) -> Ref | None:
        """The addresses of S3, where the stack has an endpoint for it."""
        there = any(resource.address == _STORAGE_ENDPOINT for resource in self.resources)
        return Ref(_STORAGE_ENDPOINT, "prefix_list_id") if there else None


def network(site: Site) -> Network:
    """Return the network of the stack."""
    return _existing(site) if site.config.vpc else _own(site)


def _existing(site: Site) -> Network:
    vpc = site.config.vpc
    assert vpc is not None  # noqa: S101 - the caller looked
    private = {zone: vpc.subnets[zone] for zone in site.zones}
    endpoints = _endpoints(site, vpc.id, vpc.route_tables, private) if site.egress == "endpoints" else []
    return Network(vpc.id, private, vpc.public_subnets, tuple(endpoints), frozenset(one.address for one in endpoints))


def _own(site: Site) -> Network:
    vpc_id = Ref(_VPC, "vpc_id")
    vpc = site.resource(_VPC, {"cidr_block": site.config.cidr}, group="network")
    entrance = site.zones if site.config.public else site.zones[:1] if site.egress == "nat" else ()
    subnets = [*(_subnet(site, zone) for zone in site.zones), *(_subnet(site, zone, public=True) for zone in entrance)]
    private = {zone: Ref(f"aws_subnet.{zone}", "subnet_id") for zone in site.zones}
    public = {zone: Ref(f"aws_subnet.public-{zone}", "subnet_id") for zone in entrance}
    out: list[dict[str, Any]] = []
    if site.egress == "nat":
        out.append({"destination_cidr_block": EVERYWHERE, "nat_gateway_id": Ref(_NAT, "nat_gateway_id")})
    routes = {"vpc_id": vpc_id, "routes": tuple(out), "subnet_ids": tuple(private.values())}
    resources = [
        vpc,
        *subnets,
        *(_door(site, tuple(public.values())) if public else ()),
        *(_nat(site, public[site.zones[0]]) if site.egress == "nat" else ()),
        site.resource(_PRIVATE_ROUTES, routes, group="network"),
        *_endpoints(site, vpc_id, (Ref(_PRIVATE_ROUTES, "route_table_id"),), private),
    ]
    ready = {_PRIVATE_ROUTES, *(one.address for one in resources if one.type == "aws_vpc_endpoint")}
    # AWS refuses what is public in a network without a door, and keeps the door while something public is there.
    door = frozenset({_PUBLIC_ROUTES} if public else ())
    return Network(vpc_id, private, public, tuple(resources), frozenset(ready), door)


def _subnet(site: Site, zone: str, *, public: bool = False) -> Resource:
    """Return the subnet of a zone. Its addresses follow from the zone's id: another choice of zones moves nothing that stays."""
    blocks = list(IPv4Network(site.config.cidr).subnets(prefixlen_diff=_SUBNET_BITS))
    number = int(zone[-1]) - 1
    block = blocks[MOST_ZONES + number if public else number]
    values = {"vpc_id": Ref(_VPC, "vpc_id"), "availability_zone_id": zone, "cidr_block": str(block)}
    return site.resource(f"aws_subnet.{'public-' if public else ''}{zone}", values, group="network")


def _door(site: Site, subnet_ids: tuple[Tree, ...]) -> list[Resource]:
    vpc_id = Ref(_VPC, "vpc_id")
    route = {"destination_cidr_block": EVERYWHERE, "gateway_id": Ref(_DOOR, "internet_gateway_id")}
    routes = {"vpc_id": vpc_id, "routes": (route,), "subnet_ids": subnet_ids}
    return [
        site.resource(_DOOR, {"vpc_id": vpc_id}, group="network"),
        site.resource(_PUBLIC_ROUTES, routes, group="network"),
    ]


def _nat(site: Site, subnet_id: Tree) -> list[Resource]:
    """Return one NAT gateway for all zones: what it carries is needed to set machines up, not to serve."""
    address = "aws_eip.nat"
    values = {
        "subnet_id": subnet_id,
        "allocation_id": Ref(address, "allocation_id"),
        "machines": len(site.machines),
        "elsewhere": sum(site.zone(index) != site.zones[0] for index in site.machines),
    }
    return [
        site.resource(address, {}, group="network", path="provider.aws.egress", after=(_DOOR,)),
        site.resource(_NAT, values, group="network", path="provider.aws.egress", after=(_PUBLIC_ROUTES,)),
    ]


def _endpoints(site: Site, vpc_id: Tree, route_table_ids: tuple[Tree, ...], subnets: Mapping[str, Tree]) -> list[Resource]:
    bucket = "aws_s3_bucket.weights"
    alone = site.egress == "endpoints"
    storage: dict[str, Tree] = {
        "vpc_id": vpc_id,
        "service_name": f"com.amazonaws.{site.region}.s3",
        "vpc_endpoint_type": "Gateway",
        "route_table_ids": route_table_ids,
        "policy_document": storage_endpoint_policy(Ref(bucket, "arn"), Ref(bucket, "objects_arn")) if alone else None,
    }
    found = [site.resource(_STORAGE_ENDPOINT, storage, group="network", path="provider.aws.egress")]
    for service in INTERFACE_SERVICES if alone else ():
        values: dict[str, Tree] = {
            "vpc_id": vpc_id,
            "service_name": f"com.amazonaws.{site.region}.{service}",
            "vpc_endpoint_type": "Interface",
            "subnet_ids": tuple(subnets.values()),
            "security_group_ids": (Ref("aws_security_group.endpoints", "group_id"),),
            "private_dns_enabled": True,
        }
        found.append(site.resource(f"aws_vpc_endpoint.{service}", values, group="network", path="provider.aws.egress"))
    return found
