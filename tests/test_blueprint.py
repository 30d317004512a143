from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel

from llmdeploy.blueprint import build
from llmdeploy.resource import Group, Input, Outputs, Ref, Resource, Spec
from llmdeploy.sdk import Fragment, LayoutRequest, ResourceType


class BoxSpec(Spec):
    name: str
    size: int = 7
    inside: Input[str] | None = None


class Box(ResourceType[BoxSpec, Outputs]):
    name = "box"
    spec = BoxSpec
    outputs = Outputs


class Boxes:
    name = "boxes"
    Config = BaseModel
    types = {"box": Box()}  # noqa: RUF012 - a provider's types are no state

    def layout(self, request: LayoutRequest) -> Fragment:
        inner = Resource("box.inner", "box", self.name, {"name": "inner"}, ignore_changes=frozenset({"size"}))
        values = {"name": "outer", "inside": Ref("box.inner", "name")}
        outer = Resource("box.outer", "box", self.name, values, frozenset({"box.other"}), "shelf", "model", True, Group("boxes"))
        return Fragment((outer, inner, Resource("box.other", "box", self.name, {"name": "other"})), serves=True)

    def refresh(self, run: Any, requests: Any) -> Any:
        raise AssertionError("a blueprint looks at nothing")


def test_a_resource_keeps_everything_that_its_provider_said_and_gets_defaults() -> None:
    request = cast("LayoutRequest", None)
    graph = build(request, "boxes", Boxes().layout(request), Boxes.types).graph
    outer, inner = graph["box.outer"], graph["box.inner"]
    assert outer.values == {"name": "outer", "size": 7, "inside": Ref("box.inner", "name")}
    assert outer.dependencies == {"box.inner", "box.other"}
    assert (outer.group, outer.path, outer.prevent_destroy, outer.rollout) == ("shelf", "model", True, Group("boxes"))
    assert inner.ignore_changes == {"size"}
    assert [resource.address for resource in graph] == ["box.inner", "box.other", "box.outer"]
