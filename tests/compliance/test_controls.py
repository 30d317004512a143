"""Each control refuses a stack, and lets its repaired twin pass.

The twins are the stacks of `stacks.py`, which keep every control under many profiles at once: one line, or one fact of one
resource, is spoiled, and exactly the controls that are about it refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.catalog import tiny_random
from llmdeploy.compliance import CONTROLS
from llmdeploy.compliance.controls.logs import ATTRIBUTED, LOG_FIELDS, TRACED
from llmdeploy.compliance.live import Seen, judge
from llmdeploy.compliance.model import Subject
from llmdeploy.evidence import Observation
from llmdeploy.traits import DataFlow, EngineProcess, Software, Traits
from tests.compliance.stacks import ATTEST, AWS, HOSTS, LOCAL, Lines, Made, compliance, planned, text

JUDGED_BY_NOBODY = {"AUD-01", "CHG-01", "VUL-01", "AIA-04"}
ADVICE = {"ENC-06", "KEY-04", "HA-01", "RES-04"}
"""Controls that tell and never refuse."""

_KEY = "arn:aws:kms:eu-central-1:111122223333:key"
FALLBACK = (
    "fallback: {base_url: https://api.example.com/v1, model: big, api_key: env:HOSTED_KEY}, "
    'tls: {cert: "file:tls/chain.pem", key: "file:tls/key.pem"}'
)
HOSTED: Lines = {**HOSTS, "gateway": f"gateway: {{domain: llm.example.com, {FALLBACK}}}"}
HOSTED_IN_GERMANY: Lines = {
    **HOSTED,
    "compliance": compliance("gdpr, hipaa", endpoints="api.example.com: {country: DE, agreement: true}"),
}
REGISTRIES = "registry-1.docker.io: site, nvidia.github.io: site"
OPEN_TO_THE_WORLD = "eu-ai-act, gdpr, hipaa, pci-dss, soc2"
IN_A_BUCKET = "state: {{s3: {{bucket: my-states, region: {region}{more}}}}}"
VAULT: Lines = {**HOSTS, "compliance": compliance("airgapped", endpoints=REGISTRIES)}
"""Machines in a closed network: what they fetch comes from mirrors inside, by the same names."""


def without(words: str) -> str:
    assert words in ATTEST
    return compliance(attest=ATTEST.replace(f"{words}, ", "").replace(f", {words}", ""))


def hosted(profile: str, endpoints: str = "", attest: str = ATTEST) -> Lines:
    return {"compliance": compliance(profile, endpoints=endpoints, attest=attest)}


SPOILED: list[tuple[str, Lines, Lines, str]] = [
    ("ENC-01", LOCAL, {"storage": "storage: {encryption: none}"}, "storage"),
    ("ENC-03", LOCAL, {"storage": "storage: {encryption: gocryptfs}"}, "storage"),
    ("KEY-02", LOCAL, {"keys": "keys: [{name: me, principal: me}, {name: you, principal: me}]"}, "keys"),
    ("KEY-06", LOCAL, {"gateway": "gateway: {domain: llm.example.com}"}, "gateway"),
    ("STATE-02", LOCAL, {"state": "state: {local: {}}"}, "state"),
    (
        "STATE-02",
        LOCAL,
        {"state": IN_A_BUCKET.format(region="eu-central-1", more=""), "compliance": compliance(OPEN_TO_THE_WORLD)},
        "state",
    ),
    (
        "RES-01",
        LOCAL,
        {"state": IN_A_BUCKET.format(region="us-east-1", more=", kms_key: k"), "compliance": compliance(OPEN_TO_THE_WORLD)},
        "state",
    ),
    ("NET-04", LOCAL, {"state": IN_A_BUCKET.format(region="eu-central-1", more=", kms_key: k")}, "state"),
    ("RET-01", LOCAL, {"logs": ""}, "version"),
    ("SUP-03", LOCAL, {"compliance": without("mirrors: true")}, "compliance"),
    ("DPA-01", LOCAL, {"compliance": without("ropa: true")}, "compliance"),
    ("DPA-01", LOCAL, {"compliance": without("dpia: true")}, "compliance"),
    (
        "AIA-03",
        LOCAL,
        {"compliance": without("ai_act: {role: deployer, high_risk: false, intended_purpose: tests}")},
        "compliance",
    ),
    ("RES-01", LOCAL, {"region": "region: office"}, "region"),
    ("RES-01", LOCAL, {"region": "region: US"}, "region"),
    ("RES-02", HOSTED_IN_GERMANY, hosted("gdpr"), "gateway"),
    ("RES-02", HOSTED_IN_GERMANY, hosted("gdpr", "api.example.com: DE"), "gateway"),
    ("RES-02", HOSTED_IN_GERMANY, hosted("gdpr", "api.example.com: {country: US, agreement: true}"), "gateway"),
    ("BAA-01", HOSTED_IN_GERMANY, hosted("hipaa"), "gateway"),
    ("PAN-01", HOSTED_IN_GERMANY, hosted("pci-dss"), "gateway"),
    ("PAN-01", HOSTED_IN_GERMANY, hosted("pci-dss", "api.example.com: DE"), "gateway"),
    ("HOST-01", HOSTS, {"provider": re.sub(r', host_key: "[^"]*"', "", HOSTS["provider"])}, "provider"),
    ("BAA-01", HOSTED_IN_GERMANY, hosted("hipaa", "api.example.com: US"), "gateway"),
    (
        "DPA-01",
        HOSTED_IN_GERMANY,
        hosted("gdpr", "api.example.com: {country: DE, agreement: true}", ATTEST.replace("dpa: true, ", "")),
        "compliance",
    ),
    ("NET-04", VAULT, {"compliance": compliance("airgapped", endpoints="nvidia.github.io: site")}, "compliance"),
    ("NET-04", VAULT, {"gateway": HOSTED["gateway"]}, "compliance"),
    ("BAA-01", AWS, {"compliance": compliance("hipaa", attest="dpa: true")}, "compliance"),
    ("DPA-01", AWS, {"compliance": compliance("gdpr", attest="ropa: true, dpia: true")}, "compliance"),
    ("RET-01", AWS, {"logs": "logs: {retention_days: 370, max_days: 380}"}, "logs"),
    # CloudWatch Logs keeps them for 400.
    ("RET-01", AWS, {"logs": "logs: {retention_days: 370}"}, "logs"),
    ("RES-01", AWS, {"provider": f'provider: {{aws: {{kms_key: "{_KEY}/mrk-1234abcd12ab34cd56ef1234567890ab"}}}}'}, "provider"),
]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    return {}


def twin(twins: dict[str, Made], lines: Lines, folder: Path) -> Made:
    """Return the plan of the stack that keeps everything, made once."""
    stack = text(lines)
    if stack not in twins:
        twins[stack] = planned(folder / "twin", stack)
    return twins[stack]


@pytest.mark.parametrize(("control", "lines", "spoiled", "key"), SPOILED, ids=[f"{c}-{next(iter(s))}" for c, _, s, _ in SPOILED])
def test_a_control_refuses_a_stack_at_its_line_and_lets_the_repaired_twin_pass(
    tmp_path: Path, twins: dict[str, Made], control: str, lines: Lines, spoiled: Lines, key: str
) -> None:
    assert planned(tmp_path / "spoiled", text(lines, spoiled)).refusals == {(control, key)}
    assert twin(twins, lines, tmp_path).refusals == set()


def test_parts_of_a_replica_that_talk_in_clear_are_refused(tmp_path: Path) -> None:
    def made(profile: str, count: int) -> set[tuple[str, str]]:
        big = {"model": "model: {id: llama-3.1-8b-instruct, context: 8K, concurrency: 4}"}
        spread = {"hardware": f"hardware: {{gpu: l40s, count: {count}}}", "compliance": compliance(profile)}
        return planned(tmp_path, text(HOSTS, {**big, **spread})).refusals

    for profile in ("gdpr", "hipaa", "soc2"):
        assert made(profile, 4) == {("TLS-02", "hardware")}
        assert made(profile, 2) == set()
    # The others speak of what clients reach only.
    assert made("eu-ai-act", 4) == set()


def test_every_way_out_of_the_stack_file_can_be_pasted(tmp_path: Path) -> None:
    """What a refusal tells to write, is a stack file that passes."""
    for way_out in ("storage: {encryption: auto}", 'storage: {key: "env:NAME"}'):
        assert not planned(tmp_path, text(LOCAL, {"compliance": compliance("none"), "storage": way_out})).of("ENC-01")
    broken = planned(tmp_path, text(LOCAL, {"gateway": "", "state": ""}))
    assert {control for control, _ in broken.refusals} == {"KEY-06", "STATE-02"}
    told = {one.control: one.way_out for one in broken.plan.findings if one.refuses}
    assert planned(tmp_path, text(LOCAL, {"gateway": told["KEY-06"], "state": told["STATE-02"]})).refusals == set()


# --- traps of residency -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "residency", "passes"),
    [
        ("DE", "eu", True),
        ("de", "eu", True),
        ("NO", "eu", False),
        ("NO", "eea", True),
        ("CH", "eea", False),
        ("CH", "adequate", True),
        ("GB", "eu", False),
        ("GB", "adequate", True),
        ("US", "adequate", False),
        ("EU", "eu", False),
        ("UK", "adequate", False),
        ("eu-central-1", "eu", False),
        ("basement", "adequate", False),
        ("", "adequate", False),
    ],
)
def test_a_machine_of_ones_own_stands_in_a_country_that_residency_allows(
    tmp_path: Path, region: str, residency: str, passes: bool
) -> None:
    changed = {"region": f'region: "{region}"' if region else "", "compliance": compliance("gdpr", residency=residency)}
    assert {control for control, _ in planned(tmp_path, text(LOCAL, changed)).refusals} == (set() if passes else {"RES-01"})


@pytest.mark.parametrize(
    ("region", "residency", "passes"),
    [
        ("eu-central-1", "eu", True),
        ("eu-west-2", "eu", False),
        ("eu-west-2", "eea", False),
        ("eu-west-2", "adequate", True),
        ("eu-central-2", "eu", False),
        ("eu-central-2", "eea", False),
        ("eu-central-2", "adequate", True),
        ("us-east-1", "eu", False),
        ("us-east-1", "adequate", False),
    ],
)
def test_the_name_of_a_region_says_nothing_of_where_it_lies(tmp_path: Path, region: str, residency: str, passes: bool) -> None:
    made = planned(tmp_path, text(AWS, {"region": f"region: {region}", "compliance": compliance("gdpr", residency=residency)}))
    refused = {control for control, _ in made.refusals}
    # Log lines go to the region's own log service, which RES-03 judges by its host name.
    assert refused == (set() if passes else {"RES-01", "RES-03"})


def test_a_country_under_a_condition_needs_a_statement(tmp_path: Path) -> None:
    stack = {"region": "region: US", "compliance": compliance("gdpr", residency="adequate")}
    refused = planned(tmp_path, text(LOCAL, stack))
    (finding,) = [one for one in refused.plan.findings if one.refuses]
    assert finding.control == "RES-01"
    assert "US, for which the adequacy decision holds only where" in finding.sentence
    attest = f"{ATTEST}, adequacy_conditions: [US]"
    repaired = {**stack, "compliance": compliance("gdpr", residency="adequate", attest=attest)}
    assert planned(tmp_path, text(LOCAL, repaired)).refusals == set()


@pytest.mark.parametrize(
    ("endpoint", "passes"),
    [
        ("{country: DE, agreement: true}", True),
        ("site", True),
        ("{country: CH, agreement: true}", False),
        ("{country: GB, agreement: true}", False),
        ("{country: FR}", False),
    ],
)
def test_a_hosted_fallback_must_stand_inside_and_be_agreed(tmp_path: Path, endpoint: str, passes: bool) -> None:
    found = planned(tmp_path, text(HOSTED, hosted("gdpr", f"api.example.com: {endpoint}"))).refusals
    assert found == (set() if passes else {("RES-02", "gateway")})


@pytest.mark.parametrize(
    ("host", "endpoint", "passes"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "{country: DE, agreement: true}", False),
        ("bedrock-runtime.us-east-1.amazonaws.com", "site", True),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "{country: DE, agreement: true}", True),
        ("eu.api.openai.com", "{country: DE, agreement: true}", True),
    ],
)
def test_where_a_processors_region_lies_is_not_for_the_stack_file_to_say(
    tmp_path: Path, host: str, endpoint: str, passes: bool
) -> None:
    changed = {"gateway": HOSTED["gateway"].replace("api.example.com", host), **hosted("gdpr", f"{host}: {endpoint}")}
    assert planned(tmp_path, text(HOSTED, changed)).refusals == (set() if passes else {("RES-02", "gateway")})


def test_nobody_is_airgapped_at_a_processor_whatever_the_endpoints_say(tmp_path: Path) -> None:
    endpoints = f"logs.eu-central-1.amazonaws.com: site, {REGISTRIES}"
    made = planned(tmp_path, text(AWS, {"compliance": compliance("airgapped", endpoints=endpoints)}))
    assert made.refusals == {("NET-04", "provider")}
    assert {one.address for one in made.of("NET-04")} == {"host.node-0", "host.node-1"}


def test_a_machine_of_which_nobody_says_where_it_is_counts_as_nowhere(tmp_path: Path) -> None:
    (finding,) = [one for one in planned(tmp_path, text(LOCAL, {"region": ""})).plan.findings if one.refuses]
    assert (finding.control, finding.address) == ("RES-01", "host.local")
    assert finding.sentence == "has no region: nobody knows in which country it is"
    assert finding.way_out.startswith("region: DE")


# --- facts that no stack file can spoil ---------------------------------------------------------------------------------------


def process(made: Made, address: str, *argv: str, **env: str) -> EngineProcess:
    """Return the engine's process as it is planned, with more options and other variables."""
    now = made.traits(address).process
    assert now is not None
    return now.model_copy(update={"argv": (*now.argv, *argv), "env": {**now.env, **env}})


