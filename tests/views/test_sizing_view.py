"""The block of a plan about its sizing. `llmdeploy size` itself is tried in tests/cli/test_size.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmdeploy.views.human import summary
from llmdeploy.views.sizing_view import chosen_machines, sizing_block
from tests.views import html_plans, plans


def block(**changes: Any) -> str:
    return "\n".join(sizing_block({**html_plans.sizing(), **changes}))


def test_the_verdict_comes_first() -> None:
    assert sizing_block(html_plans.sizing()) == (
        "fits: llama-3.3-70b-instruct as fp8 from x/y on 2 x g6e.12xlarge, using 4 x l40s on each",
        "each of 2 replicas holds 34 requests of 8,192 tokens at once, 16 asked for",
        "each GPU: 16.4 GiB weights + 2.9 engine + 21.8 KV cache = 41.1 of 44.7 GiB; disk: 110.0 GiB",
        "each replica, predicted: 930-1,620 tokens/s for 16 requests together, 31-49 for one; first token after 0.8-1.6 s",
    )


def test_the_block_takes_the_place_of_the_arithmetic() -> None:
    plan = html_plans.rich()
    assert summary(plan)["Sizing"] == sizing_block(plan.sizing)
    assert summary(replace(plan, sizing={}))["Sizing"] == plan.summary["Sizing"]
    assert list(summary(plan)) == ["Sizing", "Cost", "Compliance"]
    assert "Sizing" not in summary(plans.changed())


def test_on_a_processor_nothing_is_predicted_and_nothing_is_chosen() -> None:
    cpu = {"gpu": None, "machine": None, "machines": 1, "replicas": 1, "gpus_per_replica": 0, "throughput": None}
    text = block(**cpu, concurrency=34, candidates=[{**html_plans.sizing()["candidates"][0], "usd_per_hour": None}])
    verdict, holds, memory = text.splitlines()
    assert verdict.endswith(" on this machine")
    assert holds == "holds 34 requests of 8,192 tokens at once, as asked for"
    assert memory == "memory: 16.4 GiB weights + 2.9 GiB engine + 21.8 GiB KV cache = 41.1 GiB; disk: 110.0 GiB"


def test_machines_of_ones_own_are_told_by_their_gpus() -> None:
    own = {**html_plans.sizing(), "machine": "4xl40s"}
    assert chosen_machines(own) == "2 machines, using 4 x l40s on each"
    assert chosen_machines({**own, "machines": 1, "replicas": 1}) == "1 machine, using 4 x l40s"
    assert chosen_machines({**own, "machine": "machine", "gpu": None}) == "2 machines"


def test_replicas_that_fail_together_are_told() -> None:
    assert "16 asked for; replicas on one machine fail together" in block(machines=1)
    assert "using 8 x l40s" in block(machines=1)
    assert "together" not in block(machines=4, machines_per_replica=2).splitlines()[1]


@pytest.mark.parametrize(
    ("others", "told"),
    [
        (
            [("awq", 12.0, "g5.12xlarge"), ("awq", 11.5, "g6.12xlarge")],
            "; cheaper with narrower numbers: 11.50 as awq on 2 x g6.12xlarge",
        ),
        ([("awq", None, "g6.12xlarge"), ("fp8", 40.0, "p5.48xlarge")], ", the cheapest of 2 kinds of machine that hold it"),
        ([("fp8", None, "g7e.2xlarge")], None),
        ([], None),
    ],
)
def test_what_is_cheaper_is_told(others: list[tuple[str, float | None, str]], told: str | None) -> None:
    chosen = html_plans.sizing()["candidates"][0]
    rows = [{**chosen, "quantization": quant, "usd_per_hour": usd, "machine": name} for quant, usd, name in others]
    found = [one for one in block(candidates=[chosen, *rows]).splitlines() if "per hour" in one]
    assert found == ([] if told is None else [f"26.23 USD per hour{told}"])


def test_how_the_weights_are_made_is_told() -> None:
    made = {**html_plans.sizing()["quantization"], "made": "load"}
    assert "as fp8, made while loading, on 2 x" in block(quantization=made)
    assert "as fp8 on 2 x" in block(quantization={**made, "made": "published"})


def test_what_does_not_fit_says_why() -> None:
    model = {"id": "m"}
    refused = {
        "fits": False,
        "reason": "it needs 3 GiB more",
        "model": model,
        "context": 1024,
        "concurrency": 1,
        "explanation": ["ask for less"],
    }
    assert sizing_block(refused) == ("Does not fit: it needs 3 GiB more", "ask for less")
    assert sizing_block({}) == ()
