from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmdeploy.change import Change
from llmdeploy.plan import Plan
from llmdeploy.policy import Finding
from llmdeploy.prices import CostLine
from llmdeploy.resource import Resource
from llmdeploy.traits import DataFlow, Traits
from llmdeploy.views.html import MAX_BYTES, plan_html
from tests.views import html_plans, plans
from tests.views.html_reading import Page
from tests.views.test_human import golden
from tests.views.test_markdown import ATTACKS, noisy

EVERY = (*plans.ALL, plans.unchanged, html_plans.rich)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# What a page of this project is made of. No attribute here can make a browser ask for something.
TAGS = frozenset(
    re.findall(
        r"\S+",
        "html head meta title style body div header main section footer h1 h2 h3 p ul ol li dl dt dd span b i br code figure"
        " details summary table thead tbody tfoot tr th td caption figcaption svg desc text path rect circle",
    )
)
ATTRIBUTES = frozenset(
    re.findall(
        r"\S+",
        "lang charset http-equiv content name class style id role tabindex title scope open aria-label aria-labelledby"
        " aria-hidden viewbox x y width height rx cx cy r d text-anchor",
    )
)


def read(plan: Plan) -> Page:
    return Page(plan_html(plan))


@pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)
def test_plan(make: Callable[[], Plan]) -> None:
    page = plan_html(make(), plan_id="1a2b3c4d5e6f")
    golden(f"plan-{make.__name__}.html", re.sub("(?s)(?<=<style>).*(?=</style>)", "\n", page) + "\n")


@pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)
def test_a_page_is_well_formed_and_asks_for_nothing(make: Callable[[], Plan]) -> None:
    text = plan_html(make())
    page = Page(text)
    assert text.isascii()
    assert text.startswith("<!DOCTYPE html>\n")
    assert {one.tag for one in page.elements} <= TAGS
    assert {name for one in page.elements for name in one.attributes} <= ATTRIBUTES
    assert page.comments == []
    (style,) = page.texts("style")
    assert not re.search(r"@import|url\(|expression|http", style)
    assert not re.search(r"url\(|http", "".join(one.attributes.get("style", "") for one in page.elements))
    assert all("http" not in value for one in page.elements for name, value in one.attributes.items() if name != "http-equiv")


@pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)
def test_a_page_forbids_itself_scripts_and_requests(make: Callable[[], Plan]) -> None:
    page = read(make())
    metas = {one.attributes.get("http-equiv") or one.attributes.get("name") or "charset": one for one in page.all("meta")}
    assert metas["Content-Security-Policy"].attributes["content"] == POLICY
    assert metas["viewport"].attributes["content"] == "width=device-width, initial-scale=1"
    # A policy holds for what comes after it.
    assert [one.tag for one in page.elements].index("style") > page.elements.index(metas["Content-Security-Policy"])
    assert page.all("html")[0].attributes["lang"] == "en"


@pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)
def test_pictures_and_tables_can_be_read_aloud(make: Callable[[], Plan]) -> None:
    page = read(make())
    names = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(names) == len(set(names))
    for one in page.elements:
        assert set(one.attributes.get("aria-labelledby", "").split()) <= set(names)
    assert all(one.attributes["role"] == "img" for one in page.all("svg"))
    assert all(one.attributes.get("scope") in ("col", "row") for one in page.all("th"))
    assert len(page.all("h1")) == 1


def test_the_same_plan_gives_the_same_bytes() -> None:
    assert plan_html(html_plans.rich(), plan_id="x") == plan_html(html_plans.rich(), plan_id="x")


def test_a_refused_plan_says_so_and_why() -> None:
    finding = Finding("ENC-01", "fail", "stores data unencrypted", "thing.one", way_out="encrypt it")
    page = Page(plan_html(replace(plans.unchanged(), findings=(finding,), warnings=()), refused=True))
    assert page.texts("p", "refusal") == ["Refused by the compliance profiles: this plan cannot be applied."]
    assert page.texts("ul", "notices") == ["ENC-01thing.one stores data unencryptedWay out: encrypt it"]
    assert page.texts("code") == ["thing.one"]
    assert page.texts("span", "fail") == ["ENC-01"]
    assert "No changes" not in page.texts("body")[0]


def test_a_finding_about_several_resources_is_told_once() -> None:
    about = tuple(Finding("SUP-01", "warn", "is not pinned", f"thing.n{i}", "hipaa") for i in range(3))
    page = read(replace(plans.unchanged(), findings=about, warnings=()))
    assert page.texts("ul", "notices") == ["SUP-01is not pinned (hipaa)About thing.n0, thing.n1, thing.n2"]


