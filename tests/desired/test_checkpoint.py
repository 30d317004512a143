"""Which repository a stack's number format leads to, with a server that speaks the hub's API: lock, plan, offline, stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmdeploy import pins
from llmdeploy.catalog import Catalog
from llmdeploy.catalog.licences import commercial
from llmdeploy.desired import Desired, Network, desire, inputs_of, pinned
from llmdeploy.errors import StackError
from llmdeploy.registry import Registry
from tests.sources.hub_server import COMMIT, HubServer, Repository

MODEL = "llama-3.1-8b-instruct"
BASE = "meta-llama/Llama-3.1-8B-Instruct"
AWQ = "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4"
WEIGHTS = b"w" * 5_000
AWQ_SETTINGS = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}


def repository(**more: Any) -> Repository:
    facts = Catalog.load(None).facts(MODEL)
    assert facts is not None
    config = {**facts.config, **more}
    return Repository({"config.json": json.dumps(config).encode(), "model.safetensors": WEIGHTS}, license="llama3.1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    repositories = {
        BASE: repository(),
        AWQ: repository(quantization_config=AWQ_SETTINGS),
        "me/mine": repository(),
        "me/for-research": replace(repository(), license="cc-by-nc-4.0"),
    }
    with HubServer(repositories) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def write(folder: Path, model: str = MODEL, **more: str) -> None:
    entries = "".join(f", {name}: {value}" for name, value in more.items())
    (folder / "stack.yaml").write_text(
        f"version: 1\nname: x\nmodel: {{id: {model}, context: 1K, concurrency: 1{entries}}}\nprovider: {{local: {{}}}}\n"
    )


def wanted(folder: Path, network: Network = "on") -> Desired:
    return desire(inputs_of(folder), Registry(), network)


def lock(folder: Path) -> pins.Pins:
    path, found = pinned(inputs_of(folder), Registry())
    pins.write(path, found)
    return found


def weights(found: Desired) -> Any:
    return found.graph["host_weights.local"].values


def test_the_published_numbers_come_from_the_models_own_repository(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path)
    found = wanted(tmp_path)
    assert weights(found)["manifest"]["location"] == BASE
    assert found.sizing.quantization.made == "published"
    assert found.sizing.weight_bytes == len(WEIGHTS), "sized to the byte once the files are known"
    assert found.settled


def test_a_number_format_leads_to_the_repository_that_the_catalogue_knows(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path, quant="awq")
    found = wanted(tmp_path)
    assert weights(found)["manifest"]["location"] == AWQ
    assert {seen.path.split("/resolve")[0].removeprefix("/api/models") for seen in hub.seen if AWQ not in seen.path} == set()


def test_lock_pins_the_repository_that_was_chosen_and_the_plan_obeys_it_without_a_network(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path, quant="awq")
    locked = lock(tmp_path)
    assert locked.model is not None
    assert (locked.model.variant, locked.model.location, locked.model.revision) == (AWQ, AWQ, COMMIT)
    asked = len(hub.seen)
    found = wanted(tmp_path, "off")
    assert weights(found)["pinned"] is True
    assert weights(found)["manifest"]["location"] == AWQ
    assert len(hub.seen) == asked
    assert not any("not pinned" in warning for warning in found.warnings)


def test_another_format_than_the_pinned_one_is_stale(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path, quant="awq")
    lock(tmp_path)
    write(tmp_path, quant="gptq")
    with pytest.raises(StackError, match=r"stack.yaml:3:.*AWQ-INT4, which does not hold gptq.*llmdeploy lock"):
        wanted(tmp_path, "off")


@pytest.mark.parametrize("asked", [{"quant": "awq"}, {"variant": AWQ}])
def test_the_published_files_pinned_do_not_hold_other_numbers(hub: HubServer, tmp_path: Path, asked: dict[str, str]) -> None:
    write(tmp_path)
    lock(tmp_path)
    write(tmp_path, **asked)
    with pytest.raises(StackError, match=r"stack.lock.yaml pins meta-llama/Llama-3.1-8B-Instruct, which does not hold "):
        wanted(tmp_path, "off")


def test_what_is_made_while_loading_takes_the_pinned_files(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path)
    lock(tmp_path)
    write(tmp_path, quant="fp16")
    found = wanted(tmp_path, "off")
    assert weights(found)["pinned"] is True
    assert found.sizing.quantization.name == "fp16"


def test_a_variant_of_the_stack_file_is_taken_as_it_is(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path, variant=AWQ)
    found = wanted(tmp_path)
    assert weights(found)["manifest"]["location"] == AWQ
    assert found.sizing.quantization.name == "awq"
    locked = lock(tmp_path).model
    assert locked is not None
    assert (locked.variant, locked.location) == (AWQ, AWQ)
    assert weights(wanted(tmp_path, "off"))["pinned"] is True


def test_a_variant_that_the_catalogue_lists_needs_no_hub(tmp_path: Path) -> None:
    write(tmp_path, variant=AWQ)
    found = wanted(tmp_path, "off")
    assert weights(found)["repository"] == AWQ
    assert (found.sizing.quantization.name, found.sizing.quantization.made) == ("awq", "variant")
    write(tmp_path, variant="somebody/else-awq")
    with pytest.raises(StackError, match="somebody/else-awq without asking its hub"):
        wanted(tmp_path, "off")


def test_sparing_asks_only_about_what_the_catalogue_does_not_know(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path)
    assert weights(wanted(tmp_path, "sparing"))["repository"] == BASE
    assert hub.seen == []
    write(tmp_path, "me/mine")
    assert weights(wanted(tmp_path, "sparing"))["manifest"]["location"] == "me/mine"
    assert hub.seen


def test_a_stale_pin_of_another_model_is_told(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path)
    lock(tmp_path)
    write(tmp_path, "qwen3-8b")
    with pytest.raises(StackError, match=r"stack.lock.yaml is of llama-3.1-8b-instruct; the stack file asks for qwen3-8b"):
        wanted(tmp_path, "off")


def test_a_format_that_nobody_publishes_is_refused_with_what_there_is(tmp_path: Path) -> None:
    write(tmp_path, "codellama-34b-instruct", quant="int8")
    with pytest.raises(StackError, match=r"stack.yaml:3:\d+: error: model.quant: "):
        wanted(tmp_path, "off")


def test_a_card_that_forbids_commercial_use_is_a_finding(hub: HubServer, tmp_path: Path) -> None:
    write(tmp_path, "me/for-research")
    found = wanted(tmp_path)
    assert [(one.control, one.result, one.path) for one in found.findings] == [("LIC-01", "warn", "model.id")]
    write(tmp_path, "me/mine")
    assert wanted(tmp_path).findings == ()


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("apache-2.0", True),
        ("mit", True),
        ("cc-by-4.0", True),
        ("cc-by-nc-4.0", False),
        ("CC-BY-NC-SA-4.0", False),
        ("mrl", False),
        ("microsoft-research-license", False),
        ("some-non-commercial-license", False),
        ("llama3.3", None),
        (None, None),
    ],
)
def test_what_the_name_of_a_licence_tells(name: str | None, allowed: bool | None) -> None:
    assert commercial(name) is allowed


def test_the_catalogue_never_contradicts_a_name(tmp_path: Path) -> None:
    catalog = Catalog.load(None)
    for name in catalog.model_names():
        facts = catalog.facts(name)
        assert facts is not None
        assert commercial(facts.license) in (None, facts.commercial), name
