"""What the stack's documents let whom do, and that every weakening of one of them is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from llmdeploy.resource import Ref, resolve
from llmdeploy.sdk import Tree
from llmdeploy_aws import _policy_facts as facts
from llmdeploy_aws._policies import (
    bucket_policy,
    key_policy,
    node_policy,
    secret_policy,
    storage_endpoint_policy,
    trust_policy,
)
from llmdeploy_aws._policy_evaluator import Call, decide
from tests.weakened import weakened

REGION = "eu-central-1"
ALICE, BOB = "arn:aws:iam::111122223333:role/alice", "arn:aws:iam::111122223333:user/jobs/bob"
READ = "secretsmanager:GetSecretValue"
KEY = Ref("aws_kms_key.main", "arn")


@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"])
@pytest.mark.parametrize(
    ("caller", "of_alice", "of_bob"),
    [
        ("role/alice", "reads", "denied"),
        ("user/jobs/bob", "denied", "reads"),
        ("role/administrator", "denied", "denied"),
        ("root", "denied", "denied"),
        ("role/alice-2", "denied", "denied"),
        ("user/alice", "denied", "denied"),
    ],
)
def test_whom_each_secret_answers(region: str, caller: str, of_alice: str, of_bob: str) -> None:
    own = facts.partition(region)
    who = f"arn:{own}:iam::111122223333:{caller}"
    for principal, expected in (("role/alice", of_alice), ("user/jobs/bob", of_bob)):
        policy = secret_policy(f"arn:{own}:iam::111122223333:{principal}")
        found = decide(policy, Call(who, READ))
        assert ("reads" if found.surely_allows else "denied" if found.surely_denies else "open") == expected
        assert not decide(policy, Call(who, "secretsmanager:PutSecretValue")).may_allow


Judge = Callable[[Tree], Any]


def secret(policy: Tree) -> Any:
    return facts.secret_readers(policy, ALICE), facts.secret_grants(policy, ALICE)


DOCUMENTS: Mapping[str, tuple[Mapping[str, Any], Judge, Any]] = {
    "secret": (secret_policy(ALICE), secret, ("principal", ())),
    "key": (
        key_policy(REGION, Ref("aws_account.current", "root_arn"), Ref("aws_account.current", "log_groups_arn"), [ALICE, BOB]),
        lambda policy: facts.key_grants(policy, REGION),
        (),
    ),
    "bucket": (
        bucket_policy(KEY),
        lambda policy: (
            facts.bucket_refuses_plain(policy, REGION),
            facts.bucket_refuses_other_keys(policy, REGION, KEY),
            facts.bucket_grants(policy, REGION),
        ),
        (True, True, ()),
    ),
    "role": (
        node_policy(
            REGION,
            "chat",
            bucket_arn=Ref("aws_s3_bucket.weights", "arn"),
            objects_arn=Ref("aws_s3_bucket.weights", "objects_arn"),
            key_arn=KEY,
            log_arn=Ref("aws_log_group.gateway", "arn"),
            streams_arn=Ref("aws_log_group.gateway", "streams_arn"),
        ),
        lambda policy: facts.role_grants(policy, REGION),
        (),
    ),
    "trust": (trust_policy(REGION), lambda policy: facts.trust_grants(policy, REGION), ()),
    "endpoint": (
        storage_endpoint_policy(Ref("aws_s3_bucket.weights", "arn"), Ref("aws_s3_bucket.weights", "objects_arn")),
        lambda policy: facts.endpoint_is_closed(policy, REGION),
        True,
    ),
}

CLOSED = {
    *(f"key {name}: {what}" for name in ("Account", "Logs", "ReadApiKeys") for what in ("dropped", "effect turned round")),
    *("key Account: any action", "key Account: Action unknown", "key ReadApiKeys: StringEquals kms:ViaService altered"),
    "secret NobodyElseReads: any action",
    *(f"bucket {name}: {what}" for name in ("OnlyTls", "OnlyThisKey") for what in ("any action", "any resource")),
    *(
        f"role {name}: {what}"
        for name in (
            *("ListModelFiles", "ReadModelFiles", "DecryptModelFiles", "OpenVolume", "WriteLog", "Register", "SessionManager"),
        )
        for what in ("dropped", "effect turned round")
    ),
    "role DecryptModelFiles: StringEquals kms:ViaService altered",
    "role OpenVolume: StringEquals kms:EncryptionContext:llmdeploy:stack altered",
    *(f"trust 0: {what}" for what in ("effect turned round", "any action", "Action unknown")),
    *(f"endpoint OwnBucket: {what}" for what in ("effect turned round", "any action", "Action unknown")),
}
"""Changes that let nobody in: something may not work any more, and nothing is open that was not."""

CASES = [
    pytest.param(changed, judge, good, id=f"{name} {what}")
    for name, (document, judge, good) in DOCUMENTS.items()
    for what, changed in weakened(document)
]


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("known", [False, True])
def test_the_stacks_own_documents_are_as_narrow_as_they_should_be(name: str, known: bool) -> None:
    document, judge, good = DOCUMENTS[name]
    assert judge(document if known else resolve(document, {})) == good


@pytest.mark.parametrize(("changed", "judge", "good"), CASES)
def test_every_weakening_is_seen(changed: Mapping[str, Any], judge: Judge, good: Any, request: pytest.FixtureRequest) -> None:
    closed = request.node.callspec.id in CLOSED
    assert (judge(changed) == good) == closed


def test_no_change_stands_in_the_list_that_is_not_made() -> None:
    assert {str(case.id) for case in CASES} >= CLOSED
