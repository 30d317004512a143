from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.catalog import Catalog, refreshed
from llmdeploy.errors import LlmdeployError
from llmdeploy.machine import MachineType, Quotes
from llmdeploy.prices import Price

GPUS = Catalog.load(None).gpus
TODAY = date(2026, 11, 30)


def quotes(region: str = "eu-central-1", usd: float | None = 2.2) -> Quotes:
    """Return what a provider may say: one machine with a price, one without, a spot price and another one."""

    def machine(name: str, price: float | None) -> MachineType:
        paid = None if price is None else Price(price, "hour", "asked", "", "seen")
        return MachineType(
            name, GPUS["l40s"], 1, 45776 * 2**20, 4, 32 * 2**30, 250 * 10**9, paid, region=region, zones=("z1", "z2"),
            network="fast", fabric_interfaces=2,
        )  # fmt: skip

    prices = {"ec2.g6e.xlarge.spot": Price(0.9, "hour", "asked"), "ebs.gp3": Price(0.1, "GB-month", "asked")}
    return Quotes(region, "the price list", (machine("g6e.xlarge", usd), machine("g9e.xlarge", None)), prices)


def written(tmp_path: Path, *found: Quotes) -> Catalog:
    before = refreshed.read(tmp_path)
    refreshed.write(tmp_path, refreshed.merged(before, "aws", found, TODAY))
    return Catalog.load(tmp_path)


def test_a_refreshed_region_replaces_what_is_shipped_for_it(tmp_path: Path) -> None:
    catalog = written(tmp_path, quotes())
    found = catalog.machines("aws", "eu-central-1")
    assert [one.name for one in found] == ["g6e.xlarge", "g9e.xlarge"]
    first = found[0]
    assert (first.zones, first.network, first.fabric_interfaces) == (("z1", "z2"), "fast", 2)
    assert (first.vcpus, first.memory_bytes, first.local_disk_bytes) == (4, 32 * 2**30, 250 * 10**9)
    assert first.price == Price(2.2, "hour", "the price list", "2026-11-30", "seen")
    assert found[1].price is None


def test_refreshed_prices_win_and_the_others_stay(tmp_path: Path) -> None:
    prices = written(tmp_path, quotes()).prices("aws", "eu-central-1")
    assert prices["ebs.gp3"] == Price(0.1, "GB-month", "the price list", "2026-11-30", "seen")
    assert prices["nat.hour"].usd == 0.052


def test_spot_machines_have_the_price_that_was_asked_for(tmp_path: Path) -> None:
    found = {one.name: one.price for one in written(tmp_path, quotes()).machines("aws", "eu-central-1", "spot")}
    price = found["g6e.xlarge"]
    assert price is not None
    assert (price.usd, found["g9e.xlarge"]) == (0.9, None)


def test_other_regions_stay_as_they_are_shipped(tmp_path: Path) -> None:
    catalog, shipped = written(tmp_path, quotes()), Catalog.load(None)
    assert catalog.machines("aws", "us-east-1") == shipped.machines("aws", "us-east-1")
    assert catalog.prices("aws", "us-east-1") == shipped.prices("aws", "us-east-1")


def test_a_second_refresh_keeps_the_regions_of_the_first(tmp_path: Path) -> None:
    written(tmp_path, quotes("eu-central-1"))
    catalog = written(tmp_path, quotes("us-west-2", 1.7), quotes("mars-1"))
    assert [one.price.usd for one in catalog.machines("aws", "eu-central-1") if one.price] == [2.2]
    assert [one.price.usd for one in catalog.machines("aws", "us-west-2") if one.price] == [1.7]
    assert "mars-1" in catalog.regions("aws")
    assert "mars-1" in catalog.priced_regions("aws")


def test_own_rows_win_over_refreshed_ones(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text("prices:\n  aws:\n    eu-central-1: {ec2.g6e.xlarge: 1.1, ebs.gp3: 0.2}\n")
    catalog = written(tmp_path, quotes())
    assert catalog.prices("aws", "eu-central-1")["ebs.gp3"].usd == 0.2
    assert [one.price.usd for one in catalog.machines("aws", "eu-central-1") if one.price] == [1.1]


def test_a_machine_whose_gpu_this_version_does_not_know_is_no_offer(tmp_path: Path) -> None:
    path = refreshed.write(tmp_path, refreshed.merged(refreshed.read(tmp_path), "aws", [quotes()], TODAY))
    path.write_text(path.read_text().replace('"gpu": "l40s"', '"gpu": "z100"', 1))
    assert len(Catalog.load(tmp_path).machines("aws", "eu-central-1")) == 1


def test_a_refreshed_region_is_as_old_as_its_refresh(tmp_path: Path) -> None:
    catalog = written(tmp_path, quotes())
    assert catalog.stale(TODAY, "aws", "eu-central-1") == ()
    assert len(catalog.stale(TODAY, "aws", "us-east-1")) == 2
    assert len(catalog.stale(date(2027, 3, 1), "aws", "eu-central-1")) == 5


def test_the_same_answers_give_the_same_bytes_and_no_other_file(tmp_path: Path) -> None:
    written(tmp_path, quotes("b"), quotes("a"))
    first = (tmp_path / refreshed.FILE_NAME).read_bytes()
    written(tmp_path, quotes("a"), quotes("b"))
    assert (tmp_path / refreshed.FILE_NAME).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [refreshed.FILE_NAME]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "must be a mapping, not a list"),
        ('{"version": 2, "providers": {}}', "another version of llmdeploy"),
        ('{"version": 1, "providers": {"aws": {"r": {"as_of": "2026-11-30"}}}}', "providers.aws.r"),
    ],
)
def test_a_file_that_llmdeploy_did_not_write_is_refused_with_the_way_out(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / refreshed.FILE_NAME).write_text(content)
    with pytest.raises(LlmdeployError) as caught:
        Catalog.load(tmp_path)
    assert sentence in caught.value.message
    assert "catalog refresh" in caught.value.hint


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = refreshed.write(tmp_path, refreshed.merged(refreshed.read(tmp_path), "aws", [quotes()], TODAY))
    before = path.read_bytes()

    def full(descriptor: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LlmdeployError, match="No space left on device"):
        refreshed.write(tmp_path, {"version": 1, "providers": {}})
    assert path.read_bytes() == before
    assert json.loads(before)["version"] == 1


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("as_of",), "yesterday", 'aws.eu-central-1.as_of: "yesterday" is no date'),
        (("machines", "g6e.xlarge", "zones"), {}, "aws.eu-central-1.machines.g6e.xlarge: this is no machine of that region"),
        (("machines", "g6e.xlarge", "gpus"), 0, "aws.eu-central-1.machines.g6e.xlarge: this is no machine of that region"),
        (("machines", "g6e.xlarge", "usd_per_hour"), float("nan"), "is not JSON"),
    ],
)
def test_a_file_that_somebody_else_has_written_in_is_refused(
    tmp_path: Path, path: tuple[str, ...], value: Any, says: str
) -> None:
    written(tmp_path, quotes())
    file = tmp_path / refreshed.FILE_NAME
    document = json.loads(file.read_text())
    place = document["providers"]["aws"]["eu-central-1"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    file.write_text(json.dumps(document))
    with pytest.raises(LlmdeployError) as error:
        refreshed.read(tmp_path)
    assert says in str(error.value)
    assert "catalog refresh" in error.value.hint
