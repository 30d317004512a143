from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Cli


def rented(cli: Cli, **model: Any) -> None:
    """Write a stack file of a provider that rents machines out."""
    document: dict[str, Any] = {
        "version": 1,
        "name": "demo",
        "model": {"id": "llama-3.3-70b-instruct", "context": "32K", "concurrency": 8, **model},
        "region": "us-east-1",
        "provider": {"aws": {}},
    }
    (cli.folder / "stack.yaml").write_text(json.dumps(document))


def test_size_on_this_machine(cli: Cli) -> None:
    cli.stack()
    lines = cli.ok("size").splitlines()
    assert lines[0] == "Fits: tiny-random as bf16, 8 x 4,096 tokens, on this machine"
    assert lines[1] == "  weights: 4.9 MiB"
    assert not any("What" in text for text in lines)
    document = json.loads(cli.ok("size", "--format", "json"))
    assert (document["fits"], document["reason"], document["gpu"]) == (True, "", None)
    assert document["memory"]["kv_cache_bytes"] == document["memory"]["kv_needed_bytes"] > 0


def test_size_on_rented_machines_explains_the_choice(cli: Cli) -> None:
    rented(cli)
    text = cli.ok("size")
    assert text.startswith("Fits: llama-3.3-70b-instruct as bf16, 8 x 32,768 tokens, on 1 x ")
    assert "MACHINES" in text
    assert "What does not fit\n" in text
    assert "prediction" in text
    document = json.loads(cli.ok("size", "--format", "json"))
    chosen = document["candidates"][0]
    assert (chosen["machine"], chosen["fits"]) == (document["machine"], True)
    prices = [one["usd_per_hour"] for one in document["candidates"] if one["fits"] and one["quantization"] == "bf16"]
    assert chosen["usd_per_hour"] == min(price for price in prices if price is not None)
    assert all(one["reason"] for one in document["candidates"] if not one["fits"])


def test_size_says_why_nothing_fits_and_what_would(cli: Cli) -> None:
    rented(cli, quant="bf16", context="128K", concurrency=4000)
    answer = cli("size")
    assert answer.code == 1
    assert answer.out.startswith("llama-3.3-70b-instruct as bf16 does not fit: ")
    assert "what fits: " in answer.out
    assert answer.err == ""
    document = json.loads(cli("size", "--format", "json").out)
    assert document["fits"] is False
    assert "4000 are wanted" in document["reason"]
    assert document["candidates"]
    assert not any(one["fits"] for one in document["candidates"])


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (120, "MACHINES GPUS SPLIT QUANT USD/HOUR LEFT/GPU KV TOKENS REQUESTS TOKENS/S"),
        (110, "MACHINES GPUS QUANT USD/HOUR LEFT/GPU KV TOKENS REQUESTS TOKENS/S"),
        (100, "MACHINES QUANT USD/HOUR LEFT/GPU KV TOKENS REQUESTS TOKENS/S"),
        (80, "MACHINES QUANT USD/HOUR REQUESTS TOKENS/S"),
    ],
)
def test_a_table_has_the_columns_that_the_screen_has_room_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int, headings: str
) -> None:
    rented(cli)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = cli.ok("size").splitlines()
    assert max(map(len, lines)) <= width
    assert headings in [" ".join(text.split()) for text in lines]
    assert any(text.startswith("TOKENS/S: a prediction") for text in lines)
    assert any(text.startswith("LEFT/GPU: ") for text in lines) == ("LEFT/GPU" in headings)


def test_a_very_narrow_screen_has_a_block_for_each_kind_of_machine(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    rented(cli)
    monkeypatch.setenv("COLUMNS", "40")
    lines = cli.ok("size").splitlines()
    assert any(text.startswith("machines: 1 x ") for text in lines)
    assert any(text.startswith("  tokens/s: ") for text in lines)


def test_size_names_each_reason_once(cli: Cli) -> None:
    rented(cli, quant="bf16")
    reasons = [text for text in cli.ok("size").split("What does not fit\n")[1].splitlines() if " as bf16: " in text]
    told = [text.split(" as bf16: ")[1] for text in reasons]
    assert len(told) == len(set(told)) > 3
    assert any(text.startswith("  g6.xlarge, g6.2xlarge") for text in reasons)


def test_size_without_a_stack_file(cli: Cli) -> None:
    answer = cli(
        "size", "--model", "llama-3.3-70b-instruct", "--gpu", "l40s", "--count", "2", "--context", "16K", "--quant", "int4"
    )
    assert answer.code == 1
    assert "2xl40s: weights 36.8 GiB + engine" in answer.out
    assert "what fits: context: 15K; concurrency: 7" in answer.out
    few = ("size", "--model", "llama-3.3-70b-instruct", "--gpu", "l40s", "--concurrency", "4", "--quant", "bf16")
    assert "on 1 machine, using 4 x l40s\n" in cli.ok(*few)
    assert "on this machine\n" in cli.ok("size", "--model", "qwen3-8b", "--gpu", "none")
    there = cli.ok("size", "--model", "qwen3-8b", "--provider", "aws", "--region", "eu-central-1")
    assert "USD per hour" in there


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--model", "llama-3.3-70b"), 'there is no model "llama-3.3-70b" in the catalogue'),
        (("--model", "qwen3-8b", "--gpu", "l40"), 'there is no GPU "l40" in the catalogue'),
        (("--model", "qwen3-8b", "--context", "32k"), '"32k" is no number of tokens; write 8192 or 32K'),
        (("--model", "qwen3-8b", "--provider", "gcp"), 'no machines of "gcp" are known'),
        (("--model", "qwen3-8b", "--provider", "aws"), "--provider goes with --region"),
        (("--model", "qwen3-8b", "--region", "eu-central-1"), "--region goes with --provider"),
        (("--context", "32K"), "the stack file says what is to be sized"),
        (("--model", "qwen3-8b", "--provider", "aws", "--region", "eu-cent"), '"eu-cent" is no region of aws'),
    ],
)
def test_size_refuses_what_is_not_known(cli: Cli, options: tuple[str, ...], says: str) -> None:
    answer = cli("size", *options)
    assert answer.code != 0
    assert says in " ".join((answer.out + answer.err).split())
    assert "Traceback" not in answer.err


def test_size_of_a_broken_stack_file_names_the_place(cli: Cli) -> None:
    rented(cli, contxt=3)
    answer = cli("size")
    assert answer.code == 1
    assert answer.err.startswith("stack.yaml:")


def test_size_takes_no_misspelt_region_for_this_machine(cli: Cli) -> None:
    rented(cli)
    text = (cli.folder / "stack.yaml").read_text()
    (cli.folder / "stack.yaml").write_text(text.replace("us-east-1", "us-est-1"))
    found = cli("size")
    assert found.code == 1
    assert 'no machines are known in "us-est-1"' in found.out
