from __future__ import annotations

import pytest

from llmdeploy.catalog import Catalog, gpus, instances
from llmdeploy.catalog.strict import check
from llmdeploy.machine import MachineType

CATALOG = Catalog.load(None)
AWS = instances.providers()["aws"]
MIB = 2**20


def offers(region: str, market: str = "on-demand") -> dict[str, MachineType]:
    return {one.name: one for one in CATALOG.machines("aws", region, market)}


def family(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("name", AWS["types"])
def test_every_row_is_whole(name: str) -> None:
    row = AWS["types"][name]
    assert list(check(row, instances.InstanceRow)) == []
    assert row["gpu"] in gpus.rows()
    assert (row["gpus"] == 0) == ("left_out" in row)
    assert all(price["basis"] in AWS["bases"] and price["usd_per_hour"] > 0 for price in row["prices"].values())
    assert set(row["prices"]) <= set(row["zones"])
    assert all(zones for zones in row["zones"].values())


def test_the_table_is_whole() -> None:
    assert list(check(AWS, instances.ProviderInstances)) == []
    assert len(AWS["types"]) == 57
    assert {basis["confidence"] for basis in AWS["bases"].values()} == {"seen", "derived"}


# --- where ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["eu-central-1", "eu-west-1"])
def test_no_h100_and_nothing_newer_of_its_line_in_frankfurt_and_dublin(region: str) -> None:
    assert [name for name in offers(region) if name.startswith(("p5", "p6"))] == []


def test_the_regions_of_the_european_union_that_have_what() -> None:
    europe = [region for region in CATALOG.regions("aws") if region.startswith("eu-") and region != "eu-west-2"]
    where = {
        kind: {region for region in europe if any(family(name) == kind for name in offers(region))}
        for kind in ("p5en", "p6-b200", "g6e", "p4de")
    }
    assert where["p5en"] == {"eu-north-1", "eu-south-2"}
    assert where["p6-b200"] == {"eu-north-1", "eu-west-3"}
    assert where["g6e"] == {"eu-central-1", "eu-north-1", "eu-south-2"}
    assert where["p4de"] == {"eu-central-1"}


def test_g6_is_not_in_dublin_and_g5_is() -> None:
    kinds = {family(name) for name in offers("eu-west-1")}
    assert "g6" not in kinds
    assert {"g4dn", "g5", "p4d"} <= kinds


def test_nothing_has_exactly_two_a100_or_two_l40s() -> None:
    pairs = {(one.gpu.name, one.gpus) for region in CATALOG.regions("aws") for one in offers(region).values() if one.gpu}
    assert {("l40s", 2), ("a100_40", 2), ("a100_80", 2)} & pairs == set()
    assert {("l40s", 1), ("l40s", 4), ("l40s", 8), ("a100_40", 8), ("rtx_pro_6000", 2), ("h100_sxm", 1)} <= pairs


def test_zones_are_those_of_the_region_itself() -> None:
    for region in CATALOG.regions("aws"):
        for one in offers(region).values():
            assert all(zone.count("-") == 1 for zone in one.zones), (region, one.name)
    assert offers("us-east-1")["g4dn.xlarge"].zones == ("use1-az1", "use1-az2", "use1-az4", "use1-az5", "use1-az6")


def test_parts_of_a_gpu_are_left_out_with_a_reason() -> None:
    left_out = CATALOG.left_out("aws")
    assert set(left_out) == {"g6f.large", "g6f.xlarge", "g6f.2xlarge", "g6f.4xlarge"}
    assert all("a part of an L4" in why for why in left_out.values())
    assert all(not name.startswith("g6f") for region in CATALOG.regions("aws") for name in offers(region))
    elsewhere = CATALOG.elsewhere("aws", "us-east-1")
    assert "eu-central-1" in elsewhere["g6.xlarge"]
    assert not set(left_out) & set(elsewhere), "nobody is sent to another region for what is offered nowhere"


# --- what ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpu", "count", "mib"),
    [
        ("g4dn.xlarge", "t4", 1, 16384),
        ("g5.12xlarge", "a10g", 4, 22888),
        ("g6.48xlarge", "l4", 8, 22888),
        ("g6e.xlarge", "l40s", 1, 45776),
        ("g7.2xlarge", "rtx_pro_4500", 1, 32768),
        ("g7e.12xlarge", "rtx_pro_6000", 2, 98304),
        ("p4d.24xlarge", "a100_40", 8, 40960),
        ("p4de.24xlarge", "a100_80", 8, 81920),
        ("p5.4xlarge", "h100_sxm", 1, 81920),
        ("p5en.48xlarge", "h200", 8, 144384),
        ("p6-b200.48xlarge", "b200", 8, 183359),
        ("p6-b300.48xlarge", "b300", 8, 275040),
    ],
)
def test_gpus_and_their_memory_as_the_api_has_them(name: str, gpu: str, count: int, mib: int) -> None:
    row = AWS["types"][name]
    assert (row["gpu"], row["gpus"], row.get("gpu_memory_mib")) == (gpu, count, mib)


