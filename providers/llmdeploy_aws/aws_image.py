"""`aws_image`: the machine image that instances start from, looked up once and kept.

SSM: GetParameter, for the newest image of a kind; EC2: DescribeImages. Nothing is made. A newer image changes nothing by itself:
what was found stays in the state until the parameter or the image in the stack file changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import model_validator

from llmdeploy.sdk import Identity, Outputs, Traits, Tree

from ._spec import AwsSpec, AwsType


class ImageSpec(AwsSpec):
    """name: of a public SSM parameter that holds the id of the newest image; image_id: this very image. Exactly one of them."""

    name: str | None = None
    image_id: str | None = None

    @model_validator(mode="after")
    def _one(self) -> ImageSpec:
        if (self.name is None) == (self.image_id is None):
            raise ValueError("needs exactly one of name and image_id")
        return self


class ImageOutputs(Outputs):
    """The image, and the name that its root disk must have."""

    image_id: str
    root_device_name: str


class AwsImage(AwsType[ImageSpec, ImageOutputs]):
    """An image, as it is found."""

    name: ClassVar[str] = "aws_image"
    service: ClassVar[str] = "ec2"
    spec = ImageSpec
    outputs = ImageOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"image_id", "root_device_name"})

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """An image that is named is known."""
        del identity
        return {"image_id": values["image_id"]} if values.get("image_id") else {}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """The newest image of a kind is not pinned."""
        return self._told(values, pinned=bool(values.get("image_id")))


RESOURCE = AwsImage()
