"""The table of countries, regions and servers: nothing is told from how a name begins or ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import botocore  # pyright: ignore[reportMissingTypeStubs]
import pytest

from llmdeploy.catalog.strict import check
from llmdeploy.compliance.places import SHELF_LIFE, Document, Places
from llmdeploy.policy import Residency

PLACES = Places.load()
EU = [
    "AT",
    "BE",
    "BG",
    "CY",
    "CZ",
    "DE",
    "DK",
    "EE",
    "ES",
    "FI",
    "FR",
    "GR",
    "HR",
    "HU",
    "IE",
    "IT",
    "LT",
    "LU",
    "LV",
    "MT",
    "NL",
    "PL",
    "PT",
    "RO",
    "SE",
    "SI",
    "SK",
]


def offered_regions() -> Iterator[str]:
    """Yield the name of every region that the installed cloud library knows, in every partition."""
    folder = Path(botocore.__file__).parent / "data"
    for name in ("endpoints.json", "partitions.json"):
        partitions: list[Mapping[str, Any]] = json.loads((folder / name).read_bytes())["partitions"]
        for partition in partitions:
            yield from (region for region in partition["regions"] if not region.endswith("-global"))


# --- the file ------------------------------------------------------------------------------------------------------------------


def test_the_table_has_the_form_that_the_code_reads() -> None:
    assert list(check(PLACES.document, Document)) == []


def test_every_part_has_a_date_and_what_is_not_unverified_has_a_source() -> None:
    parts = list(PLACES.parts())
    assert len(parts) == len({(part.table, part.about) for part in parts})
    for part in parts:
        assert date.fromisoformat(part.dated["as_of"]) <= PLACES.as_of, part
        assert bool(part.dated["source"]) == (part.dated["status"] != "unverified"), part


def test_every_country_of_the_table_is_a_code_of_iso_3166() -> None:
    known = set(PLACES.document["countries"])
    assert len(known) == 249
    named = {country for union in PLACES.document["unions"].values() for country in union["countries"]}
    named |= set(PLACES.document["adequacy"]) | {one["country"] for one in PLACES.document["servers"]}
    for processor in PLACES.document["processors"].values():
        named |= {processor["parent"]["country"], *processor["regions"]["countries"].values()}
    assert named <= known
    assert not known & {"UK", "EU", "EL", "XK"}


def test_the_table_is_read_once() -> None:
    assert Places.load().document is PLACES.document


# --- regions -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", sorted(set(offered_regions())))
def test_every_region_that_is_offered_has_a_country_or_is_known_to_have_none(region: str) -> None:
    regions = PLACES.document["processors"]["aws"]["regions"]
    assert (region in regions["countries"]) != (region in regions["unknown"])


@pytest.mark.parametrize(
    ("region", "country"),
    [
        ("eu-west-2", "GB"),
        ("eu-central-2", "CH"),
        ("eu-isoe-west-1", None),
        ("eusc-de-east-1", "DE"),
        ("eu-central-1", "DE"),
        ("eu-south-2", "ES"),
        ("ap-east-1", "HK"),
        ("us-gov-east-1", "US"),
    ],
)
def test_a_region_has_the_country_of_the_table(region: str, country: str | None) -> None:
    assert PLACES.country_of(region, "aws") == country


@pytest.mark.parametrize("region", ["eu-central-9", "eu-", "eu", "EU-CENTRAL-1", " eu-central-1", "eu-central-1a", "DE", ""])
def test_a_name_that_only_looks_like_a_region_has_no_country(region: str) -> None:
    assert PLACES.country_of(region, "aws") is None


@pytest.mark.parametrize(("region", "country"), [("DE", "DE"), ("NO", "NO"), ("GB", "GB")])
def test_the_region_of_ones_own_machine_is_a_country(region: str, country: str) -> None:
    assert PLACES.country_of(region, "") == country


@pytest.mark.parametrize("region", ["UK", "EU", "de", "eu-central-1", "cellar", "DEU", "site", ""])
def test_a_label_of_ones_own_machine_is_no_country(region: str) -> None:
    assert PLACES.country_of(region, "") is None


def test_a_processor_that_the_table_does_not_know_tells_nothing() -> None:
    assert PLACES.country_of("eu-central-1", "acme") is None
    assert PLACES.parent("acme") is None
    assert PLACES.eligible("hipaa", "acme", "s3") is None
    assert PLACES.global_services("acme", "eu-central-1") == {}


# --- residency -----------------------------------------------------------------------------------------------------------------


def allowed(residency: Residency) -> list[str]:
    """Return every country that a residency allows."""
    return [country for country in PLACES.document["countries"] if PLACES.allows(residency, country)]


def test_eu_means_the_27_member_states() -> None:
    assert allowed("eu") == EU


def test_eea_adds_exactly_three_states() -> None:
    assert sorted(set(allowed("eea")) - set(EU)) == ["IS", "LI", "NO"]


def test_adequate_adds_exactly_the_countries_with_a_decision() -> None:
    added = set(allowed("adequate")) - set(allowed("eea"))
    assert sorted(added) == ["AD", "AR", "BR", "CA", "CH", "FO", "GB", "GG", "IL", "IM", "JE", "JP", "KR", "NZ", "US", "UY"]


@pytest.mark.parametrize("country", ["GB", "CH", "US", "EU", "site", "", "de"])
def test_no_neighbour_and_no_other_word_is_in_the_eu(country: str) -> None:
    assert not PLACES.allows("eu", country)
    assert not PLACES.allows("eea", country)


def test_a_decision_that_has_ended_counts_no_more() -> None:
    assert PLACES.allows("adequate", "GB", date(2031, 12, 27))
    assert not PLACES.allows("adequate", "GB", date(2031, 12, 28))
    assert PLACES.allows("adequate", "CH", date(2031, 12, 28))
    assert any("GB" in sentence and "2031-12-27" in sentence for sentence in PLACES.stale(date(2031, 12, 28)))


def test_a_condition_is_told_for_every_decision_that_has_one() -> None:
    assert "Data Privacy Framework" in PLACES.condition("US")
    assert "PIPEDA" in PLACES.condition("CA")
    assert {country for country in PLACES.document["countries"] if PLACES.condition(country)} == {"CA", "JP", "US"}


# --- servers -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "country"),
    [
        ("huggingface.co", "US"),
        ("cdn-lfs-eu-1.hf.co", "US"),
        ("HuggingFace.co.", "US"),
        ("registry-1.docker.io", "US"),
        ("nvidia.github.io", "US"),
        ("eu.api.openai.com", "US"),
        ("api.deepseek.com", "CN"),
        ("s3.eu-west-2.amazonaws.com", "GB"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "DE"),
        ("bucket.s3.eu-north-1.amazonaws.com", "SE"),
        ("s3.eusc-de-east-1.amazonaws.eu", "DE"),
        ("s3.cn-north-1.amazonaws.com.cn", "CN"),
        ("eu-central-1.s3.us-east-1.amazonaws.com", "US"),
    ],
)
def test_a_server_has_the_country_of_its_operator_or_of_its_region(host: str, country: str) -> None:
    assert PLACES.server_country(host) == country


@pytest.mark.parametrize(
    "host",
    [
        "api.mistral.ai",
        "myhuggingface.co",
        "huggingface.co.example.com",
        "eu.example.com",
        "llm.example.de",
        "eu-central-1.s3.amazonaws.com",
        "iam.amazonaws.com",
        "s3.eu-central-1.amazonaws.com.example.org",
        "eu-central-1.amazonaws.com.evil.eu",
        "amazonaws.com",
        "192.0.2.7",
        "localhost",
        "the model's hub",
        "",
    ],
)
def test_a_server_that_is_not_known_is_not_guessed(host: str) -> None:
    assert PLACES.server_country(host) is None


def test_no_operator_is_placed_inside_the_eea_by_the_table() -> None:
    assert not [one for one in PLACES.document["servers"] if PLACES.allows("eea", one["country"])]


def test_a_domain_belongs_to_one_operator() -> None:
    domains = [domain for one in PLACES.document["servers"] for domain in one["domains"]]
    domains += [domain for one in PLACES.document["processors"].values() for domain in one["domains"]]
    assert [one for one in domains for other in domains if one != other and one.endswith(f".{other}")] == []
    assert len(domains) == len(set(domains))


# --- processors ----------------------------------------------------------------------------------------------------------------


def test_global_services_are_told_where_the_region_has_none_of_its_own() -> None:
    assert PLACES.global_services("aws", "eu-central-1")["iam"] == "us-east-1"
    assert PLACES.global_services("aws") == PLACES.global_services("aws", "eu-central-1")
    assert PLACES.global_services("aws", "eusc-de-east-1") == {}


def test_a_european_partition_does_not_change_whose_law_rules() -> None:
    assert PLACES.parent("aws") == "US"


@pytest.mark.parametrize(("service", "eligible"), [("s3", True), ("ec2", True), ("secretsmanager", True), ("polly", False)])
def test_a_service_is_eligible_when_the_list_names_it(service: str, eligible: bool) -> None:
    assert PLACES.eligible("hipaa", "aws", service) is eligible


def test_without_a_list_nobody_knows_whether_a_service_is_eligible() -> None:
    assert PLACES.eligible("pci-dss", "aws", "s3") is None


# --- age -----------------------------------------------------------------------------------------------------------------------


def test_a_part_is_stale_one_day_after_its_shelf_life() -> None:
    last = PLACES.as_of + SHELF_LIFE
    fresh, old = PLACES.stale(last), PLACES.stale(last + timedelta(days=1))
    assert len(fresh) == len([part for part in PLACES.parts() if part.dated["as_of"] != str(PLACES.as_of)])
    assert len(old) == len(list(PLACES.parts()))
    assert f"countries: member states of the European Union: as of {PLACES.as_of}, older than 180 days" in old


def test_a_list_that_nobody_could_read_anew_is_stale_from_the_first_day() -> None:
    assert PLACES.stale(PLACES.as_of) == (
        "services under an agreement: Amazon Web Services, hipaa: as of 2021-07-16, older than 180 days",
    )
