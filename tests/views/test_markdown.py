from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from llmdeploy.change import Change, Drift
from llmdeploy.plan import Plan
from llmdeploy.policy import Finding
from llmdeploy.views.markdown import MAX_BYTES, plan_markdown
from tests.views import plans
from tests.views.test_human import golden


@pytest.mark.parametrize("make", [*plans.ALL, plans.unchanged], ids=lambda make: make.__name__)
def test_plan(make: Callable[[], Plan]) -> None:
    plan = replace(make(), expires_at="2026-01-03T03:04:05+00:00")
    golden(f"plan-{make.__name__}.md", plan_markdown(plan, plan_id="1a2b3c4d5e6f") + "\n")


def test_a_refused_plan_shows_why() -> None:
    plan = replace(plans.unchanged(), findings=(Finding("ENC-01", "fail", "stores data unencrypted", "thing.one"),))
    text = plan_markdown(plan, refused=True)
    assert "refused by the compliance profiles" in text
    assert "**ENC-01:** thing.one stores data unencrypted" in text
    assert "No changes" not in text


def outside(text: str) -> list[str]:
    """Return the lines that no fence holds, by the rule of CommonMark: a fence ends with one at least as long."""
    fence = ""
    left: list[str] = []
    for one in text.splitlines():
        ticks = re.match("`{3,}", one)
        if fence:
            if one.strip("`") == "" and len(one) >= len(fence):
                fence = ""
        elif ticks:
            fence = ticks[0]
        else:
            left.append(one)
    assert not fence, "a fence stays open"
    return left


def noisy(text: str) -> Plan:
    """Return a plan that holds the text wherever a stack file, a provider or a profile could put one."""
    new = Change("thing.a", "thing", "p", "create", text, after={"n": text, text: 1}, details=(text,), group=text)
    drift = Change(
        "thing.b", "thing", "p", "update", text, before={"n": 1}, after={"n": text}, drift=(Drift("n", text),), found=text
    )
    return replace(
        plans.fresh(),
        stack=text,
        changes=(new, drift),
        resources=(),
        summary={text: (text, "plain")},
        warnings=(text,),
        findings=(Finding(text, "fail", text, text, way_out=text),),
        outputs={"o": text},
        kept=(text,),
        targets=(text,),
    )


ATTACKS = [
    "```\n</details><img src=x onerror=alert(1)>\n```",
    "````",
    "x | y\n|---|",
    "--><script>alert(1)</script><!--",
    "[click](javascript:alert(1)) ![i](http://x/y.png) <b>",
    "@org/team look at #1 and !2 and &3 &amp; ~label $9",
    "*bold* _it_ **b** ~~s~~ \\| \\` #",
    "\u202eevil\u200b",
    "a\r\nb\x1b[31m",
]


@given(st.text(alphabet="`|<>&*_[]()!@#\n\r-~\\ ax1$%\u202e", max_size=30))
@example("```")
@example("<!--")
def test_no_text_breaks_out(text: str) -> None:
    found = plan_markdown(noisy(text))
    lines = outside(found)
    bare = [re.sub("&#[0-9]+;(<!-- -->)?", "", one) for one in lines]
    # What is left has the tags and the marks of the page itself, and no others.
    tags = [tag for one in bare for tag in re.findall("<[^>]*>", one)]
    assert set(tags[1:]) <= {"<details>", "<summary>", "</summary>", "</details>", "<br>"}
    assert re.fullmatch("<!-- llmdeploy plan: [A-Za-z0-9-]* -->", lines[0])
    assert "-->" not in lines[0][:-3]
    for one in bare[1:]:
        assert not re.search(r"[@\[\]`\\~$]", one)
        assert one.count("**") in (0, 2)
        if one.startswith("|"):
            assert one.count("|") == 3
    assert found.count("<details>") == found.count("</details>") == sum(one == "</details>" for one in lines) or "details" in text


def shape(text: str) -> list[str]:
    """Return what a Markdown parser takes for markup: the kinds of tokens in their order, and every piece of HTML."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = [inner for token in parser.parse(text)[1:] for inner in [token, *(token.children or [])]]
    found = [token.content.strip() if token.type.startswith("html") else token.type for token in tokens]
    # Which characters are entities, and where a text was parted, is no markup.
    return [
        re.sub("<summary>.*</summary>", "<summary/>", kind) for kind in found if kind not in ("text", "text_special", "<!-- -->")
    ]


SHAPE = shape(plan_markdown(noisy("x")))


@given(st.text(alphabet="`|<>&*_[]()!@#\n\r-~\\ ax1$%+=.:/\"'", min_size=1, max_size=30).filter(str.split))
@example("```")
@example("</summary></details>")
@example("1. a\n\n# b\n\n- c\n\n    d")
def test_a_parser_sees_the_same_page_whatever_the_text(text: str) -> None:
    assert shape(plan_markdown(noisy(text))) == SHAPE


@pytest.mark.parametrize("attack", ATTACKS)
def test_known_attacks(attack: str) -> None:
    assert shape(plan_markdown(noisy(attack))) == SHAPE


def test_a_name_calls_nobody() -> None:
    text = plan_markdown(noisy("@org #1"))
    assert "&#64;<!-- -->org &#35;<!-- -->1" in text
    assert not any(re.search("@[a-z]|#[0-9]", re.sub("&#[0-9]+;", "", one)) for one in outside(text)[1:])


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert "`````diff\n+ thing.a" in plan_markdown(noisy("````"))


def test_no_line_of_a_text_gets_lost() -> None:
    change = Change("thing.a", "thing", "p", "create", details=("first\nsecond",))
    text = plan_markdown(replace(plans.fresh(), changes=(change,), resources=()))
    assert "\n+     first\n+       second\n" in text


def test_text_that_turns_or_hides_is_shown_as_codes() -> None:
    text = plan_markdown(noisy("a\u202eb\u200bc"))
    assert "\u202e" not in text
    assert "a\\u202eb\\u200bc" in text


@pytest.mark.parametrize("size", [100, 3000, 20_000])
def test_a_long_plan_is_cut_and_says_so(size: int) -> None:
    change = Change("thing.a", "thing", "p", "create", after={"text": "word " * 8}, group="g", details=("ä" * 50,))
    changes = tuple(replace(change, address=f"thing.n{n}") for n in range(size))
    text = plan_markdown(replace(plans.fresh(), changes=changes, resources=()), plan_id="1a2b3c")
    assert len(text.encode()) <= MAX_BYTES
    outside(text)
    assert text.count("<details>") == text.count("</details>")
    assert "Plan `1a2b3c`" in text
    left = re.search(r"\*\*Not all is shown:\*\* ([0-9]+) parts", text)
    shown = len(re.findall("^\\+ thing", text, flags=re.MULTILINE))
    assert shown + (int(left[1]) if left else 0) >= size
    assert (left is None) == (size == 100)


def test_endless_warnings_leave_room_for_the_changes() -> None:
    text = plan_markdown(replace(plans.fresh(), warnings=("<" * 3000,) * 300, resources=()))
    assert len(text.encode()) <= MAX_BYTES
    assert "Not all is shown" in text
    assert "+ host.local" in text