def less(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    assert name in names
    return tuple(one for one in names if one != name)


FIELDS = ("ts", "request_id", "key_id", "principal", "model", "route", "method", "status", "replica", "duration_ms")
GUARDS = ("generic-errors", "no-query", "own-request-ids")
TRACES = DataFlow(what="traces", to="traces.example.com", carries="records")
EVERYWHERE = DataFlow(what="requests", to="the internet")

ON_THIS_MACHINE: list[tuple[str, str, dict[str, Any]]] = [
    ("ENC-04", "host_volume.local", {"custody": "none"}),
    ("ENC-01", "host_volume.local", {"at_rest": "plain"}),
    ("RES-01", "host.local", {"region": None}),
    ("RES-01", "host.local", {"leaves_region": True}),
    ("RES-03", "host_gateway.local", {"data_flows": (TRACES.model_copy(update={"to": "api.openai.com"}),)}),
    ("HOST-01", "host.local", {"ssh_passwords": True}),
    ("HOST-02", "host.local", {"updates_pending": 3}),
    ("HOST-03", "host_engine.local", {"privileged": True}),
    ("AUD-03", "host.local", {"clock_synced": False}),
    ("LOG-05", "host.local", {"swap": "plain"}),
    ("LOG-05", "host_engine.local", {"core_dumps": True}),
    ("LOG-04", "host_engine.local", {"retention_days": None}),
    ("LOG-02", "host_gateway.local", {"log_fields": (*FIELDS, "prompt")}),
    ("LOG-02", "host_gateway.local", {"guards": less(GUARDS, "generic-errors")}),
    ("LOG-02", "host_gateway.local", {"guards": less(GUARDS, "no-query")}),
    ("LOG-02", "host_gateway.local", {"guards": less(GUARDS, "own-request-ids")}),
    ("AUD-02", "host_gateway.local", {"log_fields": less(FIELDS, "principal")}),
    ("AIA-01", "host_gateway.local", {"log_fields": less(FIELDS, "duration_ms")}),
    ("NET-01", "host_engine.local", {"exposure": "public"}),
    ("NET-03", "host_engine.local", {"egress": "open"}),
    ("NET-03", "host_gateway.local", {"data_flows": (EVERYWHERE,)}),
    ("TLS-01", "host_gateway.local", {"tls_min": "1.1"}),
    ("TLS-01", "host_gateway.local", {"tls_min": "none"}),
    ("TLS-01", "host_gateway.local", {"in_transit": "plain", "exposure": "private"}),
    ("TLS-02", "host_engine.local", {"in_transit": "plain", "exposure": "private"}),
    ("KEY-01", "host_gateway.local", {"stored_keys": "clear"}),
    ("KEY-02", "host_gateway.local", {"authenticated": False, "exposure": "private"}),
    ("KEY-02", "api_key.me", {"principal": None}),
    ("KEY-02", "host_gateway.local", {"authenticated": None, "exposure": "private"}),
    ("KEY-05", "host_home.local", {"private": False}),
    ("SUP-02", "host_weights.local", {"formats": ("pickle",)}),
    ("SUP-02", "host_weights.local", {"formats": ("safetensors", "unknown")}),
    ("ENG-01", "host_engine_runtime.local", {"software": (Software(name="vllm", version="0.5.0"),)}),
    ("RET-02", "host_gateway.local", {"retention_days": 364}),
]
"""Of resources on the operator's own machine."""


@pytest.mark.parametrize(
    ("control", "address", "facts"), ON_THIS_MACHINE, ids=[f"{c}-{a}-{'-'.join(f)}" for c, a, f in ON_THIS_MACHINE]
)
def test_a_fact_of_a_machine_of_ones_own_is_refused(
    tmp_path: Path, twins: dict[str, Made], control: str, address: str, facts: Mapping[str, Any]
) -> None:
    lines = {**LOCAL, "compliance": compliance("eu-ai-act, gdpr, hipaa, pci-dss, soc2")}
    assert twin(twins, LOCAL, tmp_path).refusals == set()
    lines = lines if control != "SUP-02" else LOCAL
    assert twin(twins, lines, tmp_path).altered(address, **facts) == {control}


@pytest.fixture
def model(tmp_path: Path) -> Lines:
    """A model folder beside the stack file: its files can change until they are pinned."""
    for name, content in tiny_random.files().items():
        path = tmp_path / "model" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return {"model": "model: {id: ./model, context: 1K, concurrency: 2}"}


@pytest.mark.parametrize("profile", ["airgapped", "hipaa", "gdpr", "pci-dss", "soc2", "eu-ai-act"])
def test_files_that_can_change_are_refused_until_they_are_locked(tmp_path: Path, model: Lines, profile: str) -> None:
    stack = text(LOCAL, {**model, "compliance": compliance(profile)})
    unlocked = planned(tmp_path, stack, offline=False)
    assert unlocked.refusals == {("SUP-01", "model")}
    assert "`llmdeploy lock`" in unlocked.of("SUP-01")[0].way_out
    assert planned(tmp_path, stack, offline=False, lock=True).refusals == set()


def test_an_engine_that_can_change_is_refused(tmp_path: Path) -> None:
    made = planned(tmp_path, text(LOCAL), offline=False)
    assert made.refusals == set()
    assert made.altered("host_engine_runtime.local", pinned=False) == {"SUP-01"}


@pytest.mark.parametrize(
    ("more", "argv", "env"),
    [
        ("", ("--middleware", "x"), {}),
        ("", ("--uvicorn-log-level", "trace"), {}),
        ("", (), {"VLLM_TRACE_FUNCTION": "1"}),
        ("RES-03", (), {"VLLM_NO_USAGE_STATS": "0", "VLLM_DO_NOT_TRACK": "0", "DO_NOT_TRACK": "0"}),
        ("RES-03", ("--otlp-traces-endpoint", "http://x"), {}),
        ("PAN-01", ("--kv-offloading-size", "4"), {}),
        ("PAN-01", (), {"VLLM_ENABLE_RESPONSES_API_STORE": "1"}),
    ],
)
def test_an_option_of_the_engine_that_gives_content_away_is_refused(
    tmp_path: Path, twins: dict[str, Made], more: str, argv: tuple[str, ...], env: dict[str, str]
) -> None:
    made = twin(twins, LOCAL, tmp_path)
    assert made.altered("host_engine.local", process=process(made, "host_engine.local", *argv, **env)) == {"LOG-01", more} - {""}


def test_what_logs_prompts_is_refused_as_a_log_and_as_a_store(tmp_path: Path, twins: dict[str, Made]) -> None:
    made = twin(twins, LOCAL, tmp_path)
    loud = process(made, "host_engine.local", "--enable-log-requests")
    assert made.altered("host_engine.local", process=loud) == {"LOG-01", "PAN-01"}


def test_records_that_are_kept_too_short_are_refused_by_the_profile_that_wants_longer(
    tmp_path: Path, twins: dict[str, Made]
) -> None:
    lines = {**LOCAL, "compliance": compliance("eu-ai-act"), "logs": "logs: {retention_days: 183}"}
    assert twin(twins, lines, tmp_path).refusals == set()
    assert twin(twins, lines, tmp_path).altered("host_gateway.local", retention_days=182) == {"AIA-02"}


AT_A_PROCESSOR: list[tuple[set[str], str, dict[str, Any]]] = [
    ({"ENC-02"}, "aws_kms_key.main", {"key_rotation_days": 0}),
    ({"ENC-02"}, "aws_kms_key.main", {"key_rotation_days": 400}),
    ({"ENC-02"}, "aws_s3_bucket.weights", {"custody": "none"}),
    ({"ENC-05"}, "aws_s3_bucket.weights", {"in_transit": "none"}),
    ({"ENC-05", "NET-01"}, "aws_s3_bucket.weights", {"exposure": "public"}),
    ({"ENC-01"}, "aws_s3_bucket.weights", {"at_rest": "plain"}),
    ({"RES-01"}, "aws_s3_bucket.weights", {"leaves_region": True}),
    ({"RES-01"}, "aws_s3_bucket.weights", {"region": None}),
    ({"RES-01"}, "aws_s3_bucket.weights", {"region": "eu-isoe-west-1"}),
    ({"SVC-01"}, "aws_s3_bucket.weights", {"service": "lightsail"}),
    ({"SVC-01", "RES-01"}, "aws_s3_bucket.weights", {"processor": "elsewhere"}),
    ({"NET-02"}, "aws_instance.node-0", {"metadata_guarded": False}),
    ({"NET-01"}, "aws_load_balancer.front", {"exposure": "public", "authenticated": None}),
    ({"TLS-02"}, "aws_target_group.front", {"in_transit": "plain"}),
    ({"KEY-03"}, "aws_secret.me", {"readers": "others"}),
    ({"IAM-01"}, "aws_iam_role.node", {"wide_grants": ("may read every secret",)}),
]
"""Of resources at a processor, all profiles but the airgapped one."""


@pytest.mark.parametrize(
    ("controls", "address", "facts"), AT_A_PROCESSOR, ids=[f"{'-'.join(sorted(c))}-{'-'.join(f)}" for c, _, f in AT_A_PROCESSOR]
)
def test_a_fact_of_what_a_processor_runs_is_refused(
    tmp_path: Path, twins: dict[str, Made], controls: set[str], address: str, facts: Mapping[str, Any]
) -> None:
    made = twin(twins, AWS, tmp_path)
    assert made.refusals == set()
    assert made.altered(address, **facts) == controls


def test_a_public_endpoint_without_a_key_is_refused_as_public_and_as_keyless(tmp_path: Path, twins: dict[str, Made]) -> None:
    made = twin(twins, LOCAL, tmp_path)
    assert made.traits("host_gateway.local").exposure == "public"
    assert made.altered("host_gateway.local", authenticated=False) == {"NET-01", "KEY-02"}


def test_a_stack_that_logs_no_requests_is_refused(tmp_path: Path, twins: dict[str, Made]) -> None:
    made = twin(twins, LOCAL, tmp_path)
    assert made.altered("host_gateway.local", log_fields=None) == {"AUD-02", "AIA-01"}


def test_a_gateway_that_does_not_say_how_long_it_keeps_records_is_refused(tmp_path: Path, twins: dict[str, Made]) -> None:
    made = twin(twins, LOCAL, tmp_path)
    assert made.altered("host_gateway.local", retention_days=None) == {"RET-01", "RET-02", "AIA-02"}


def test_prompts_that_go_to_somebody_without_a_name_are_refused(tmp_path: Path, twins: dict[str, Made]) -> None:
    flow = DataFlow(what="prompts", to="a partner of ours", carries="prompts")
    found = twin(twins, LOCAL, tmp_path).altered("host_gateway.local", data_flows=(flow,))
    assert found == {"RES-02", "BAA-01", "PAN-01", "NET-04"}


def test_an_engines_output_may_be_gone_sooner_than_log_lines(tmp_path: Path, twins: dict[str, Made]) -> None:
    assert twin(twins, LOCAL, tmp_path).altered("host_engine.local", retention_days=7) == set()


# --- what only exists once the stack does -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "planned_as", "fact", "wrong", "right"),
    [
        ("LOG-03", Traits(content_found=()), "content_found", ["/var/log/x"], []),
        ("PAN-01", Traits(content_found=()), "content_found", ["/var/log/x"], []),
        ("SUP-01", Traits(intact=True), "intact", False, True),
        ("STATE-01", Traits(service="state", private=True), "private", False, True),
        ("STATE-02", Traits(service="state"), "at_rest", "plain", "encrypted"),
        ("KEY-05", Traits(service="state", stored_keys="hashes"), "stored_keys", "clear", "hashes"),
    ],
)
def test_what_only_exists_after_apply_is_judged_by_what_a_probe_saw(
    tmp_path: Path, twins: dict[str, Made], control: str, planned_as: Traits, fact: str, wrong: object, right: object
) -> None:
    made = twin(twins, LOCAL, tmp_path)
    subject = Subject(made.desired.loaded.stack, made.desired.policy)

    def result(*observations: Observation) -> str:
        found = judge([Seen("thing.x", planned_as, observations)], subject)
        return next(one.result for one in found if one.control == control and one.address == "thing.x")

    assert result(Observation(fact=fact, value=wrong)) == "fail"
    assert result(Observation(fact=fact, value=right)) == "pass"
    assert result(Observation(fact=fact, reason="nobody could look")) == "not_checked"
    assert result() == "not_checked"