def test_a_plan_without_changes_says_so() -> None:
    page = read(plans.unchanged())
    assert page.texts("p", "verdict") == ["No changes. What exists is what the stack file asks for."]
    assert "Changes" not in page.texts("h2")


def test_a_destroy_has_neither_picture_nor_outputs() -> None:
    page = Page(plan_html(replace(html_plans.rich(), mode="destroy", sizing={}, economics={}, cost=(), resources=())))
    assert page.all("svg") == []
    assert not any(text.startswith("Outputs") for text in page.texts("h2"))
    # What it spares is told: nothing is paid any more.
    assert any("9,574.53 USD a month" in text for text in page.texts("p", "lead"))


def test_drift_is_open_to_read() -> None:
    page = read(plans.drifted())
    folded = page.all("details", "change")
    assert len(folded) == 2
    assert all("open" in one.attributes for one in folded)


def test_the_numbers_of_the_documents_are_there() -> None:
    text = " ".join(read(html_plans.rich()).texts("body")[0].split())
    for figure in (
        "Memory of one L40S: 44.70 GiB",
        "Weights16.44 GiB 37 %",
        "285,120 tokens",
        "930\u20131,620 tokens/s",
        "19,238.14 USD in a month of 730 hours",
        "Without a price, and not in the sums: WAF.",
        "unverified",
        "claude-sonnet-4.6",
        "3.55B",
        "never",
        "A request has 1,500 tokens.",
        "serial 7, lineage 0123456789abcdef0123456789abcdef",
    ):
        assert figure in text, figure


def test_a_bill_without_any_price_is_unknown_and_never_zero() -> None:
    line = CostLine("machine (owned)", 2, "machine", None, "month", "no price of it", "unverified", "set machine.purchase")
    documents = html_plans.economics()
    against = [{**row, "break_even_tokens_per_month": None} for row in documents["against"]]
    documents |= {"curve": None, "usd_per_million_tokens": [], "at": None, "against": against}
    page = read(replace(html_plans.rich(), cost=(line,), prior_cost=(), economics=documents))
    figures = dict(zip(page.texts("dt"), page.texts("dd", "value"), strict=False))
    assert figures["Cost"] == "unknown"
    assert page.all("tfoot") == []
    text = page.texts("main")[0]
    assert "0.00" not in text.partition("What it costs")[2].partition("Hosted APIs")[0]
    assert "Unknown: there is no price for machine (owned)." in text
    assert "never" not in page.texts("td")
    assert "Cheaper from" not in page.texts("th")


def test_machines_are_shown_where_there_is_a_choice_the_cheapest_of_each_kind() -> None:
    made = html_plans.rich()
    chosen, other, *_ = made.sizing["candidates"]
    dearer = {**chosen, "machine": "g6e.24xlarge", "usd_per_hour": 40.0}
    page = read(replace(made, sizing={**made.sizing, "candidates": [chosen, dearer, other]}))
    assert not any("g6e.24xlarge" in text for text in page.texts("th"))
    assert "Machines that would do" in page.texts("h3")
    assert "Machines that would do" not in read(replace(made, sizing={**made.sizing, "candidates": [chosen, dearer]})).texts("h3")


def test_the_memory_bar_adds_up_to_the_whole() -> None:
    page = read(html_plans.rich())
    bar = [one for one in page.all("span") if one.attributes.get("style", "").startswith("flex-grow")]
    assert sum(float(one.attributes["style"].removeprefix("flex-grow: ")) for one in bar) == pytest.approx(100, abs=0.01)
    assert sum(float(text) for text in page.texts("span", "size")) == pytest.approx(44.70, abs=0.02)


# --- what comes from a stack file -------------------------------------------------------------------------------------------


def shape(page: Page) -> list[tuple[str, tuple[str, ...]]]:
    """Return what a page is made of, whatever its texts are."""
    return [(one.tag, tuple(sorted(one.attributes))) for one in page.elements]


@pytest.mark.parametrize("attack", [*ATTACKS, "</style><script>alert(1)</script>", "\"'><svg onload=x>", "{{ 7*7 }}{% raw %}"])
def test_no_text_becomes_markup(attack: str) -> None:
    page = read(noisy(attack))
    assert shape(page) == shape(read(noisy("x")))
    assert page.comments == []


@given(st.text(alphabet="<>&\"'/=-! ax1;#{}%\n\r\x00\x1b\u202e\u200b\ud800", min_size=1, max_size=30).filter(str.strip))
@example("&lt;script&gt;")
@example("]]>")
def test_whatever_the_text_the_page_stays_the_same(text: str) -> None:
    assert shape(read(noisy(text))) == shape(read(noisy("x")))


