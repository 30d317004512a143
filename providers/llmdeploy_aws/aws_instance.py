"""`aws_instance`: one machine, with its disks.

EC2: RunInstances (one at a time); DescribeInstances, DescribeVolumes, GetConsoleOutput; ModifyInstanceMetadataOptions,
ModifyInstanceAttribute, ModifyVolume (a disk only grows), ReplaceIamInstanceProfileAssociation, CreateTags; TerminateInstances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from llmdeploy.sdk import CostLine, FieldChange, Input, Outputs, Replace, Tariff, Traits, Tree

from ._spec import AwsType, Part, TaggedSpec, custody

FREE_IOPS = 3000
FREE_THROUGHPUT = 125
_MUTABLE = frozenset({"volume_size", "iops", "throughput"})


class Ebs(Part):
    """A disk over the network. volume_size in GiB, throughput in MiB/s. It is encrypted and goes with its machine, always."""

    volume_type: Literal["gp3"] = "gp3"
    volume_size: Annotated[int, Field(ge=1, le=16_384)]
    iops: Annotated[int, Field(ge=FREE_IOPS, le=16_000)] = FREE_IOPS
    throughput: Annotated[int, Field(ge=FREE_THROUGHPUT, le=1000)] = FREE_THROUGHPUT
    encrypted: Literal[True] = True
    kms_key_id: Input[str]
    delete_on_termination: Literal[True] = True


class BlockDevice(Part):
    """Under which name the machine gets which disk."""

    device_name: Input[str]
    ebs: Ebs


class MetadataOptions(Part):
    """The machine's metadata service: only with a session token, and only for the machine itself, not for containers on it."""

    http_endpoint: Literal["enabled"] = "enabled"
    http_tokens: Literal["required"] = "required"
    http_put_response_hop_limit: Literal[1] = 1
    instance_metadata_tags: Literal["disabled"] = "disabled"


class SpotOptions(Part):
    """A machine that AWS may take back at any time is ended then."""

    spot_instance_type: Literal["one-time"] = "one-time"
    instance_interruption_behavior: Literal["terminate"] = "terminate"


class MarketOptions(Part):
    """How the machine is paid when it is not paid on demand."""

    market_type: Literal["spot"] = "spot"
    spot_options: SpotOptions = SpotOptions()


class Profile(Part):
    """The instance profile, by name."""

    name: Input[str]


class InstancePlacement(Part):
    """Which other machines it stands close to."""

    group_name: Input[str]


class InstanceSpec(TaggedSpec):
    """One machine. It has no public address, whatever its subnet would give it, and no key pair: who reaches it goes through the
    network or Session Manager. Subnet, groups and public address are those of its one network interface."""

    image_id: Annotated[Input[str], Replace("a machine keeps the image that it was started from")]
    instance_type: Annotated[str, Replace("another kind of machine loses its local disks")]
    subnet_id: Annotated[Input[str], Replace("a machine cannot move to another subnet")]
    security_group_ids: Annotated[tuple[Input[str], ...], Field(min_length=1)]
    associate_public_ip_address: Annotated[bool, Replace("a machine gets its public address when it starts")] = False
    iam_instance_profile: Profile
    instance_market_options: Annotated[MarketOptions | None, Replace("how a machine is paid cannot change")] = None
    placement: Annotated[InstancePlacement | None, Replace("a machine cannot move to another placement group")] = None
    metadata_options: MetadataOptions = MetadataOptions()
    block_device_mappings: Annotated[tuple[BlockDevice, ...], Field(min_length=1), Replace("disks of a machine only grow")]
    ebs_optimized: bool = True


class InstanceOutputs(Outputs):
    """host_key: the public SSH key that the machine printed on its console. data_device: path that the disk for the volume keeps
    on the machine, whatever order its disks come in. availability_zone: the zone's name in this account."""

    instance_id: str
    private_ip: str
    private_dns_name: str
    availability_zone: str
    host_key: str
    data_device: str


class AwsInstance(AwsType[InstanceSpec, InstanceOutputs]):
    """A machine."""

    name: ClassVar[str] = "aws_instance"
    service: ClassVar[str] = "ec2"
    spec = InstanceSpec
    outputs = InstanceOutputs

    def _replace_reason(self, change: FieldChange) -> str:
        if change.path == "block_device_mappings" and _only_grows(change.before, change.after):
            return ""
        return super()._replace_reason(change)

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """What its disks are encrypted with, whether they go with it, who reaches it, and who can ask its metadata service."""
        spot = "AWS may take this machine back at any time (market: spot); what it answers then is cut off"
        disks = [device["ebs"] for device in values["block_device_mappings"]]
        encrypted = all(disk["encrypted"] for disk in disks)
        return self._told(
            values,
            at_rest="encrypted" if encrypted else "plain",
            # What goes between a machine and an encrypted disk is encrypted.
            in_transit="encrypted" if encrypted else "plain",
            custody=custody(all(disk["kms_key_id"] for disk in disks)),
            erased=all(disk["delete_on_termination"] for disk in disks),
            exposure="public" if values["associate_public_ip_address"] else "private",
            leaves_region=False,
            metadata_guarded=_guarded(values["metadata_options"]),
            notes=(spot,) if values.get("instance_market_options") else (),
        )

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return the machine by the hour and its disks by the month."""
        kind, spot = values["instance_type"], bool(values.get("instance_market_options"))
        label, note = (f"{kind} (spot)", "the price of spot machines changes all the time") if spot else (kind, "")
        machine = tariff.line(label, 1, f"ec2.{kind}.spot" if spot else f"ec2.{kind}", note=note)
        titles = ("root disk", "data disk")
        disks = [
            line
            for title, disk in zip(titles, values["block_device_mappings"], strict=False)
            for line in _disk(title, disk, tariff)
        ]
        return (machine, *disks)


def _guarded(options: Mapping[str, Any]) -> bool:
    """Tell whether only the machine itself can ask its metadata service, and only with a token of a session."""
    asked = options["http_tokens"] == "required" and options["http_put_response_hop_limit"] == 1
    return asked or options["http_endpoint"] == "disabled"


def _disk(title: str, device: Mapping[str, Any], tariff: Tariff) -> list[CostLine]:
    ebs = device["ebs"]
    lines = [tariff.line(title, ebs["volume_size"], "ebs.gp3", "month")]
    if (iops := ebs["iops"] - FREE_IOPS) > 0:
        lines.append(tariff.line(f"operations of the {title}", iops, "ebs.gp3.iops", "month", note=f"above {FREE_IOPS} a second"))
    if (throughput := ebs["throughput"] - FREE_THROUGHPUT) > 0:
        note = f"MiB/s above {FREE_THROUGHPUT}"
        lines.append(tariff.line(f"throughput of the {title}", throughput, "ebs.gp3.throughput", "month", note=note))
    return lines


def _only_grows(before: Tree, after: Tree) -> bool:
    """Tell whether ModifyVolume can carry the change out: the same disks, none of them smaller."""
    old, new = _disks(before), _disks(after)
    return len(old) == len(new) and all(
        _fixed(was) == _fixed(now) and was["ebs"]["volume_size"] <= now["ebs"]["volume_size"]
        for was, now in zip(old, new, strict=True)
    )


def _disks(tree: Tree) -> Sequence[Mapping[str, Any]]:
    return cast("Sequence[Mapping[str, Any]]", tree) if isinstance(tree, list | tuple) else ()


def _fixed(device: Mapping[str, Any]) -> dict[str, Any]:
    return {"device_name": device["device_name"], **{k: v for k, v in device["ebs"].items() if k not in _MUTABLE}}


RESOURCE = AwsInstance()
