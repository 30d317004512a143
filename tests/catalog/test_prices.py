from __future__ import annotations

from datetime import date

import pytest

from llmdeploy.catalog import Catalog, hosted, shipped, unit_prices
from llmdeploy.catalog.strict import check

CATALOG = Catalog.load(None)
AWS = unit_prices.providers()["aws"]
REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-central-1", "eu-west-1", "eu-west-3", "eu-north-1")


# --- unit prices ---------------------------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    assert list(check(AWS, unit_prices.ProviderPrices)) == []
    rows = [row for table in (AWS["everywhere"], *AWS["regions"].values()) for row in table.values()]
    assert all(row["basis"] in AWS["bases"] and row["usd"] > 0 for row in rows)
    assert {name for table in (AWS["everywhere"], *AWS["regions"].values()) for name in table} == set(AWS["units"])


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_of_the_table_has_every_price(region: str) -> None:
    assert set(AWS["units"]) <= set(CATALOG.prices("aws", region))
    assert CATALOG.priced_regions("aws") == tuple(sorted(REGIONS))


@pytest.mark.parametrize(
    ("name", "region", "usd", "unit"),
    [
        ("ebs.gp3", "us-east-1", 0.08, "GB-month"),
        ("ebs.gp3", "eu-central-1", 0.0952, "GB-month"),
        ("ebs.gp3", "eu-west-1", 0.088, "GB-month"),
        ("nat.hour", "us-east-1", 0.045, "hour"),
        ("nat.hour", "eu-central-1", 0.052, "hour"),
        ("nat.gb", "eu-west-1", 0.048, "GB"),
        ("nlb.hour", "us-east-1", 0.0225, "hour"),
        ("endpoint.interface_hour", "eu-west-1", 0.011, "hour per zone"),
        ("logs.gb_ingested", "eu-central-1", 0.63, "GB"),
        ("kms.key_month", "us-east-1", 1.0, "key-month"),
        ("secrets.secret_month", "us-east-1", 0.4, "secret-month"),
        ("transfer.out_gb", "eu-north-1", 0.09, "GB"),
    ],
)
def test_prices_that_were_seen(name: str, region: str, usd: float, unit: str) -> None:
    price = CATALOG.prices("aws", region)[name]
    assert (price.usd, price.unit, price.confidence) == (usd, unit, "seen")
    assert price.source


def test_what_nobody_checked_says_so() -> None:
    found = CATALOG.prices("aws", "eu-north-1")
    assert found["nlb.hour"].confidence == "unverified"
    assert {price.confidence for price in found.values() if price.source == "from memory"} == {"unverified"}


def test_a_region_without_a_row_has_no_price_but_those_that_hold_everywhere() -> None:
    found = CATALOG.prices("aws", "ap-southeast-1")
    assert "ebs.gp3" not in found
    assert (found["kms.key_month"].usd, found["kms.key_month"].confidence) == (1.0, "unverified")


def test_machines_are_among_the_prices_by_the_name_of_their_kind() -> None:
    found = CATALOG.prices("aws", "us-east-1")
    assert found["ec2.g6e.xlarge"].usd == 1.861
    assert not [name for name in found if name.endswith(".spot")]


def test_own_machines_cost_only_what_their_owner_says() -> None:
    assert CATALOG.prices("hosts", None) == CATALOG.prices("local", "de") == {}
    own = CATALOG.prices("hosts", "de", {"machine.purchase": 21000, "power.kwh": 0.24})
    assert {name: (price.usd, price.unit, price.source) for name, price in own.items()} == {
        "machine.purchase": (21000, "machine", "prices in the stack file"),
        "power.kwh": (0.24, "kWh", "prices in the stack file"),
    }
    assert CATALOG.price_names("hosts") == {
        "machine.purchase", "machine.months", "machine.watts", "power.kwh", "colocation.machine_month",
    }  # fmt: skip


