"""A session of AWS whose clients answer from a script, in the shapes of the real services: the Stubber holds them to these."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from typing import Any

STUB: Any = import_module("botocore.stub")  # without types
SECRET_KEY = "canary/SECRET+access=key/of/forty/characters"
TOKEN = "canary-session-token"
TYPES = [{"Name": "instance-type", "Values": ["g*", "p*"]}]


def instance(name: str, gpu: str, count: int, mib: int, **more: Any) -> dict[str, Any]:
    """Return one row of DescribeInstanceTypes."""
    row: dict[str, Any] = {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 4, "DefaultCores": 2, "DefaultThreadsPerCore": 2},
        "MemoryInfo": {"SizeInMiB": 32768},
        "GpuInfo": {
            "Gpus": [{"Name": gpu, "Manufacturer": "NVIDIA", "Count": count, "MemoryInfo": {"SizeInMiB": mib}}],
            "TotalGpuMemoryInMiB": mib * max(count, 1),
        },
        "InstanceStorageInfo": {"TotalSizeInGB": 250, "Disks": [{"SizeInGB": 250, "Count": 1, "Type": "ssd"}]},
        "NetworkInfo": {"NetworkPerformance": "Up to 20 Gigabit", "EfaSupported": False},
    }
    return {**row, **more}


def product(attributes: Mapping[str, str], usd: str | Sequence[tuple[str, str]], unit: str = "Hrs") -> str:
    """Return one item of the price list, as GetProducts has it: a text of JSON. usd: one price, or (beginRange, price) pairs."""
    tiers = [("0", usd)] if isinstance(usd, str) else usd
    dimensions: dict[str, Any] = {
        f"SKU.JRTCKXETXF.{number}": {
            "rateCode": f"SKU.JRTCKXETXF.{number}",
            "unit": unit,
            "beginRange": begin,
            "endRange": "Inf",
            "description": "in words",
            "appliesTo": [],
            "pricePerUnit": {"USD": price},
        }
        for number, (begin, price) in enumerate(tiers)
    }
    sold = {"sku": "SKU", "effectiveDate": "2026-11-01T00:00:00Z", "offerTermCode": "JRTCKXETXF"}
    term: dict[str, Any] = {"priceDimensions": dimensions, **sold}
    return json.dumps(
        {
            "product": {"productFamily": "any", "attributes": dict(attributes), "sku": "SKU"},
            "serviceCode": "any",
            "terms": {"OnDemand": {"SKU.JRTCKXETXF": term}, "Reserved": {}},
            "version": "20261101000000",
            "publicationDate": "2026-11-01T00:00:00Z",
        }
    )


def client(service: str, region: str = "eu-central-1") -> tuple[Any, Any]:
    """Return a client with credentials that must never be seen again, and its script."""
    made: Any = _session().client(service, region_name=region)
    stubber = STUB.Stubber(made)
    stubber.activate()
    return made, stubber


@cache
def _session() -> Any:
    boto3: Any = import_module("boto3.session")
    return boto3.Session(aws_access_key_id="AKIACANARYCANARYCANA", aws_secret_access_key=SECRET_KEY, aws_session_token=TOKEN)


class FakeSession:
    """Stands for a session: gives out the clients of a script, and notes for which regions they were asked."""

    def __init__(self, clients: Mapping[str, Any]) -> None:
        self.clients = clients
        self.asked: list[tuple[str, str]] = []

    def client(self, service: str, region_name: str, config: Any) -> Any:
        """Return the client of a service."""
        assert config.retries == {"mode": "standard", "total_max_attempts": 5}
        self.asked.append((service, region_name))
        return self.clients[service]


def script(
    products: Mapping[str, Sequence[str]], on_demand: Mapping[str, str], spot: Sequence[tuple[str, str, str, int]]
) -> FakeSession:
    """Return a session that answers for one region.

    products: name of a price -> items of the list; on_demand: instance type -> USD; spot: type, zone, USD, hour of the day.
    """
    from llmdeploy_aws._catalog import PRODUCTS

    ec2, said = client("ec2")
    first = [instance("g6e.xlarge", "L40S", 1, 45776), instance("g6f.large", "L4", 0, 2861)]
    second = [
        instance("p4de.24xlarge", "A100", 8, 81920),
        instance("g5g.xlarge", "T4g", 1, 16384),
        instance(
            "p5e.48xlarge",
            "H200",
            8,
            144384,
            NetworkInfo={"NetworkPerformance": "3200 Gigabit", "EfaInfo": {"MaximumEfaInterfaces": 32}},
        ),
        instance("g6.xlarge", "L4", 1, 22888),
    ]
    said.add_response("describe_instance_types", {"InstanceTypes": first, "NextToken": "more"}, {"Filters": TYPES})
    said.add_response("describe_instance_types", {"InstanceTypes": second}, {"Filters": TYPES, "NextToken": "more"})
    zones = [("g6e.xlarge", "euc1-az2"), ("g6e.xlarge", "euc1-az1"), ("g6f.large", "euc1-az1"), ("g5g.xlarge", "euc1-az1"),
             ("p4de.24xlarge", "euc1-az3"), ("p5e.48xlarge", "euc1-az1"), ("g6.xlarge", "euc1-ham1-az1")]  # fmt: skip
    offered = [{"InstanceType": name, "LocationType": "availability-zone-id", "Location": zone} for name, zone in zones]
    said.add_response(
        "describe_instance_type_offerings",
        {"InstanceTypeOfferings": offered},
        {"LocationType": "availability-zone-id", "Filters": TYPES},
    )
    history = [
        {"InstanceType": name, "AvailabilityZone": zone, "SpotPrice": usd, "ProductDescription": "Linux/UNIX",
         "Timestamp": datetime(2026, 11, 30, hour, tzinfo=UTC)}
        for name, zone, usd, hour in spot
    ]  # fmt: skip
    asked = {
        "InstanceTypes": ["g6e.xlarge", "p4de.24xlarge", "p5e.48xlarge"],
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": STUB.ANY,
    }
    said.add_response("describe_spot_price_history", {"SpotPriceHistory": history}, asked)
    pricing, prices = client("pricing")
    items = [product({"instanceType": name, "usagetype": f"EUC1-BoxUsage:{name}"}, usd) for name, usd in on_demand.items()]
    prices.add_response("get_products", {"PriceList": items}, {"ServiceCode": "AmazonEC2", "Filters": STUB.ANY})
    for name, one in PRODUCTS.items():
        filters = {"regionCode": "eu-central-1", **one.filters}
        expected = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()]
        prices.add_response(
            "get_products", {"PriceList": list(products.get(name, ()))}, {"ServiceCode": one.service, "Filters": expected}
        )
    return FakeSession({"ec2": ec2, "pricing": pricing})


def usual() -> FakeSession:
    """Return the session that most tests use."""
    return script(
        products={
            "ebs.gp3": [listed("EBS:VolumeUsage.gp3", "0.0952000000", "GB-Mo"), listed("EBS:VolumeUsage.gp3.outposts", "9.0")],
            "ebs.gp3.throughput": [listed("EBS:VolumeP-Throughput.gp3", "48.7424", "GiBps-mo")],
            "nlb.lcu_hour": [listed("LCUUsage", "0.006"), listed("ReservedLCUUsage", "0.007")],
            "nat.hour": [listed("NatGateway-Hours", "0.052")],
            "nat.gb": [listed("NatGateway-Bytes", "0.052"), listed("NatGateway-Bytes", "0.06")],
            "kms.key_month": [product({"usagetype": "eu-central-1-KMS-Keys"}, "1.0")],
            "logs.gb_ingested": [listed("DataProcessing-Bytes", [("0", "0"), ("5", "0.63")])],
            "s3.gb_month": [listed("TimedStorage-ByteHrs", [("512000", "0.0225"), ("0", "0.0245"), ("51200", "0.0235")])],
        },
        on_demand={"g6e.xlarge": "2.3270000000", "p4de.24xlarge": "34.29122", "g6f.large": "0.25"},
        spot=[
            ("g6e.xlarge", "eu-central-1a", "0.90", 6),
            ("g6e.xlarge", "eu-central-1a", "0.80", 8),
            ("g6e.xlarge", "eu-central-1b", "0.85", 7),
        ],
    )


def listed(usage: str, usd: str | Sequence[tuple[str, str]], unit: str = "Hrs") -> str:
    """Return an item of the price list for Frankfurt, by what its usage is called."""
    return product({"usagetype": f"EUC1-{usage}"}, usd, unit)
