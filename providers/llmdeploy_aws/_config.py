"""The body of `provider: {aws: {...}}`: forms of single values. What they mean together, `_checks` judges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST_ZONES = 8
"""Zones of a region that a network of the stack's own has room for. No region has more than six."""

ZONE_ID = re.compile(rf"[a-z]+[0-9]+-az[1-{MOST_ZONES}]\Z")
_SMALLEST_PREFIX, _LARGEST_PREFIX = 16, 24


def _zone(value: str) -> str:
    if not ZONE_ID.match(value):
        raise ValueError(
            "must be the id of a zone, such as euc1-az1: its name means another zone in every account"
            " (`aws ec2 describe-availability-zones` lists both)"
        )
    return value


def _network(value: str) -> str:
    try:
        return str(IPv4Network(value))
    except (AddressValueError, NetmaskValueError, ValueError):
        raise ValueError("must be IPv4 addresses such as 10.0.0.0/16, with no bit set behind the prefix") from None


def _vpc_network(value: str) -> str:
    network = _network(value)
    if not _SMALLEST_PREFIX <= IPv4Network(network).prefixlen <= _LARGEST_PREFIX:
        raise ValueError(f"must have a prefix from /{_SMALLEST_PREFIX} to /{_LARGEST_PREFIX}")
    return network


def _key_arn(value: str) -> str:
    if not re.fullmatch(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+", value):
        raise ValueError("must be the ARN of a key: arn:aws:kms:REGION:ACCOUNT:key/ID (an alias can point elsewhere tomorrow)")
    return value


def _parameter(value: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", value):
        raise ValueError("must be the path of an SSM parameter, such as /aws/service/canonical/ubuntu/server/24.04/...")
    return value


def _id(kind: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(rf"{kind}-[0-9a-f]{{8,17}}", value):
            raise ValueError(f"must be an id such as {kind}-0123456789abcdef0")
        return value

    return AfterValidator(check)


def _account(value: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", value):
        raise ValueError('must be the 12 digits of an account, in quotes: "111122223333"')
    return value


def _once(values: tuple[str, ...]) -> tuple[str, ...]:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"must name {value} once, not {count} times")
    return values


Zone = Annotated[str, AfterValidator(_zone)]
SubnetId = Annotated[str, _id("subnet")]


class ExistingVpc(BaseModel):
    """A network that is there already. llmdeploy puts machines and load balancer into it, and changes nothing of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, _id("vpc")] = Field(description="Id of the network.")
    subnets: Mapping[Zone, SubnetId] = Field(
        description="Private subnets by zone id, for the machines and an internal load balancer."
    )
    public_subnets: Mapping[Zone, SubnetId] = Field(
        default_factory=dict[str, str], description="Public subnets by zone id, for a public load balancer."
    )
    route_tables: tuple[Annotated[str, _id("rtb")], ...] = Field(
        default=(), description="Route tables of the private subnets, for the S3 endpoint when egress is endpoints."
    )


class AwsConfig(BaseModel):
    """How the stack lies in AWS."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account_id: Annotated[str, AfterValidator(_account)] | None = Field(
        default=None, description="Number of the only account that the stack may be built in; null: the one of the credentials."
    )
    vpc: ExistingVpc | None = Field(default=None, description="A network that is there already; null: one of the stack's own.")
    cidr: Annotated[str, AfterValidator(_vpc_network)] = Field(
        default="10.64.0.0/20", description="Addresses of the stack's own network."
    )
    availability_zones: Annotated[tuple[Zone, ...], AfterValidator(_once)] = Field(
        default=(), description="Ids of the zones to use, in order; left out: those that offer the instance type."
    )
    egress: Literal["auto", "nat", "endpoints", "none"] = Field(
        default="auto",
        description="How machines reach out: a NAT gateway; only endpoints of AWS services; none: as an existing network allows;"
        " auto: endpoints under a profile that forbids more, else nat, or none in an existing network.",
    )
    public: bool = Field(
        default=False, strict=True, description="Whether the load balancer has public addresses; false: inside the network only."
    )
    allowed_cidrs: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], AfterValidator(_once)] = Field(
        default=(), description="IPv4 addresses that may connect; left out: the stack's own network."
    )
    ami: Annotated[str, _id("ami")] | None = Field(default=None, description="Machine image, pinned; null: see ami_parameter.")
    ami_parameter: Annotated[str, AfterValidator(_parameter)] | None = Field(
        default=None,
        description="SSM parameter that holds the id of the machine image; null: AWS's newest Ubuntu 24.04 with NVIDIA's driver.",
    )
    root_volume_gib: int = Field(default=100, ge=20, le=16_384, strict=True, description="Disk of the system, in GiB.")
    kms_key: Annotated[str, AfterValidator(_key_arn)] | None = Field(
        default=None, description="ARN of a KMS key to use, which is never changed or deleted; null: a key of the stack's own."
    )
    kms_deletion_days: int = Field(
        default=30, ge=7, le=30, strict=True, description="Days between destroy and the end of the stack's own key."
    )