def test_a_price_of_the_stack_file_wins_and_keeps_its_unit() -> None:
    found = CATALOG.prices("aws", "us-east-1", {"ebs.gp3": 0.05, "ec2.g6e.xlarge": 1.0})
    assert (found["ebs.gp3"].usd, found["ebs.gp3"].unit) == (0.05, "GB-month")
    assert (found["ec2.g6e.xlarge"].usd, found["ec2.g6e.xlarge"].unit) == (1.0, "hour")


def test_the_names_of_prices_are_those_of_the_table_and_of_the_machines() -> None:
    names = CATALOG.price_names("aws")
    assert {"ebs.gp3", "nat.gb", "ec2.g6e.xlarge", "ec2.g6e.xlarge.spot"} <= names
    assert "ec2.t3.micro" not in names


# --- hosted models -------------------------------------------------------------------------------------------------------------


def test_every_hosted_row_is_whole() -> None:
    for name, row in shipped.table("hosted")["hosted"].items():
        assert list(check(row, hosted.HostedRow)) == [], name
        assert row["input"] > 0
        assert row["output"] > 0
        assert row["cached"] is None or row["cached"] < row["input"]


@pytest.mark.parametrize(
    ("name", "provider", "prices"),
    [
        ("claude-sonnet-4.6", "anthropic", (3, 0.3, 15)),
        ("claude-haiku-4.5", "anthropic", (1, 0.1, 5)),
        ("claude-opus-4.6", "anthropic", (5, 0.5, 25)),
        ("gpt-5", "openai", (1.25, 0.125, 10)),
        ("gpt-4o", "openai", (2.5, 1.25, 10)),
        ("gpt-4o-mini", "openai", (0.15, 0.075, 0.6)),
        ("gpt-4", "openai", (30, None, 60)),
        ("gpt-3.5-turbo", "openai", (0.5, None, 1.5)),
        ("gemini-2.5-flash", "google", (0.3, 0.03, 2.5)),
        ("gemini-2.5-flash-lite", "google", (0.1, 0.01, 0.4)),
        ("llama-3.3-70b-together", "together", (1.04, None, 1.04)),
        ("llama-3.3-70b-fireworks", "fireworks", (0.9, None, 0.9)),
        ("llama-3.3-70b-bedrock", "bedrock", (0.72, None, 0.72)),
        ("llama-3.3-70b-deepinfra", "deepinfra", (0.23, None, 0.4)),
    ],
)
def test_hosted_prices_per_million_tokens(name: str, provider: str, prices: tuple[float, float | None, float]) -> None:
    one = CATALOG.hosted[name]
    assert (one.provider, (one.input, one.cached, one.output)) == (provider, prices)
    assert one.source.startswith("litellm 1.110.2 price table, ")
    assert (one.as_of, one.confidence) == ("2026-11-30", "seen")


def test_a_model_that_was_switched_off_says_when() -> None:
    assert (CATALOG.hosted["gpt-4"].ends, CATALOG.hosted["claude-sonnet-4.6"].ends) == ("2026-10-23", "")


# --- age -----------------------------------------------------------------------------------------------------------------------


def test_a_table_is_as_old_as_its_oldest_figure() -> None:
    for table in ("instances", "unit_prices"):
        document = shipped.table(table)
        dates = [basis["as_of"] for basis in document["providers"]["aws"]["bases"].values() if basis["as_of"]]
        assert document["as_of"] == min(dates)


def test_a_table_older_than_ninety_days_is_told_and_no_younger_one() -> None:
    assert CATALOG.stale(date(2026, 7, 30)) == ()
    assert CATALOG.stale(date(2026, 7, 31)) == ("the catalogue's figures of other prices are of 2026-05-01, 91 days old",)
    assert CATALOG.stale(date(2026, 10, 18)) == CATALOG.stale(date(2026, 10, 18), "aws", "us-east-1")
    assert len(CATALOG.stale(date(2026, 10, 19))) == 2
    assert len(CATALOG.stale(date(2027, 3, 1))) == 5