def test_a_machine_has_no_more_memory_on_a_gpu_than_its_api_says_nor_than_cuda_reports() -> None:
    for one in offers("us-west-2").values():
        assert one.gpu is not None
        said = AWS["types"][one.name].get("gpu_memory_mib", 0) * MIB
        assert one.gpu_memory_bytes == min(said, one.gpu.memory_bytes)
    assert offers("us-east-1")["g4dn.xlarge"].gpu_memory_bytes == int(14.56 * 2**30)
    assert offers("us-east-1")["g6e.xlarge"].gpu_memory_bytes < 45776 * MIB


def test_hardware_comes_in_bytes() -> None:
    one = offers("us-east-1")["p5.48xlarge"]
    assert (one.vcpus, one.memory_bytes, one.local_disk_bytes) == (192, 2048 * 2**30, 30_400 * 10**9)
    assert (one.network, one.fabric_interfaces) == ("3200 Gigabit", 32)
    assert offers("us-east-1")["g6e.xlarge"].fabric_interfaces == 0


# --- for how much --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "region", "usd", "confidence"),
    [
        ("g4dn.xlarge", "us-east-1", 0.526, "seen"),
        ("g4dn.xlarge", "eu-central-1", 0.6575, "derived"),
        ("g5.xlarge", "eu-west-1", 1.123, "seen"),
        ("g6.xlarge", "us-east-1", 0.8048, "seen"),
        ("g6.xlarge", "eu-north-1", 0.8536, "seen"),
        ("g6e.xlarge", "us-east-1", 1.861, "seen"),
        ("g6e.xlarge", "eu-central-1", 2.327, "seen"),
        ("g6e.12xlarge", "us-east-1", 10.49264, "seen"),
        ("g6e.12xlarge", "eu-central-1", 13.12, "derived"),
        ("g7e.2xlarge", "us-east-1", 3.36312, "seen"),
        ("p4d.24xlarge", "us-east-1", 21.957642, "seen"),
        ("p4d.24xlarge", "eu-central-1", 27.43298, "seen"),
        ("p4de.24xlarge", "eu-central-1", 34.29122, "seen"),
        ("p5.4xlarge", "us-east-1", 6.88, "seen"),
        ("p5.4xlarge", "eu-north-1", 7.3616, "derived"),
        ("p5.48xlarge", "us-west-2", 55.04, "seen"),
        ("p5en.48xlarge", "eu-south-2", 68.35968, "seen"),
        ("p6-b200.48xlarge", "us-east-1", 113.9328, "seen"),
        ("p6-b300.48xlarge", "us-east-1", 142.416, "seen"),
        ("g6e.xlarge", "us-west-2", 1.861, "derived"),
    ],
)
def test_prices_on_demand(name: str, region: str, usd: float, confidence: str) -> None:
    price = offers(region)[name].price
    assert price is not None
    assert (price.usd, price.unit, price.confidence) == (usd, "hour", confidence)
    assert price.source


@pytest.mark.parametrize(
    ("name", "region"), [("g7e.2xlarge", "eu-central-1"), ("p5e.48xlarge", "us-west-2"), ("gr6.4xlarge", "eu-central-1")]
)
def test_a_machine_is_offered_although_nobody_knows_its_price(name: str, region: str) -> None:
    assert offers(region)[name].price is None
    assert f"ec2.{name}" not in CATALOG.prices("aws", region)


def test_a_spot_price_is_known_only_where_somebody_named_it() -> None:
    assert all(one.price is None for one in offers("us-east-1", "spot").values())
    [one] = [one for one in CATALOG.machines("aws", "us-east-1", "spot", {"ec2.g6e.xlarge.spot": 0.7}) if one.price]
    assert (one.name, one.price and one.price.usd) == ("g6e.xlarge", 0.7)


def test_a_price_of_the_stack_file_is_that_of_the_machine() -> None:
    found = {one.name: one.price for one in CATALOG.machines("aws", "us-east-1", "on-demand", {"ec2.g6e.xlarge": 1.2})}
    price = found["g6e.xlarge"]
    assert price is not None
    assert (price.usd, price.source) == (1.2, "prices in the stack file")


def test_a_provider_or_a_region_that_is_not_in_the_table_has_no_machines() -> None:
    assert CATALOG.machines("hosts", None) == ()
    assert CATALOG.machines("aws", "eu-atlantis-1") == ()
    assert CATALOG.regions("hosts") == ()


def test_without_a_region_every_region_is_meant() -> None:
    everywhere = CATALOG.machines("aws", None)
    assert {one.region for one in everywhere} == set(CATALOG.regions("aws"))
    assert len(CATALOG.regions("aws")) == 28