# --- what is told -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "lines", "spoiled"),
    [
        ("HA-01", {**AWS, "replicas": "replicas: 2"}, {"replicas": "replicas: 1"}),
        ("SVC-01", LOCAL, AWS),
        ("KEY-04", LOCAL, {"keys": "keys: [{name: me, principal: me, max_age_days: 91}]"}),
        ("RES-04", LOCAL, AWS),
    ],
)
def test_advice_is_told_and_refuses_nothing(
    tmp_path: Path, twins: dict[str, Made], control: str, lines: Lines, spoiled: Lines
) -> None:
    made = planned(tmp_path / "spoiled", text(lines, spoiled))
    assert made.refusals == set()
    assert {one.result for one in made.of(control)} == {"warn"}
    assert not twin(twins, lines, tmp_path).of(control)


def test_a_key_that_lies_in_a_file_of_the_operators_is_told(tmp_path: Path, twins: dict[str, Made]) -> None:
    made = twin(twins, LOCAL, tmp_path)
    assert [(one.address, one.result) for one in made.of("KEY-03")] == [("api_key.me", "warn"), ("api_key.you", "warn")]


def test_data_that_outlives_the_stack_is_told(tmp_path: Path, twins: dict[str, Made]) -> None:
    found = twin(twins, LOCAL, tmp_path).judged("host_volume.local", erased=False)
    assert [(one.result, one.path) for one in found if one.control == "ENC-06"] == [("warn", "storage.on_destroy")]
    assert not any(one.refuses for one in found)


