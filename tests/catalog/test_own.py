from __future__ import annotations

from pathlib import Path

import pytest

from llmdeploy.catalog import Catalog
from llmdeploy.diagnostics import Diagnostic
from llmdeploy.errors import StackError

ROWS = """\
models:
  our-model:
    hf_id: acme/our-model
    license: proprietary
    commercial: true
    gated: false
    parameters: {total: 1000000, active: 1000000}
    published_as: bfloat16
    architecture: {kind: dense, layers: 2, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, intermediate: 128, vocab: 512,
                   tie_word_embeddings: true, max_context_tokens: 4096}
    config: {model_type: llama, architectures: [LlamaForCausalLM]}
    variants:
      fp8: {repository: acme/our-model-fp8, confidence: seen}
gpus:
  l40:
    title: NVIDIA L40
    architecture: ada
    capability: [8, 9]
    memory_gib: 44.4
    bandwidth_gb_per_s: 864
    tflops: {bf16: 181, fp8: 362}
instances:
  aws:
    g9.large:
      gpu: l40
      gpus: 2
      vcpus: 16
      memory_gib: 64
      zones: {eu-central-1: [euc1-az1]}
      usd_per_hour: {eu-central-1: 1.5}
      spot_usd_per_hour: {eu-central-1: 0.5}
  acme:
    box: {gpu: h200, gpus: 8, vcpus: 64, memory_gib: 512, zones: {north: [a]}}
prices:
  aws:
    everywhere: {kms.key_month: 0.9}
    eu-central-1: {ebs.gp3: 0.07, ec2.g6e.xlarge: 2.0}
  hosts:
    everywhere: {power.kwh: 0.3}
hosted:
  our-api: {provider: acme, input: 1, output: 2}
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "catalog.yaml").write_text(ROWS)
    return Catalog.load(tmp_path)


def findings(tmp_path: Path, text: str) -> list[Diagnostic]:
    (tmp_path / "catalog.yaml").write_text(text)
    with pytest.raises(StackError) as caught:
        Catalog.load(tmp_path)
    found = [one for one in caught.value.diagnostics if isinstance(one, Diagnostic)]
    assert len(found) == len(caught.value.diagnostics) > 0
    return found


def told(tmp_path: Path, text: str) -> list[tuple[int, int, str, str, str]]:
    return [
        (one.place.line, one.place.column, one.path, one.summary, one.hint)
        for one in findings(tmp_path, text)
        if one.place and one.place.file == str(tmp_path / "catalog.yaml")
    ]


# --- what they give ------------------------------------------------------------------------------------------------------------


def test_without_a_file_the_catalogue_is_what_is_shipped(tmp_path: Path) -> None:
    assert Catalog.load(tmp_path) == Catalog.load(None)
    (tmp_path / "catalog.yaml").write_text("# nothing yet\n")
    assert Catalog.load(tmp_path) == Catalog.load(None)


def test_an_own_model_has_facts_like_any_other(catalog: Catalog) -> None:
    facts, row = catalog.facts("our-model"), catalog.model("our-model")
    assert facts is not None
    assert row is not None
    assert (row["source"], facts.source) == ("catalog.yaml", "catalog.yaml")
    assert (facts.config["model_type"], facts.config["num_hidden_layers"]) == ("llama", 2)
    assert (facts.weight_bytes, dict(facts.variants)) == (2_000_000, {"fp8": "acme/our-model-fp8"})
    assert "our-model" in catalog.model_names()


def test_an_own_gpu_stands_beside_those_that_are_shipped(catalog: Catalog) -> None:
    assert (catalog.gpus["l40"].flops["fp8"], catalog.gpus["l40"].source) == (362e12, "catalog.yaml")
    assert "l40s" in catalog.gpus


def test_own_machines_come_with_their_prices(catalog: Catalog) -> None:
    on_demand = {one.name: one for one in catalog.machines("aws", "eu-central-1")}
    spot = {one.name: one.price for one in catalog.machines("aws", "eu-central-1", "spot")}
    own = on_demand["g9.large"]
    assert (own.gpu, own.gpus, own.price and own.price.usd) == (catalog.gpus["l40"], 2, 1.5)
    assert own.gpu_memory_bytes == catalog.gpus["l40"].memory_bytes
    cheap = spot["g9.large"]
    assert cheap is not None
    assert (cheap.usd, cheap.source) == (0.5, "catalog.yaml")
    assert "g9.large" not in {one.name for one in catalog.machines("aws", "us-east-1")}


def test_a_provider_that_the_catalogue_does_not_know_can_have_machines(catalog: Catalog) -> None:
    [box] = catalog.machines("acme", "north")
    assert (box.name, box.gpus, box.price) == ("box", 8, None)
    assert catalog.regions("acme") == ("north",)
    assert catalog.providers() == ("acme", "aws", "hosts")


def test_own_prices_win_over_what_is_shipped_and_lose_to_the_stack_file(catalog: Catalog) -> None:
    found = catalog.prices("aws", "eu-central-1", {"ebs.gp3": 0.01})
    assert [(found[name].usd, found[name].source) for name in ("kms.key_month", "ec2.g6e.xlarge", "ebs.gp3")] == [
        (0.9, "catalog.yaml"),
        (2.0, "catalog.yaml"),
        (0.01, "prices in the stack file"),
    ]
    assert catalog.prices("aws", "us-east-1")["kms.key_month"].usd == 0.9
    assert catalog.prices("aws", "us-east-1")["ebs.gp3"].usd == 0.08
    assert catalog.prices("hosts", "de")["power.kwh"].unit == "kWh"


def test_an_own_price_of_a_machine_is_that_of_the_machine(catalog: Catalog) -> None:
    found = {one.name: one.price for one in catalog.machines("aws", "eu-central-1")}
    price = found["g6e.xlarge"]
    assert price is not None
    assert price.usd == 2.0


def test_an_own_hosted_model_needs_no_cached_price(catalog: Catalog) -> None:
    own = catalog.hosted["our-api"]
    assert (own.input, own.cached, own.output, own.source) == (1, None, 2, "catalog.yaml")


def test_an_own_row_replaces_the_one_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text("hosted:\n  gpt-5: {provider: azure, input: 2, cached: 1, output: 3}\n")
    one = Catalog.load(tmp_path).hosted["gpt-5"]
    assert (one.provider, one.input, one.source) == ("azure", 2, "catalog.yaml")


# --- what is wrong with them ---------------------------------------------------------------------------------------------------


def test_an_unknown_section_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    assert told(tmp_path, "gpu:\n  l40: {}\n") == [(1, 1, "", 'unknown key "gpu"', 'did you mean "gpus"?')]


def test_every_error_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = """\
gpus:
  l40:
    title: NVIDIA L40
    architecture: ada
    capability: [8, 9]
    memory_gb: 48
    memory_gib: "44.4"
    bandwidth_gb_per_s: 864
    tflops: {bf16: 181, bf8: 1}
