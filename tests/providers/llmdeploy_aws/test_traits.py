"""What compliance will judge: where things lie, how they are encrypted, who can reach them, what leaves."""

from __future__ import annotations

from typing import Any

import pytest

from llmdeploy.sdk import UNKNOWN, Traits
from llmdeploy_aws import aws
from tests.providers.llmdeploy_aws.stacks import EXAMPLES, built, request

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


def test_what_leaves_is_said() -> None:
    flows = {address: one.data_flows for address, one in traits("dev").items() if one.data_flows}
    assert flows.keys() == {f"aws_security_group_rule.node.to-{name}" for name in ("http", "https")}
    assert {(flow.what, flow.to) for leaving in flows.values() for flow in leaving} == {
        ("requests for packages, images and model files", "the internet"),
        ("requests for signed packages", "the internet"),
    }
    assert not any(one.data_flows for one in traits("airgapped").values())


def test_what_leaves_by_the_own_way_out_of_an_existing_network_is_said() -> None:
    vpc = {"id": "vpc-0123456789abcdef0", "subnets": {"euc1-az1": "subnet-0123456789abcdef0"}}
    found = built(request({"vpc": vpc, "allowed_cidrs": ["10.0.0.0/8"]}))[1].graph
    assert [r.address for r in found if r.provider == "aws" and aws.types[r.type].traits(r.values).data_flows]


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
