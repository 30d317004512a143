"""`aws_placement_group`: machines that stand close to each other, for the replicas that one machine cannot hold.

EC2: CreatePlacementGroup; DescribePlacementGroups until `available`; CreateTags; DeletePlacementGroup, once its machines are
terminated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from llmdeploy.sdk import Identity, Outputs, Replace, Traits, Tree

from ._spec import AwsType, TaggedSpec


class PlacementGroupSpec(TaggedSpec):
    """A cluster lies in one zone."""

    group_name: Annotated[str, Replace("a placement group cannot be renamed")]
    strategy: Annotated[Literal["cluster"], Replace("the strategy of a placement group cannot change")] = "cluster"


class PlacementGroupOutputs(Outputs):
    """Its name and id."""

    group_name: str
    group_id: str


class AwsPlacementGroup(AwsType[PlacementGroupSpec, PlacementGroupOutputs]):
    """A placement group."""

    name: ClassVar[str] = "aws_placement_group"
    service: ClassVar[str] = "ec2"
    spec = PlacementGroupSpec
    outputs = PlacementGroupOutputs

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The name is the one asked for."""
        del identity
        return {"group_name": values["group_name"]}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Machines get ordinary network interfaces only."""
        note = "the machines of a replica exchange data over TCP: this version sets up no fabric interfaces (EFA)"
        return self._told(values, notes=(note,))


RESOURCE = AwsPlacementGroup()
