"""Every spec is made of what AWS's calls take: each field is a parameter of a call, with a value that the call's model allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llmdeploy.resource import Resource
from llmdeploy_aws import aws
from tests.providers.llmdeploy_aws.api import Call, problems, request_of
from tests.providers.llmdeploy_aws.stacks import EXAMPLES, built


def _plain(*fields: str) -> dict[str, str]:
    return dict.fromkeys(fields, "")


_BUCKET = {"bucket": "llmdeploy-chat-weights-01234567"}
_KEY = {"key_id": "1234abcd-12ab-34cd-56ef-1234567890ab"}
_SECRET = {"secret_id": "llmdeploy/chat/support-backend"}
_VPC = {"vpc_id": "vpc-0123456789abcdef0"}
_GROUP = {"group_id": "sg-0123456789abcdef0"}
_ARN = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/chat/0123456789abcdef"
_ENCRYPTION = "server_side_encryption_configuration.rules"
_PERMISSION = {
    "group_id": "",
    "ip_protocol": "ip_permissions.ip_protocol",
    "from_port": "ip_permissions.from_port",
    "to_port": "ip_permissions.to_port",
    "cidr_ipv4": "ip_permissions.ip_ranges.cidr_ip",
    "prefix_list_id": "ip_permissions.prefix_list_ids.prefix_list_id",
    "referenced_group_id": "ip_permissions.user_id_group_pairs.group_id",
    "tags": "",
}
_RULE = "security_group_rules.security_group_rule"

CALLS: Mapping[str, tuple[Call, ...]] = {
    "aws_account": (),
    "aws_eip": (Call("ec2", "AllocateAddress", _plain("domain", "tags")),),
    "aws_existing_key": (Call("kms", "DescribeKey", _plain("key_id")),),
    "aws_iam_role": (
        Call("iam", "CreateRole", _plain("role_name", "path", "description", "assume_role_policy_document", "tags")),
        Call("iam", "PutRolePolicy", _plain("role_name", "policy_name", "policy_document")),
    ),
    "aws_image": (
        Call("ssm", "GetParameter", _plain("name"), {"name": "/path/of/the/parameter"}),
        Call("ec2", "DescribeImages", {"image_id": "image_ids"}),
    ),
    "aws_instance": (
        Call(
            "ec2",
            "RunInstances",
            _plain(
                "image_id",
                "instance_type",
                "iam_instance_profile",
                "instance_market_options",
                "placement",
                "metadata_options",
                "block_device_mappings",
                "ebs_optimized",
                "tags",
            )
            | {
                "subnet_id": "network_interfaces.subnet_id",
                "security_group_ids": "network_interfaces.groups",
                "associate_public_ip_address": "network_interfaces.associate_public_ip_address",
            },
            {"min_count": 1, "max_count": 1, "client_token": "0" * 64},
        ),
    ),
    "aws_instance_profile": (
        Call("iam", "CreateInstanceProfile", _plain("instance_profile_name", "path", "tags")),
        Call("iam", "AddRoleToInstanceProfile", _plain("instance_profile_name", "role_name")),
    ),
    "aws_internet_gateway": (
        Call("ec2", "CreateInternetGateway", _plain("tags")),
        Call("ec2", "AttachInternetGateway", _plain("vpc_id"), {"internet_gateway_id": "igw-0123456789abcdef0"}),
    ),
    "aws_kms_key": (
        Call("kms", "CreateKey", _plain("description", "key_spec", "key_usage", "multi_region", "policy")),
        Call("kms", "CreateAlias", _plain("alias_name"), {"target_key_id": _KEY["key_id"]}),
        Call("kms", "EnableKeyRotation", _plain("rotation_period_in_days"), _KEY),
        Call("kms", "ScheduleKeyDeletion", _plain("pending_window_in_days"), _KEY),
        Call("kms", "TagResource", _plain("tags"), _KEY),
    ),
    "aws_listener": (
        Call("elbv2", "CreateListener", _plain("load_balancer_arn", "protocol", "port", "default_actions", "tags")),
        Call("elbv2", "ModifyListenerAttributes", _plain("attributes"), {"listener_arn": _ARN}),
    ),
    "aws_load_balancer": (
        Call(
            "elbv2",
            "CreateLoadBalancer",
            _plain("name", "type", "scheme", "ip_address_type", "subnets", "security_groups", "tags"),
        ),
        Call("elbv2", "ModifyLoadBalancerAttributes", _plain("attributes"), {"load_balancer_arn": _ARN}),
    ),
    "aws_log_group": (
        Call("logs", "CreateLogGroup", _plain("log_group_name", "log_group_class", "kms_key_id", "tags")),
        Call("logs", "PutRetentionPolicy", _plain("log_group_name", "retention_in_days")),
    ),
    "aws_nat_gateway": (Call("ec2", "CreateNatGateway", _plain("subnet_id", "allocation_id", "connectivity_type", "tags")),),
    "aws_placement_group": (Call("ec2", "CreatePlacementGroup", _plain("group_name", "strategy", "tags")),),
    "aws_route_table": (Call("ec2", "CreateRouteTable", _plain("vpc_id", "tags")),),
    "aws_s3_bucket": (
        Call("s3", "PutBucketOwnershipControls", {"object_ownership": "ownership_controls.rules.object_ownership"}, _BUCKET),
        Call("s3", "PutPublicAccessBlock", {"public_access_block": "public_access_block_configuration"}, _BUCKET),
        Call("s3", "PutBucketVersioning", {"versioning": "versioning_configuration.status"}, _BUCKET),
        Call("s3", "PutBucketPolicy", _plain("policy"), _BUCKET),
        Call("s3", "PutBucketTagging", {"tags": "tagging.tag_set"}, _BUCKET),
        Call("s3", "CreateBucket", {}, _BUCKET),
    ),
    "aws_secret": (
        Call("secretsmanager", "CreateSecret", _plain("name", "description", "kms_key_id", "tags")),
        Call(
            "secretsmanager",
            "PutResourcePolicy",
            _plain("resource_policy", "block_public_policy"),
            _SECRET,
        ),
        Call("secretsmanager", "DeleteSecret", _plain("recovery_window_in_days"), _SECRET),
    ),
    "aws_security_group": (Call("ec2", "CreateSecurityGroup", _plain("group_name", "description", "vpc_id", "tags")),),
    "aws_security_group_rule": (
        Call("ec2", "AuthorizeSecurityGroupIngress", _PERMISSION),
        Call("ec2", "AuthorizeSecurityGroupEgress", _PERMISSION),
        Call(
            "ec2",
            "ModifySecurityGroupRules",
            {
                name: f"{_RULE}.{name}"
                for name in (
                    "ip_protocol",
                    "from_port",
                    "to_port",
                    "cidr_ipv4",
                    "prefix_list_id",
                    "referenced_group_id",
                    "description",
                )
            },
            {**_GROUP, "security_group_rules": {"security_group_rule_id": "sgr-0123456789abcdef0"}},
        ),
    ),
    "aws_subnet": (
        Call("ec2", "CreateSubnet", _plain("vpc_id", "availability_zone_id", "cidr_block", "tags")),
        Call("ec2", "ModifySubnetAttribute", _plain("map_public_ip_on_launch"), {"subnet_id": "subnet-0123456789abcdef0"}),
    ),
    "aws_target": (
        Call("elbv2", "RegisterTargets", {"target_group_arn": "", "target_id": "targets.id", "port": "targets.port"}),
    ),
    "aws_target_group": (
        Call(
            "elbv2",
            "CreateTargetGroup",
            _plain(
                "name",
                "protocol",
                "port",
                "vpc_id",
                "target_type",
                "health_check_protocol",
                "health_check_port",
                "health_check_path",
                "health_check_interval_seconds",
                "health_check_timeout_seconds",
                "healthy_threshold_count",
                "unhealthy_threshold_count",
                "matcher",
                "tags",
            ),
        ),
        Call("elbv2", "ModifyTargetGroupAttributes", _plain("attributes"), {"target_group_arn": _ARN}),
    ),
    "aws_vpc": (
        Call("ec2", "CreateVpc", _plain("cidr_block", "tags")),
        Call("ec2", "ModifyVpcAttribute", _plain("enable_dns_support", "enable_dns_hostnames"), _VPC),
    ),
    "aws_vpc_endpoint": (
        Call(
            "ec2",
            "CreateVpcEndpoint",
            _plain(
                "vpc_id",
                "service_name",
                "vpc_endpoint_type",
                "route_table_ids",
                "subnet_ids",
                "security_group_ids",
                "private_dns_enabled",
                "policy_document",
                "tags",
            ),
        ),
    ),
}
"""How each type is built. What a call takes in another form than the spec's, the tests below build by themselves."""

