"""What a stack file may say under `provider: {aws: ...}`, and how wrong ones are told."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from llmdeploy.sdk import FallbackRequest, GatewayRequest, Placement, StackError, StorageRequest
from llmdeploy_aws import aws
from tests.providers.llmdeploy_aws.stacks import ALICE, SMALL, one_each, request
from tests.support import ROOT

VPC = {"id": "vpc-0123456789abcdef0", "subnets": {"euc1-az1": "subnet-0123456789abcdef0"}}
TWO_ZONES = {**VPC, "subnets": {"euc1-az1": "subnet-0123456789abcdef0", "euc1-az2": "subnet-0123456789abcdef1"}}
FALLING_BACK = GatewayRequest(
    None, 8443, None, None, "", 30, fallback=FallbackRequest("https://api.example.com/v1", "m", "env:FALLBACK_KEY")
)
ANYBODY = {"allowed_cidrs": ["10.0.0.0/8"]}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"account_id": "1234"}, "12 digits"),
        ({"account_id": 111122223333}, "string"),
        ({"availability_zones": ["eu-central-1a"]}, "id of a zone, such as euc1-az1"),
        ({"cidr": "10.0.0.1/16"}, "no bit set behind the prefix"),
        ({"cidr": "10.0.0.0/28"}, "from /16 to /24"),
        ({"allowed_cidrs": ["anybody"]}, "IPv4 addresses such as"),
        ({"allowed_cidrs": ["10.0.0.0/8", "10.0.0.0/8"]}, "must name 10.0.0.0/8 once, not 2 times"),
        ({"availability_zones": ["euc1-az1", "euc1-az1"]}, "must name euc1-az1 once"),
        ({"egress": "proxy"}, "'auto', 'nat', 'endpoints' or 'none'"),
        ({"public": "yes"}, "boolean"),
        ({"ami": "ubuntu"}, "ami-0123456789abcdef0"),
        ({"ami_parameter": "latest"}, "path of an SSM parameter"),
        ({"kms_key": "alias/mine"}, "an alias can point elsewhere"),
        ({"kms_deletion_days": 3}, "greater than or equal to 7"),
        ({"root_volume_gib": 8}, "greater than or equal to 20"),
        ({"vpc": {**VPC, "id": "vpc-1"}}, "vpc-0123456789abcdef0"),
        ({"vpc": {**VPC, "subnets": {"eu-central-1a": "subnet-0123456789abcdef0"}}}, "id of a zone"),
        ({"profile": "prod"}, "Extra inputs"),
    ],
)
def test_wrong_values_are_refused_in_words(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        aws.Config.model_validate(config)
    assert sentence in str(refused.value)


def test_every_field_says_what_it_means() -> None:
    schema = aws.Config.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert all(field.get("description") for field in model["properties"].values())


@pytest.mark.parametrize(
    ("config", "changes", "path", "sentence"),
    [
        ({}, {"region": None}, "region", "AWS needs a region"),
        ({}, {"region": "germany"}, "region", '"germany" is no region'),
        ({}, {"placement": Placement()}, "hardware.instance_type", "by their type"),
        ({}, {"placement": Placement(replace(SMALL, zones=()), 1, one_each(1))}, "provider.aws.availability_zones", "not known"),
        ({"availability_zones": ["euc1-az1", "euc1-az8"]}, {}, "provider.aws.availability_zones[1]", "not offered in euc1-az8"),
        ({"egress": "none"}, {}, "provider.aws.egress", "no way out by itself"),
        ({"egress": "nat", "vpc": VPC, **ANYBODY}, {}, "provider.aws.egress", "stack's own only"),
        ({"egress": "endpoints", "vpc": VPC, **ANYBODY}, {}, "provider.aws.vpc", "in the route tables"),
        ({"vpc": VPC, "cidr": "10.0.0.0/16", **ANYBODY}, {}, "provider.aws.cidr", "its own addresses"),
        (
            {"vpc": VPC, "availability_zones": ["euc1-az2"], **ANYBODY},
            {},
            "provider.aws.vpc.subnets",
            "no subnet in the zone euc1-az2",
        ),
        (
            {"vpc": VPC, **ANYBODY},
            {"placement": Placement(replace(SMALL, zones=("euc1-az3",)), 1, one_each(1))},
            "provider.aws.vpc.subnets",
            "offered in none of their zones",
        ),
        ({"vpc": {**VPC, "subnets": {}}, **ANYBODY}, {}, "provider.aws.vpc.subnets", "need a private subnet"),
        ({"vpc": VPC}, {}, "provider.aws.allowed_cidrs", "existing one: say who may connect"),
        ({"public": True}, {}, "provider.aws.allowed_cidrs", "public: say who may connect"),
        ({"public": True, "allowed_cidrs": ["0.0.0.0/0"]}, {}, "gateway.port", "at port 443 only, not at 8443"),
        ({"public": True, "allowed_cidrs": ["0.0.0.0/1"]}, {}, "gateway.port", "at port 443 only, not at 8443"),
        ({"egress": "endpoints"}, {"gateway": FALLING_BACK}, "gateway.fallback", "and no hosted fallback"),
        ({"public": True, "vpc": VPC, **ANYBODY}, {}, "provider.aws.vpc.public_subnets", "none is in the zone euc1-az1"),
        (
            {"public": True, "vpc": {**TWO_ZONES, "public_subnets": {"euc1-az1": "subnet-0123456789abcdef2"}}, **ANYBODY},
            {"replicas": 2, "placement": Placement(SMALL, 2, one_each(2))},
            "provider.aws.vpc.public_subnets",
            "none is in the zone euc1-az2",
        ),
        ({"ami": "ami-0123456789abcdef0", "ami_parameter": "/a/b"}, {}, "provider.aws.ami_parameter", "together with ami"),
        (
            {"kms_key": "arn:aws:kms:eu-west-1:111122223333:key/1-2"},
            {},
            "provider.aws.kms_key",
            "lies in eu-west-1, the stack in eu-central-1",
        ),
        (
            {"kms_key": "arn:aws:kms:eu-central-1:111122223333:key/1-2", "kms_deletion_days": 7},
            {},
            "provider.aws.kms_deletion_days",
            "never deleted",
        ),
        ({}, {"storage": StorageRequest("auto", "/dev/vdb", None, None, "erase")}, "storage.device", "made with the machine"),
        ({}, {"storage": StorageRequest("auto", None, "tpm2", None, "erase")}, "storage.unlock", "no TPM"),
        ({}, {"storage": StorageRequest("gocryptfs", None, None, None, "erase")}, "storage.encryption", "encrypted as a whole"),
        ({}, {"storage": StorageRequest("none", None, None, None, "erase")}, "storage.encryption", "encrypted as a whole"),
        ({}, {"keys": (ALICE, replace(ALICE, name="b", principal="alice"))}, "keys[1].principal", "ARN of the IAM role or user"),
        (
            {},
            {"keys": (replace(ALICE, principal="arn:aws:sts::111122223333:assumed-role/support/session"),)},
            "keys[0].principal",
            "ARN of the IAM role or user",
        ),
        (
            {},
            {"keys": (replace(ALICE, principal="arn:aws-cn:iam::111122223333:role/support"),)},
            "keys[0].principal",
            "belongs to aws-cn, the region to aws",
        ),
    ],
)
def test_pairs_that_cannot_be_are_told_with_their_place(
    config: dict[str, Any], changes: dict[str, Any], path: str, sentence: str
) -> None:
    with pytest.raises(StackError) as refused:
        aws.layout(request(config, **changes))
    assert [str(finding) for finding in refused.value.diagnostics if f"{path}: " in str(finding)]
    assert sentence in refused.value.message
    assert len(refused.value.diagnostics) == 1, refused.value.message


@pytest.mark.parametrize("profile", ["airgapped", "pci-dss"])
def test_a_profile_that_closes_the_way_out_refuses_a_nat_gateway(profile: str) -> None:
    with pytest.raises(
        StackError, match=rf"provider.aws.egress: egress: nat lets machines reach the internet, which NET-03 .{profile}"
    ):
        aws.layout(request({"egress": "nat"}, (profile,)))


def test_all_problems_are_told_at_once() -> None:
    wanted = request(
        {"public": True, "allowed_cidrs": ["0.0.0.0/0"], "egress": "none"},
        gateway=GatewayRequest(None, 8443, None, None, "", 30),
        keys=(replace(ALICE, principal="alice"),),
    )
    with pytest.raises(StackError, match="3 errors"):
        aws.layout(wanted)


def test_laying_out_imports_neither_boto3_nor_anything_that_talks() -> None:
    code = (
        "import sys\n"
        "from tests.providers.llmdeploy_aws.stacks import EXAMPLES\n"
        "from llmdeploy_aws import aws\n"
        "[aws.layout(request) for request in EXAMPLES.values()]\n"
        "heavy = {'boto3', 'botocore', 'jinja2', 'cryptography', 'paramiko', 'fabric', 'rich', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"
