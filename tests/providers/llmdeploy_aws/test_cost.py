"""The bill of every example, line by line, at prices and a usage that stand here.

`LLMDEPLOY_UPDATE_GOLDEN=1` writes the expected files anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from llmdeploy.prices import Total
from llmdeploy.sdk import CostLine, Price, Tariff, Usage
from llmdeploy_aws import aws
from tests.providers.llmdeploy_aws.stacks import EXAMPLES, WEIGHTS_BYTES, built
from tests.support import ROOT

PRICES: Final[Mapping[str, tuple[float, str]]] = {
    "ec2.g6e.xlarge": (1.861, "hour"),
    "ec2.g6e.xlarge.spot": (0.9, "hour"),
    "ec2.g6e.12xlarge": (10.49264, "hour"),
    "ec2.gr6f.4xlarge": (1.5, "hour"),
    "ec2.p5.48xlarge": (55.04, "hour"),
    "ebs.gp3": (0.08, "GB-month"),
    "ebs.gp3.iops": (0.005, "IOPS-month"),
    "ebs.gp3.throughput": (0.04, "MiBps-month"),
    "nlb.hour": (0.0225, "hour"),
    "nlb.lcu_hour": (0.006, "LCU-hour"),
    "nat.hour": (0.045, "hour"),
    "nat.gb": (0.045, "GB"),
    "endpoint.interface_hour": (0.01, "hour per zone"),
    "endpoint.gb": (0.01, "GB"),
    "kms.key_month": (1.0, "key-month"),
    "kms.10k_requests": (0.03, "10,000 requests"),
    "secrets.secret_month": (0.4, "secret-month"),
    "secrets.10k_calls": (0.05, "10,000 calls"),
    "logs.gb_ingested": (0.5, "GB"),
    "logs.gb_month": (0.03, "GB-month"),
    "s3.gb_month": (0.023, "GB-month"),
    "transfer.out_gb": (0.09, "GB"),
    "transfer.cross_az_gb": (0.02, "GB, both sides"),
    "public_ipv4.hour": (0.005, "hour"),
}
USAGE = Usage(requests=1_000_000, tokens_in=800e6, tokens_out=200e6, weights_bytes=WEIGHTS_BYTES)
TARIFF = Tariff({name: Price(usd, unit, "test") for name, (usd, unit) in PRICES.items()}, USAGE)


def bill(name: str, tariff: Tariff = TARIFF) -> dict[str, list[CostLine]]:
    """Return the lines of an example by address."""
    found = {
        r.address: list(aws.types[r.type].cost(r.values, tariff)) for r in built(EXAMPLES[name])[1].graph if r.provider == "aws"
    }
    return {address: lines for address, lines in found.items() if lines}


def line(name: str, address: str, label: str, tariff: Tariff = TARIFF) -> CostLine:
    (found,) = [one for one in bill(name, tariff)[address] if one.label == label]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_bills_are_as_expected(name: str) -> None:
    rows = [
        {
            "address": address,
            "label": one.label,
            "quantity": round(one.quantity, 4),
            "unit": one.unit,
            "per": one.per,
            "usd_per_month": None if one.usd_per_month is None else round(one.usd_per_month, 2),
            "usd_once": None if one.usd_once is None else round(one.usd_once, 2),
            "note": one.note,
        }
        for address, lines in bill(name).items()
        for one in lines
    ]
    text = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n"
    path = ROOT / "tests/golden/aws" / f"bill-{name}.json"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert path.read_text() == text, f"{path}: run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"


def test_a_development_stack_costs_what_one_reckons_by_hand() -> None:
    total = Total.of(one for lines in bill("dev").values() for one in lines)
    # Machine, disk, NAT gateway with its address, load balancer, key, secret, and the model in the bucket.
    fixed = 730 * (1.861 + 0.045 + 0.005 + 0.0225) + 100 * 0.08 + 1 + 0.4 + 16 * 0.023
    assert total.unpriced == ()
    assert fixed < total.usd_per_month < fixed + 2, "what is left are log lines, requests and capacity units"
    assert total.usd_once == pytest.approx((16 + 10) * 0.045)


def test_the_model_is_fetched_by_every_machine_and_stored_once() -> None:
    label = "model files through the NAT gateway"
    assert line("dev", "aws_nat_gateway.main", label).quantity == 16
    assert line("two-replicas", "aws_nat_gateway.main", label).quantity == 32
    assert line("two-replicas", "aws_nat_gateway.main", label).per == "once"
    assert line("two-replicas", "aws_s3_bucket.weights", "model files in the bucket").quantity == 16


def test_what_stays_in_the_network_costs_no_transfer() -> None:
    labels = {one.label for lines in bill("dev").values() for one in lines}
    assert not labels & {"answers to the internet", "traffic between zones", "public IPv4 addresses of the load balancer"}
    # 200 million tokens of answers at 250 bytes are 46.6 GB.
    assert line("two-replicas", "aws_load_balancer.front", "answers to the internet").quantity == pytest.approx(46.566, abs=0.001)
    assert line("two-replicas", "aws_load_balancer.front", "public IPv4 addresses of the load balancer").quantity == 2
    # Two hops of 50.3 GB, each of them half the time into the other zone.
    assert line("two-replicas", "aws_load_balancer.front", "traffic between zones").quantity == pytest.approx(50.291, abs=0.001)


def test_endpoints_are_paid_in_each_zone_instead_of_a_nat_gateway() -> None:
    found = bill("airgapped")
    assert "aws_nat_gateway.main" not in found
    assert "aws_vpc_endpoint.s3" not in found, "endpoints for S3 are free"
    hours = [one.quantity for lines in found.values() for one in lines if one.unit == "hour per zone"]
    assert hours == [3] * 6


def test_disks_pay_only_for_what_is_above_what_is_free() -> None:
    labels = [one.label for one in bill("two-replicas")["aws_instance.node-0"]]
    assert labels == ["gr6f.4xlarge", "root disk", "data disk"]
    kind = aws.types["aws_instance"]
    values = dict(built(EXAMPLES["two-replicas"])[1].graph["aws_instance.node-0"].values)
    root, data = values["block_device_mappings"]
    fast = {**data, "ebs": {**data["ebs"], "iops": 4000, "throughput": 1000}}
    lines = {one.label: one.quantity for one in kind.cost({**values, "block_device_mappings": [root, fast]}, TARIFF)}
    assert lines["operations of the data disk"] == 1000
    assert lines["throughput of the data disk"] == 875


def test_spot_machines_have_the_price_of_spot_machines() -> None:
    assert line("gdpr", "aws_instance.node-0", "g6e.xlarge (spot)").usd_per_unit == 0.9


def test_a_key_of_somebody_else_costs_its_use_only() -> None:
    assert [one.label for one in bill("gdpr")["aws_existing_key.main"]] == ["requests to the KMS key"]
    assert [one.label for one in bill("dev")["aws_kms_key.main"]] == ["KMS key", "requests to the KMS key"]


def test_without_prices_lines_are_unknown_and_never_zero() -> None:
    lines = [one for found in bill("dev", Tariff(usage=USAGE)).values() for one in found]
    assert lines
    assert all(one.usd_per_month is None for one in lines)


def test_without_usage_what_depends_on_it_is_zero_and_the_rest_is_not() -> None:
    idle = replace(TARIFF, usage=Usage())
    zero = {one.label for lines in bill("two-replicas", idle).values() for one in lines if one.quantity == 0}
    assert zero == {
        "answers to the internet",
        "capacity units of the load balancer",
        "log lines kept",
        "log lines taken in",
        "model files in the bucket",
        "model files through the NAT gateway",
        "traffic between zones",
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_lines_that_rest_on_an_assumption_say_so(name: str) -> None:
    for lines in bill(name).values():
        for one in lines:
            if one.label in ("log lines taken in", "capacity units of the load balancer", "reads of API keys"):
                assert "assumed" in one.note


def test_every_price_that_is_asked_for_is_one_that_the_catalogue_knows() -> None:
    from llmdeploy.catalog import Catalog

    known = Catalog.load(None).prices("aws", "eu-central-1", {})
    asked = {name for name in PRICES if not name.startswith("ec2.")}
    assert asked <= known.keys()
