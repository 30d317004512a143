from __future__ import annotations

from datetime import date

import pytest

from llmdeploy.errors import StackError
from llmdeploy.serving import advisories
from llmdeploy.serving.vllm import VLLM


@pytest.mark.parametrize(
    ("version", "ids"),
    [
        ("0.10.0", {"CVE-2026-48746", "CVE-2026-22778"}),
        ("v0.7.0", {"CVE-2026-48746"}),
        ("0.21.0", {"CVE-2026-48746"}),
        ("0.22.0rc1", {"CVE-2026-48746"}),
        ("0.21.0+cpu", {"CVE-2026-48746"}),
        ("0.21.0.post1", {"CVE-2026-48746"}),
        ("0.14.0", {"CVE-2026-22778", "CVE-2026-27893"}),
        ("0.9.2", {"CVE-2026-22778"}),
        ("0.30.0", {"CVE-2026-114049"}),
    ],
)
def test_old_versions_are_named_with_their_advisories(version: str, ids: set[str]) -> None:
    found = " ".join(VLLM.bypasses(version))
    assert all(one in found for one in ids), found


@pytest.mark.parametrize(
    ("version", "absent"),
    [("0.22.0", "CVE-2026-48746"), ("0.22.1.post2", "CVE-2026-48746"), ("0.2.7", "CVE-2026-48746"), ("0.14.1", "CVE-2026-22778")],
)
def test_a_range_ends_where_it_ends(version: str, absent: str) -> None:
    assert absent not in " ".join(VLLM.bypasses(version))


def test_every_version_that_is_rendered_has_none() -> None:
    assert [VLLM.bypasses(version) for version in VLLM.versions] == [()] * len(VLLM.versions)
    assert VLLM.bypasses("1.0") == VLLM.bypasses("0.32.0+cpu") == ()


@pytest.mark.parametrize("version", ["", "latest", "nightly", "0.x", "0.22.0-custom"])
def test_a_version_that_cannot_be_read_is_taken_for_the_worst(version: str) -> None:
    assert len(VLLM.bypasses(version)) == len(advisories.VLLM)


def test_versions_are_compared_by_number() -> None:
    names = ["0.9", "0.10.0.dev3", "0.10.0a1", "0.10.0rc1", "0.10.0rc2", "0.10", "0.10.1", "0.22", "1.0"]
    assert sorted(names, key=lambda name: advisories.ordered(name) or ((), 0, 0)) == names
    assert advisories.ordered("0.10") == advisories.ordered("v0.10.0") == advisories.ordered("0.10.0+cu130")


def test_an_old_version_in_the_stack_file_is_refused_with_the_reason() -> None:
    with pytest.raises(
        StackError, match=r"engine\.version: vLLM 0\.10\.0 is not known .*API key \(CVE-2026-48746, fixed in 0\.22"
    ):
        VLLM.image("0.10.0")
    with pytest.raises(StackError) as newer:
        VLLM.image("0.99.0")
    assert "CVE" not in newer.value.message


def test_the_table_is_dated_and_says_where_it_is_from() -> None:
    assert str(date.fromisoformat(advisories.AS_OF)) == advisories.AS_OF
    for one in advisories.VLLM:
        assert advisories.ordered(one.fixed), one
        assert bool(one.source) is (one.status != "unverified"), one
