"""Who may talk to whom: clients to the load balancer, that to the gateways, machines to each other and out. Nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llmdeploy.sdk import Ref, Resource, Tree

from ._network import Network
from ._site import Site
from .aws_security_group_rule import EVERYWHERE

_ENTRY, _NODE, _ENDPOINTS = "lb", "node", "endpoints"
_DESCRIPTIONS = {_ENTRY: "load balancer", _NODE: "machines", _ENDPOINTS: "endpoints of AWS services"}
_TLS, _PLAIN_HTTP = 443, 80


def group_id(name: str) -> Ref:
    """Return the id of one of the groups lb, node and endpoints."""
    return Ref(f"aws_security_group.{name}", "group_id")


def security(site: Site, net: Network) -> list[Resource]:
    """Return the groups and their rules."""
    names = (_ENTRY, _NODE, *((_ENDPOINTS,) if site.egress == "endpoints" else ()))
    groups = [_group(site, name, net.vpc_id) for name in names]
    return [*groups, *_entry_rules(site), *_peer_rules(site), *_egress_rules(site, net)]


def rules_of(guards: Iterable[Resource]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the addresses of the load balancer's rules, and of all others: what must hold before clients and machines come."""
    rules = {one.address for one in guards if one.type == "aws_security_group_rule"}
    entrance = frozenset(address for address in rules if address.startswith(f"aws_security_group_rule.{_ENTRY}."))
    return entrance, frozenset(rules - entrance)


def _group(site: Site, name: str, vpc_id: Tree) -> Resource:
    values = {"group_name": f"{site.name}-{name}", "description": f"{_DESCRIPTIONS[name]} of {site.name}", "vpc_id": vpc_id}
    return site.resource(f"aws_security_group.{name}", values, group="network")


def _entry_rules(site: Site) -> list[Resource]:
    allowed = site.config.allowed_cidrs or (site.config.cidr,)
    port = site.port
    return [
        *(
            _rule(site, f"{_ENTRY}.from-{_in_key(cidr)}", "clients", {"cidr_ipv4": cidr, "key_port": port}, port)
            for cidr in allowed
        ),
        _rule(site, f"{_ENTRY}.to-node", "gateways", {"referenced_group_id": group_id(_NODE)}, port, out=True),
        _rule(site, f"{_NODE}.from-lb", "load balancer", {"referenced_group_id": group_id(_ENTRY)}, port),
    ]


def _in_key(cidr: str) -> str:
    """Return addresses as a part of a key. A number instead would give a rule others when one before it is removed."""
    return cidr.replace(".", "-").replace("/", "-")


def _peer_rules(site: Site) -> list[Resource]:
    """Return the rules between machines: gateways reach each other, machines of one replica everything of each other."""
    port = None if site.spans_machines else site.request.gateway.peer_port
    if port is None and not site.spans_machines:
        return []
    other = {"referenced_group_id": group_id(_NODE)}
    what = "machines of one replica" if site.spans_machines else "gateways of other replicas"
    return [
        _rule(site, f"{_NODE}.from-node", what, other, port),
        _rule(site, f"{_NODE}.to-node", what, other, port, out=True),
    ]


def _egress_rules(site: Site, net: Network) -> list[Resource]:
    if site.egress != "endpoints":
        # Ubuntu's package mirrors speak plain HTTP; their packages are signed.
        return [
            _rule(site, f"{_NODE}.to-https", "packages, images and model files", {"cidr_ipv4": EVERYWHERE}, _TLS, out=True),
            _rule(site, f"{_NODE}.to-http", "signed packages", {"cidr_ipv4": EVERYWHERE}, _PLAIN_HTTP, out=True),
        ]
    services = {"referenced_group_id": group_id(_ENDPOINTS)}
    return [
        _rule(site, f"{_NODE}.to-endpoints", "AWS services", services, _TLS, out=True),
        _rule(site, f"{_NODE}.to-s3", "model files", {"prefix_list_id": net.storage_prefix_list}, _TLS, out=True),
        _rule(site, f"{_ENDPOINTS}.from-node", "machines", {"referenced_group_id": group_id(_NODE)}, _TLS),
    ]


def _rule(site: Site, key: str, what: str, other: Mapping[str, Tree], port: int | None, *, out: bool = False) -> Resource:
    """Return a rule of the group that `key` begins with. port: None for everything."""
    name = key.split(".", 1)[0]
    traffic: dict[str, Tree] = {"ip_protocol": "-1"} if port is None else {"from_port": port, "to_port": port}
    values: dict[str, Tree] = {"group_id": group_id(name), "is_egress": out, "description": what, **traffic, **other}
    return site.resource(f"aws_security_group_rule.{key}", values, group="network")
