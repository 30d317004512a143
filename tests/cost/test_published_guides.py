"""Eleven errors of published guides, and the figure that is right. What a guide says stands in the comments."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

import pytest

from llmdeploy.catalog import Catalog, HostedModel
from llmdeploy.cli.session import open_session
from llmdeploy.cost import Assumptions, Fleet, SelfHosted, blended, crossover, hosted_usd, usage, usd_per_million
from llmdeploy.machine import MachineType
from llmdeploy.prices import HOURS_PER_MONTH, CostLine
from llmdeploy.serving import engine
from llmdeploy.sizing import SizingRequest, explore
from tests.cost.support import hosted
from tests.support import ROOT

FLAT = Assumptions()
"""Of APIs that take the same for input and output, as the guides assume."""


def flat(usd_per_thousand: float) -> HostedModel:
    price = usd_per_thousand * 1_000
    return hosted("flat", price, None, price)


CATALOG = Catalog.load()


def rented(machine: str) -> float:
    """Return USD per hour of a machine in us-east-1, on demand."""
    (price,) = [one.price for one in CATALOG.machines("aws", "us-east-1") if one.name == machine]
    assert price is not None
    return price.usd


def per_month(usd_per_hour: float) -> float:
    found = CostLine("a machine", 1, "hour", usd_per_hour).usd_per_month
    assert found is not None
    return found


def test_1_a_small_month_costs_a_dollar_fifty() -> None:
    # "1.5M tokens at $0.001 per 1k: $1,500; an L4 at $252 saves 83 %"
    api = hosted_usd(flat(0.001), FLAT, 1.5e6)
    assert api == pytest.approx(1.50)
    assert 252 / api == pytest.approx(168)
    assert crossover(252, 1.0) == pytest.approx(252e6)


def test_2_a_medium_month_costs_nine_hundred() -> None:
    # "30M tokens at $0.03 per 1k: $900,000"
    api = hosted_usd(flat(0.03), FLAT, 30e6)
    assert api == pytest.approx(900)
    assert per_month(1.99) - api == pytest.approx(553, abs=1), "an H100 for $1,453 loses that much"
    assert hosted_usd(flat(0.03), FLAT, 600e6) == pytest.approx(18_000), "the large one is right"


def test_3_five_hundred_requests_a_second_are_no_small_bill() -> None:
    # "500 requests/s: $10-15k a month"; "50 % savings from 10M tokens a month on"
    assert hosted_usd(flat(0.01), FLAT, 500 * 500 * 30 * 86_400) == pytest.approx(6.48e6), "648 billion tokens in 30 days"
    assert hosted_usd(flat(0.01), FLAT, 500 * 500 * HOURS_PER_MONTH * 3600) == pytest.approx(6.57e6)
    assert hosted_usd(flat(0.03), FLAT, 10e6) == pytest.approx(300)
    assert per_month(1.99) > 300 / 2, "no H100 costs half of that"
    tiny = usage(None, Assumptions(tokens_per_request=110, tokens_per_month=10e6))
    assert tiny.requests / (HOURS_PER_MONTH / 24) == pytest.approx(3_000, rel=0.01), "requests a day, only when each is so small"


@pytest.mark.parametrize(("name", "gigabytes"), [("bf16", 140), ("int8", 70), ("int4", 35)])
def test_4_weights_are_parameters_times_bytes(name: str, gigabytes: float) -> None:
    # "70B: 140, 70, 35, 17.5 GB at FP32, FP16, int8, int4". Really 70.55 billion, and embeddings, head and scales besides.
    assert gigabytes < loaded_gb(name, "a100_80") < 1.25 * gigabytes


@pytest.mark.parametrize(("name", "gpu"), [("bf16", "a100_80"), ("int4", "l4")])
def test_4_so_70b_fits_neither_one_a100_nor_one_l4(name: str, gpu: str) -> None:
    # "FP16 on one A100; int4 on one L4"
    (found,) = explore(seventy_b(name, gpu, 1), engine("vllm"))
    assert not found.fits
    assert found.reason


def seventy_b(name: str, gpu: str, count: int) -> SizingRequest:
    """Return the request of one Llama 3.3 70B in a number format on one machine of such GPUs."""
    facts = CATALOG.facts("llama-3.3-70b-instruct")
    assert facts is not None
    one = CATALOG.gpus[gpu]
    machine = MachineType("machine", one, count, one.memory_bytes)
    return SizingRequest(
        facts, context=8192, concurrency=1, quant=name, gpu=gpu, count=count, machines=(machine,), gpus=CATALOG.gpus
    )


def loaded_gb(name: str, gpu: str) -> float:
    """Return the GB of weights on four GPUs together."""
    (found,) = explore(seventy_b(name, gpu, 4), engine("vllm"))
    assert found.loaded is not None
    return found.loaded.memory.weights * found.parallel.gpus / 1e9


def test_5_servers_are_whole_and_operations_are_not_multiplied() -> None:
    # "5,000M tokens: hardware x max(1.0, utilization) = $8,065", and its own code says $8,548
    capacity = 3_100e6
    doubled = SelfHosted(fixed_usd=0, unit_usd=5_300, unit_tokens=capacity, units=1)
    staffed = SelfHosted(fixed_usd=3_000, unit_usd=2_337, unit_tokens=capacity, units=1)
    assert doubled.units_for(5_000e6) == 2
    assert doubled.usd(5_000e6) == 10_600
    assert staffed.usd(5_000e6) == 7_674


def test_6_reading_and_writing_have_rates_of_their_own_and_nobody_is_busy_all_night() -> None:
    # "3.1B tokens a month = 1,200 tokens/s x 30 days", of output, compared with a price of 80 % input
    fleet = Fleet(1, 1, prefill_tokens_per_s=12_000, decode_tokens_per_s=1_200)
    assert fleet.capacity(input_share=0) == pytest.approx(1_200 * HOURS_PER_MONTH * 3_600)
    whole = fleet.capacity(input_share=0.8)
    written = 0.2 * whole
    assert whole == pytest.approx(11.26e9, rel=0.001)
    assert written < fleet.capacity(input_share=0), "reading takes time that is missing for writing"
    assert 0.4 * whole == pytest.approx(4.5e9, rel=0.01), "what can be planned with"


def test_7_the_crossover_is_at_982_million() -> None:
    # "crossover at about 50M tokens a month"
    assert crossover(5_300, 5.40) == pytest.approx(982e6, rel=0.001)
    # Its machine, its power and its engineer are 5,337; the 4,800 of rent that it also names are left out.
    owned = SelfHosted(fixed_usd=3_000, unit_usd=2_222 + 115, unit_tokens=3_100e6, units=1)
    rented_too = SelfHosted(fixed_usd=3_000, unit_usd=2_222 + 115 + 4_800, unit_tokens=3_100e6, units=1)
    found = [one.break_even(5.40) for one in (owned, rented_too)]
    assert [round(one.first / 1e6) for one in found if one] == [988, 1_877]


def test_8_throughput_is_what_each_request_gets_times_their_number() -> None:
    # "32 requests x 50-100 tokens/s = 4,000-8,000 tokens/s"; "$2 an hour at that: $0.20-0.50 a million". It is 1,600 to 3,200.

    def a_million(usd_per_hour: float, tokens_per_s: float) -> float:
        fleet = Fleet(1, 1, prefill_tokens_per_s=1, decode_tokens_per_s=tokens_per_s)
        own = SelfHosted(fixed_usd=0, unit_usd=per_month(usd_per_hour), unit_tokens=fleet.capacity(0), units=1)
        return usd_per_million(own, fleet.capacity(0))

    assert [round(a_million(2, rate), 2) for rate in (8_000, 4_000)] == [0.07, 0.14]
    assert [round(a_million(2, rate), 2) for rate in (32 * 100, 32 * 50)] == [0.17, 0.35]
    assert [round(a_million(2, rate), 2) for rate in (2_800, 1_100)] == [0.20, 0.51]
    assert a_million(3, 7_000) == pytest.approx(0.12, abs=0.001)


def test_9_a_month_has_730_hours() -> None:
    # "$252" for $0.35 an hour is a month of 720 hours; "$1,453" and "$2,087" are of 730
    assert HOURS_PER_MONTH == 730
    assert per_month(0.35) == pytest.approx(255.50)
    assert per_month(1.99) == pytest.approx(1_453, abs=0.5)
    assert per_month(2.86) == pytest.approx(2_088, abs=0.5)


@pytest.mark.parametrize(
    ("machine", "usd_per_month", "millions"),
    [("p5.4xlarge", 5_022, 930), ("g7e.2xlarge", 2_455, 455), ("g6e.12xlarge", 7_660, 1_418), ("p4d.24xlarge", 16_029, 2_968)],
)
def test_10_one_machine_alone_breaks_even_where_it_does(machine: str, usd_per_month: float, millions: float) -> None:
    own = SelfHosted(fixed_usd=0, unit_usd=per_month(rented(machine)), unit_tokens=1e12, units=1)
    assert own.usd(1) == pytest.approx(usd_per_month, abs=1)
    price = blended(CATALOG.hosted["claude-sonnet-4.6"], Assumptions(input_share=0.8))
    assert price == pytest.approx(5.40)
    found = own.break_even(price)
    assert found is not None
    assert found.lasting == pytest.approx(millions * 1e6, abs=1e6)
    assert crossover(own.usd(1), price) == pytest.approx(found.lasting)


def test_10_the_bill_of_a_rented_stack_has_every_line(tmp_path: Path) -> None:
    # No guide counts disks, NAT by the gigabyte of weights, the load balancer, keys, secrets, logs, transfer, or idle machines.
    copyfile(ROOT / "examples" / "aws" / "hipaa-us" / "stack.yaml", tmp_path / "stack.yaml")
    found = open_session(tmp_path).desire("off")
    lines = {one.label: one for one in found.bill}
    for part in ("disk", "NAT gateway", "load balancer", "KMS key", "secret", "log lines", "between zones", "model files"):
        assert any(part in label for label in lines), sorted(lines)
    weights = lines["model files through the NAT gateway"]
    assert weights.per == "once"
    assert weights.quantity == pytest.approx(2 * found.tariff.usage.weights_bytes / 2**30), "once for each machine"
    assert found.economics["idle"]["usd_per_month"] > 0
    assert all(one.quantity > 0 for one in found.bill), "zero only where it is zero"


@pytest.mark.parametrize(
    ("machine", "usd_per_hour", "quoted"),
    [("g6.xlarge", 0.8048, 0.35), ("p5.4xlarge", 6.88, 2.86), ("p4d.24xlarge", 21.957642, 4_800 / 730)],
)
def test_11_what_others_rent_out_is_no_price_of_aws(machine: str, usd_per_hour: float, quoted: float) -> None:
    # "an L4 at $0.35, an H100 at $1.99-2.86, four A100 at $4,800 a month" are prices of other companies
    assert rented(machine) == usd_per_hour
    assert rented(machine) > 2 * quoted
