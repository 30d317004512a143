"""Every profile that demands a control has its passages, or says that it has none; none is taken for read that was not."""

from __future__ import annotations

import re

import pytest

from llmdeploy.compliance import CONTROLS, PROFILES
from llmdeploy.compliance.citations import CITATIONS, UNCITED
from llmdeploy.compliance.model import Citation
from llmdeploy.compliance.profiles import demanded_by

LAWS = sorted(set(PROFILES) - {"none", "airgapped"})
FORMS = {
    "hipaa": r"45 CFR 164\.\d{3}(\([a-z0-9A-Z]+\))+( \(addressable\))?",
    "gdpr": r"Art\. \d+(\(\d+\)(\([a-z]\))?)?|CJEU C-\d+/\d+ \(.+\)",
    "pci-dss": r"\d+\.\d+\.\d+(\.\d+)?( \(.+\))?",
    "soc2": r"(CC|A|C)\d\.\d",
    "eu-ai-act": r"Art\. \d+(\(\d+\)(\([a-z]\))?| as amended in 2026 \(.+\))",
}
ADDRESSABLE = {
    "164.308(a)(3)(ii)(C)", "164.308(a)(4)(ii)(B)", "164.308(a)(5)(ii)(B)", "164.308(a)(5)(ii)(D)", "164.312(a)(2)(iv)",
    "164.312(e)(2)(i)", "164.312(e)(2)(ii)",
}  # fmt: skip


def demands(profile: str) -> set[str]:
    """Return the controls that a profile demands, the baseline among them."""
    return {control for control, profiles in demanded_by([profile]).items() if profile in profiles}


def every() -> list[tuple[str, str, Citation]]:
    """Return control, profile and citation, each."""
    return [(control, name, one) for control, found in CITATIONS.items() for name, cited in found.items() for one in cited]


@pytest.mark.parametrize("profile", LAWS)
def test_each_demand_has_its_passages_or_is_a_rule_of_the_house(profile: str) -> None:
    cited = {control for control, found in CITATIONS.items() if profile in found}
    assert not cited & set(UNCITED[profile])
    assert cited | set(UNCITED[profile]) == demands(profile)


def test_what_is_no_law_has_no_passages() -> None:
    assert {profile for _, profile, _ in every()} == set(LAWS)
    assert set(UNCITED) == {*LAWS, "airgapped"}


def test_citations_are_of_controls_that_there_are() -> None:
    assert set(CITATIONS) <= set(CONTROLS)
    assert all(cited for found in CITATIONS.values() for cited in found.values())


def test_what_was_read_says_what_and_when_and_what_was_not_says_nothing() -> None:
    for control, profile, one in every():
        place = (control, profile, one.ref)
        assert one.status in ("primary", "secondary", "unverified"), place
        if one.status == "unverified":
            assert not one.source, place
        else:
            assert re.search(r"\bread on \d{4}-\d{2}-\d{2}\b", one.source), place
            assert one.source.isascii(), place


def test_the_form_of_a_passage_is_that_of_its_text() -> None:
    for control, profile, one in every():
        assert re.fullmatch(FORMS[profile], one.ref), (control, profile, one.ref)


def test_a_passage_is_named_once_for_each_control_and_profile() -> None:
    named = [(control, profile, one.ref) for control, profile, one in every()]
    assert len(named) == len(set(named))


def test_a_passage_has_one_status_wherever_it_is_named() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for _, profile, one in every():
        found.setdefault((profile, one.ref.split(" (")[0]), set()).add(one.status)
    assert [key for key, statuses in found.items() if len(statuses) > 1] == []


def test_addressable_is_said_of_exactly_the_specifications_that_the_rule_calls_so() -> None:
    hipaa = [one.ref.removeprefix("45 CFR ") for _, profile, one in every() if profile == "hipaa"]
    assert {ref.removesuffix(" (addressable)") for ref in hipaa if ref.endswith("(addressable)")} == ADDRESSABLE
    assert not ADDRESSABLE & set(hipaa)


def test_an_amendment_that_was_not_read_is_not_called_read() -> None:
    assert {one.ref: one.status for one in CITATIONS["AIA-03"]["eu-ai-act"]} == {
        "Art. 6(2)": "primary",
        "Art. 113 as amended in 2026 (Annex III from 2 December 2027, Annex I from 2 August 2028)": "secondary",
    }
