from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.change import Change
from llmdeploy.plan import Plan
from llmdeploy.resource import Ref
from llmdeploy.traits import DataFlow, Traits
from llmdeploy.views.html_architecture import architecture
from llmdeploy.views.html_curve import curve
from llmdeploy.views.html_drawing import Box, Drawing, Path, Text, text_width
from llmdeploy.views.html_picture import Picture, picture
from tests.views import html_plans, plans


def of(plan: Plan) -> Picture:
    found = picture(plan)
    assert found is not None
    return found


def changed(change: Callable[[Change], Change], count: int = 2) -> Plan:
    """Return the rich plan with each change changed."""
    made = html_plans.rich(count)
    return replace(made, changes=tuple(map(change, made.changes)))


def several_regions() -> Plan:
    """Return machines in two regions, and a store in a third."""

    def moved(one: Change) -> Change:
        region = {"gpu-1": "eu-north-1", "cloud_bucket.weights": "eu-west-1"}.get(
            one.group if one.group != "stack" else one.address
        )
        return replace(one, traits=one.traits.model_copy(update={"region": region})) if region else one

    return changed(moved)


def every_kind() -> list[Drawing]:
    """Return pictures of all sorts, wide and narrow."""
    unlike = changed(lambda one: replace(one, traits=one.traits.model_copy(update={"retention_days": number_of(one.group)})), 40)
    shown = [of(html_plans.rich(count)) for count in (1, 2, 3, 4, 63)]
    shown += [of(several_regions()), of(plans.fresh()), of(unlike), of(without_front()), of(outer_front())]
    return [architecture(one, wide=wide) for one in shown for wide in (True, False)]


def number_of(name: str) -> int:
    """Return a number that is another one for each machine."""
    return int(name.removeprefix("gpu-")) if name.startswith("gpu-") else 7


def without_front() -> Plan:
    made = html_plans.rich()
    return replace(made, changes=tuple(one for one in made.changes if one.type != "cloud_load_balancer"))


def outer_front() -> Plan:
    """Return a front that lies in no region."""

    def moved(one: Change) -> Change:
        front = one.type == "cloud_load_balancer"
        return replace(one, traits=one.traits.model_copy(update={"region": None})) if front else one

    return changed(moved)


