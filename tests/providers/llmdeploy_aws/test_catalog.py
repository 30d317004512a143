from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from llmdeploy.catalog import Catalog
from llmdeploy.sdk import ProviderError, Quotes
from llmdeploy_aws import _catalog
from tests.providers.llmdeploy_aws.catalog_lab import SECRET_KEY, TOKEN, FakeSession, client, usual

GPUS = Catalog.load(None).gpus
ERRORS: Any = import_module("botocore.exceptions")  # without types


def asked(session: Any, region: str = "eu-central-1") -> Quotes:
    [found] = list(_catalog.quotes(session, [region], GPUS))
    return found


def test_machines_come_with_hardware_zones_and_price() -> None:
    found = asked(usual())
    assert [one.name for one in found.machines] == ["g6e.xlarge", "p4de.24xlarge", "p5e.48xlarge"]
    first = found.machines[0]
    assert (first.gpu, first.gpus, first.gpu_memory_bytes) == (GPUS["l40s"], 1, 45776 * 2**20)
    assert (first.vcpus, first.memory_bytes, first.local_disk_bytes) == (4, 32 * 2**30, 250 * 10**9)
    assert (first.region, first.zones, first.network) == ("eu-central-1", ("euc1-az1", "euc1-az2"), "Up to 20 Gigabit")
    assert first.price is not None
    assert (first.price.usd, first.price.unit, first.price.confidence) == (2.327, "hour", "seen")


def test_the_two_sizes_of_an_a100_are_told_apart_and_fabric_is_counted() -> None:
    found = {one.name: one for one in asked(usual()).machines}
    assert found["p4de.24xlarge"].gpu == GPUS["a100_80"]
    assert (found["p5e.48xlarge"].gpu, found["p5e.48xlarge"].fabric_interfaces) == (GPUS["h200"], 32)


def test_what_is_not_sold_on_demand_has_no_price() -> None:
    found = {one.name: one.price for one in asked(usual()).machines}
    assert found["p5e.48xlarge"] is None


def test_parts_of_gpus_unknown_gpus_and_local_zones_are_left_out() -> None:
    assert {one.name for one in asked(usual()).machines}.isdisjoint({"g6f.large", "g5g.xlarge", "g6.xlarge"})


def test_the_spot_price_is_the_newest_one_of_the_dearest_zone() -> None:
    prices = asked(usual()).prices
    assert {name: price.usd for name, price in prices.items() if name.endswith(".spot")} == {"ec2.g6e.xlarge.spot": 0.85}


def test_other_prices_are_found_by_their_usage_and_turned_into_our_units() -> None:
    prices = {name: (price.usd, price.unit) for name, price in asked(usual()).prices.items() if name.count(".") < 3}
    assert prices["ebs.gp3"] == (0.0952, "GB-month")
    assert prices["ebs.gp3.throughput"] == (0.0476, "MiBps-month")
    assert prices["nlb.lcu_hour"] == (0.006, "LCU-hour")
    assert prices["kms.key_month"] == (1.0, "key-month")


def test_the_first_unit_that_is_not_free_counts() -> None:
    prices = asked(usual()).prices
    assert (prices["logs.gb_ingested"].usd, prices["s3.gb_month"].usd) == (0.63, 0.0245)


def test_a_price_of_which_the_list_has_none_or_two_stays_as_it_was_shipped() -> None:
    prices = asked(usual()).prices
    assert "nat.hour" in prices
    assert "nat.gb" not in prices
    assert "nlb.hour" not in prices


def test_every_name_that_can_be_asked_for_is_one_of_the_catalogue_in_the_same_unit() -> None:
    shipped = Catalog.load(None).prices("aws", "us-east-1")
    assert {name: product.unit for name, product in _catalog.PRODUCTS.items()} == {
        name: shipped[name].unit for name in _catalog.PRODUCTS
    }


@pytest.mark.parametrize(
    ("region", "endpoint"), [("eu-central-1", "eu-central-1"), ("us-west-2", "us-east-1"), ("ap-south-1", "us-east-1")]
)
def test_the_price_list_answers_in_two_regions_only(region: str, endpoint: str) -> None:
    ec2, said = client("ec2", region)
    said.add_client_error("describe_instance_types", "UnauthorizedOperation", http_status_code=403)
    session = FakeSession({"ec2": ec2, "pricing": client("pricing", endpoint)[0]})
    with pytest.raises(ProviderError):
        asked(session, region)
    assert session.asked == [("ec2", region), ("pricing", endpoint)]


@pytest.mark.parametrize(
    ("code", "sentence", "hint"),
    [
        ("UnauthorizedOperation", "access is denied (DescribeInstanceTypes)", "pricing:GetProducts"),
        ("AuthFailure", "the credentials are not valid there", "aws sso login"),
        ("RequestLimitExceeded", "too many calls (DescribeInstanceTypes)", "try again"),
        ("ExpiredToken", "the credentials have expired", "aws sso login"),
        ("OptInRequired", "has not opted into the region", "leave the region out"),
        ("Something", "refused: Something (DescribeInstanceTypes)", "run it again"),
    ],
)
def test_a_refusal_is_one_sentence_without_what_was_sent(code: str, sentence: str, hint: str) -> None:
    ec2, said = client("ec2")
    said.add_client_error("describe_instance_types", code, f"signed with {SECRET_KEY} {TOKEN}", http_status_code=400)
    with pytest.raises(ProviderError) as caught:
        asked(FakeSession({"ec2": ec2, "pricing": client("pricing")[0]}))
    assert caught.value.message.startswith("EC2 in eu-central-1: ")
    assert sentence in caught.value.message
    assert hint in caught.value.hint
    assert "canary" not in caught.value.message + caught.value.hint


class _Broken:
    """A client none of whose calls reaches AWS."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_paginator(self, operation: str) -> Any:
        del operation
        raise self.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ERRORS.NoCredentialsError(), "there are no AWS credentials"),
        (ERRORS.ProfileNotFound(profile="gone"), "the AWS profile cannot be used"),
        (ERRORS.EndpointConnectionError(endpoint_url="https://ec2.invalid"), "no answer"),
        (KeyError("InstanceTypes"), "an answer that cannot be read (KeyError)"),
    ],
)
def test_what_keeps_a_call_from_being_made_is_one_sentence(error: Exception, sentence: str) -> None:
    with pytest.raises(ProviderError, match=r"^EC2 in eu-central-1: ") as caught:
        asked(FakeSession({"ec2": _Broken(error), "pricing": None}))
    assert sentence in caught.value.message


def test_a_denied_price_list_fails_the_whole_region() -> None:
    session = usual()
    pricing, listed = client("pricing")
    listed.add_client_error("get_products", "AccessDeniedException", http_status_code=400)
    session.clients = {**session.clients, "pricing": pricing}
    with pytest.raises(ProviderError, match=r"^the price list, about eu-central-1: access is denied \(GetProducts\)$"):
        asked(session)


def test_the_stubs_are_held_to_the_shapes_of_the_real_service() -> None:
    _, said = client("ec2")
    with pytest.raises(ERRORS.ParamValidationError, match="InstanceTypez"):
        said.add_response("describe_instance_types", {"InstanceTypez": []})