def test_the_disclosure_names_whose_law_rules_and_what_is_global(tmp_path: Path, twins: dict[str, Made]) -> None:
    told = " ".join(one.sentence for one in twin(twins, AWS, tmp_path).of("RES-04"))
    assert "aws is ruled by the law of US" in told
    assert "outside eu-central-1: iam" in told


def test_without_a_profile_a_plan_is_never_refused(tmp_path: Path) -> None:
    bare = {"compliance": "", "storage": "storage: {encryption: none}", "gateway": "", "logs": "", "state": "", "region": ""}
    made = planned(tmp_path, text(LOCAL, bare))
    assert made.plan.findings == ()


# --- together -----------------------------------------------------------------------------------------------------------------


def test_every_control_that_can_refuse_was_seen_to_refuse() -> None:
    seen = {control for control, *_ in SPOILED} | {control for control, *_ in ON_THIS_MACHINE}
    seen |= {control for controls, *_ in AT_A_PROCESSOR for control in controls}
    seen |= {"LOG-01", "LOG-03", "PAN-01", "STATE-01", "AIA-02", "SUP-01"}
    assert set(CONTROLS) - seen == JUDGED_BY_NOBODY | ADVICE
    assert {name for name, control in CONTROLS.items() if not control.rules and control.whole is None} == JUDGED_BY_NOBODY


def test_the_gateways_log_line_holds_listed_fields_only(tmp_path: Path, twins: dict[str, Made]) -> None:
    fields = set(twin(twins, LOCAL, tmp_path).traits("host_gateway.local").log_fields or ())
    assert set(ATTRIBUTED) | set(TRACED) <= fields <= LOG_FIELDS


def test_no_listed_field_is_content() -> None:
    content = """
        prompt messages input completion output text content reasoning_content tool_calls tool_arguments stop structured_outputs
        guided_json guided_choice response_format user metadata logprobs token_ids query_string authorization cookie body headers
    """
    assert not LOG_FIELDS & set(content.split())
