"""What compliance will judge: where things lie, how they are encrypted, who can reach them, what leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llmdeploy.sdk import UNKNOWN, DataFlow, Traits, Tree
from llmdeploy_aws import aws
from tests.providers.llmdeploy_aws.stacks import EXAMPLES, PRINCIPAL, built, request

GRAPHS = {name: built(wanted)[1].graph for name, wanted in EXAMPLES.items()}


def traits(name: str) -> dict[str, Traits]:
    found = {resource.address: resource for resource in GRAPHS[name] if resource.provider == "aws"}
    return {address: aws.types[resource.type].traits(resource.values) for address, resource in found.items()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_everything_lies_in_the_stacks_region_and_nothing_in_clear(name: str) -> None:
    found = traits(name)
    everywhere = {"aws_account.current", "aws_iam_role.node", "aws_instance_profile.node"}
    assert {one.region for address, one in found.items() if address not in everywhere} == {EXAMPLES[name].region}
    assert {one.region for address, one in found.items() if address in everywhere} == {None}
    assert {one.at_rest for one in found.values()} == {"encrypted", "none"}
    assert {one.in_transit for one in found.values()} == {"encrypted", "none"}
    assert {one.custody for one in found.values() if one.at_rest == "encrypted"} == {"kms"}


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("dev", set[str]()),
        ("hipaa", set[str]()),
        ("two-replicas", {"aws_load_balancer.front"}),
        ("existing-vpc", {"aws_load_balancer.front", "aws_security_group_rule.lb.from-0-0-0-0-0"}),
    ],
)
def test_what_is_public_says_so(name: str, public: set[str]) -> None:
    assert {address for address, one in traits(name).items() if one.exposure == "public"} == public


def _seen(flow: DataFlow) -> tuple[str, str, str]:
    return flow.what, flow.to, flow.carries


def test_what_leaves_is_said() -> None:
    flows = {(address, *flow) for address, one in traits("dev").items() for flow in map(_seen, one.data_flows)}
    logs = ("aws_log_group.gateway", "log lines of the gateways", "logs.eu-central-1.amazonaws.com", "records")
    assert flows == {
        ("aws_security_group_rule.node.to-https", "requests for packages, images and model files", "the internet", "requests"),
        ("aws_security_group_rule.node.to-http", "requests for signed packages", "the internet", "requests"),
        logs,
    }
    assert {(a, *flow) for a, one in traits("airgapped").items() for flow in map(_seen, one.data_flows)} == {logs}


def test_what_leaves_by_the_own_way_out_of_an_existing_network_is_said() -> None:
    vpc = {"id": "vpc-0123456789abcdef0", "subnets": {"euc1-az1": "subnet-0123456789abcdef0"}}
    found = built(request({"vpc": vpc, "allowed_cidrs": ["10.0.0.0/8"]}))[1].graph
    assert [r.address for r in found if r.provider == "aws" and aws.types[r.type].traits(r.values).data_flows]


def ebs(**changes: Tree) -> Mapping[str, Tree]:
    """A machine's values with its first disk changed."""
    devices = GRAPHS["two-replicas"]["aws_instance.node-0"].values["block_device_mappings"]
    return {"block_device_mappings": ({**devices[0], "ebs": {**devices[0]["ebs"], **changes}}, *devices[1:])}


def inside(address: str, field: str, **changes: Tree) -> Mapping[str, Tree]:
    """A resource's values with a part of one field changed."""
    return {field: {**GRAPHS["two-replicas"][address].values[field], **changes}}


BUCKET, KEY, SECRET = "aws_s3_bucket.weights", "aws_kms_key.main", "aws_secret.support-backend"
MACHINE, CLIENTS = "aws_instance.node-0", "aws_security_group_rule.lb.from-203-0-113-0-24"