NO_PARAMETER = {
    "aws_account": {"account"},
    "aws_listener": {"dns_name"},
    "aws_log_group": {"wanted_retention_days"},
    "aws_load_balancer": {"vpc_id"},
    "aws_nat_gateway": {"elsewhere", "machines"},
    "aws_route_table": {"routes", "subnet_ids"},
    "aws_s3_bucket": {"bucket_prefix", "server_side_encryption", "lifecycle"},
    "aws_secret": {"principal", "max_age_days"},
    "aws_security_group_rule": {"is_egress", "key_port"},
}
"""Fields that no call takes as they are: they say so in their docstrings, or have a test of their own below."""


def _resources() -> list[Any]:
    found: list[Any] = []
    for name, wanted in EXAMPLES.items():
        graph = built(wanted)[1].graph
        found += [pytest.param(resource, id=f"{name}:{resource.address}") for resource in graph if resource.provider == "aws"]
    return found


@pytest.mark.parametrize("resource", _resources())
def test_every_resource_of_every_example_is_what_the_calls_take(resource: Resource) -> None:
    for call in CALLS[resource.type]:
        parameters = request_of(call, resource.values)
        assert problems(call, parameters) == "", f"{call.operation}: {parameters}"


def test_every_field_of_every_spec_is_a_parameter_or_says_that_it_is_none() -> None:
    assert CALLS.keys() == aws.types.keys()
    for name, kind in aws.types.items():
        carried = {field for call in CALLS[name] for field in call.fields}
        assert set(kind.spec.model_fields) == carried | NO_PARAMETER.get(name, set()) | {"region"}, name
        assert not carried & NO_PARAMETER.get(name, set()), name


