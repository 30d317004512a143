from __future__ import annotations

import json
from pathlib import Path
from shutil import copyfile
from typing import Any

import jsonschema
import pytest

from llmdeploy.views.json_view import plan_schema
from tests.cli.conftest import Cli
from tests.support import ROOT
from tests.views.test_json_view import closed

DEV = ROOT / "examples" / "aws" / "dev-single-gpu" / "stack.yaml"


@pytest.fixture
def rented(cli: Cli) -> Cli:
    """Return the command line in the folder of a stack on one rented machine."""
    copyfile(DEV, Path(cli.folder) / "stack.yaml")
    return cli


def document(cli: Cli, *options: str) -> dict[str, Any]:
    return json.loads(cli.ok("cost", "--format", "json", *options))


def test_human(rented: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = rented.ok("cost", "--tokens-per-month", "500M", "--against", "claude-sonnet-4.6,gpt-5.4")
    assert text.isascii()
    assert text.startswith("dev: what it costs, in USD. A month is 730 hours.\n")
    assert "UTILIZATION" in text
    assert "AT 500M" in text
    assert "a claude-sonnet-4.6   b gpt-5.4" in text


def test_json_is_what_the_schema_of_a_plan_says(rented: Cli) -> None:
    schema = json.loads(plan_schema())
    found = document(rented, "--tokens-per-month", "1.5B")
    strict = closed({**schema["$defs"]["economics"], "$defs": schema["$defs"]})
    jsonschema.validate(found, strict, jsonschema.Draft202012Validator)
    assert found["at"]["tokens_per_month"] == 1_500_000_000
    assert found == document(rented, "--tokens-per-month", "1.5B"), "the same again"


def test_the_options_are_what_is_assumed(rented: Cli) -> None:
    options = ("--input-share=0.5", "--cached-share=0.25", "--utilization=0.3", "--operations-usd-per-month=3000")
    assumed = document(rented, *options)["assumptions"]
    assert (assumed["input_share"], assumed["cached_share"], assumed["utilization"]) == (0.5, 0.25, 0.3)
    assert (assumed["operations_usd_per_month"], assumed["tokens_per_month"]) == (3000, None)


@pytest.mark.parametrize(("text", "tokens"), [("800K", 800_000), ("500M", 500e6), ("1.5B", 1.5e9), ("12345", 12_345)])
def test_numbers_of_tokens(rented: Cli, text: str, tokens: float) -> None:
    assert document(rented, "--tokens-per-month", text)["assumptions"]["tokens_per_month"] == tokens


@pytest.mark.parametrize("text", ["1.5m", "500 M", "1e9", "1,000", "0", "-5M", "M", "0.1", "nan", ""])
def test_what_is_no_number_of_tokens(rented: Cli, text: str) -> None:
    answer = rented("cost", f"--tokens-per-month={text}")
    assert answer.code != 0
    assert "write 500M, 1.5B or 800K" in answer.err


@pytest.mark.parametrize("option", ["--input-share=1.1", "--cached-share=-1", "--utilization=0", "--operations-usd-per-month=-1"])
def test_shares_lie_between_nothing_and_all(rented: Cli, option: str) -> None:
    answer = rented("cost", option)
    assert answer.code != 0
    assert option.partition("=")[0] in answer.err


def test_an_unknown_hosted_model_gets_the_nearest_name(rented: Cli) -> None:
    answer = rented("cost", "--against", "claude-sonet-4.6")
    assert answer.code == 1
    assert 'did you mean "claude-sonnet-4.6"?' in answer.err


def test_own_prices_win(rented: Cli) -> None:
    before = document(rented)
    stack = Path(rented.folder) / "stack.yaml"
    machine = before["lines"][0]["label"]
    stack.write_text(f"{stack.read_text()}\nprices: {{ec2.{machine}: 0.01}}\n", encoding="utf-8")
    after = document(rented)
    (line,) = [one for one in after["lines"] if one["label"] == machine]
    assert line["usd_per_month"] == pytest.approx(7.30)
    assert after["usd_per_month"] < before["usd_per_month"]


def test_a_stack_without_prices_says_so(cli: Cli) -> None:
    cli.stack()
    assert "Nothing in this stack has a price." in cli.ok("cost")
    found = document(cli)
    assert (found["lines"], found["prior_usd_per_month"], found["curve"]) == ([], None, None)


def test_what_exists_is_beside_it(cli: Cli) -> None:
    cli.stack()
    cli.ok("apply", "--yes")
    assert document(cli)["prior_usd_per_month"] == 0
    assert "as much as what exists now (0.00)" in cli.ok("cost").lower()


@pytest.mark.parametrize("amount", ["inf", "1e300", "nan", "-1"])
def test_an_amount_that_nobody_pays_for_operations_is_refused(cli: Cli, amount: str) -> None:
    cli.stack()
    found = cli("cost", "--operations-usd-per-month", amount)
    assert found.code == 1
    assert "--operations-usd-per-month" in found.err
