"""`plan --offline` and what asks nobody: no hub, no machine, no bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli

STACK = """
version: 1
name: far
model: {{id: {model}, context: 4K, concurrency: 2}}
{more}
keys: [{{name: me, principal: "arn:aws:iam::111122223333:role/me"}}]
"""
AWS = "region: us-east-1\nprovider: {aws: {}}"
LOCAL = "provider: {local: {}}"
BUCKET = "state: {s3: {bucket: nobody-has-this, region: us-east-1}}"

Write = Callable[..., None]


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write(cli: Cli) -> Write:
    def to(model: str = "llama-3.1-8b-instruct", more: str = AWS) -> None:
        (cli.folder / "stack.yaml").write_text(STACK.format(model=model, more=more))

    return to


def document(cli: Cli, *options: str) -> dict[str, Any]:
    return json.loads(cli.ok("plan", "--offline", "--format", "json", *options))


def test_a_catalogue_model_on_rented_machines_is_planned_whole(cli: Cli, write: Write) -> None:
    write()
    plan = document(cli)
    changes = {change["address"]: change["change"] for change in plan["resource_changes"]}
    weights = next(change for address, change in changes.items() if address.startswith("host_weights."))
    assert weights["after_unknown"]["manifest"] is True
    assert weights["after"]["repository"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert any(address.startswith("aws_instance.") for address in changes)
    assert plan["sizing"]["fits"] is True
    assert plan["economics"]["usd_per_month"] > 100
    assert any("not pinned" in warning for warning in plan["warnings"])


def test_the_same_plan_comes_twice(cli: Cli, write: Write) -> None:
    write()
    first, second = document(cli), document(cli)
    assert {**first, "timestamp": ""} == {**second, "timestamp": ""}


def test_apply_of_what_is_only_planned_is_one_sentence(cli: Cli, write: Write) -> None:
    write()
    answer = cli("apply", "--yes")
    assert (answer.code, answer.out) == (1, "")
    assert "plans stacks" in answer.err
    assert "Traceback" not in answer.err
    assert not (cli.folder / ".llmdeploy").exists()


def test_a_saved_plan_of_what_is_only_planned_is_refused_too(cli: Cli, write: Write) -> None:
    write()
    cli.ok("plan", "--offline", "--out", "far.llmplan")
    answer = cli("apply", "far.llmplan")
    assert answer.code == 1
    assert "plans stacks" in answer.err


def test_validate_needs_no_hub_for_a_model_of_the_catalogue(cli: Cli, write: Write) -> None:
    write(more=LOCAL)
    assert "valid" in cli.ok("validate")


def test_without_offline_the_hub_is_asked(cli: Cli, write: Write) -> None:
    write(more=LOCAL)
    answer = cli("plan")
    assert answer.code == 1
    assert "cannot reach http://127.0.0.1:9" in answer.err


def test_a_model_that_only_its_hub_knows_cannot_be_planned_offline(cli: Cli, write: Write) -> None:
    write("somebody/their-model")
    answer = cli("plan", "--offline")
    assert answer.code == 1
    assert "stack.yaml:4:" in answer.err
    assert "without asking its hub" in answer.err


def test_a_state_in_a_bucket_is_said_to_be_unread(cli: Cli, write: Write) -> None:
    write(more=f"{AWS}\n{BUCKET}")
    answer = cli("plan", "--offline")
    assert answer.code == 0
    assert "s3://nobody-has-this/far was not read" in answer.err
    for option in (("--out", "p.llmplan"), ("--destroy",)):
        refused = cli("plan", "--offline", *option)
        assert refused.code == 1
        assert f"{option[0]} needs the state" in refused.err


def test_offline_and_refresh_only_contradict_each_other(cli: Cli, write: Write) -> None:
    write()
    answer = cli("plan", "--offline", "--refresh-only")
    assert answer.code == 1
    assert "--offline asks nobody" in answer.err


def test_offline_believes_the_state(cli: Cli) -> None:
    cli.stack(names=["a"])
    cli.ok("apply", "--yes")
    (cli.folder / "world" / "a").unlink()
    assert "No changes" in cli.ok("plan", "--offline")
    assert "1 to create" in cli.ok("plan")


def test_a_licence_that_forbids_commercial_use_is_a_finding_and_refuses_nothing(cli: Cli, write: Write) -> None:
    write("solar-10.7b-instruct")
    plan = document(cli)
    assert plan["errored"] is False
    found = [check for check in plan["checks"] if "LIC-01" in json.dumps(check)]
    assert found
    assert "forbids commercial use" in json.dumps(found)


def test_the_region_is_needed_where_machines_are_rented(cli: Cli, write: Write) -> None:
    write(more="provider: {aws: {}}")
    answer = cli("plan", "--offline")
    assert answer.code == 1
    assert "region" in answer.err


def test_what_a_profile_wants_pinned_is_told_offline_and_not_refused(cli: Cli, write: Write) -> None:
    state = 'state: {local: {}, encryption: {passphrase: "env:STATE_KEY"}}'
    write(more=f"{AWS}\ncompliance: {{profiles: [hipaa], attest: {{baa: true}}}}\n{state}")
    plan = document(cli)
    assert plan["errored"] is False
    assert "SUP-01" in json.dumps(plan["checks"])


def test_offline_reads_a_folder(cli: Cli, write: Write, tmp_path: Path) -> None:
    from llmdeploy.catalog import tiny_random

    (tmp_path / "model").mkdir()
    for name, content in tiny_random.files().items():
        (tmp_path / "model" / name).write_bytes(content)
    write("./model", LOCAL)
    assert document(cli)["sizing"]["fits"] is True


@pytest.mark.parametrize(("more", "wanted"), [(f"{AWS}\nengine: {{runtime: venv}}", "container"), (AWS, "")])
def test_gpus_are_served_from_a_container(cli: Cli, write: Write, more: str, wanted: str) -> None:
    write(more=more)
    answer = cli("plan", "--offline")
    assert answer.code == (1 if wanted else 0)
    assert (
        "stack.yaml:7:19: error: engine.runtime: on GPUs this version knows the runtime container only" in answer.err
    ) == bool(wanted)


def test_a_price_that_nothing_has_is_refused_with_the_nearest(cli: Cli, write: Write) -> None:
    write(more=f"{AWS}\nprices: {{ec2.g6e.xlarg: 0.1}}")
    answer = cli("validate")
    assert answer.code == 1
    assert "stack.yaml:7:10: error: prices.ec2.g6e.xlarg: " in answer.err
    assert "ec2.g6e.xlarge" in answer.err


def test_an_own_price_changes_what_is_cheapest(cli: Cli, write: Write) -> None:
    write()
    before = document(cli)["sizing"]["machine"]
    write(more=f"{AWS}\nprices: {{ec2.p5.4xlarge: 0.1}}")
    assert (before, document(cli)["sizing"]["machine"]) == ("g6.xlarge", "p5.4xlarge")


def test_apply_tells_what_it_cannot_build_before_it_asks_anybody(cli: Cli, write: Write) -> None:
    write()
    assert "plans stacks" in cli("apply").err
    (cli.folder / "stack.yaml").unlink()
    assert "stack.yaml" in cli("apply").err


def test_what_does_not_fit_is_told_with_its_place(cli: Cli, write: Write) -> None:
    write("llama-3.1-8b-instruct, concurrency: 1, variant: null", f"{AWS}\nhardware: {{gpu: h100}}")
    (cli.folder / "stack.yaml").write_text(
        (cli.folder / "stack.yaml").read_text().replace("context: 4K, concurrency: 2", "context: 4K")
    )
    answer = cli("size")
    assert answer.code == 1
    assert "stack.yaml:7:" in answer.out


def test_a_variant_of_another_format_is_told(cli: Cli, write: Write) -> None:
    awq = "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4"
    write(f"llama-3.1-8b-instruct, variant: {awq}, quant: fp8")
    answer = cli("plan", "--offline")
    assert answer.code == 1
    assert f"model.quant: {awq} holds awq, not fp8" in answer.err


def index_only(folder: Path, total_size: int) -> Path:
    from llmdeploy.catalog import Catalog

    facts = Catalog.load(None).facts("qwen3-8b")
    assert facts is not None
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(dict(facts.config)))
    index = {"metadata": {"total_size": total_size}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder / "model"


def test_a_folder_without_its_weights_is_sized_from_their_index(cli: Cli, write: Write, tmp_path: Path) -> None:
    index_only(tmp_path, 16 * 2**30)
    write("./model")
    found = json.loads(cli.ok("size", "--format", "json"))
    assert found["fits"] is True
    assert found["memory"]["weights_bytes"] == pytest.approx(16 * 2**30 / found["tensor_parallel"], rel=0.05)
    assert document(cli)["sizing"]["fits"] is True


def test_a_copy_that_is_smaller_than_its_index_says_is_not_whole(cli: Cli, write: Write, tmp_path: Path) -> None:
    model = index_only(tmp_path, 16 * 2**30)
    (model / "model-00001-of-00001.safetensors").write_bytes(b"x" * 50)
    write("./model")
    answer = cli("plan", "--offline")
    assert answer.code == 1
    assert "the copy is not complete" in answer.err