@pytest.mark.parametrize(
    ("address", "changes", "fact", "before", "after"),
    [
        (MACHINE, ebs(encrypted=False), "at_rest", "encrypted", "plain"),
        (MACHINE, ebs(encrypted=False), "in_transit", "encrypted", "plain"),
        (MACHINE, ebs(kms_key_id=None), "custody", "kms", "none"),
        (MACHINE, ebs(delete_on_termination=False), "erased", True, False),
        (MACHINE, {"associate_public_ip_address": True}, "exposure", "private", "public"),
        (MACHINE, inside(MACHINE, "metadata_options", http_tokens="optional"), "metadata_guarded", True, False),
        (MACHINE, inside(MACHINE, "metadata_options", http_put_response_hop_limit=2), "metadata_guarded", True, False),
        (BUCKET, inside(BUCKET, "public_access_block", block_public_policy=False), "exposure", "private", "public"),
        (BUCKET, inside(BUCKET, "server_side_encryption", kms_master_key_id=None), "custody", "kms", "none"),
        (BUCKET, inside(BUCKET, "server_side_encryption", sse_algorithm="AES256"), "custody", "kms", "none"),
        (BUCKET, inside(BUCKET, "policy", Statement=[]), "in_transit", "encrypted", "plain"),
        (KEY, {"rotation_period_in_days": 90}, "key_rotation_days", 365, 90),
        (KEY, {"rotation_period_in_days": None}, "key_rotation_days", 365, 0),
        (KEY, {"multi_region": True}, "leaves_region", False, True),
        (SECRET, {"kms_key_id": None}, "custody", "kms", "none"),
        (SECRET, {"max_age_days": 7}, "max_age_days", 90, 7),
        (SECRET, inside(SECRET, "resource_policy", Statement=[]), "readers", "principal", "others"),
        (SECRET, {"principal": f"{PRINCIPAL}-x"}, "readers", "principal", "others"),
        ("aws_log_group.gateway", {"kms_key_id": None}, "custody", "kms", "none"),
        ("aws_listener.front", {"protocol": "UDP"}, "in_transit", "encrypted", "plain"),
        ("aws_subnet.euc1-az1", {"map_public_ip_on_launch": True}, "exposure", "private", "public"),
        ("aws_route_table.private", {"routes": ()}, "egress", "open", None),
        (CLIENTS, {"cidr_ipv4": "0.0.0.0/0"}, "exposure", "private", "public"),
        (CLIENTS, {"cidr_ipv4": "128.0.0.0/1"}, "exposure", "private", "public"),
        (CLIENTS, {"from_port": 22, "to_port": 22}, "authenticated", True, None),
        (CLIENTS, {"from_port": 1}, "authenticated", True, None),
        (CLIENTS, {"ip_protocol": "-1", "from_port": None, "to_port": None}, "authenticated", True, None),
        ("aws_security_group_rule.node.from-lb", {}, "authenticated", None, None),
        ("aws_security_group_rule.node.to-https", {"cidr_ipv4": "10.0.0.0/8"}, "egress", "open", "listed"),
    ],
)
def test_facts_follow_from_values(address: str, changes: Mapping[str, Tree], fact: str, before: Any, after: Any) -> None:
    resource = GRAPHS["two-replicas"][address]
    kind = aws.types[resource.type]
    told = [kind.traits(values) for values in (resource.values, {**resource.values, **changes})]
    assert [getattr(one, fact) for one in told] == [before, after]


@pytest.mark.parametrize("name", EXAMPLES)
def test_who_runs_it_and_as_what_is_said_of_everything(name: str) -> None:
    found = traits(name)
    assert {one.processor for one in found.values()} == {"aws"}
    assert {one.service for one in found.values()} <= {
        *("ec2", "s3", "kms", "elasticloadbalancing", "secretsmanager", "logs", "iam", "sts"),
    }
    assert all(one.wide_grants in (None, ()) for one in found.values())
    assert {address for address, one in found.items() if one.authenticated} == {
        address for address in found if address == "aws_load_balancer.front" or address.startswith("aws_security_group_rule.lb.f")
    }


def test_an_image_is_pinned_only_by_its_id() -> None:
    assert traits("dev")["aws_image.node"].pinned is False
    assert traits("hipaa")["aws_image.node"].pinned is True


@pytest.mark.parametrize(
    ("name", "address", "words"),
    [
        ("dev", "aws_kms_key.main", "schedules the deletion of this key in 30 days"),
        ("gdpr", "aws_existing_key.main", "somebody else's"),
        ("gdpr", "aws_instance.node-0", "take this machine back at any time"),
        ("gdpr", "aws_log_group.gateway", "kept for 60 days: CloudWatch Logs cannot keep them for exactly 45"),
        ("four-machines", "aws_placement_group.node-2", "no fabric interfaces"),
        ("airgapped", "aws_vpc_endpoint.s3", "must lie in the stack's bucket first"),
    ],
)
def test_what_must_be_said_loudly_is(name: str, address: str, words: str) -> None:
    assert words in " ".join(traits(name)[address].notes)


def test_the_log_keeps_for_as_long_as_it_says() -> None:
    assert traits("dev")["aws_log_group.gateway"].retention_days == 30


def test_the_key_is_deleted_as_late_as_asked() -> None:
    values = built(request({"kms_deletion_days": 7}))[1].graph["aws_kms_key.main"].values
    assert "in 7 days" in aws.types["aws_kms_key"].traits(values).notes[0]


def test_traits_and_lines_do_not_need_what_only_apply_can_tell() -> None:
    from llmdeploy.resource import resolve
    from llmdeploy.sdk import Tariff, has_unknown

    unknown: dict[str, Any] = {}
    for resource in GRAPHS["two-replicas"]:
        if resource.provider == "aws":
            values = resolve(resource.values, unknown)
            assert aws.types[resource.type].traits(values) == aws.types[resource.type].traits(resource.values)
            assert not has_unknown([line.quantity for line in aws.types[resource.type].cost(values, Tariff())])
    assert resolve(GRAPHS["dev"]["aws_instance.node-0"].values["image_id"], unknown) is UNKNOWN
