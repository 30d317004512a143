"""A plan as a comment on a pull request: a summary, what must be read, and the changes folded away.

The first line is a hidden marker that stays the same for a stack, so that a pipeline finds its comment again and updates it. What
comes from a stack file is escaped: it can neither end a fence or a table, nor bring HTML, nor call people by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..change import Change
from ..plan import Plan
from ..policy import alike, told
from .human import (
    change_lines,
    counts,
    groups,
    has_drift,
    in_doubt,
    output_lines,
    outputs_after,
    plan_lines,
    summary,
    warnings,
    wiring,
)
from .judgement_view import where_and_why
from .screen import Lines
from .visible import visible

MAX_BYTES = 60_000
"""GitHub takes 65,536 characters; what comes around a comment needs some."""
_HEAD_BYTES = 30_000
_FOOT_BYTES = 1_000
_CUT = 1_000
_MARKUP = re.compile(r"[&<>\"'`*_~|\\\[\]()#@!$%^{}]")
_CALL = "@#!$%~&^"


def plan_markdown(plan: Plan, *, plan_id: str = "", refused: bool = False) -> str:
    """Return the whole comment, at most `MAX_BYTES` long. plan_id: of a saved plan; refused: by the compliance profiles."""
    page = _Page()
    page.add(f"<!-- llmdeploy plan: {re.sub('[^A-Za-z0-9-]', '', plan.stack)} -->", MAX_BYTES)
    if plan.nothing_to_do and not has_drift(plan) and not refused:
        page.add("\n".join(_text(one.plain) for one in plan_lines(plan)), MAX_BYTES)
        return page.text(_foot(plan, plan_id))
    words = {"destroy": "Destroy plan", "refresh-only": "Drift"}.get(plan.mode, "Plan")
    verdict = ": refused by the compliance profiles" if refused else ""
    page.add(f"### {words} for {_text(plan.stack)}{verdict}\n\n**{counts(plan)}**", MAX_BYTES)
    for block in _head(plan):
        page.add(block, _HEAD_BYTES)
    limit = MAX_BYTES - _FOOT_BYTES
    if plan.mode == "refresh-only":
        drifted = [change for change in plan.changes if change.drift]
        page.fold("Drift", [_drift(change) for change in drifted], limit)
    connecting = wiring(plan)
    for name, changes in groups(plan).items():
        texts = [_diff(change, change_lines(change, connecting.get(change.address, set()))) for change in changes]
        page.fold(f"{name or 'Resources'}: {len(changes)} change{'s'[: len(changes) != 1]}", texts, limit)
    after = outputs_after(plan)
    if after and after != plan.prior_outputs:
        page.fold("Outputs", [one.plain for one in output_lines(after)], limit, language="text")
    return page.text(_foot(plan, plan_id))


class _Page:
    """Blocks of text up to a size; what did not fit is counted."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._size = 0
        self._left_out = 0

    def add(self, block: str, limit: int) -> None:
        """Add a block if the page stays below `limit` bytes."""
        if self._size + _bytes(block) > limit:
            self._left_out += 1
            return
        self._blocks.append(block)
        self._size += _bytes(block)

    def fold(self, heading: str, texts: Sequence[str], limit: int, *, language: str = "diff") -> None:
        """Add as many texts as fit, in a fence of their own that can be opened."""
        shown = [visible(text) for text in texts]
        fence = "`" * max(3, 1 + max((len(run) for text in shown for run in re.findall("`+", text)), default=0))
        opening = f"<details><summary>{_text(heading)}</summary>\n\n{fence}{language}"
        closing = f"{fence}\n\n</details>"
        room = limit - self._size - _bytes(opening) - _bytes(closing)
        fitting: list[str] = []
        for text in shown:
            room -= _bytes(text)
            if room < 0:
                break
            fitting.append(text)
        self._left_out += len(shown) - len(fitting)
        if fitting:
            self.add("\n".join([opening, *fitting, closing]), MAX_BYTES)

    def text(self, foot: Iterator[str]) -> str:
        """Return the page."""
        left = [f"**Not all is shown:** {self._left_out} parts of this plan do not fit into a comment."] if self._left_out else []
        return "\n\n".join([*self._blocks, *left, *foot])


def _head(plan: Plan) -> Iterator[str]:
    rows = [f"| {_text(name)} | {'<br>'.join(_text(one) for one in told)} |" for name, told in summary(plan).items()]
    if rows:
        yield "\n".join(["| | |", "|---|---|", *rows])
    if plan.in_doubt:
        yield f"**{_text(in_doubt(plan))}**"
    for warning in warnings(plan):
        yield f"**Warning:** {_text(warning)}"
    for one, addresses in alike(plan.findings):
        yield f"**{_text(one.control)}:** {_text(told(one, addresses) + where_and_why(one))}"
    if plan.kept:
        yield f"**Kept:** {_text(', '.join(plan.kept))}"


def _foot(plan: Plan, plan_id: str) -> Iterator[str]:
    if plan_id:
        yield f"Plan `{plan_id}`, made {plan.created_at}, can be applied until {plan.expires_at}."


def _diff(change: Change, lines: Lines) -> str:
    """Return a change as lines of a diff: the first column says whether something comes or goes."""
    first = {"create": "+", "delete": "-", "replace": "-", "update": "!"}.get(change.action, " ")
    found: list[str] = []
    for one in lines:
        text, *more = one.plain.splitlines() or [""]
        head = text[:2] == "  " and text[2:3] not in ("", " ")
        found.append(re.sub("^~", "!", text[2:]) if head else f"{first}{text[1:]}")
        found += [f"{first}       {rest}" for rest in more]
    return "\n".join(found)


def _drift(change: Change) -> str:
    sentences = [text for drift in change.drift for text in drift.sentence.splitlines()]
    return "\n".join([f"! {change.address}", *(f"!     {text}" for text in sentences)])


def _text(text: str) -> str:
    """Return text for outside of a fence: on one line, and nothing in it means anything to Markdown, HTML or the forge."""
    cut = text if len(text) <= _CUT else f"{text[:_CUT]}..."
    plain = visible(" ".join(cut.split()))
    return _MARKUP.sub(_entity, plain)


def _entity(found: re.Match[str]) -> str:
    # An entity is no markup, but forges look for names and numbers in the text that comes out: the comment parts them.
    return f"&#{ord(found[0])};" + ("<!-- -->" if found[0] in _CALL else "")


def _bytes(text: str) -> int:
    return len(text.encode(errors="backslashreplace")) + 2
