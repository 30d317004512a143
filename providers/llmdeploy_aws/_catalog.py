"""What AWS offers and asks for today: machines with GPUs by its EC2 API, prices by its price list."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from llmdeploy.sdk import Gpu, MachineType, Price, ProviderError, Quotes

SOURCE = "AWS price list and EC2 API"
FAMILIES = ("g*", "p*")
"""Patterns of the instance types that may have a GPU of NVIDIA."""

_PRICE_LISTS = ("us-east-1", "eu-central-1")
"""Regions whose endpoint answers for the prices of all; the second for regions of Europe, so that a call need not leave it."""

_TRIES = 5
_LOG_IN = "log in (`aws sso login`), or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_NEEDS = "the caller needs pricing:GetProducts, ec2:DescribeInstanceTypes, ec2:DescribeInstanceTypeOfferings and"
_PERMISSIONS = f"{_NEEDS} ec2:DescribeSpotPriceHistory"
_GPUS: Mapping[str, str] = {
    "T4": "t4",
    "A10G": "a10g",
    "L4": "l4",
    "L40S": "l40s",
    "RTX PRO 4500": "rtx_pro_4500",
    "RTX PRO Server 6000": "rtx_pro_6000",
    "H100": "h100_sxm",
    "H200": "h200",
    "B200": "b200",
    "B300": "b300",
}
"""Name in the EC2 API -> name in the catalogue. The A100 has two sizes under one name."""


@dataclass(frozen=True)
class Product:
    """Where the price list has one price.

    usage: its usage type, without the region in front. unit: ours, in words; share: how much of the list's own unit that is.
    """

    service: str
    filters: Mapping[str, str]
    usage: str
    unit: str
    share: float = 1.0


PRODUCTS: Mapping[str, Product] = {
    "ebs.gp3": Product("AmazonEC2", {"productFamily": "Storage", "volumeApiName": "gp3"}, "EBS:VolumeUsage.gp3", "GB-month"),
    "ebs.gp3.iops": Product(
        "AmazonEC2", {"productFamily": "System Operation", "volumeApiName": "gp3"}, "EBS:VolumeP-IOPS.gp3", "IOPS-month"
    ),
    "ebs.gp3.throughput": Product(
        "AmazonEC2",
        {"productFamily": "Provisioned Throughput", "volumeApiName": "gp3"},
        "EBS:VolumeP-Throughput.gp3",
        "MiBps-month",
        1 / 1024,  # the list has GiBps
    ),
    "nat.hour": Product("AmazonEC2", {"productFamily": "NAT Gateway", "operation": "NatGateway"}, "NatGateway-Hours", "hour"),
    "nat.gb": Product("AmazonEC2", {"productFamily": "NAT Gateway", "operation": "NatGateway"}, "NatGateway-Bytes", "GB"),
    "nlb.hour": Product("AWSELB", {"productFamily": "Load Balancer-Network"}, "LoadBalancerUsage", "hour"),
    "nlb.lcu_hour": Product("AWSELB", {"productFamily": "Load Balancer-Network"}, "LCUUsage", "LCU-hour"),
    "endpoint.interface_hour": Product("AmazonVPC", {"productFamily": "VpcEndpoint"}, "VpcEndpoint-Hours", "hour per zone"),
    "endpoint.gb": Product("AmazonVPC", {"productFamily": "VpcEndpoint"}, "VpcEndpoint-Bytes", "GB"),
    "public_ipv4.hour": Product("AmazonVPC", {"group": "VPCPublicIPv4Address"}, "PublicIPv4:InUseAddress", "hour"),
    "kms.key_month": Product("awskms", {"productFamily": "Encryption Key"}, "KMS-Keys", "key-month"),
    "secrets.secret_month": Product(
        "AWSSecretsManager", {"productFamily": "Secret"}, "AWSSecretsManager-Secrets", "secret-month"
    ),
    "logs.gb_ingested": Product("AmazonCloudWatch", {"productFamily": "Data Payload"}, "DataProcessing-Bytes", "GB"),
    "logs.gb_month": Product("AmazonCloudWatch", {"productFamily": "Storage Snapshot"}, "TimedStorage-ByteHrs", "GB-month"),
    "s3.gb_month": Product(
        "AmazonS3", {"productFamily": "Storage", "volumeType": "Standard"}, "TimedStorage-ByteHrs", "GB-month"
    ),
}
"""Names of prices that can be asked for. Data transfer and calls by the thousand are tiered, and stay as they are shipped."""


def session() -> Any:
    """Return a session with the credentials that every tool of AWS would take. Imports boto3.

    Raises:
        ProviderError: the profile that is asked for does not exist.
    """
    with _told("the credentials of AWS"):
        return import_module("boto3.session").Session()


def quotes(session: Any, regions: Sequence[str], gpus: Mapping[str, Gpu]) -> Iterator[Quotes]:
    """Yield what AWS offers in each region. gpus: the catalogue's, by name; machines with others are left out.

    Raises:
        ProviderError: a region cannot be asked: no credentials, no permission, no answer.
    """
    for region in regions:
        endpoint = _PRICE_LISTS[region.startswith("eu-")]
        yield region_quotes(_client(session, "ec2", region), _client(session, "pricing", endpoint), region, gpus)


def region_quotes(ec2: Any, pricing: Any, region: str, gpus: Mapping[str, Gpu]) -> Quotes:
    """Ask two clients about one region."""
    with _told(f"EC2 in {region}"):
        kinds = {row["InstanceType"]: row for row in _pages(ec2, "describe_instance_types", "InstanceTypes", Filters=_types())}
        zones = _zones(ec2)
        known = {name: row for name, row in kinds.items() if zones.get(name) and _gpu(row, gpus) is not None}
        spot = _spot(ec2, sorted(known)) if known else {}
    with _told(f"the price list, about {region}"):
        on_demand = _on_demand(pricing, region)
        prices = {name: price for name, product in PRODUCTS.items() if (price := _listed(pricing, region, product))}
    machines = tuple(_machine(known[name], zones[name], gpus, on_demand.get(name), region) for name in sorted(known))
    prices |= {f"ec2.{name}.spot": _price(usd, "hour") for name, usd in sorted(spot.items())}
    return Quotes(region, SOURCE, machines, prices)


# --- EC2 ---------------------------------------------------------------------------------------------------------------------


def _types() -> list[dict[str, Any]]:
    return [{"Name": "instance-type", "Values": list(FAMILIES)}]


def _zones(ec2: Any) -> dict[str, list[str]]:
    """Return the ids of the zones of each type, without local ones."""
    offered = _pages(
        ec2, "describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="availability-zone-id", Filters=_types()
    )
    found: dict[str, list[str]] = {}
    for row in offered:
        if row["Location"].count("-") == 1:
            found.setdefault(row["InstanceType"], []).append(row["Location"])
    return {name: sorted(zones) for name, zones in found.items()}


def _spot(ec2: Any, names: Sequence[str]) -> dict[str, float]:
    """Return what a machine that may be taken away costs now in the dearest of its zones: a plan should not depend on luck."""
    rows = _pages(
        ec2,
        "describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=list(names),
        ProductDescriptions=["Linux/UNIX"],
        StartTime=datetime.now(UTC),
    )
    newest: dict[tuple[str, str], tuple[datetime, float]] = {}
    for row in rows:
        key, said = (row["InstanceType"], row["AvailabilityZone"]), (row["Timestamp"], float(row["SpotPrice"]))
        newest[key] = max(newest.get(key, said), said)
    found: dict[str, float] = {}
    for (name, _), (_, usd) in newest.items():
        found[name] = max(found.get(name, 0.0), usd)
    return found


def _gpu(row: Mapping[str, Any], gpus: Mapping[str, Gpu]) -> Gpu | None:
    """Return the GPU of an instance type; None when it is only a part of one, of several kinds, or unknown."""
    cards = row.get("GpuInfo", {}).get("Gpus", [])
    if len(cards) != 1 or not cards[0].get("Count"):
        return None
    name = str(cards[0].get("Name", ""))
    if name == "A100":
        return gpus.get("a100_80" if cards[0]["MemoryInfo"]["SizeInMiB"] > 50_000 else "a100_40")
    return gpus.get(_GPUS.get(name, ""))


def _machine(
    row: Mapping[str, Any], zones: Sequence[str], gpus: Mapping[str, Gpu], usd: float | None, region: str
) -> MachineType:
    card, network = row["GpuInfo"]["Gpus"][0], row.get("NetworkInfo", {})
    return MachineType(
        name=row["InstanceType"],
        gpu=_gpu(row, gpus),
        gpus=card["Count"],
        gpu_memory_bytes=card["MemoryInfo"]["SizeInMiB"] * 2**20,
        vcpus=row["VCpuInfo"]["DefaultVCpus"],
        memory_bytes=row["MemoryInfo"]["SizeInMiB"] * 2**20,
        local_disk_bytes=row.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0) * 10**9,
        price=None if usd is None else _price(usd, "hour"),
        region=region,
        zones=tuple(zones),
        network=network.get("NetworkPerformance", ""),
        fabric_interfaces=network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0),
    )


# --- the price list ------------------------------------------------------------------------------------------------------------


def _on_demand(pricing: Any, region: str) -> dict[str, float]:
    """Return USD per hour of every instance type with a GPU: Linux, shared tenancy, nothing installed."""
    filters = {
        "regionCode": region,
        "instanceFamily": "GPU instance",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    }
    products = list(_products(pricing, "AmazonEC2", filters))
    found = {product["product"]["attributes"]["instanceType"]: _first_tier(product) for product in products}
    return {name: usd for name, usd in found.items() if usd}


def _listed(pricing: Any, region: str, product: Product) -> Price | None:
    """Return one price; None when the list has none or several that differ."""
    usage = re.compile(rf"([A-Z]{{2,4}}[0-9]?-|{region}-)?{re.escape(product.usage)}")
    listed = _products(pricing, product.service, {"regionCode": region, **product.filters})
    found = {usd * product.share for one in listed if usage.fullmatch(_usage(one)) and (usd := _first_tier(one))}
    return _price(found.pop(), product.unit) if len(found) == 1 else None


def _products(pricing: Any, service: str, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    terms = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in filters.items()]
    for text in _pages(pricing, "get_products", "PriceList", ServiceCode=service, Filters=terms):
        yield json.loads(text)


def _usage(product: Mapping[str, Any]) -> str:
    return str(product["product"]["attributes"].get("usagetype", ""))


def _first_tier(product: Mapping[str, Any]) -> float | None:
    """Return USD of the first unit on demand that is not free."""
    terms: Iterable[Mapping[str, Any]] = product.get("terms", {}).get("OnDemand", {}).values()
    tiers = [
        (float(tier.get("beginRange") or 0), float(tier["pricePerUnit"]["USD"]))
        for term in terms
        for tier in term["priceDimensions"].values()
        if "USD" in tier["pricePerUnit"]
    ]
    return next((usd for _, usd in sorted(tiers) if usd > 0), None)


def _price(usd: float, unit: str) -> Price:
    return Price(round(usd, 8), unit, SOURCE, "", "seen")


# --- calls ---------------------------------------------------------------------------------------------------------------------


def _client(session: Any, service: str, region: str) -> Any:
    with _told(f"{service} in {region}"):
        retries = {"mode": "standard", "total_max_attempts": _TRIES}
        config = import_module("botocore.config").Config(connect_timeout=5, read_timeout=30, retries=retries)
        return session.client(service, region_name=region, config=config)


def _pages(client: Any, operation: str, result: str, **arguments: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page[result]


@contextmanager
def _told(place: str) -> Generator[None]:
    """Tell every failure of a call in one sentence, without what AWS says about the request that it got."""
    exceptions: Any = import_module("botocore.exceptions")
    try:
        yield
    except exceptions.ClientError as error:
        raise _refused(error, place) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError):
        raise ProviderError(f"{place}: there are no AWS credentials", hint=_LOG_IN) from None
    except (exceptions.ProfileNotFound, exceptions.SSOError, exceptions.TokenRetrievalError):
        raise ProviderError(f"{place}: the AWS profile cannot be used, or its login has ended", hint=_LOG_IN) from None
    except (exceptions.ConnectionError, exceptions.HTTPClientError, OSError):
        hint = "check the network, HTTPS_PROXY and the name of the region"
        raise ProviderError(f"{place}: no answer", hint=hint, retryable=True) from None
    except (exceptions.BotoCoreError, KeyError, ValueError, TypeError) as error:
        raise ProviderError(f"{place}: an answer that cannot be read ({type(error).__name__})", hint="update llmdeploy") from None


def _refused(error: Any, place: str) -> ProviderError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    said: Mapping[str, tuple[str, str]] = {
        "AccessDeniedException": ("access is denied", _PERMISSIONS),
        "AccessDenied": ("access is denied", _PERMISSIONS),
        "UnauthorizedOperation": ("access is denied", _PERMISSIONS),
        "OptInRequired": ("the account has not opted into the region", "enable it, or leave the region out"),
        "AuthFailure": ("the credentials are not valid there", _LOG_IN),
        "UnrecognizedClientException": ("the credentials are not valid there", _LOG_IN),
        "InvalidClientTokenId": ("the credentials are not valid there", _LOG_IN),
        "InvalidSignatureException": ("the secret access key is wrong", _LOG_IN),
        "SignatureDoesNotMatch": ("the secret access key is wrong", _LOG_IN),
        "ExpiredToken": ("the credentials have expired", _LOG_IN),
        "ExpiredTokenException": ("the credentials have expired", _LOG_IN),
        "RequestExpired": ("the credentials have expired, or the clock of this machine is wrong", _LOG_IN),
    }
    busy = ("ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException")
    if code in busy:
        return ProviderError(f"{place}: too many calls ({error.operation_name})", hint="try again in a minute", retryable=True)
    sentence, hint = said.get(code, (f"refused: {code or 'no reason given'}", "run it again, or name other regions"))
    return ProviderError(f"{place}: {sentence} ({error.operation_name})", hint=hint)
