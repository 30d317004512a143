"""The evaluator: what one document decides about one call, and what it refuses to tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llmdeploy.resource import Ref
from llmdeploy.sdk import UNKNOWN, Tree
from llmdeploy_aws._policy_evaluator import HOLDER, Call, Decision, decide

ALICE = "arn:aws:iam::111122223333:role/alice"
BOB = "arn:aws:iam::111122223333:role/bob"
ELSE = "arn:aws:iam::444455556666:role/alice"
LOGS = "logs.eu-central-1.amazonaws.com"
KEY = Ref("aws_kms_key.main", "arn")
ALLOW: Mapping[str, Tree] = {"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": "s3:GetObject", "Resource": "*"}

YES, NO, OPEN = Decision(True, False), Decision(False, False), Decision(None, False)


def document(*statements: Mapping[str, Tree]) -> dict[str, Tree]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def decided(call: Call, *statements: Mapping[str, Tree]) -> Decision:
    return decide(document(*statements), call)


@pytest.mark.parametrize(
    ("principal", "caller", "answer"),
    [
        ("*", ALICE, YES),
        ({"AWS": "*"}, ELSE, YES),
        ({"AWS": ALICE}, ALICE, YES),
        ({"AWS": [BOB, ALICE]}, ALICE, YES),
        ({"AWS": ALICE}, BOB, NO),
        ({"AWS": ALICE}, ELSE, NO),
        ({"AWS": "arn:aws:iam::111122223333:root"}, ALICE, YES),
        ({"AWS": "111122223333"}, ALICE, YES),
        ({"AWS": "arn:aws:iam::111122223333:root"}, ELSE, NO),
        ({"AWS": "arn:aws:iam::111122223333:root"}, LOGS, NO),
        ({"AWS": "arn:aws:iam::111122223333:role/*"}, ALICE, OPEN),
        ({"Service": LOGS}, LOGS, YES),
        ({"Service": LOGS}, ALICE, NO),
        ({"AWS": BOB, "Service": LOGS}, LOGS, YES),
        ({"Federated": "cognito-identity.amazonaws.com"}, ALICE, OPEN),
        ({"AWS": UNKNOWN}, ALICE, NO),
        ({"AWS": KEY}, ALICE, NO),
        ({"AWS": None}, ALICE, OPEN),
        (None, ALICE, OPEN),
        ({}, ALICE, OPEN),
        ("alice", ALICE, OPEN),
    ],
)
def test_principals(principal: Tree, caller: str, answer: Decision) -> None:
    assert decided(Call(caller, "s3:GetObject"), {**ALLOW, "Principal": principal}) == answer


@pytest.mark.parametrize(
    ("element", "wanted", "answer"),
    [
        ("Action", "s3:getobject", YES),
        ("Action", "s3:Get*", YES),
        ("Action", "s3:GetObjec?", YES),
        ("Action", ["s3:PutObject", "*"], YES),
        ("Action", "s3:GetObjectVersion", NO),
        ("Action", "s3:[G]etObject", NO),
        ("Action", None, OPEN),
        ("Resource", "arn:aws:s3:::b/*", YES),
        ("Resource", "arn:aws:s3:::b/o", YES),
        ("Resource", "arn:aws:s3:::b/${aws:username}", OPEN),
        ("Resource", "arn:aws:s3:::B/o", NO),
        ("Resource", UNKNOWN, NO),
        ("Resource", KEY, NO),
        ("Resource", None, OPEN),
    ],
)
def test_actions_and_resources(element: str, wanted: Tree, answer: Decision) -> None:
    assert decided(Call(ALICE, "s3:GetObject", "arn:aws:s3:::b/o"), {**ALLOW, element: wanted}) == answer


@pytest.mark.parametrize(
    ("wanted", "called", "answer"),
    [
        (UNKNOWN, UNKNOWN, OPEN),
        (KEY, KEY, YES),
        (KEY, Ref("aws_kms_key.other", "arn"), NO),
        ("*", KEY, YES),
        ("arn:*", KEY, OPEN),
    ],
)
def test_what_only_apply_knows(wanted: Tree, called: Tree, answer: Decision) -> None:
    assert decided(Call(ALICE, "s3:GetObject", called), {**ALLOW, "Resource": wanted}) == answer


@pytest.mark.parametrize(
    ("condition", "context", "answer"),
    [
        ({"StringEquals": {"kms:ViaService": "s3"}}, {"kms:ViaService": "s3"}, YES),
        ({"StringEquals": {"kms:ViaService": ["ec2", "s3"]}}, {"KMS:viaservice": "s3"}, YES),
        ({"StringEquals": {"kms:ViaService": "s3"}}, {"kms:ViaService": "S3"}, NO),
        ({"StringEquals": {"kms:ViaService": "s3"}}, {"kms:ViaService": None}, NO),
        ({"StringEquals": {"kms:ViaService": "s3"}}, {}, OPEN),
        ({"StringEqualsIfExists": {"kms:ViaService": "s3"}}, {"kms:ViaService": None}, YES),
        ({"StringEquals": {"kms:ViaService": "s*"}}, {"kms:ViaService": "s3"}, NO),
        ({"StringLike": {"kms:ViaService": "s*"}}, {"kms:ViaService": "s3"}, YES),
        ({"StringNotLike": {"kms:ViaService": "s*"}}, {"kms:ViaService": "ec2"}, YES),
        ({"StringNotEquals": {"kms:ViaService": ["ec2", "s3"]}}, {"kms:ViaService": "s3"}, NO),
        ({"StringNotEquals": {"kms:ViaService": "s3"}}, {"kms:ViaService": None}, YES),
        ({"StringNotEqualsIfExists": {"x": KEY}}, {"x": "arn:aws:kms:eu-central-1:1:key/x"}, YES),
        ({"StringNotEqualsIfExists": {"x": KEY}}, {"x": KEY}, NO),
        ({"StringNotEqualsIfExists": {"x": UNKNOWN}}, {"x": UNKNOWN}, OPEN),
        ({"StringNotEqualsIfExists": {"x": UNKNOWN}}, {"x": None}, YES),
        ({"StringEquals": {"x": None}}, {"x": "y"}, OPEN),
        ({"ArnLike": {"x": "arn:aws:logs:*:1:log-group:/a/*"}}, {"x": "arn:aws:logs:eu:1:log-group:/a/b"}, YES),
        ({"ArnEquals": {"x": "arn:aws:logs:*:1:log-group:/a/*"}}, {"x": "arn:aws:logs:eu:2:log-group:/a/b"}, NO),
        ({"ArnLike": {"x": "arn:*:1:log-group:/a/b"}}, {"x": "arn:aws:logs:eu:1:log-group:/a/b"}, OPEN),
        ({"ArnNotLike": {"x": "arn:aws:logs:*:1:*"}}, {"x": "arn:aws:logs:eu:1:log-group:/a/b"}, NO),
        ({"Bool": {"aws:SecureTransport": "false"}}, {}, NO),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:SecureTransport": "false"}, YES),
        ({"Bool": {"aws:SecureTransport": "maybe"}}, {}, OPEN),
        ({"Null": {"x": "true"}}, {"x": None}, YES),
        ({"Null": {"x": "false"}}, {"x": None}, NO),
        ({"Null": {"x": "perhaps"}}, {"x": None}, OPEN),
        ({"NullIfExists": {"x": "true"}}, {"x": None}, OPEN),
        ({"StringEquals": {"aws:PrincipalArn": ALICE}}, {}, YES),
        ({"StringEquals": {"a": "1", "b": "2"}}, {"a": "1", "b": "3"}, NO),
        ({"StringEquals": {"a": "1"}, "Bool": {"b": "true"}}, {"a": "1", "b": "true"}, YES),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:SourceIp": "10.0.0.1"}, OPEN),
        ({"ForAllValues:StringEquals": {"a": "1"}}, {"a": "1"}, OPEN),
        ({"StringEquals": "a"}, {"a": "1"}, OPEN),
        ("a", {}, OPEN),
        ({}, {}, YES),
    ],
)
def test_conditions(condition: Tree, context: Mapping[str, Tree], answer: Decision) -> None:
    assert decided(Call(ALICE, "s3:GetObject", context=context), {**ALLOW, "Condition": condition}) == answer


def test_an_explicit_deny_beats_every_allow_and_nothing_is_allowed_by_itself() -> None:
    deny = {**ALLOW, "Effect": "Deny", "Principal": "*"}
    call = Call(ALICE, "s3:GetObject")
    both = decided(call, ALLOW, deny)
    assert both == Decision(True, True)
    assert (both.surely_allows, both.may_allow, both.surely_denies) == (False, False, True)
    neither = decided(Call(BOB, "s3:GetObject"), ALLOW)
    assert (neither.surely_allows, neither.may_allow, neither.surely_denies) == (False, False, False)


@pytest.mark.parametrize(
    "odd",
    [
        {"NotAction": "s3:PutObject"},
        {"NotPrincipal": {"AWS": BOB}},
        {"NotResource": "arn:aws:s3:::c"},
        {"Condition": {"NumericLessThan": {"s3:max-keys": "10"}}},
    ],
)
def test_what_it_does_not_know_counts_against_the_document_both_ways(odd: Mapping[str, Tree]) -> None:
    call = Call(ALICE, "s3:GetObject")
    granted = decided(call, {**ALLOW, **odd})
    assert granted.may_allow
    assert not granted.surely_allows
    guarded = decided(call, ALLOW, {**ALLOW, "Effect": "Deny", **odd})
    assert guarded.may_allow
    assert not guarded.surely_denies


@pytest.mark.parametrize("broken", [None, "policy", {}, {"Statement": []}, {"Statement": ["x"]}, {"Statement": {"Effect": "No"}}])
def test_what_is_no_document_tells_nothing(broken: Any) -> None:
    found = decide(broken, Call(ALICE, "s3:GetObject"))
    assert found.may_allow
    assert not found.surely_allows
    assert not found.surely_denies


def test_a_statement_may_stand_alone_and_the_holder_of_a_policy_is_named_nowhere() -> None:
    own = {name: value for name, value in ALLOW.items() if name != "Principal"}
    assert decide({"Statement": own}, Call(HOLDER, "s3:GetObject")) == YES
    assert decide({"Statement": ALLOW}, Call(HOLDER, "s3:GetObject")) == OPEN
    assert decide({"Statement": own}, Call(ALICE, "s3:GetObject")) == OPEN
