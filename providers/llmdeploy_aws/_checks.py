"""What a stack file may not ask of AWS: pairs that cannot be, each told with its place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from llmdeploy.sdk import Diagnostics, LayoutRequest, MachineType, Policy, nearest

from ._config import ZONE_ID, AwsConfig
from ._names import is_everywhere, partition
from ._site import heads_of

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+\Z")
_PRINCIPAL = re.compile(r"arn:(?P<partition>aws[a-z-]*):iam::[0-9]{12}:(role|user)/[A-Za-z0-9_+=,.@/-]{1,576}\Z")
_HTTPS = 443

_Problem = tuple[str, str, str]
"""Path in the stack file, sentence, what to do next."""


def check(request: LayoutRequest, config: AwsConfig) -> None:
    """Refuse what cannot be laid out.

    Raises:
        StackError: every problem at once, each with its path.
    """
    found = Diagnostics()
    for path, sentence, hint in _problems(request, config):
        found.error(sentence, path=path, hint=hint)
    found.raise_if_errors()


def closed(policy: Policy) -> bool:
    """Tell whether a profile allows only the way out to named services (control NET-03)."""
    return policy.strict("NET-03")


def egress(request: LayoutRequest, config: AwsConfig) -> str:
    """Return how the machines reach out: nat, endpoints or none."""
    if config.egress != "auto":
        return config.egress
    return "endpoints" if closed(request.policy) else "none" if config.vpc else "nat"


def zones_of(kind: MachineType | None, config: AwsConfig) -> tuple[str, ...]:
    """Return the ids of the zones that machines may be put into, in order. Local zones are left out: they lack services."""
    offered = tuple(zone for zone in kind.zones if ZONE_ID.match(zone)) if kind else ()
    wanted = config.availability_zones or (tuple(sorted(config.vpc.subnets)) if config.vpc else offered)
    return tuple(zone for zone in wanted if zone in offered or not offered)


def zones(request: LayoutRequest, config: AwsConfig) -> tuple[str, ...]:
    """Return the ids of the zones that machines are put into. A zone more than there are replicas would hold nothing."""
    return zones_of(request.placement.type, config)[: len(set(heads_of(request.placement)))]


def _problems(request: LayoutRequest, config: AwsConfig) -> Iterator[_Problem]:
    yield from _region(request.region)
    yield from _machines(request, config)
    yield from _network(request, config)
    yield from _entry(request, config)
    yield from _storage(request, config)
    yield from _principals(request)
    yield from _fallback(request, config)


def _region(region: str | None) -> Iterator[_Problem]:
    if region is None:
        yield "region", "AWS needs a region", "for example region: eu-central-1"
    elif not _REGION.match(region):
        yield "region", f'"{region}" is no region of AWS', "for example eu-central-1"


def _machines(request: LayoutRequest, config: AwsConfig) -> Iterator[_Problem]:
    kind = request.placement.type
    if kind is None:
        yield "hardware.instance_type", "AWS rents machines by their type, and none was chosen", "for example g6e.xlarge"
        return
    offered = [zone for zone in kind.zones if ZONE_ID.match(zone)]
    for index, zone in enumerate(config.availability_zones):
        if offered and zone not in offered:
            hint = nearest(zone, offered)
            yield f"provider.aws.availability_zones[{index}]", f"{kind.name} is not offered in {zone}", hint
    if not config.availability_zones and not config.vpc and not offered:
        hint = "name their ids, for example [euc1-az1, euc1-az2]"
        yield "provider.aws.availability_zones", f"it is not known which zones offer {kind.name}", hint


def _network(request: LayoutRequest, config: AwsConfig) -> Iterator[_Problem]:
    wanted = egress(request, config)
    asked = request.policy.demand("NET-03")
    if asked and asked.strict and wanted != "endpoints":
        sentence = f"egress: {wanted} lets machines reach the internet, which NET-03 ({', '.join(asked.profiles)}) does not allow"
        yield "provider.aws.egress", sentence, "use endpoints, or leave it out"
    vpc = config.vpc
    if vpc is None:
        if wanted == "none":
            hint = "use nat or endpoints, or name an existing network under vpc"
            yield "provider.aws.egress", "a network of the stack's own has no way out by itself", hint
        return
    if wanted == "nat":
        hint = "use endpoints, or none: the network's own way out"
        yield "provider.aws.egress", "a NAT gateway is built in a network of the stack's own only", hint
    if wanted == "endpoints" and not vpc.route_tables:
        sentence = "the S3 endpoint lies in the route tables of the private subnets"
        yield "provider.aws.vpc", sentence, "name them: route_tables: [rtb-...]"
    if _changed(config, "cidr"):
        yield "provider.aws.cidr", "an existing network has its own addresses", "remove it"
    for zone in config.availability_zones:
        if zone not in vpc.subnets:
            yield "provider.aws.vpc.subnets", f"there is no subnet in the zone {zone}", f"name one: {zone}: subnet-..."
    kind = request.placement.type
    if not vpc.subnets:
        yield "provider.aws.vpc.subnets", "machines need a private subnet", "name one by its zone: {euc1-az1: subnet-...}"
    elif kind and not config.availability_zones and not zones_of(kind, config):
        sentence = f"{kind.name} is offered in none of their zones"
        yield "provider.aws.vpc.subnets", sentence, f"it is in {', '.join(kind.zones)}"


def _entry(request: LayoutRequest, config: AwsConfig) -> Iterator[_Problem]:
    path, port = "provider.aws.allowed_cidrs", request.gateway.port
    if not config.allowed_cidrs and (config.public or config.vpc):
        why = "the load balancer is public" if config.public else "the network is an existing one"
        yield path, f"{why}: say who may connect", "for example [203.0.113.0/24]"
    if any(map(is_everywhere, config.allowed_cidrs)) and port != _HTTPS:
        yield (
            "gateway.port",
            f"the whole internet may connect at port {_HTTPS} only, not at {port}",
            f"set gateway.port: {_HTTPS}",
        )
    if config.public and config.vpc:
        yield from _public_subnets(config.vpc.public_subnets, zones(request, config))


def _public_subnets(subnets: Mapping[str, str], used: Sequence[str]) -> Iterator[_Problem]:
    """A load balancer sends nothing to machines in zones that it is not in itself."""
    path, missing = "provider.aws.vpc.public_subnets", [zone for zone in used if zone not in subnets]
    if missing:
        what = f"zone{'s'[: len(missing) != 1]} {', '.join(missing)}"
        yield path, f"a public load balancer needs one in every zone with machines: none is in the {what}", "name them by zone"


def _storage(request: LayoutRequest, config: AwsConfig) -> Iterator[_Problem]:
    if request.storage.encryption not in ("auto", "luks2"):
        sentence = "machines of AWS keep the weights on a disk that is encrypted as a whole, with a key that KMS wraps"
        yield "storage.encryption", sentence, "use luks2, or leave it out"
    if request.storage.device is not None:
        yield "storage.device", "the disk for the weights is made with the machine", "remove it"
    if request.storage.unlock == "tpm2":
        yield "storage.unlock", "machines of AWS have no TPM that a volume can be bound to here", "use kms, or leave it out"
    if config.ami and config.ami_parameter:
        yield "provider.aws.ami_parameter", "does not go together with ami", "remove one of them"
    if config.kms_key:
        region = config.kms_key.split(":")[3]
        if request.region and region != request.region:
            yield (
                "provider.aws.kms_key",
                f"this key lies in {region}, the stack in {request.region}",
                "name a key of the same region",
            )
        if _changed(config, "kms_deletion_days"):
            yield "provider.aws.kms_deletion_days", "a key that is named is never deleted", "remove it"


def _fallback(request: LayoutRequest, config: AwsConfig) -> Iterator[_Problem]:
    if request.gateway.fallback and egress(request, config) == "endpoints":
        sentence = "egress: endpoints lets machines reach services of AWS only, and no hosted fallback"
        yield "gateway.fallback", sentence, "remove it, or use egress: nat where no profile forbids that"


def _changed(config: AwsConfig, name: str) -> bool:
    return getattr(config, name) != AwsConfig.model_fields[name].default


def _principals(request: LayoutRequest) -> Iterable[_Problem]:
    own = partition(request.region or "")
    for index, key in enumerate(request.keys):
        path, found = f"keys[{index}].principal", _PRINCIPAL.match(key.principal)
        if found is None:
            sentence = "must be the ARN of the IAM role or user that may read the key"
            yield path, sentence, f"for example arn:{own}:iam::111122223333:role/{key.name}"
        elif found["partition"] != own:
            yield path, f"this principal belongs to {found['partition']}, the region to {own}", "name one of the same partition"
