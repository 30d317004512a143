"""What exists is judged by what was seen of it: nothing passes that was not observed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.compliance import CONTROLS, PROFILES, resolve
from llmdeploy.compliance.live import RESULTS, STATED, WEIGHED, Result, Seen, judge
from llmdeploy.compliance.model import Breach, Control, Rule, Subject
from llmdeploy.evidence import Observation
from llmdeploy.policy import Demand, Policy
from llmdeploy.registry import Registry
from llmdeploy.stack.load import load
from llmdeploy.stack.model import Stack
from llmdeploy.traits import DataFlow, EngineProcess, Software, Traits

STACK = """\
version: 1
name: judged
model: {id: tiny-random}
compliance: {profiles: [%s], attest: {%s}}
provider: {local: {}}
keys: [{name: me, principal: me}]
"""


def stack(folder: Path, profiles: str = "none", attest: str = "") -> Stack:
    (folder / "stack.yaml").write_text(STACK % (profiles, attest))
    return load(folder, providers=Registry().configs(), variables={}, var_files=(), environ={}, version="0").stack


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return stack(tmp_path_factory.mktemp("stack"))


AT_REST = Rule(
    ("at_rest",),
    lambda traits, _: "stores data unencrypted" if traits.at_rest == "plain" else "",
    "encrypted",
    concerns=lambda traits: traits.at_rest != "none",
    way_out="encrypt it",
)
CUSTODY = Rule(
    ("at_rest", "custody"),
    lambda traits, _: "keeps its key beside the data" if traits.custody == "operator-file" else "",
    "a reference",
    concerns=lambda traits: traits.at_rest != "none",
    way_out="name a key",
)
PLACED = Rule(
    ("region",),
    lambda traits, _: "lies nowhere that is stated" if traits.region is None else "",
    "a country",
    stated=True,
)
DISK = Traits(at_rest="encrypted", custody="reference")
FINE = {"at_rest": "encrypted", "custody": "reference"}


def control(*rules: Rule, **more: Any) -> Control:
    return Control("X-01", "A title", "a demand", "high", rules=rules, **more)


def told(values: Mapping[str, Any], reasons: Mapping[str, str] | None = None) -> tuple[Observation, ...]:
    seen = [Observation(fact=fact, value=value) for fact, value in values.items()]
    return (*seen, *(Observation(fact=fact, reason=reason) for fact, reason in (reasons or {}).items()))


def judged(bare: Stack, one: Control, *seen: Seen) -> tuple[Result, ...]:
    policy = Policy(("hipaa",), (Demand(one.id, ("hipaa",), one.demand),))
    return judge(seen, Subject(bare, policy), {one.id: one})


def single(bare: Stack, one: Control, *observations: Observation, reason: str = "", planned: Traits = DISK) -> Result:
    (result,) = judged(bare, one, Seen("disk.a", planned, observations, reason))
    return result


# --- one rule -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observations", "reason", "result", "sentence", "observed"),
    [
        (told({"at_rest": "encrypted"}), "", "pass", "", "at_rest: encrypted"),
        (told({"at_rest": "plain"}), "", "fail", "stores data unencrypted", "at_rest: plain"),
        ((), "", "not_checked", "no probe of this resource tells at_rest", ""),
        ((), "the machine refused", "not_checked", "the machine refused", ""),
        (told({}, {"at_rest": "no rights"}), "", "not_checked", "no rights", ""),
        (told({"custody": "reference"}), "", "not_checked", "no probe of this resource tells at_rest", ""),
        (told({"at_rest": None}), "", "not_checked", "the probe looked for at_rest and told no value", ""),
        (told({"at_rest": "luks"}), "", "not_checked", "the probe told luks for at_rest, which is no value of that", ""),
        (told({"at_rest": 3}), "", "not_checked", "the probe told 3 for at_rest, which is no value of that", ""),
        (told({"at_rest": "encrypted"}, {"at_rest": "no rights"}), "", "not_checked", "no rights", "at_rest: encrypted"),
        (told({"at_rest": "plain"}, {"at_rest": "no rights"}), "", "fail", "stores data unencrypted", "at_rest: plain"),
    ],
)
def test_one_fact(
    bare: Stack, observations: tuple[Observation, ...], reason: str, result: str, sentence: str, observed: str
) -> None:
    found = single(bare, control(AT_REST), *observations, reason=reason)
    assert (found.result, found.sentence, found.observed) == (result, sentence, observed)
    assert (found.control, found.profiles, found.address, found.expected) == ("X-01", ("hipaa",), "disk.a", "encrypted")
    assert (found.facts, found.severity, found.title) == (("at_rest",), "high", "A title")
    assert found.way_out == ("encrypt it" if result == "fail" else "")


@pytest.mark.parametrize("values", [("encrypted", "plain"), ("plain", "encrypted"), ("encrypted", "encrypted", "plain")])
def test_a_fact_that_was_seen_several_times_must_be_right_every_time(bare: Stack, values: tuple[str, ...]) -> None:
    found = single(bare, control(AT_REST), *(Observation(fact="at_rest", value=value) for value in values))
    assert found.result == "fail"
    assert "encrypted" in found.observed
    assert "plain" in found.observed


def test_what_was_planned_never_stands_in_for_what_was_seen(bare: Stack) -> None:
    broken = Rule(("custody",), lambda traits, _: "is wrong" if traits.at_rest == "plain" else "", "right")
    assert single(bare, control(broken), *told({"custody": "kms", "at_rest": "plain"})).result == "fail"
    assert single(bare, control(broken), *told({"at_rest": "encrypted"})).result == "not_checked"


def test_a_rule_without_facts_proves_nothing(bare: Stack) -> None:
    empty = Rule((), lambda _traits, _policy: "", "something")
    assert single(bare, control(empty), *told(FINE)).result == "not_checked"


def test_rules_for_what_exists_only_are_judged_and_advice_is_for_a_person_to_weigh(bare: Stack) -> None:
    live = Rule(("content_found",), lambda traits, _: "keeps content" if traits.content_found else "", "none", live=True)
    advice = Rule(("erased",), lambda traits, _: "" if traits.erased else "leaves data behind", "gone", advice=True)
    assert single(bare, control(live), *told({"content_found": ["log"]})).result == "fail"
    assert single(bare, control(live), *told({"content_found": []})).result == "pass"
    found = single(bare, control(advice), *told({"erased": False}))
    assert (found.result, found.sentence) == ("manual", f"{WEIGHED}: leaves data behind")
    assert single(bare, control(advice), *told({"erased": True})).result == "pass"
    assert single(bare, control(advice)).result == "not_checked"


@pytest.mark.parametrize(
    ("fact", "value", "seen"),
    [
        ("process", {"engine": "vllm", "argv": ["vllm", "serve"], "env": {"A": "1"}}, EngineProcess(
            engine="vllm", argv=("vllm", "serve"), env={"A": "1"})),
        ("software", [{"name": "vllm", "version": "0.32.0"}], (Software(name="vllm", version="0.32.0"),)),
        ("data_flows", [{"what": "logs", "to": "a.example"}], (DataFlow(what="logs", to="a.example"),)),
        ("log_fields", ["ts"], ("ts",)),
        ("updates_pending", 3, 3),
        ("clock_synced", False, False),
    ],
)  # fmt: skip
def test_values_are_read_as_their_facts_have_them(bare: Stack, fact: str, value: Any, seen: Any) -> None:
    wrong = Rule((fact,), lambda traits, _: "" if getattr(traits, fact) == seen else "differs", "the same")
    found = single(bare, control(wrong), Observation(fact=fact, value=json.loads(json.dumps(value))))
    assert found.result == "pass", found


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("clock_synced", "true"),
        ("clock_synced", 1),
        ("updates_pending", "3"),
        ("updates_pending", float("nan")),
        ("log_fields", "ts"),
        ("process", {"engine": "vllm"}),
        ("software", [{"name": "vllm", "version": "1", "more": 1}]),
    ],
)
def test_values_that_only_look_right_are_not_taken(bare: Stack, fact: str, value: Any) -> None:
    rule = Rule((fact,), lambda _traits, _policy: "", "anything")
    assert single(bare, control(rule), Observation(fact=fact, value=value)).result == "not_checked"


# --- several rules, several resources ------------------------------------------------------------------------------------------


def test_the_worst_rule_counts_and_all_sentences_are_kept(bare: Stack) -> None:
    both = control(AT_REST, CUSTODY, PLACED)
    found = single(bare, both, *told({"at_rest": "plain"}, {"custody": "no rights"}))
    assert (found.result, found.expected, found.way_out) == ("fail", "encrypted; a country", "encrypt it")
    assert found.sentence == "stores data unencrypted; lies nowhere that is stated; no rights"
    assert found.facts == ("at_rest", "custody", "region")
    found = single(bare, both, *told(FINE), planned=DISK.model_copy(update={"region": "DE"}))
    assert (found.result, found.sentence) == ("manual", STATED)
    found = single(bare, control(AT_REST, CUSTODY), *told(FINE))
    assert (found.result, found.expected, found.observed) == (
        "pass",
        "encrypted; a reference",
        "at_rest: encrypted, custody: reference",
    )


def test_each_resource_that_was_planned_so_has_a_result_of_its_own(bare: Stack) -> None:
    disk, other = Seen("disk.a", DISK, told(FINE)), Seen("disk.b", DISK, reason="gone")
    found = judged(bare, control(AT_REST), disk, Seen("door.c", Traits(), told({"at_rest": "plain"})), other)
    assert [(one.address, one.result) for one in found] == [("disk.a", "pass"), ("disk.b", "not_checked")]


def test_a_stated_fact_is_manual_until_it_is_observed(bare: Stack) -> None:
    placed = control(PLACED)
    german = Traits(region="DE")
    assert single(bare, placed, planned=german).result == "manual"
    assert single(bare, placed, *told({"region": "FR"}), planned=german).result == "pass"
    assert single(bare, placed, planned=Traits()).sentence == "lies nowhere that is stated"
    assert single(bare, placed, planned=Traits()).result == "fail"


# --- the stack as a whole -----------------------------------------------------------------------------------------------------


def breaches(*found: Breach) -> Callable[[Subject], Iterable[Breach]]:
    return lambda _subject: found


def contract(_subject: Subject) -> str:
    return "there is a contract"


@pytest.mark.parametrize(
    ("made", "result", "sentence"),
    [
        (control(AT_REST), "not_applicable", "nothing in this stack is concerned"),
        (control(uncovered="nobody looks"), "not_checked", "nobody looks"),
        (control(whole=breaches()), "not_checked", "the stack file keeps to it; nothing that exists was looked at"),
        (control(whole=breaches(Breach("it is wrong", "a", "b"))), "fail", "it is wrong"),
        (control(whole=breaches(Breach("nobody says so", "a", "b", statement=True)), stated="it"), "fail", "nobody says so"),
        (control(whole=breaches(), said=contract), "manual", f"there is a contract: {STATED}"),
        (control(whole=breaches(Breach("it has an owner", "a", "b", advice=True))), "manual", f"{WEIGHED}: it has an owner"),
    ],
)
def test_the_stack_as_a_whole(bare: Stack, made: Control, result: str, sentence: str) -> None:
    (found,) = judged(bare, made, Seen("door.c", Traits()))
    assert (found.address, found.result, found.sentence) == ("", result, sentence)


@pytest.mark.parametrize(
    ("attest", "said"),
    [
        ("", {"BAA-01": "", "DPA-01": ""}),
        (
            "baa: true, ropa: true, dpia: true",
            {
                "BAA-01": f"a business associate agreement covers the account: {STATED}",
                "DPA-01": "the record of processing activities holds this system;"
                f" an impact assessment was made, or is not needed: {STATED}",
            },
        ),
    ],
)
def test_only_what_the_stack_file_states_is_reported_as_stated(tmp_path: Path, attest: str, said: Mapping[str, str]) -> None:
    subject = stack(tmp_path, "gdpr, hipaa", attest)
    results = judge([Seen("box.a", Traits())], Subject(subject, resolve(subject)))
    assert {
        name: next((one.sentence for one in results if one.control == name and one.result == "manual"), "") for name in said
    } == said


def test_a_control_on_the_whole_sees_what_was_observed(bare: Stack) -> None:
    def leaves(subject: Subject) -> Iterable[Breach]:
        return [Breach(f"{address} leaves", "", "") for address, one in subject.traits.items() if one.leaves_region]

    seen = Seen("disk.a", Traits(leaves_region=False), told({"leaves_region": True}))
    assert [one.sentence for one in judged(bare, control(whole=leaves), seen)] == ["disk.a leaves"]


def test_a_control_whose_rules_told_all_says_nothing_more(bare: Stack) -> None:
    found = judged(bare, control(AT_REST, whole=breaches()), Seen("disk.a", DISK, told(FINE)))
    assert [(one.address, one.result) for one in found] == [("disk.a", "pass")]


def test_only_what_is_demanded_is_judged(bare: Stack) -> None:
    assert judge([Seen("disk.a", DISK)], Subject(bare, Policy())) == ()


# --- the real controls ----------------------------------------------------------------------------------------------------------

_VALUES: Mapping[str, tuple[Any, ...]] = {
    "at_rest": ("encrypted", "plain", "none"),
    "custody": ("reference", "operator-file", "kms"),
    "private": (True, False),
    "stored_keys": ("hashes", "clear"),
    "clock_synced": (True, False),
    "swap": ("none", "encrypted", "plain"),
    "core_dumps": (True, False),
    "updates_pending": (0, 3),
    "in_transit": ("encrypted", "plain", "local"),
    "tls_min": ("1.2", "1.0", "none"),
    "exposure": ("none", "host", "public"),
    "authenticated": (True, False),
    "egress": ("none", "open"),
    "content_found": ([], ["engine.log"]),
    "guards": ([], ["generic-errors", "no-query", "own-request-ids"]),
    "intact": (True, False),
    "pinned": (True, False),
    "retention_days": (0, 7, 400),
    "region": ("DE", "US"),
}
_PLANNED = Traits(
    at_rest="encrypted", custody="reference", private=True, stored_keys="hashes", machine=True, swap="none", core_dumps=False,
    in_transit="encrypted", tls_min="1.2", exposure="private", authenticated=True, egress="none", content_found=(), pinned=True,
    guards=("generic-errors", "no-query", "own-request-ids"), intact=True, retention_days=7, region="DE", clock_synced=True,
)  # fmt: skip


@given(data=st.data())
def test_whatever_was_observed_a_pass_rests_on_observations_alone(data: st.DataObject, bare: Stack) -> None:
    names = data.draw(st.sets(st.sampled_from(sorted(_VALUES))))
    failed = data.draw(st.sets(st.sampled_from(sorted(_VALUES))))
    values = {name: data.draw(st.sampled_from(_VALUES[name])) for name in sorted(names)}
    observations = told(values, dict.fromkeys(sorted(failed), "the probe could not run"))
    demands = tuple(Demand(one, ("gdpr",), "") for one in CONTROLS)
    results = judge([Seen("box.a", _PLANNED, observations)], Subject(bare, Policy(("gdpr",), demands)))
    assert {one.result for one in results} <= set(RESULTS)
    for one in results:
        if one.result == "pass":
            assert one.facts
            assert set(one.facts) <= names - failed
        if one.result == "fail" and one.address:
            assert not set(one.facts).isdisjoint(names) or CONTROLS[one.control].rules[0].stated


def test_what_was_observed_and_is_right_passes(bare: Stack) -> None:
    observations = told({name: values[0] for name, values in _VALUES.items()} | {"guards": list(_PLANNED.guards or ())})
    demands = tuple(Demand(one, ("gdpr",), "") for one in CONTROLS)
    results = judge([Seen("box.a", _PLANNED, observations)], Subject(bare, Policy(("gdpr",), demands)))
    assert {"ENC-01", "KEY-05", "AUD-03"} <= {one.control for one in results if one.result == "pass"}


def test_a_probe_that_never_ran_passes_nothing(tmp_path: Path) -> None:
    subject = stack(tmp_path, "hipaa, soc2, pci-dss, gdpr")
    policy = resolve(subject)
    results = judge([Seen("box.a", _PLANNED, reason="no way in")], Subject(subject, policy))
    assert {one.control for one in results} == {demand.control for demand in policy.demands}
    assert not [one for one in results if one.result == "pass"]


def test_every_control_of_every_profile_has_a_result(tmp_path: Path) -> None:
    for name in PROFILES:
        subject = stack(tmp_path, name)
        policy = resolve(subject)
        told_of = {one.control for one in judge([Seen("box.a", Traits())], Subject(subject, policy))}
        assert told_of == {demand.control for demand in policy.demands}
