"""What a stack in AWS consists of, and that it fits together."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from llmdeploy.graph import Graph
from llmdeploy.resource import Ref, Resource
from llmdeploy.sdk import GatewayRequest, Placement, Slot
from llmdeploy_aws import aws
from llmdeploy_host import hosts
from tests.providers.llmdeploy_aws.stacks import (
    ALICE,
    DISKLESS,
    EIGHT,
    EXAMPLES,
    GIB,
    SERVING,
    SMALL,
    built,
    one_each,
    request,
    spanning,
)


def graph(name: str) -> Graph:
    return built(EXAMPLES[name])[1].graph


def of_type(found: Graph, kind: str) -> dict[str, Resource]:
    return {resource.address.split(".", 1)[1]: resource for resource in found if resource.type == kind}


def rules(found: Graph) -> dict[str, Any]:
    return {key: rule.values for key, rule in of_type(found, "aws_security_group_rule").items()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_request_gives_the_same_graph(name: str) -> None:
    assert list(graph(name)) == list(graph(name))


@pytest.mark.parametrize("name", EXAMPLES)
def test_everything_that_can_be_tagged_has_a_name(name: str) -> None:
    for resource in graph(name):
        if "tags" in aws.types.get(resource.type, hosts.types["host"]).spec.model_fields:
            assert resource.values["tags"] == {"Name": f"llmdeploy-chat-{resource.address.split('.', 1)[1]}"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_disks_logs_bucket_and_keys_are_encrypted_with_the_stacks_key(name: str) -> None:
    found = graph(name)
    key = Ref("aws_existing_key.main" if name == "gdpr" else "aws_kms_key.main", "arn")
    assert key.address in found
    for instance in of_type(found, "aws_instance").values():
        for disk in instance.values["block_device_mappings"]:
            assert (disk["ebs"]["encrypted"], disk["ebs"]["kms_key_id"]) == (True, key)
        assert instance.values["metadata_options"] == {
            "http_endpoint": "enabled",
            "http_tokens": "required",
            "http_put_response_hop_limit": 1,
            "instance_metadata_tags": "disabled",
        }
    assert found["aws_log_group.gateway"].values["kms_key_id"] == key
    assert found["aws_s3_bucket.weights"].values["server_side_encryption"]["kms_master_key_id"] == key
    assert all(secret.values["kms_key_id"] == key for secret in of_type(found, "aws_secret").values())
    assert aws.layout(EXAMPLES[name]).kms_key == key


@pytest.mark.parametrize("name", EXAMPLES)
def test_nobody_comes_in_but_to_the_load_balancer_at_its_port(name: str) -> None:
    found, port = graph(name), EXAMPLES[name].gateway.port
    for key, rule in rules(found).items():
        if not rule["is_egress"] and rule["cidr_ipv4"]:
            assert key == f"lb.from-{rule['cidr_ipv4'].replace('.', '-').replace('/', '-')}"
            assert (rule["from_port"], rule["to_port"], rule["ip_protocol"]) == (port, port, "tcp")
        assert rule["from_port"] != 22
    for instance in of_type(found, "aws_instance").values():
        assert instance.values["security_group_ids"] == (Ref("aws_security_group.node", "group_id"),)


def test_one_machine_lies_in_one_zone_behind_one_nat_gateway() -> None:
    found = graph("dev")
    assert set(of_type(found, "aws_subnet")) == {"euc1-az1", "public-euc1-az1"}
    assert set(of_type(found, "aws_instance")) == {"node-0"}
    assert found["aws_load_balancer.front"].values["scheme"] == "internal"
    assert found["aws_load_balancer.front"].values["subnets"] == (Ref("aws_subnet.euc1-az1", "subnet_id"),)
    assert rules(found)["lb.from-10-64-0-0-20"]["cidr_ipv4"] == "10.64.0.0/20"
    assert found["aws_route_table.private"].values["routes"][0]["nat_gateway_id"] == Ref("aws_nat_gateway.main", "nat_gateway_id")
    assert not [key for key in rules(found) if "from-node" in key]
    assert set(of_type(found, "aws_vpc_endpoint")) == {"s3"}


def test_replicas_are_spread_over_the_zones_that_offer_the_machine() -> None:
    found = graph("two-replicas")
    zones = {key: i.values["subnet_id"].address for key, i in of_type(found, "aws_instance").items()}
    assert zones == {"node-0": "aws_subnet.euc1-az1", "node-1": "aws_subnet.euc1-az2"}
    assert len(of_type(found, "aws_nat_gateway")) == 1
    balancer = found["aws_load_balancer.front"].values
    assert balancer["scheme"] == "internet-facing"
    assert balancer["attributes"]["load_balancing.cross_zone.enabled"] == "true"
    assert balancer["subnets"] == (Ref("aws_subnet.public-euc1-az1", "subnet_id"), Ref("aws_subnet.public-euc1-az2", "subnet_id"))
    assert [key for key in rules(found) if key.startswith("lb.from-")] == ["lb.from-198-51-100-7-32", "lb.from-203-0-113-0-24"]
    between = [rules(found)["node.from-node"], rules(found)["node.to-node"]]
    assert [(rule["from_port"], rule["to_port"]) for rule in between] == [(9443, 9443)] * 2
    # A local zone has no load balancers: use1-bos1-az1 is left out.
    assert "use1-bos1-az1" not in {z.split(".")[-1] for z in of_type(graph("hipaa"), "aws_subnet")}


def test_zones_are_used_in_the_order_in_which_they_are_named() -> None:
    wanted = request({"availability_zones": ["euc1-az3", "euc1-az1"]}, replicas=3, placement=Placement(SMALL, 3, one_each(3)))
    instances = of_type(built(wanted)[1].graph, "aws_instance")
    assert [instances[f"node-{n}"].values["subnet_id"].address for n in range(3)] == [
        "aws_subnet.euc1-az3",
        "aws_subnet.euc1-az1",
        "aws_subnet.euc1-az3",
    ]


def test_clients_that_go_and_zones_that_come_leave_the_others_as_they_are() -> None:
    def kept(config: dict[str, Any], kind: str) -> dict[str, Any]:
        wanted = request(config, replicas=2, placement=Placement(SMALL, 2, one_each(2)))
        return {key: resource.values for key, resource in of_type(built(wanted)[1].graph, kind).items()}

    few, many = ({"allowed_cidrs": cidrs} for cidrs in (["10.2.0.0/16"], ["10.1.0.0/16", "10.2.0.0/16"]))
    assert kept(few, "aws_security_group_rule").items() <= kept(many, "aws_security_group_rule").items()
    first, other = ({"availability_zones": zones, "egress": "endpoints"} for zones in (["euc1-az2"], ["euc1-az1", "euc1-az2"]))
    assert kept(first, "aws_subnet").items() <= kept(other, "aws_subnet").items()


def below(found: Graph, address: str) -> set[str]:
    """Everything that `address` stands on: what is there before it, and goes after it."""
    seen: set[str] = set()
    waiting = [address]
    while waiting:
        fresh = found[waiting.pop()].dependencies - seen
        seen |= fresh
        waiting += fresh
    return seen


@pytest.mark.parametrize(
    ("name", "above", "under", "why"),
    [
        ("two-replicas", "aws_load_balancer.front", "aws_internet_gateway.main", "AWS: VPC has no internet gateway"),
        ("two-replicas", "aws_target.node-1", "aws_listener.front", "without a listener nobody asks whether it is well"),
        ("two-replicas", "aws_target.node-1", "host_gateway.node-1", "it is well when it answers, and leaves before that ends"),
        ("two-replicas", "aws_listener.front", "aws_security_group_rule.lb.to-node", "clients come when they can get through"),
        ("airgapped", "host.node-0", "aws_security_group_rule.endpoints.from-node", "Session Manager is the way to the machine"),
        ("airgapped", "host.node-0", "aws_vpc_endpoint.ssmmessages", "Session Manager is the way to the machine"),
        ("dev", "host.node-0", "aws_nat_gateway.main", "Session Manager is the way to the machine"),
        ("dev", "aws_instance.node-0", "aws_iam_role.node", "it starts with its role"),
    ],
)
def test_what_another_stands_on_is_there_before_it_and_goes_after_it(name: str, above: str, under: str, why: str) -> None:
    assert under in below(graph(name), above), why


def test_machines_of_one_replica_stand_together_and_reach_everything_of_each_other() -> None:
    found = graph("four-machines")
    instances = of_type(found, "aws_instance")
    groups = [instances[f"node-{n}"].values["placement"]["group_name"].address for n in range(4)]
    assert groups == ["aws_placement_group.node-0"] * 2 + ["aws_placement_group.node-2"] * 2
    subnets = [instances[f"node-{n}"].values["subnet_id"].address for n in range(4)]
    assert subnets == ["aws_subnet.use1-az1"] * 2 + ["aws_subnet.use1-az4"] * 2
    assert [rules(found)[key]["ip_protocol"] for key in ("node.from-node", "node.to-node")] == ["-1", "-1"]
    assert set(of_type(found, "aws_target")) == {"node-0", "node-2"}, "only the first machine of a replica answers"
    assert set(of_type(found, "host_gateway")) == {"node-0", "node-2"}


def test_several_replicas_on_one_machine_are_one_machine() -> None:
    slots = tuple(Slot(0, replica, 0, (2 * replica, 2 * replica + 1)) for replica in range(4))
    found = built(request(replicas=4, placement=Placement(EIGHT, 1, slots), region="us-east-1"))[1].graph
    assert set(of_type(found, "aws_instance")) == set(of_type(found, "aws_target")) == {"node-0"}
    assert not of_type(found, "aws_placement_group")


@pytest.mark.parametrize("profile", ["airgapped", "pci-dss"])
def test_profiles_that_close_the_way_out_get_endpoints_and_nothing_to_the_internet(profile: str) -> None:
    found = built(request({}, (profile,)))[1].graph
    assert not of_type(found, "aws_nat_gateway")
    assert not of_type(found, "aws_internet_gateway")
    services = {"ec2messages", "kms", "logs", "s3", "secretsmanager", "ssm", "ssmmessages"}
    assert set(of_type(found, "aws_vpc_endpoint")) == services
    assert found["aws_route_table.private"].values["routes"] == ()
    out = {key: rule for key, rule in rules(found).items() if rule["is_egress"]}
    assert not [key for key, rule in out.items() if rule["cidr_ipv4"]]
    assert out["node.to-s3"]["prefix_list_id"] == Ref("aws_vpc_endpoint.s3", "prefix_list_id")
    told = [kind.traits(r.values) for r in found for kind in [aws.types.get(r.type)] if kind]
    assert {flow.to for one in told for flow in one.data_flows} == {"logs.eu-central-1.amazonaws.com"}
    assert {one.egress for one in told} == {None, "listed"}


@pytest.mark.parametrize("profiles", [(), ("hipaa",), ("gdpr",), ("soc2",)])
def test_other_profiles_may_use_a_nat_gateway(profiles: tuple[str, ...]) -> None:
    found = built(request({"ami": "ami-0123456789abcdef0"}, profiles))[1].graph
    assert set(of_type(found, "aws_nat_gateway")) == {"main"}


def test_an_existing_network_is_used_and_not_changed() -> None:
    found = graph("existing-vpc")
    made = {resource.type for resource in found}
    assert not made & {"aws_vpc", "aws_subnet", "aws_route_table", "aws_internet_gateway", "aws_nat_gateway", "aws_eip"}
    assert found["aws_instance.node-0"].values["subnet_id"] == "subnet-0123456789abcdef1"
    assert found["aws_load_balancer.front"].values["subnets"] == ("subnet-0123456789abcdef2",)
    assert found["aws_vpc_endpoint.s3"].values["route_table_ids"] == ("rtb-0123456789abcdef0",)
    network = {**EXAMPLES["existing-vpc"].config.model_dump(), "egress": "auto"}
    own_way = built(replace(EXAMPLES["existing-vpc"], config=aws.Config.model_validate(network)))[1].graph
    assert not of_type(own_way, "aws_vpc_endpoint")


def test_machines_are_configured_over_ssh_with_the_key_that_they_printed() -> None:
    fragment, blueprint = built(EXAMPLES["two-replicas"])
    assert (fragment.hosts, fragment.encryption, fragment.hardened) == ("hosts", "luks2", True)
    host = blueprint.graph["host.node-1"]
    assert host.provider == "hosts"
    assert host.values["host"]["address"] == Ref("aws_instance.node-1", "private_ip")
    assert host.values["host"]["host_key"] == Ref("aws_instance.node-1", "host_key")
    assert (host.values["host"]["user"], host.values["host"]["sudo"]) == ("ubuntu", True)
    assert [machine.address for machine in fragment.machines] == [
        Ref("aws_instance.node-0", "private_ip"),
        Ref("aws_instance.node-1", "private_ip"),
    ]
    assert fragment.machines[0].device == Ref("aws_instance.node-0", "data_device")
    assert aws.layout(EXAMPLES["dev"]).machines[0].address is None


def test_keys_lie_in_secrets_manager_and_outputs_say_where() -> None:
    fragment, blueprint = built(EXAMPLES["two-replicas"])
    assert fragment.keys == {"support-backend": "aws_secret.support-backend", "batch": "aws_secret.batch"}
    assert blueprint.outputs["keys"]["batch"] == {"secret": Ref("aws_secret.batch", "location")}
    assert blueprint.outputs["base_url"] == Ref("aws_listener.front", "base_url")
    assert "api_key.batch" not in blueprint.graph
    assert built(EXAMPLES["gdpr"])[1].outputs["base_url"] == "https://llm.example.com/v1"


def test_a_data_disk_is_there_only_when_the_instance_store_is_too_small() -> None:
    def disks(wanted: Any) -> list[Any]:
        return list(built(wanted)[1].graph["aws_instance.node-0"].values["block_device_mappings"])

    assert len(disks(EXAMPLES["dev"])) == 1
    small, large = request(disk_bytes=249 * 10**9), request(disk_bytes=251 * 10**9)
    assert (len(disks(small)), len(disks(large))) == (1, 2)
    root, data = disks(EXAMPLES["two-replicas"])
    assert root["device_name"] == Ref("aws_image.node", "root_device_name")
    assert (root["ebs"]["volume_size"], data["ebs"]["volume_size"]) == (100, 90)
    assert (data["ebs"]["throughput"], data["ebs"]["iops"]) == (125, 3000)


@pytest.mark.parametrize(("weights_gib", "throughput", "iops"), [(16, 125, 3000), (140, 478, 3000), (700, 1000, 4000)])
def test_the_data_disk_is_as_fast_as_reading_the_model_in_five_minutes_asks(weights_gib: int, throughput: int, iops: int) -> None:
    wanted = request(
        placement=Placement(DISKLESS, 1, one_each(1)),
        disk_bytes=(weights_gib + 40) * GIB,
        serving=replace(SERVING, weights_bytes=weights_gib * GIB),
    )
    data = built(wanted)[1].graph["aws_instance.node-0"].values["block_device_mappings"][1]["ebs"]
    assert (data["throughput"], data["iops"]) == (throughput, iops)
    assert data["throughput"] <= data["iops"] / 4, "EBS wants four operations for each MiB/s"


def test_the_image_is_the_one_that_is_named_or_the_newest_of_its_kind() -> None:
    assert graph("hipaa")["aws_image.node"].values["image_id"] == "ami-0123456789abcdef0"
    assert "base-oss-nvidia-driver-gpu-ubuntu-24.04" in graph("dev")["aws_image.node"].values["name"]
    assert "canonical/ubuntu/server/24.04" in graph("cpu")["aws_image.node"].values["name"]
    own = built(request({"ami_parameter": "/my/images/gpu"}))[1].graph
    assert own["aws_image.node"].values["name"] == "/my/images/gpu"


def test_spot_machines_are_asked_for_as_such() -> None:
    market = graph("gdpr")["aws_instance.node-0"].values["instance_market_options"]
    assert market["market_type"] == "spot"
    assert graph("dev")["aws_instance.node-0"].values["instance_market_options"] is None


@pytest.mark.parametrize(("asked", "kept"), [(1, 1), (2, 3), (30, 30), (45, 60), (366, 400), (3650, 3653)])
def test_log_lines_are_kept_at_least_as_long_as_asked(asked: int, kept: int) -> None:
    wanted = request(gateway=GatewayRequest(None, 8443, None, None, "", asked))
    group = built(wanted)[1].graph["aws_log_group.gateway"].values
    assert (group["retention_in_days"], group["wanted_retention_days"]) == (kept, asked)
    notes = aws.types["aws_log_group"].traits(group).notes
    assert bool(notes) == (asked != kept)


def test_names_fit_their_limits() -> None:
    longest = request(
        keys=(replace(ALICE, name="k" * 40),), region="ap-southeast-2", placement=Placement(EIGHT, 4, spanning(2, 2))
    )
    longest = replace(longest, stack="s" * 40, machines_per_replica=2, serving=replace(SERVING, workers=(SERVING.process,)))
    found = built(longest)[1].graph
    name = found["aws_load_balancer.front"].values["name"]
    assert len(name) == 32
    assert name != built(replace(longest, stack="s" * 39 + "t"))[1].graph["aws_load_balancer.front"].values["name"]
    assert len(found["aws_s3_bucket.weights"].values["bucket_prefix"]) + 8 <= 63
    assert len(found["aws_iam_role.node"].values["role_name"]) <= 64


@pytest.mark.parametrize("cidr", ["10.64.0.0/16", "192.168.7.0/24"])
def test_subnets_do_not_overlap_and_lie_in_the_network(cidr: str) -> None:
    config = {"cidr": cidr, "public": True, "allowed_cidrs": ["203.0.113.0/24"]}
    found = built(request(config, replicas=3, placement=Placement(SMALL, 3, one_each(3))))[1].graph
    blocks = [IPv4Network(subnet.values["cidr_block"]) for subnet in of_type(found, "aws_subnet").values()]
    assert len(blocks) == 6
    assert all(block.subnet_of(IPv4Network(cidr)) for block in blocks)
    assert not [1 for i, a in enumerate(blocks) for b in blocks[i + 1 :] if a.overlaps(b)]
