"""Policy documents: their form, what they allow to whom, and that a star stands only where it must."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, cast

import pytest

from llmdeploy.resource import iter_refs, resolve
from llmdeploy_aws import aws
from llmdeploy_aws._names import account_arns
from tests.providers.llmdeploy_aws.api import service_model
from tests.providers.llmdeploy_aws.stacks import EXAMPLES, PRINCIPAL, built
from tests.weakened import POLICY_FIELDS

OWN_RESOURCE = {"aws_kms_key", "aws_secret"}
"""In the policy of a key or a secret a star as the resource is that very thing."""

NO_API_CALL = {"s3:ListBucket", "ssm:UpdateInstanceInformation"}
"""Actions that are no API call of the same name: the first is ListObjectsV2, the second is the SSM agent's own."""


def policies() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every policy of every example: where it stands, the type of the resource, the document with ARNs in place of references."""
    for name, wanted in EXAMPLES.items():
        for resource in built(wanted)[1].graph:
            for field in POLICY_FIELDS:
                document = resource.values.get(field) if resource.provider == "aws" else None
                if document is not None:
                    outputs: dict[str, dict[str, str]] = {}
                    for ref in iter_refs(document):
                        outputs.setdefault(ref.address, {})[ref.output] = f"arn:aws:x:::{ref}"
                    yield f"{name}:{resource.address}.{field}", resource.type, resolve(document, outputs)


def as_list(value: Any) -> list[Any]:
    return list(cast("list[Any]", value)) if isinstance(value, list) else [value]


@pytest.mark.parametrize(("place", "kind", "document"), [pytest.param(*one, id=one[0]) for one in policies()])
def test_policies_are_documents_that_name_what_they_are_about(place: str, kind: str, document: dict[str, Any]) -> None:
    assert json.loads(json.dumps(document)) == document
    assert document.keys() == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    sids = [statement.get("Sid", "") for statement in document["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(sid.isalnum() or not sid for sid in sids)
    resource_based = kind != "aws_iam_role" or place.endswith("assume_role_policy_document")
    for statement in document["Statement"]:
        assert statement.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        assert statement["Effect"] in ("Allow", "Deny")
        assert ("Principal" in statement) == resource_based
        if "*" in as_list(statement.get("Resource", "")):
            assert kind in OWN_RESOURCE or statement["Sid"] == "SessionManager", place
        if statement["Effect"] == "Allow":
            assert "*" not in as_list(statement["Action"]), place
            assert statement.get("Principal") != "*" or kind == "aws_vpc_endpoint", place


def test_actions_exist() -> None:
    known = {
        f"{prefix}:{operation}"
        for prefix in ("s3", "kms", "logs", "secretsmanager", "sts")
        for operation in service_model(prefix)["operations"]
    }
    found = {
        action
        for _, _, document in policies()
        for statement in document["Statement"]
        for action in as_list(statement["Action"])
        if not action.startswith(("ssmmessages:", "ec2messages:")) and action not in ("kms:*", "s3:*")
    }
    assert found
    for action in found - NO_API_CALL:
        # PutObject and GetObject are operations of the same name; a star at the end stands for several.
        assert any(fnmatchcase(name, action) for name in known), action


def test_a_machine_reads_no_api_key_and_changes_nothing() -> None:
    role = built(EXAMPLES["hipaa"])[1].graph["aws_iam_role.node"].values
    actions = {action for statement in role["policy_document"]["Statement"] for action in as_list(statement["Action"])}
    assert not {action for action in actions if action.startswith(("secretsmanager:", "ec2:", "iam:"))}
    assert {action for action in actions if action.startswith(("s3:", "kms:"))} == {
        "s3:GetObject",
        "s3:ListBucket",
        "kms:Decrypt",
    }
    for statement in role["policy_document"]["Statement"]:
        assert statement["Action"] != "kms:Decrypt" or statement["Condition"]


def test_the_key_lets_logs_and_principals_in_only_through_their_services() -> None:
    statements = {s["Sid"]: s for s in built(EXAMPLES["two-replicas"])[1].graph["aws_kms_key.main"].values["policy"]["Statement"]}
    assert statements["ReadApiKeys"]["Principal"]["AWS"] == sorted([PRINCIPAL, "arn:aws:iam::444455556666:user/jobs/batch"])
    assert statements["ReadApiKeys"]["Condition"] == {
        "StringEquals": {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}
    }
    assert statements["Logs"]["Principal"] == {"Service": "logs.eu-central-1.amazonaws.com"}
    without_keys = built(EXAMPLES["cpu"])[1].graph["aws_kms_key.main"].values["policy"]["Statement"]
    assert [statement["Sid"] for statement in without_keys] == ["Account", "Logs"]


def test_arns_are_those_of_the_regions_partition() -> None:
    assert account_arns("eusc-de-east-1", "111122223333")["root_arn"] == "arn:aws-eusc:iam::111122223333:root"
    assert account_arns("us-gov-west-1", "111122223333")["log_groups_arn"].startswith("arn:aws-us-gov:logs:us-gov-west-1:")
    assert set(account_arns("eu-west-1", "111122223333")) == set(aws.types["aws_account"].outputs.model_fields)
