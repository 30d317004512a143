from __future__ import annotations

import pytest

from llmdeploy.stack.requirement import parse, satisfied
from llmdeploy.stack.scalars import Scalar, resolve


@pytest.mark.parametrize(
    ("requirement", "version", "expected"),
    [
        (">=0.1", "0.1.0", True),
        (">=0.1", "0.0.9", False),
        (">=0.10", "0.9", False),
        ("==0.1", "0.1.0", True),
        ("==0.1", "0.1.1", False),
        ("<1", "0.99.99", True),
        (">0.1", "0.1.0", False),
        ("<=0.1", "0.1", True),
        (">= 0.1 , <0.2", "0.1.5", True),
        (">=0.1,<0.2", "0.2.0", False),
        (">=0.2", "0.2.0.dev1", True),
    ],
)
def test_numeric_comparison(requirement: str, version: str, expected: bool) -> None:
    parts = parse(requirement)
    assert parts
    assert satisfied(parts, version) is expected


@pytest.mark.parametrize("requirement", ["", "0.1", "~=0.1", "!=1", ">=0.1,", ">=a", ">=0.1rc1", ">=" + "9" * 20])
def test_what_is_no_requirement(requirement: str) -> None:
    assert parse(requirement) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("true", True), ("False", False), ("0", 0), ("-12", -12), ("0.33", 0.33),
        ("1.", 1.0), (".5", 0.5), ("0.33.0", "0.33.0"), ("2026-01-02", "2026-01-02"), ("v1", "v1"), ("yes!", "yes!"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: Scalar) -> None:
    assert resolve(text) == (value, "")
    assert type(resolve(text)[0]) is type(value)


@pytest.mark.parametrize(
    "text", ["yes", "Off", "012", "-08", "0x1f", "0b1", "0o7", "1:30", "12:30.5", "1e3", "1.5E-3", ".inf", ".NaN", "1_0"]
)
def test_plain_scalars_that_mean_two_things(text: str) -> None:
    assert resolve(text)[1]