def test_default_encryption_and_lifecycle_of_the_bucket_are_what_s3_takes() -> None:
    values = built(EXAMPLES["dev"])[1].graph["aws_s3_bucket.weights"].values
    encryption = values["server_side_encryption"]
    rule = {
        "apply_server_side_encryption_by_default": {key: encryption[key] for key in ("sse_algorithm", "kms_master_key_id")},
        "bucket_key_enabled": encryption["bucket_key_enabled"],
    }
    lifecycle = {
        "id": "llmdeploy",
        "status": "Enabled",
        "filter": {"prefix": "weights/"},
        "abort_incomplete_multipart_upload": {"days_after_initiation": values["lifecycle"]["days_after_initiation"]},
        "noncurrent_version_expiration": {"noncurrent_days": values["lifecycle"]["noncurrent_days"]},
    }
    for call in (
        Call("s3", "PutBucketEncryption", {}, {**_BUCKET, "server_side_encryption_configuration": {"rules": [rule]}}),
        Call("s3", "PutBucketLifecycleConfiguration", {}, {**_BUCKET, "lifecycle_configuration": {"rules": [lifecycle]}}),
    ):
        assert problems(call, request_of(call, {})) == ""


def test_a_bucket_is_made_where_its_stack_is() -> None:
    # us-east-1 is where S3 makes a bucket that says nothing, and the one region that it does not take as an answer.
    call = Call("s3", "CreateBucket", {"region": "create_bucket_configuration.location_constraint"}, _BUCKET)
    values = built(EXAMPLES["dev"])[1].graph["aws_s3_bucket.weights"].values
    assert request_of(call, values)["CreateBucketConfiguration"] == {"LocationConstraint": "eu-central-1"}
    with pytest.raises(AssertionError, match="'us-east-1' is none of"):
        request_of(call, built(EXAMPLES["hipaa"])[1].graph["aws_s3_bucket.weights"].values)


def test_routes_and_associations_are_what_ec2_takes() -> None:
    graph = built(EXAMPLES["dev"])[1].graph
    for address in ("aws_route_table.public", "aws_route_table.private"):
        values = graph[address].values
        assert values["routes"]
        for route in values["routes"]:
            call = Call("ec2", "CreateRoute", _plain(*route), {"route_table_id": "rtb-0123456789abcdef0"})
            assert problems(call, request_of(call, route)) == ""
        for subnet in values["subnet_ids"]:
            call = Call("ec2", "AssociateRouteTable", _plain("subnet_id"), {"route_table_id": "rtb-0123456789abcdef0"})
            assert problems(call, request_of(call, {"subnet_id": subnet})) == ""


def test_a_wrong_name_type_or_value_would_be_seen() -> None:
    call = Call("ec2", "CreateVpc", _plain("cidr_block"))
    assert "Invalid type" in problems(call, {"CidrBlock": 7})
    with pytest.raises(AssertionError, match="no parameter cidr"):
        request_of(Call("ec2", "CreateVpc", _plain("cidr")), {"cidr": "10.0.0.0/16"})
    with pytest.raises(AssertionError, match="is none of"):
        request_of(Call("elbv2", "CreateLoadBalancer", _plain("scheme")), {"scheme": "public"})
    with pytest.raises(AssertionError, match="is above"):
        request_of(Call("iam", "CreateRole", _plain("role_name")), {"role_name": "x" * 65})
