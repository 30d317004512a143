"""Profiles together: what they force, what contradicts, and that their order never matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy import __version__
from llmdeploy.compliance import CONTROLS, PROFILES, resolve
from llmdeploy.compliance.controls.keys import KEY_DAYS
from llmdeploy.compliance.profiles import RESIDENCY, demanded_by
from llmdeploy.errors import StackError
from llmdeploy.policy import Endpoint, Policy
from llmdeploy.registry import Registry
from llmdeploy.stack.model import Installed, Stack
from tests.compliance.stacks import LOCAL, compliance, planned, text

INSTALLED = Installed(Registry().configs(), __version__)
NAMES = sorted(PROFILES)
LEAST = {"pci-dss": ("RET-02", 365), "eu-ai-act": ("AIA-02", 183)}
"""Profiles that keep log lines for a least number of days, with the control that says so."""
WORD = "compliant"
Days = int | None


def stack(profiles: Sequence[str] = (), *, retention: Days = None, most: Days = None, **more: Any) -> Stack:
    logs = {name: days for name, days in (("retention_days", retention), ("max_days", most)) if days is not None}
    data: dict[str, Any] = {"version": 1, "name": "s", "model": {"id": "tiny-random"}, "provider": {"local": {}}, "logs": logs}
    return Stack.model_validate({**data, "compliance": {"profiles": list(profiles)}, **more}, context=INSTALLED)


def resolved(profiles: Sequence[str], retention: Days, most: Days) -> Policy | str:
    """Return the policy, or why there is none."""
    try:
        return resolve(stack(profiles, retention=retention, most=most))
    except StackError as error:
        return error.message


def controls_of(profiles: Sequence[str]) -> set[str]:
    return {control for name in ("none", *profiles) for control in PROFILES[name].controls}


def expect(profiles: Sequence[str], retention: Days, most: Days) -> None:
    """The oracle: log lines need a least number of days, may have a most, and the file may name a number."""
    found = resolved(profiles, retention, most)
    least = max((LEAST[name][1] for name in profiles if name in LEAST), default=0)
    if (most is not None and max(least, retention or 0) > most) or (retention is not None and retention < least):
        assert isinstance(found, str), f"{profiles} with {retention} and {most} contradict"
        _expect_the_pair(found, least, retention, most)
        return
    assert isinstance(found, Policy), found
    assert {demand.control for demand in found.demands} == controls_of(profiles) | (
        set(RESIDENCY) if "gdpr" in profiles else set()
    )
    days = found.value("logs.retention_days") or retention or 30
    assert least <= int(days) <= (most or 10_000)


def _expect_the_pair(message: str, least: int, retention: Days, most: Days) -> None:
    control = next((control for control, days in LEAST.values() if days == least), "")
    if control and (least > (most or least) or least > (retention or least)):
        assert control in message
        assert "RET-01" in message
        assert str(least) in message
    else:
        assert "logs.max_days" in message
        assert str(retention) in message


BOUNDARY: list[Days] = [None, 1, 30, 182, 183, 364, 365, 3650]


@pytest.mark.parametrize("pair", list(combinations(NAMES, 2)), ids="+".join)
def test_every_pair_of_profiles_resolves_or_is_refused_with_the_pair_of_controls(pair: tuple[str, str]) -> None:
    for retention in BOUNDARY:
        for most in BOUNDARY:
            expect(pair, retention, most)


@given(st.lists(st.sampled_from(NAMES), max_size=9), st.none() | st.integers(1, 3650), st.none() | st.integers(1, 3650))
def test_any_combination_of_profiles_resolves_or_is_refused_with_the_pair_of_controls(
    profiles: list[str], retention: Days, most: Days
) -> None:
    expect(profiles, retention, most)


@given(st.data(), st.none() | st.integers(1, 3650), st.none() | st.integers(1, 3650))
def test_neither_order_nor_repetition_of_profiles_matters(data: st.DataObject, retention: Days, most: Days) -> None:
    profiles = data.draw(st.lists(st.sampled_from(NAMES), max_size=7))
    other = data.draw(st.permutations([*profiles, *profiles]))
    assert resolved(profiles, retention, most) == resolved(other, retention, most)


@given(st.sets(st.sampled_from(NAMES)), st.sampled_from(NAMES))
def test_one_more_profile_never_loosens_anything(profiles: set[str], more: str) -> None:
    before, after = resolve(stack(sorted(profiles))), resolve(stack(sorted({*profiles, more})))
    assert {demand.control for demand in before.demands} <= {demand.control for demand in after.demands}
    assert all(after.strict(demand.control) for demand in before.demands if demand.strict)
    assert (before.log_days[0] or 0) <= (after.log_days[0] or 0)


def test_every_control_of_a_profile_is_there_and_no_other() -> None:
    assert {control for profile in PROFILES.values() for control in profile.controls} == set(CONTROLS)
    assert all(control == CONTROLS[control].id for control in CONTROLS)


def words() -> Iterator[str]:
    """Every text of a control that somebody may read."""
    for control in CONTROLS.values():
        yield from (control.title, control.demand, control.forces, control.stated, control.uncovered)
        yield from (text for rule in control.rules for text in (rule.expected, rule.way_out))


def test_controls_never_say_the_forbidden_word_and_are_plain_text() -> None:
    for said in words():
        assert WORD not in said.lower()
        assert said.isascii(), said


def test_no_way_out_drops_what_the_stack_file_says_of_its_profiles(tmp_path: Path) -> None:
    """Who writes `compliance: {attest: ...}` over `compliance: [gdpr]` has a plan that nothing judges."""
    unstated = planned(tmp_path, text(LOCAL, {"compliance": f"compliance: [{', '.join(set(NAMES) - {'none'})}]", "logs": ""}))
    told = [one.way_out for one in unstated.plan.findings] + [rule.way_out for one in CONTROLS.values() for rule in one.rules]
    about = [way_out for way_out in told if "compliance: {" in way_out]
    assert all(any(word in one for one in about) for word in ("dpia", "mirrors", "ai_act", "residency", "endpoints"))
    assert [way_out for way_out in about if "compliance: {..., " not in way_out] == []


@pytest.mark.parametrize("control", list(CONTROLS.values()), ids=list(CONTROLS))
def test_a_control_says_what_it_wants_or_that_nothing_judges_it(control: Any) -> None:
    assert control.title
    assert not control.demand.endswith(".")
    assert control.rules or control.whole or control.uncovered
    for rule in control.rules:
        assert rule.facts
        assert rule.expected
        assert rule.path
        assert rule.way_out


def test_without_a_profile_the_baseline_is_told_and_under_any_it_is_strict() -> None:
    assert {(demand.control, demand.strict) for demand in resolve(stack()).demands} == {
        (control, False) for control in PROFILES["none"].controls
    }
    for name in set(PROFILES) - {"none"}:
        assert all(demand.strict for demand in resolve(stack([name])).demands)


def test_residency_alone_makes_its_controls_strict_and_nothing_else() -> None:
    policy = resolve(stack(compliance={"residency": "eea"}))
    assert policy.residency == "eea"
    assert {demand.control for demand in policy.demands if demand.strict} == set(RESIDENCY)
    assert demanded_by((), residency=True)["RES-01"] == ()


@pytest.mark.parametrize(
    ("asked", "residency"), [({}, "eu"), ({"residency": "eea"}, "eea"), ({"residency": "adequate"}, "adequate")]
)  # fmt: skip
def test_gdpr_means_the_eu_unless_the_file_says_more(asked: dict[str, str], residency: str) -> None:
    assert resolve(stack(compliance={"profiles": ["gdpr"], **asked})).residency == residency


@pytest.mark.parametrize(
    ("profiles", "most", "forced"),
    [
        (["pci-dss"], None, ("RET-02", 365)),
        (["eu-ai-act"], None, ("AIA-02", 183)),
        (["pci-dss", "eu-ai-act"], None, ("RET-02", 365)),
        (["soc2"], 14, ("RET-01", 14)),
        (["soc2"], None, None),
    ],
)
def test_how_long_log_lines_are_kept_is_forced_where_the_file_leaves_it_open(
    profiles: list[str], most: Days, forced: tuple[str, int] | None
) -> None:
    found = [one for one in resolve(stack(profiles, most=most)).forced if one.path == "logs.retention_days"]
    assert [(one.control, one.value) for one in found] == ([forced] if forced else [])


@pytest.mark.parametrize(("days", "forced"), [(None, KEY_DAYS), (30, None)])
def test_keys_without_an_age_are_rotated_where_a_profile_wants_it(days: Days, forced: Days) -> None:
    key = {"name": "me", "principal": "me", **({"max_age_days": days} if days else {})}
    assert resolve(stack(["soc2"], keys=[key])).value("keys[].max_age_days") == forced
    assert resolve(stack(["gdpr"], keys=[key])).value("keys[].max_age_days") is None


def test_what_is_stated_of_servers_and_of_conditions_is_in_the_policy() -> None:
    endpoints = {"a.example.com": "DE", "b.example.com": {"country": "US", "agreement": True}, "c.internal": "site"}
    asked = {"residency": "adequate", "endpoints": endpoints, "attest": {"adequacy_conditions": ["US", "CA", "US"]}}
    policy = resolve(stack(compliance=asked))
    assert policy.endpoints == {
        "a.example.com": Endpoint("DE"),
        "b.example.com": Endpoint("US", agreement=True),
        "c.internal": Endpoint("site"),
    }
    assert policy.conditions == ("CA", "US")


@pytest.mark.parametrize(
    ("logs", "pair", "path"),
    [
        ("logs: {max_days: 90}", ("RET-02 (pci-dss)", "RET-01"), "logs.max_days"),
        ("logs: {retention_days: 30}", ("RET-02 (pci-dss)", "RET-01"), "logs.retention_days"),
    ],
)
def test_contradictions_name_both_controls_and_their_line(tmp_path: Path, logs: str, pair: tuple[str, str], path: str) -> None:
    with pytest.raises(StackError) as refused:
        planned(tmp_path, text(LOCAL, {"compliance": compliance("gdpr, pci-dss"), "logs": logs}))
    assert all(control in refused.value.message for control in pair)
    assert f"stack.yaml:10:{24 if 'retention' in logs else 18}: error: {path}: " in refused.value.message
    assert not (tmp_path / ".llmdeploy").exists()
