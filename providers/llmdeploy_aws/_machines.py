"""The machines: which image, which disks, which zone, and how the rest of llmdeploy reaches them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from llmdeploy.sdk import Machine, MachineType, Ref, Resource, Tree

from ._data import PROFILE, key_arn
from ._network import Network
from ._security import group_id
from ._site import Site, machine_key
from ._spec import PROCESSOR
from .aws_instance import FREE_IOPS, FREE_THROUGHPUT

HOSTS: Final = "hosts"
"""The provider that owns the types on a machine."""

_IMAGE = "aws_image.node"
_GPU_IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
_CPU_IMAGE = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
_USER = "ubuntu"
_DATA_DEVICE = "/dev/sdf"
_GIB, _MIB = 2**30, 2**20
_SMALLEST_DISK_GIB = 20
_READ_S = 300
_MAX_THROUGHPUT = 1000
_IOPS_PER_MIB = 4


def machine(site: Site, index: int) -> Machine:
    """Return what the core needs to know of a machine."""
    key = machine_key(index)
    instance = f"aws_instance.{key}"
    return Machine(
        key,
        Ref(f"host.{key}", "connection"),
        site.request.placement.on(index),
        Ref(instance, "private_ip") if len(site.machines) > 1 else None,
        Ref(instance, "data_device"),
    )


def machines(site: Site, net: Network, kind: MachineType, rules: frozenset[str]) -> list[Resource]:
    """Return image, placement groups, instances, and each one as a host. rules: what must hold before a machine is up."""
    found = [_image(site, kind)]
    sizes = Counter(site.heads)
    found += [_placement_group(site, head) for head in site.clusters if sizes[head] > 1]
    for index, head in enumerate(site.heads):
        found += [_instance(site, net, kind, index, head if sizes[head] > 1 else None, rules), _host(site, index)]
    return found


def _image(site: Site, kind: MachineType) -> Resource:
    parameter = site.config.ami_parameter or (_GPU_IMAGE if kind.gpu else _CPU_IMAGE)
    values: dict[str, Tree] = {"image_id": site.config.ami} if site.config.ami else {"name": parameter}
    return site.resource(_IMAGE, values, group="machines", path="provider.aws.ami")


def _placement_group(site: Site, head: int) -> Resource:
    key = machine_key(head)
    return site.resource(f"aws_placement_group.{key}", {"group_name": f"{site.name}-{key}"}, group="machines")


def _instance(site: Site, net: Network, kind: MachineType, index: int, cluster: int | None, rules: frozenset[str]) -> Resource:
    key = machine_key(index)
    values: dict[str, Tree] = {
        "image_id": Ref(_IMAGE, "image_id"),
        "instance_type": kind.name,
        "subnet_id": net.private[site.zone(index)],
        "security_group_ids": (group_id("node"),),
        "iam_instance_profile": {"name": Ref(PROFILE, "instance_profile_name")},
        "block_device_mappings": _disks(site, kind),
    }
    if site.request.market == "spot":
        values["instance_market_options"] = {"market_type": "spot"}
    if cluster is not None:
        values["placement"] = {"group_name": Ref(f"aws_placement_group.{machine_key(cluster)}", "group_name")}
    return site.resource(f"aws_instance.{key}", values, group=key, path="hardware", after=net.ready | rules)


def _disks(site: Site, kind: MachineType) -> tuple[Tree, ...]:
    key = key_arn(site)
    root = {"volume_size": site.config.root_volume_gib, "kms_key_id": key}
    devices: list[Tree] = [{"device_name": Ref(_IMAGE, "root_device_name"), "ebs": root}]
    wanted = site.request.disk_bytes
    if kind.local_disk_bytes < max(wanted, 1):
        throughput = _throughput(site.request.serving.weights_bytes)
        data = {
            "volume_size": max(_SMALLEST_DISK_GIB, math.ceil(wanted / _GIB)),
            "throughput": throughput,
            "iops": max(FREE_IOPS, throughput * _IOPS_PER_MIB),
            "kms_key_id": key,
        }
        devices.append({"device_name": _DATA_DEVICE, "ebs": data})
    return tuple(devices)


def _throughput(weights_bytes: int) -> int:
    """Return MiB/s with which the engine reads the whole model in five minutes, as far as one disk can."""
    return min(max(FREE_THROUGHPUT, math.ceil(weights_bytes / _MIB / _READ_S)), _MAX_THROUGHPUT)


def _host(site: Site, index: int) -> Resource:
    """Return the machine as one that is configured over SSH, through Session Manager: no port is open for it."""
    key = machine_key(index)
    instance = f"aws_instance.{key}"
    connection: dict[str, Tree] = {
        "transport": "ssh",
        "address": Ref(instance, "private_ip"),
        "user": _USER,
        "host_key": Ref(instance, "host_key"),
        "sudo": True,
    }
    where: dict[str, Tree] = {"region": site.region, "processor": PROCESSOR, "service": "ec2"}
    return Resource(f"host.{key}", "host", HOSTS, {"host": connection, **where}, group=key, path="provider.aws")