def test_names_in_the_pictures_are_escaped_too() -> None:
    attack = "</text><script>alert(1)</script>\"'"
    made = html_plans.rich()
    flow = DataFlow(what=attack, to=attack, region=attack)
    changes = tuple(
        replace(
            one,
            group=f"{one.group}{attack}" if one.group != "stack" else "stack",
            type=f"{one.type}{attack}",
            traits=one.traits.model_copy(
                update={"region": attack, "data_flows": (flow, flow.model_copy(update={"region": None}))}
            ),
        )
        for one in made.changes
    )
    sizing = {**made.sizing, "gpu": attack, "machine": attack, "model": {**made.sizing["model"], "id": attack}}
    sizing["candidates"] = [{**row, "machine": attack, "reason": attack} for row in made.sizing["candidates"]]
    curve = made.economics["curve"]
    economics = {**made.economics, "curve": {**curve, "hosted": {attack: curve["hosted"]["gpt-5"]}}}
    page = read(replace(made, changes=changes, sizing=sizing, economics=economics))
    assert {one.tag for one in page.elements} <= TAGS
    assert {name for one in page.elements for name in one.attributes} <= ATTRIBUTES
    assert sum("<script>" in text for text in page.texts("text")) > 5


def test_what_is_not_to_be_seen_is_shown() -> None:
    text = plan_html(noisy("a\u202eb\u200bc\x1bd"))
    assert "a\\u202eb\\u200bc\\x1bd" in text
    assert not re.search("&#(8238|8203|27);", text)


# --- large plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_of_500_resources_is_shown_whole_and_its_machines_as_one() -> None:
    text = plan_html(html_plans.rich(63))
    page = Page(text)
    assert len(text) < MAX_BYTES / 4
    assert len(page.all("details", "change")) == 9 + 63 * 8
    assert sum("63 machines alike" in one for one in page.texts("text")) == 2


def test_a_huge_plan_stays_below_the_limit_and_counts_what_it_leaves_out() -> None:
    text = "\u00e9" * 90
    many = tuple(
        Change(f"thing.n{i}", "thing", "p", "create", text, after={f"field{j}": text for j in range(20)}, group=f"g{i // 100}")
        for i in range(2000)
    )
    resources = tuple(Resource(one.address, "thing", "p", {}, group=one.group) for one in many)
    found = plan_html(replace(plans.fresh(), changes=many, resources=resources, warnings=(text,) * 1000))
    assert MAX_BYTES / 2 < len(found) < MAX_BYTES
    page = Page(found)
    shown = len(page.all("details", "change"))
    left_out = sum(int(one.split()[1]) for one in page.texts("p", "soft") if "have no room here" in one)
    assert shown + left_out == 2000
    assert "and 800 more, in the plan as JSON." in page.texts("p", "soft")


# --- readability ------------------------------------------------------------------------------------------------------------


def themes() -> list[dict[str, str]]:
    """Return the colours of the light and the dark theme."""
    (style,) = read(plans.unchanged()).texts("style")
    light, dark = (block for block in re.findall(r":root \{(.*?)\}", style) if "--paper" in block)
    return [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block)) for block in (light, dark)]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("index", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(index: int) -> None:
    theme = themes()[index]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for ground in ("paper", "surface", "accent-wash"):
        for text in ("ink", "soft", "accent", "good", "warn", "bad", "adopt"):
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    assert contrast(theme["warn"], theme["warn-wash"]) >= 4.5
    assert contrast(theme["soft"], theme["warn-wash"]) >= 4.5
    assert contrast(theme["bad"], theme["bad-wash"]) >= 4.5
    # Shapes that say something: lines and the parts of the memory bar that are used.
    for shape_ in ("line", "accent", "accent-2"):
        assert contrast(theme[shape_], theme["paper"]) >= 3


def test_traits_of_a_local_stack_draw_one_machine_without_a_region() -> None:
    engine = Change("host_engine.local", "host_engine", "local", "create", traits=Traits(in_transit="local"), group="local")
    gateway = Change(
        "host_gateway.local",
        "host_gateway",
        "local",
        "create",
        traits=Traits(in_transit="encrypted", exposure="host"),
        group="local",
        dependencies=("host_engine.local",),
    )
    page = read(replace(plans.fresh(), changes=(engine, gateway), resources=()))
    texts = page.texts("text")
    assert "on the machine" in texts
    assert texts.index("gateway") < texts.index("engine"), "in the order in which a request passes"
    assert page.all("rect", "zone") == []