def bounds(text: Text) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a text, in its usual size."""
    size = 12 if "note" in text.style or "figure" in text.style else 13
    width = text_width(text.text, size) * 0.9
    left = {"start": text.x, "middle": text.x - width / 2, "end": text.x - width}[text.anchor]
    return left, text.y - size * 0.75, left + width, text.y + size * 0.2


def overlapping(drawing: Drawing) -> list[tuple[str, str]]:
    texts = [(shape.text, bounds(shape)) for shape in drawing.shapes if isinstance(shape, Text)]
    return [
        (one, other)
        for (one, a), (other, b) in combinations(texts, 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


@pytest.mark.parametrize("index", range(20))
def test_nothing_lies_outside_the_picture_and_no_text_on_another(index: int) -> None:
    drawing = every_kind()[index]
    for shape in drawing.shapes:
        if isinstance(shape, Box):
            assert shape.x >= -0.1
            assert shape.x + shape.width <= drawing.width + 0.1, shape
            assert shape.y >= -0.1
            assert shape.y + shape.height <= drawing.height + 0.1, shape
        if isinstance(shape, Text):
            left, top, right, bottom = bounds(shape)
            assert left >= -1, shape
            assert right <= drawing.width + 1, shape
            assert top >= -1, shape
            assert bottom <= drawing.height + 1, shape
    assert overlapping(drawing) == []


def test_boxes_of_machines_and_stores_do_not_overlap() -> None:
    for drawing in every_kind():
        boxes = [one for one in drawing.shapes if isinstance(one, Box) and one.style in ("machine", "chip", "front", "clients")]
        for one, other in combinations(boxes, 2):
            apart = (
                one.x + one.width <= other.x
                or other.x + other.width <= one.x
                or one.y + one.height <= other.y
                or other.y + other.height <= one.y
            )
            assert apart, (one, other)


def test_what_can_be_reached_and_passes_data_on_is_the_front() -> None:
    zone, outside = of(html_plans.rich()).zones
    assert [one.name for one in zone.fronts] == ["load balancer"]
    assert [one.name for one in zone.stores] == ["KMS key", "bucket", "secret", "log group"]
    assert [one.count for one in zone.stores] == [1, 1, 2, 1]
    assert zone.others == 2
    assert outside.name == ""
    assert [one.name for one in outside.stores] == ["TLS CA"]


def test_what_machines_need_is_no_front() -> None:
    endpoint = Change(
        "cloud_endpoint.logs",
        "cloud_endpoint",
        "cloud",
        "create",
        traits=Traits(region=html_plans.REGION, in_transit="encrypted", exposure="private"),
        group="network",
    )
    made = changed(lambda one: replace(one, dependencies=(*one.dependencies, endpoint.address)) if one.group == "gpu-0" else one)
    zone = of(replace(made, changes=(endpoint, *made.changes))).zones[0]
    assert [one.name for one in zone.fronts] == ["load balancer"]
    assert "endpoint" in [one.name for one in zone.stores]


def test_a_front_whose_name_a_certificate_needs_stays_one() -> None:
    balancer = "cloud_load_balancer.main"
    needed = changed(lambda one: replace(one, dependencies=(*one.dependencies, balancer)) if one.group == "gpu-0" else one)
    assert of(replace(needed, outputs={})).zones[0].fronts == ()
    told = replace(needed, outputs={"endpoint": Ref(balancer, "endpoint")})
    assert [one.name for one in of(told).zones[0].fronts] == ["load balancer"]


def test_a_machine_shows_the_way_of_a_request_and_counts_the_rest() -> None:
    one = of(html_plans.rich()).zones[0].machines[0]
    assert one.names == ("gpu-0", "gpu-1")
    assert (one.gpu, one.gpus, one.kind) == ("l40s", 4, "g6e.12xlarge")
    assert [part.name for part in one.parts] == ["gateway", "engine", "weights", "volume", "instance"]
    assert one.others == 3
    assert one.uses == {"KMS key", "bucket", "secret", "log group"}


def test_the_arrow_of_the_clients_is_that_of_the_widest_entry() -> None:
    runtime = Change(
        "host_container_runtime.gpu-0",
        "host_container_runtime",
        "hosts",
        "create",
        traits=Traits(in_transit="local", exposure="host"),
        group="gpu-0",
    )
    made = without_front()
    shown = of(replace(made, changes=(runtime, *made.changes)))
    assert shown.clients == ("Clients", "in the network")
    assert shown.entry is not None
    assert shown.entry.text == "encrypted in transit"


def test_groups_without_a_machine_are_no_machines() -> None:
    moved = changed(lambda one: replace(one, group="network" if one.type == "cloud_network" else one.group))
    assert [one.names for one in of(moved).zones[0].machines] == [("gpu-0", "gpu-1")]


def test_data_that_leaves_the_region_is_told_apart_from_what_stays() -> None:
    shown = of(html_plans.rich())
    assert [(one.to, one.what) for one in shown.leaving] == [("huggingface.co", ("requests for weights, from weights",))]
    assert [(one.to, one.region) for one in shown.zones[0].flows] == [("cloud logs", html_plans.REGION)]
    moved = several_regions()
    # The gateway in the other region writes its logs over the boundary.
    assert [one.to for one in of(moved).leaving] == ["huggingface.co", "cloud logs"]


def test_what_goes_to_one_place_is_one_box() -> None:
    def asks(one: Change) -> Change:
        flow = DataFlow(what="requests for packages", to="huggingface.co")
        return replace(one, traits=Traits(data_flows=(flow,))) if one.type == "host_gpu_driver" else one

    shown = of(changed(asks))
    told = ("requests for packages, from GPU driver", "requests for weights, from weights")
    assert [one.what for one in shown.leaving] == [told]
    assert f"Leaves to huggingface.co: {'; '.join(told)}." in architecture(shown, wide=True).description


def test_only_the_entry_of_a_machine_has_a_door() -> None:
    def opened(one: Change) -> Change:
        traits = one.traits.model_copy(update={"exposure": "private"})
        return replace(one, traits=traits) if one.type == "cloud_instance" else one

    parts = of(changed(opened)).zones[0].machines[0].parts
    assert [part.name for part in parts if part.enters] == ["gateway"]


def test_a_region_is_as_wide_as_what_lies_in_it() -> None:
    def quiet(one: Change) -> Change:
        return replace(one, traits=one.traits.model_copy(update={"data_flows": ()}))

    made = html_plans.rich()
    alone = replace(made, changes=tuple(quiet(one) for one in made.changes if one.group != "stack"))
    boxes = [one for one in architecture(of(alone), wide=True).shapes if isinstance(one, Box)]
    (zone,), machines = [one for one in boxes if one.style == "zone"], [one for one in boxes if one.style == "machine"]
    assert zone.x + zone.width - max(one.x + one.width for one in machines) < 40


def test_each_region_has_its_boundary() -> None:
    drawing = architecture(of(several_regions()), wide=True)
    assert len([one for one in drawing.shapes if isinstance(one, Box) and one.style == "zone"]) == 2
    texts = [one.text for one in drawing.shapes if isinstance(one, Text)]
    assert {"Region eu-central-1", "Region eu-north-1", "Region eu-west-1", "With the operator"} <= set(texts)


def test_plain_data_is_marked() -> None:
    def plain(one: Change) -> Change:
        at_rest = "plain" if one.traits.at_rest == "encrypted" else one.traits.at_rest
        in_transit = "plain" if one.traits.in_transit == "encrypted" else one.traits.in_transit
        return replace(one, traits=one.traits.model_copy(update={"at_rest": at_rest, "in_transit": in_transit}))

    drawing = architecture(of(changed(plain)), wide=True)
    styles = {one.style for one in drawing.shapes if isinstance(one, Text) and one.text.startswith("plain")}
    assert styles == {"note bad"}
    assert not any("encrypted" in one.text for one in drawing.shapes if isinstance(one, Text))
    assert "plain at rest" in drawing.description


def test_marks_say_how_a_plan_changes_what_stands_and_are_left_out_when_all_is_new() -> None:
    def marks(plan: Plan) -> set[str]:
        zone = of(plan).zones[0]
        return {part.mark for part in (*zone.fronts, *zone.stores, *zone.machines[0].parts)}

    assert marks(html_plans.rich()) == {""}
    mixed = changed(
        lambda one: (
            replace(one, action="update", before={}) if one.type == "host_engine" else replace(one, action="no-op", before={})
        )
    )
    assert marks(mixed) == {"", "~"}


# --- the curve --------------------------------------------------------------------------------------------------------------


def drawn(economics: dict[str, Any], *, wide: bool = True) -> Drawing:
    found = curve(economics, wide=wide)
    assert found is not None
    return found


@pytest.mark.parametrize("wide", [True, False], ids=["wide", "narrow"])
def test_no_label_of_the_curve_lies_on_another(wide: bool) -> None:
    assert overlapping(drawn(html_plans.economics(), wide=wide)) == []


@given(st.lists(st.floats(0.05, 60), min_size=1, max_size=12), st.booleans())
def test_lines_and_labels_stay_inside_whatever_the_prices(prices: list[float], wide: bool) -> None:
    made = html_plans.economics()
    tokens = made["curve"]["tokens_per_month"]
    made["curve"]["hosted"] = {f"api-{i}": [t * usd_ / 1e6 for t in tokens] for i, usd_ in enumerate(prices)}
    made["against"] = [{"name": f"api-{i}", "break_even_tokens_per_month": 3e9 * (i + 1)} for i in range(len(prices))]
    drawing = drawn(made, wide=wide)
    names = [
        one for one in drawing.shapes if isinstance(one, Text) and (one.text.startswith("api-") or one.text == "self-hosted")
    ]
    assert len(names) == len(prices) + 1
    heights = sorted(one.y for one in names)
    assert all(b - a >= 15.9 for a, b in pairwise(heights))
    for shape in drawing.shapes:
        if isinstance(shape, Text):
            left, top, right, bottom = bounds(shape)
            assert left >= -1
            assert right <= drawing.width + 1
            assert top >= -1
            assert bottom <= drawing.height + 1


def test_the_self_hosted_line_goes_in_steps() -> None:
    (own,) = [one.d for one in drawn(html_plans.economics()).shapes if isinstance(one, Path) and one.style == "own"]
    points = [tuple(map(float, pair.split())) for pair in own.removeprefix("M").split("L")]
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(points))
    assert len(points) > 10


def test_each_break_even_is_marked_on_the_hosted_line() -> None:
    drawing = drawn(html_plans.economics())
    assert len([one for one in drawing.shapes if one.kind == "dot"]) == 2
    assert {"3.55B", "41.5B"} <= {one.text for one in drawing.shapes if isinstance(one, Text)}
    assert "claude-haiku-4.5: self-hosting is not cheaper" in drawing.description


@pytest.mark.parametrize("found", [None, {"tokens_per_month": [1e9], "self_hosted_usd": [5.0], "hosted": {}}])
def test_no_curve_without_points(found: object) -> None:
    assert curve({**html_plans.economics(), "curve": found}, wide=True) is None
    assert curve({}, wide=True) is None


def test_a_free_machine_has_no_place_on_a_logarithmic_axis() -> None:
    made = html_plans.economics()
    made["curve"]["self_hosted_usd"] = [0.0] * len(made["curve"]["tokens_per_month"])
    assert curve(made, wide=True) is None
