"""`llmdeploy catalog`. LLMDEPLOY_UPDATE_GOLDEN=1 writes the expected tables anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmdeploy_aws import _catalog
from tests.cli.conftest import Answer, Cli
from tests.providers.llmdeploy_aws.catalog_lab import FakeSession, client, usual
from tests.support import ROOT
from tests.test_lazy_imports import DRAWING, REMOTE, SECRET, modules_after

GOLDEN = ROOT / "tests" / "golden" / "catalog"
WIDTH = 100
STACK = """\
version: 1
name: chat
model: {id: llama-3.1-8b-instruct}
region: eu-central-1
provider: {aws: {}}
"""


@pytest.fixture
def narrow(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return the command line on a screen of 100 columns."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    return cli


# --- list ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("models", ["models"]),
        ("gpus", ["gpus"]),
        ("instances", ["instances"]),
        ("instances-eu-central-1", ["instances", "--region", "eu-central-1"]),
        ("prices-eu-central-1", ["prices", "--region", "eu-central-1"]),
        ("hosted", ["hosted"]),
    ],
)
def test_tables_are_as_expected_ascii_and_fit(narrow: Cli, name: str, arguments: list[str]) -> None:
    found = narrow.ok("catalog", "list", *arguments)
    assert found.isascii()
    assert max(len(line) for line in found.splitlines()) <= WIDTH
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert path.read_text() == found, f"{path}: run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"


def test_on_a_narrow_screen_a_row_is_a_block(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    found = cli.ok("catalog", "list", "hosted").splitlines()
    assert "name: claude-sonnet-4.6" in found
    assert "  output: 15" in found


def test_prices_without_a_region_are_those_of_all(cli: Cli) -> None:
    rows = [line.split() for line in cli.ok("catalog", "list", "prices").splitlines() if line.startswith("nat.hour ")]
    assert {row[1]: row[2] for row in rows} == {
        "eu-central-1": "0.052", "eu-north-1": "0.046", "eu-west-1": "0.048", "eu-west-3": "0.05?",
        "us-east-1": "0.045", "us-east-2": "0.045?", "us-west-2": "0.045?",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "name", "field", "value"),
    [
        ("models", "deepseek-v3", "weight_bytes", 688586727753),
        ("gpus", "l40s", "watts", 350),
        ("instances", "g6e.xlarge", "gpu", "l40s"),
        ("prices", "ebs.gp3", "unit", "GB-month"),
        ("hosted", "claude-sonnet-4.6", "cached", 0.3),
    ],
)
def test_json_has_every_row_with_its_source(cli: Cli, table: str, name: str, field: str, value: object) -> None:
    document = json.loads(cli.ok("catalog", "list", table, "--format", "json"))
    assert (document["format_version"], document["table"]) == ("1.0", table)
    found = [row for row in document["rows"] if row["name"] == name]
    assert {row[field] if not isinstance(row[field], float) else round(row[field], 6) for row in found} == {value}
    assert all(row.get("source") or row["price"] is None or row["price"]["source"] for row in document["rows"])


def test_json_of_a_region_has_only_that_region_and_spot_prices_where_they_are_known(cli: Cli) -> None:
    (cli.folder / "catalog.yaml").write_text("prices:\n  aws:\n    eu-north-1: {ec2.g6e.xlarge.spot: 0.6}\n")
    rows = json.loads(cli.ok("catalog", "list", "instances", "--region", "eu-north-1", "--format", "json"))["rows"]
    assert {row["region"] for row in rows} == {"eu-north-1"}
    assert {row["name"]: row["spot_price"]["usd"] for row in rows if row["spot_price"]} == {"g6e.xlarge": 0.6}


def test_own_rows_are_in_the_tables(cli: Cli) -> None:
    (cli.folder / "sub").mkdir()
    (cli.folder / "sub" / "catalog.yaml").write_text("hosted:\n  our-api: {provider: acme, input: 1.5, output: 2}\n")
    assert "our-api" not in cli.ok("catalog", "list", "hosted")
    for stack in ("sub", "sub/catalog.yaml"):
        assert "our-api" in cli.ok("catalog", "list", "hosted", "--stack", stack)


def test_a_wrong_own_row_is_told_with_line_and_column(cli: Cli) -> None:
    (cli.folder / "catalog.yaml").write_text("hosted:\n  our-api: {provider: acme, inptu: 1.5, output: 2}\n")
    answer = cli("catalog", "list", "models")
    assert answer.code == 1
    assert 'catalog.yaml:2:29: error: hosted.our-api: unknown key "inptu"' in answer.err
    assert 'did you mean "input"?' in answer.err


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["instnaces"], 'there is no table "instnaces"', 'did you mean "instances"?'),
        (["gpus", "--region", "eu-centrall-1"], 'the catalogue knows no region "eu-centrall-1"', 'did you mean "eu-central-1"?'),
        (["gpus", "--provider", "awz"], 'of a provider "awz"', 'did you mean "aws"?'),
        (["gpus", "--stack", "nowhere"], "there is no nowhere", "--stack names a folder"),
    ],
)
def test_an_unknown_word_is_told_with_the_nearest_one(cli: Cli, arguments: list[str], sentence: str, hint: str) -> None:
    answer = cli("catalog", "list", *arguments)
    assert answer.code == 1
    assert sentence in answer.err
    assert hint in answer.err


@pytest.mark.parametrize("table", ["models", "instances"])
def test_a_list_imports_no_cloud(tmp_path: Path, table: str) -> None:
    assert sorted(modules_after(["catalog", "list", table], tmp_path) & (REMOTE | DRAWING | SECRET)) == []


# --- refresh -------------------------------------------------------------------------------------------------------------------


def refreshed(cli: Cli, monkeypatch: pytest.MonkeyPatch, session: Any, *arguments: str) -> Answer:
    """Refresh from the answers of a scripted session."""
    monkeypatch.setattr(_catalog, "session", lambda: session)
    return cli("catalog", "refresh", *arguments)


def test_refresh_asks_for_the_stacks_region_and_plans_take_what_it_wrote(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "stack.yaml").write_text(STACK)
    answer = refreshed(cli, monkeypatch, usual())
    assert answer.code == 0, answer
    assert answer.out.splitlines() == [
        "eu-central-1: 3 kinds of machines, 2 with a price on demand, 1 with a spot price; 7 other prices",
        "Written to catalog.refreshed.json. Plans take these instead of what is shipped.",
    ]
    listed = cli.ok("catalog", "list", "instances", "--region", "eu-central-1").splitlines()
    assert [line.split()[0] for line in listed if "xlarge" in line and "g6f" not in line] == [
        "p4de.24xlarge",
        "p5e.48xlarge",
        "g6e.xlarge",
    ]


def test_refresh_of_named_regions_needs_no_stack_file(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = refreshed(cli, monkeypatch, usual(), "--provider", "aws", "--region", "eu-central-1")
    assert answer.code == 0, answer
    assert [path.name for path in cli.folder.iterdir()] == ["catalog.refreshed.json"]


def test_refresh_without_permission_is_one_sentence_and_writes_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "stack.yaml").write_text(STACK)
    ec2, said = client("ec2")
    said.add_client_error("describe_instance_types", "UnauthorizedOperation", http_status_code=403)
    answer = refreshed(cli, monkeypatch, FakeSession({"ec2": ec2, "pricing": client("pricing")[0]}))
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("Error: EC2 in eu-central-1: access is denied (DescribeInstanceTypes)\n")
    assert [path.name for path in cli.folder.iterdir()] == ["stack.yaml"]


def test_refresh_that_fails_in_the_second_region_writes_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "stack.yaml").write_text(STACK)
    answer = refreshed(cli, monkeypatch, usual(), "--region", "eu-central-1", "--region", "eu-west-1")
    assert answer.code == 1
    assert "EC2 in eu-west-1: " in answer.err
    assert not (cli.folder / "catalog.refreshed.json").exists()


def test_refresh_without_credentials_or_network_is_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(cli.folder / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(cli.folder / "none"))
    answer = cli("catalog", "refresh", "--provider", "aws", "--region", "eu-central-1")
    assert answer.code == 1
    assert "EC2 in eu-central-1: there are no AWS credentials" in answer.err
    assert "aws sso login" in answer.err
    assert list(cli.folder.iterdir()) == []


def test_no_secret_of_aws_is_written_or_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "stack.yaml").write_text(STACK)
    answer = refreshed(cli, monkeypatch, usual())
    written = (cli.folder / "catalog.refreshed.json").read_text()
    assert answer.code == 0
    assert "canary" not in (answer.out + answer.err + written).lower()
    ec2, said = client("ec2")
    said.add_client_error("describe_instance_types", "SignatureDoesNotMatch", "canary/SECRET in the canonical request")
    answer = refreshed(cli, monkeypatch, FakeSession({"ec2": ec2, "pricing": client("pricing")[0]}))
    assert answer.code == 1
    assert "the secret access key is wrong" in answer.err
    assert "canary" not in (answer.out + answer.err).lower()


def test_a_provider_that_cannot_be_asked_says_where_prices_go(cli: Cli) -> None:
    cli.stack()
    answer = cli("catalog", "refresh", "--region", "somewhere")
    assert answer.code == 1
    assert "the provider things cannot be asked for prices" in answer.err
    assert "catalog.yaml" in answer.err


def test_a_stack_without_a_region_must_be_told_one(cli: Cli) -> None:
    cli.stack()
    answer = cli("catalog", "refresh")
    assert answer.code == 1
    assert "--region REGION" in answer.err
