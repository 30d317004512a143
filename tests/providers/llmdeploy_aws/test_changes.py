"""What a change of a spec comes to: nothing for the same, in place where AWS can, a replacement with a reason where it cannot."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from llmdeploy.resource import iter_refs, resolve
from llmdeploy.sdk import UNKNOWN, HasQuotes, Identity, ManagedType, PlansOnly, Prior
from llmdeploy_aws import aws
from tests.providers.llmdeploy_aws.stacks import EXAMPLES, built

APPLIED = {name: built(wanted)[1].graph for name, wanted in EXAMPLES.items()}


def stored(name: str, address: str) -> dict[str, Any]:
    """The spec as it lies in the state after an apply: references resolved, plain JSON."""
    values = APPLIED[name][address].values
    outputs: dict[str, dict[str, str]] = {}
    for ref in iter_refs(values):
        outputs.setdefault(ref.address, {})[ref.output.split(".")[0]] = f"{ref.address}-{ref.output}"
    return json.loads(json.dumps(resolve(values, outputs)))


def planned(address: str, values: dict[str, Any], before: dict[str, Any]) -> tuple[str, str]:
    kind = aws.types[address.split(".")[0]]
    change = kind.plan(Prior(address, "id", before, {}), values)
    return change.action, change.reason


def _with(before: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    after = deepcopy(before)
    *parents, last = path.split(".")
    place: Any = after
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return after


DATA = "block_device_mappings.1.ebs"


@pytest.mark.parametrize(
    ("address", "path", "value", "action", "reason"),
    [
        ("aws_instance.node-0", "image_id", "ami-2", "replace", "a machine keeps the image that it was started from"),
        ("aws_instance.node-0", "instance_type", "g6e.2xlarge", "replace", "another kind of machine loses its local disks"),
        ("aws_instance.node-0", "tags", {"Name": "other"}, "update", ""),
        ("aws_instance.node-0", f"{DATA}.volume_size", 500, "update", ""),
        ("aws_instance.node-0", f"{DATA}.throughput", 500, "update", ""),
        ("aws_instance.node-0", f"{DATA}.volume_size", 50, "replace", "disks of a machine only grow"),
        ("aws_instance.node-0", f"{DATA}.kms_key_id", "other", "replace", "disks of a machine only grow"),
        ("aws_vpc.main", "cidr_block", "10.0.0.0/16", "replace", "the first addresses of a network cannot change"),
        ("aws_vpc.main", "enable_dns_hostnames", False, "update", ""),
        ("aws_subnet.euc1-az1", "availability_zone_id", "euc1-az3", "replace", "a subnet cannot move to another zone"),
        ("aws_nat_gateway.main", "machines", 5, "no-op", ""),
        ("aws_kms_key.main", "policy", {"Version": "2012-10-17", "Statement": []}, "update", ""),
        ("aws_kms_key.main", "rotation_period_in_days", 180, "update", ""),
        ("aws_kms_key.main", "multi_region", True, "replace", "a key of one region cannot become one of several"),
        ("aws_log_group.gateway", "retention_in_days", 90, "update", ""),
        ("aws_log_group.gateway", "wanted_retention_days", 29, "no-op", ""),
        ("aws_secret.batch", "principal", "arn:aws:iam::111122223333:role/other", "update", ""),
        ("aws_secret.batch", "name", "llmdeploy/chat/other", "replace", "a secret cannot be renamed"),
        ("aws_load_balancer.front", "scheme", "internal", "replace", "a load balancer cannot become public or private"),
        ("aws_listener.front", "port", 443, "update", ""),
        ("aws_listener.front", "dns_name", "other", "no-op", ""),
        (
            "aws_listener.front",
            "default_actions",
            ({"type": "forward", "target_group_arn": UNKNOWN},),
            "replace",
            "a target group stays as long as a listener forwards to it",
        ),
        ("aws_load_balancer.front", "subnets", ["subnet-1", UNKNOWN], "update", ""),
        ("aws_load_balancer.front", "vpc_id", UNKNOWN, "replace", "a load balancer cannot move to another network"),
        ("aws_account.current", "account", "111122223333", "update", ""),
        ("aws_target_group.front", "port", 443, "replace", "the port of a target group cannot change"),
        ("aws_iam_role.node", "policy_document", {}, "update", ""),
        ("aws_security_group.node", "description", "x", "replace", "the description of a security group cannot change"),
        ("aws_image.node", "name", "/other", "update", ""),
    ],
)
def test_changes_are_carried_out_as_the_api_can(address: str, path: str, value: Any, action: str, reason: str) -> None:
    before = stored("two-replicas", address)
    assert planned(address, _with(before, path, value), before) == (action, reason)


def test_an_account_is_another_one_only_when_two_are_named() -> None:
    named = stored("hipaa", "aws_account.current")
    assert planned("aws_account.current", {**named, "account": None}, named) == ("update", "")
    other = planned("aws_account.current", {**named, "account": "444455556666"}, named)
    assert other == ("replace", "another account holds none of these resources")


def test_outputs_are_known_before_apply_only_where_nothing_can_change_them() -> None:
    new, old = Identity("chat", None), Identity("chat", "0123456789abcdef")
    bucket = aws.types["aws_s3_bucket"]
    values = APPLIED["dev"]["aws_s3_bucket.weights"].values
    assert bucket.predict(values, new) == {}
    assert bucket.predict(values, old) == {
        "bucket": "llmdeploy-chat-weights-01234567",
        "arn": "arn:aws:s3:::llmdeploy-chat-weights-01234567",
        "objects_arn": "arn:aws:s3:::llmdeploy-chat-weights-01234567/*",
    }
    account = aws.types["aws_account"]
    assert account.predict(APPLIED["dev"]["aws_account.current"].values, new) == {}
    assert account.predict(APPLIED["hipaa"]["aws_account.current"].values, new)["account"] == "111122223333"
    listener = aws.types["aws_listener"]
    known = {**APPLIED["dev"]["aws_listener.front"].values, "dns_name": "chat.elb.eu-central-1.amazonaws.com"}
    assert listener.predict(known, new)["base_url"] == "https://chat.elb.eu-central-1.amazonaws.com:8443/v1"
    assert listener.predict({**known, "port": 443}, new)["endpoint"] == "https://chat.elb.eu-central-1.amazonaws.com"
    for name, kind in aws.types.items():
        for resource in APPLIED["gdpr"]:
            if resource.type == name:
                assert set(kind.predict(resource.values, old)) <= set(kind.outputs.model_fields)


def test_nothing_can_be_built_yet() -> None:
    assert isinstance(aws, PlansOnly)
    assert "cannot apply" in aws.plans_only
    assert not [name for name, kind in aws.types.items() if isinstance(kind, ManagedType)]


def test_what_is_costly_to_bring_again_can_be_kept() -> None:
    assert {name for name, kind in aws.types.items() if kind.holds_data} == {"aws_kms_key", "aws_s3_bucket"}


def test_what_is_offered_today_can_be_asked() -> None:
    assert isinstance(aws, HasQuotes)