hosted:
  mine: {provider: acme, input: true, output: 1}
"""
    assert told(tmp_path, text) == [
        (6, 5, "gpus.l40", 'unknown key "memory_gb"', 'did you mean "memory_gib"?'),
        (7, 17, "gpus.l40.memory_gib", 'must be a number, not "44.4"', ""),
        (9, 25, "gpus.l40.tflops", 'the key must be one word of a list, not "bf8"', 'did you mean "fp8"?'),
        (11, 33, "hosted.mine.input", "must be a number, not true", ""),
    ]


def test_a_missing_key_is_told_at_its_row(tmp_path: Path) -> None:
    assert told(tmp_path, "hosted:\n  mine: {provider: acme, input: 1}\n") == [(2, 9, "hosted.mine", '"output" is missing', "")]


def test_an_unknown_gpu_and_a_region_without_zones_are_told(tmp_path: Path) -> None:
    text = """\
instances:
  aws:
    big: {gpu: l40z, gpus: 1, vcpus: 4, memory_gib: 16, zones: {eu-central-1: [a]},
          usd_per_hour: {eu-centrall-1: 1}}
"""
    assert told(tmp_path, text) == [
        (3, 16, "instances.aws.big.gpu", 'unknown GPU "l40z"', 'did you mean "l40s"?'),
        (4, 26, "instances.aws.big.usd_per_hour", '"eu-centrall-1" is not among the zones', 'did you mean "eu-central-1"?'),
    ]


def test_an_unknown_price_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    text = "prices:\n  aws:\n    eu-central-1: {ebs.gp4: 1, ec2.g6e.xlarg: 2, nat.hour: -1}\n"
    assert told(tmp_path, text) == [
        (3, 20, "prices.aws.eu-central-1", 'unknown price "ebs.gp4"', 'did you mean "ebs.gp3"?'),
        (3, 32, "prices.aws.eu-central-1", 'unknown price "ec2.g6e.xlarg"', 'did you mean "ec2.g6e.xlarge"?'),
        (3, 60, "prices.aws.eu-central-1.nat.hour", "a price of -1 is less than nothing", ""),
    ]


def test_a_provider_that_is_nearly_a_known_one_is_told(tmp_path: Path) -> None:
    assert told(tmp_path, "prices:\n  awss:\n    everywhere: {nat.hour: 1}\n") == [
        (2, 3, "prices", 'unknown provider "awss"', 'did you mean "aws"?')
    ]


def test_a_model_of_no_known_kind_is_told(tmp_path: Path) -> None:
    text = ROWS.replace("kind: dense", "kind: dens")
    assert told(tmp_path, text) == [
        (9, 26, "models.our-model.architecture.kind", 'must be one word of a list, not "dens"', 'did you mean "dense"?')
    ]


def test_a_model_without_a_repository_or_with_layers_that_do_not_add_up_is_told(tmp_path: Path) -> None:
    text = ROWS.replace("acme/our-model\n", "our-model\n").replace(
        "layers: 2,", "layers: 2, sliding_window: {window_tokens: 64, sliding_layers: 2, full_layers: 1},"
    )
    assert [(path, summary) for _, _, path, summary, _ in told(tmp_path, text.replace("heads: 4", "heads: 0"))] == [
        ("models.our-model.hf_id", "must name a repository"),
        ("models.our-model.architecture.sliding_window", "its layers do not add up to those of the model"),
        ("models.our-model.architecture.heads", "must be at least 1"),
    ]


def test_a_model_all_of_whose_layers_slide_has_a_config(tmp_path: Path) -> None:
    window = "layers: 2, sliding_window: {window_tokens: 64, sliding_layers: 2, full_layers: 0},"
    (tmp_path / "catalog.yaml").write_text(ROWS.replace("layers: 2,", window))
    facts = Catalog.load(tmp_path).facts("our-model")
    assert facts is not None
    assert facts.config["layer_types"] == ["sliding_attention"] * 2


def test_a_gpu_without_memory_or_with_half_a_capability_is_told(tmp_path: Path) -> None:
    text = ROWS.replace("capability: [8, 9]", "capability: [8]").replace("memory_gib: 44.4", "memory_gib: 0")
    assert [(summary, hint) for _, _, _, summary, hint in told(tmp_path, text)] == [
        ("memory_gib and bandwidth_gb_per_s must be more than 0", ""),
        ("must be two numbers, major and minor", "for example [9, 0]"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "summary"),
    [
        ("models: [\n", 2, "this is not YAML"),
        ("a: 1\n\tb: 2\n", 2, "this is not YAML"),
        ("hosted: &x {}\nmodels: *x\n", 1, "aliases (*name) are not allowed"),
        ("hosted: {}\nhosted: {}\n", 2, 'the key "hosted" stands twice'),
        ("- models\n", 1, "must be a mapping, not a list"),
        ("models: !!python/object:os.system {}\n", 1, "this is not YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_told_with_its_place(tmp_path: Path, text: str, line: int, summary: str) -> None:
    [found, *_] = findings(tmp_path, text)
    assert found.summary.startswith(summary)
    assert found.place is not None
    assert found.place.line == line


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").mkdir()
    with pytest.raises(StackError, match=r"cannot read .*catalog\.yaml"):
        Catalog.load(tmp_path)
    (tmp_path / "catalog.yaml").rmdir()
    (tmp_path / "catalog.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(StackError, match="this is not UTF-8 text"):
        Catalog.load(tmp_path)
    (tmp_path / "catalog.yaml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(StackError, match="larger than 1 MiB"):
        Catalog.load(tmp_path)
