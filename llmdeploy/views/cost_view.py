"""What a stack costs: the block above a plan, and the tables and the curve of `llmdeploy cost`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..cost import tokens_text
from ..plan import Plan
from ..prices import HOURS_PER_MONTH, CostLine, Total
from ..resource import Tree
from .cost_curve import curve_lines
from .figures import exact_usd, usd
from .screen import BLANK, Line, line
from .table import table

_LARGEST = 3
_COMPARED = 2
_TOLD = (0.4, 1.0)
_WIDTH = 80
_LEAST_LABEL = 18
_MARKS = {"seen": ("", ""), "derived": (" ~", " (~ derived)"), "unverified": (" ?", " (? unverified)")}


# --- the block of a plan ----------------------------------------------------------------------------------------------------


def cost_block(plan: Plan) -> tuple[str, ...]:
    """Return the sentences above the changes; none when nothing is known of the cost."""
    if not plan.cost and not plan.prior_cost:
        return ()
    if plan.cost and all(one.usd is None for one in plan.cost):
        return tuple(f"no price for {one.label}" + (f": {one.note}" if one.note else "") for one in plan.cost)
    return (*_bill(plan), *_per_million(plan.economics), *_break_even(plan.economics))


def _bill(plan: Plan) -> Iterator[str]:
    total = Total.of(plan.cost)
    change = f"; {_change(total.usd_per_month, Total.of(plan.prior_cost).usd_per_month)}" if plan.prior_cost else ""
    once = f"; {usd(total.usd_once)} USD once" if total.usd_once else ""
    month = f"{usd(total.usd_per_month)} USD in a month of {HOURS_PER_MONTH} hours"
    yield f"{usd(total.usd_per_hour)} USD per hour, {month}{change}{once}"
    large = [one for one in plan.cost if one.usd_per_month]
    told = [f"{usd(one.usd_per_month or 0.0)} {_titled(one)}" for one in large[:_LARGEST]]
    others = sum(one.usd_per_month or 0.0 for one in large[_LARGEST:])
    if told:
        yield f"per month: {' + '.join([*told, *([f'{usd(others)} others'] if others else [])])}"
    if total.unpriced:
        yield f"no price for {', '.join(total.unpriced)}: the sums leave that out"


def _change(after: float, before: float) -> str:
    difference = round(after - before, 2)
    if not difference:
        return "as much as what exists now"
    return f"{usd(abs(difference))} {'more' if difference > 0 else 'less'} per month than what exists now"


def _titled(one: CostLine) -> str:
    quantity = _quantity(one.quantity, one.unit, one.per)
    counted = f"{one.label}, {quantity}" if " " in quantity else f"{one.label} x {quantity}"
    return one.label if quantity == "1" else counted


def _quantity(quantity: float, unit: str, per: str) -> str:
    """Return how much: what is measured with its unit, what is counted without. "GB-month" by the month is GB."""
    measured = unit.removesuffix(f"-{per}")
    lot = re.fullmatch(r"([\d,]+) (.+)", measured)
    if lot:
        quantity, measured = quantity * int(lot[1].replace(",", "")), lot[2]
    number = f"{quantity:,.0f}" if quantity == round(quantity) else f"{quantity:,.4g}" if quantity < 1000 else f"{quantity:,.1f}"
    return number if measured == measured.lower() and not lot else f"{number} {measured}"


def _per_million(economics: Mapping[str, Tree]) -> Iterator[str]:
    found = {one["utilization"]: one["usd"] for one in economics.get("usd_per_million_tokens", ())}
    if found:
        low, full = _TOLD
        share = economics["assumptions"]["input_share"]
        told = f"{usd(found[low])} USD at {low:.0%} use of the machines, {usd(found[full])} at {full:.0%}"
        yield f"a million tokens ({share:.0%} input), predicted: {told}"


def _break_even(economics: Mapping[str, Tree]) -> Iterator[str]:
    """Say from which volume on the stack is cheaper than the first hosted APIs, and when that needs more machines than it has."""
    if not economics.get("curve"):
        return
    use: float = economics["assumptions"]["utilization"]
    carried = economics["capacity_tokens_per_month"] * use
    never: list[str] = []
    for one in economics["against"][:_COMPARED]:
        volume: float | None = one["break_even_tokens_per_month"]
        if volume is None:
            never.append(f"{one['name']} ({usd(one['blended'])}{'' if never else ' USD a million'})")
            continue
        more = f"; these machines carry {tokens_text(carried)} at {use:.0%} use" if volume > carried else ""
        api = f"{one['name']} ({usd(one['blended'])} USD a million)"
        yield f"cheaper than {api} from {tokens_text(volume)} tokens per month on{more}"
    if never:
        yield f"never cheaper than {' or '.join(never)}"


# --- `llmdeploy cost` -------------------------------------------------------------------------------------------------------


def cost_lines(stack: str, economics: Mapping[str, Any], width: int | None) -> Iterator[Line]:
    """Yield the whole answer: bill, cost per token, hosted APIs, curve. economics: the document; width: columns of the screen."""
    assumed = economics["assumptions"]
    yield line((stack, "bold"), f": what it costs, in USD. A month is {assumed['hours_per_month']} hours.")
    yield BLANK
    yield from _bill_lines(economics, width)
    if economics["usd_per_million_tokens"]:
        yield BLANK
        yield from _token_lines(economics, width)
    if economics["against"]:
        yield BLANK
        yield from _hosted_lines(economics, width)
    if economics["curve"]:
        yield BLANK
        yield from curve_lines(economics, min(width or _WIDTH, _WIDTH))
    yield BLANK
    for note in [*economics["notes"][1:], *economics["stale"]]:
        yield line("- ", note, hang=2)


def _bill_lines(economics: Mapping[str, Any], width: int | None) -> Iterator[Line]:
    lines: Sequence[Mapping[str, Any]] = economics["lines"]
    sources = list(dict.fromkeys(_source(one) for one in lines))
    if not lines:
        yield line("Nothing in this stack has a price.")
    else:
        headings = ("LINE", "QUANTITY", "PER HOUR", "PER MONTH", "ONCE", "SOURCE")
        rows = [_bill_row(one, sources.index(_source(one)) + 1) for one in lines]
        operations = economics["assumptions"]["operations_usd_per_month"]
        if operations:
            rows.append(("operations", "1", usd(operations / HOURS_PER_MONTH), usd(operations), "-", "given"))
        if economics["usd_per_month"] is not None:
            month = economics["usd_per_month"] + operations
            hour = economics["usd_per_hour"] + operations / HOURS_PER_MONTH
            rows.append(("together", "", usd(hour), usd(month), usd(economics["usd_once"]), ""))
        yield from table(*_narrowed(*_right(headings, rows, (2, 3, 4)), width), width)
    before = economics["prior_usd_per_month"]
    if before is not None and economics["usd_per_month"] is not None:
        yield line(f"{_change(economics['usd_per_month'], before)} ({usd(before)})".capitalize(), hang=2)
    for number, (source, confidence) in enumerate(sources, 1):
        yield line(f"[{number}] {source}{_MARKS[confidence][1]}", hang=4)
    for one in lines:
        if one["note"]:
            yield line(f"{one['label']}: {one['note']}", hang=2)


def _bill_row(one: Mapping[str, Any], source: int) -> tuple[str, ...]:
    amounts = (one["usd_per_hour"], one["usd_per_month"], one["usd_once"])
    once = one["per"] == "once"
    told = ["?" if one["usd_per_unit"] is None else usd(amount) for amount in amounts]
    shown = ("-", "-", told[2]) if once else (told[0], told[1], "-")
    mark = _MARKS[_source(one)[1]][0]
    return (one["label"], _quantity(one["quantity"], one["unit"], one["per"]), *shown, f"[{source}]{mark}")


def _source(one: Mapping[str, Any]) -> tuple[str, str]:
    return (one["source"], "seen" if one["usd_per_unit"] is None else one["confidence"])


def _right(
    headings: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]
) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return a table's cells with these columns aligned at their right."""
    sizes = {column: max(len(row[column]) for row in [headings, *rows]) for column in columns}
    padded = [[text.rjust(sizes.get(at, 0)) for at, text in enumerate(row)] for row in [headings, *rows]]
    return padded[0], list(padded[1:])


def _narrowed(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return a table's cells with the first column broken into several rows, where that is enough to fit `width`."""
    rest = sum(2 + max(len(row[at]) for row in [headings, *rows]) for at in range(1, len(headings)))
    if width is None or width - rest < _LEAST_LABEL:
        return headings, list(rows)
    broken: list[Sequence[str]] = []
    for label, *cells in rows:
        first, *more = textwrap.wrap(label, width - rest, subsequent_indent="  ")
        broken += [(first, *cells), *((text, *("" for _ in cells)) for text in more)]
    return headings, broken


def _token_lines(economics: Mapping[str, Any], width: int | None) -> Iterator[Line]:
    assumed, capacity, idle = economics["assumptions"], economics["capacity_tokens_per_month"], economics["idle"]
    yield line(
        f"These machines can carry {tokens_text(capacity)} tokens per month, {assumed['input_share']:.0%} of them input"
        f" (a prediction):",
        hang=2,
    )
    headings = ("UTILIZATION", "TOKENS PER MONTH", "A MILLION TOKENS")
    rows = [
        (f"{one['utilization']:.0%}", tokens_text(capacity * one["utilization"]), usd(one["usd"]))
        for one in economics["usd_per_million_tokens"]
    ]
    yield from table(*_right(headings, rows, (0, 1, 2)), width)
    paid, total = usd(idle["usd_per_month"]), usd(idle["of_usd_per_month"])
    yield line(f"Of {total} per month for machines, {paid} pay for idle capacity at {idle['utilization']:.0%}.", hang=2)


def _hosted_lines(economics: Mapping[str, Any], width: int | None) -> Iterator[Line]:
    assumed, at = economics["assumptions"], economics["at"]
    cached = f", {assumed['cached_share']:.0%} of that cached" if assumed["cached_share"] else ""
    dates = ", ".join(sorted({one["as_of"] for one in economics["against"]}))
    yield line(f"Hosted APIs as of {dates}, a million tokens with {assumed['input_share']:.0%} input{cached}:", hang=2)
    headings = ["HOSTED API", "INPUT", "CACHED", "OUTPUT", "BLENDED", "CHEAPER FROM"]
    rows = [_hosted_row(one, bool(economics["curve"])) for one in economics["against"]]
    if at:
        headings.append(f"AT {tokens_text(at['tokens_per_month'])}")
        rows = [[*row, usd(at["hosted"][row[0]])] for row in rows]
    yield from table(*_right(headings, rows, range(1, len(headings))), width)
    if at and at["self_hosted_usd"] is not None:
        count = f"{at['replicas']} replica{'' if at['replicas'] == 1 else 's'}"
        yield line(f"{tokens_text(at['tokens_per_month'])} tokens cost {usd(at['self_hosted_usd'])} here, with {count}.", hang=2)
    for one in economics["against"]:
        if one["note"]:
            yield line(f"{one['name']}: {one['note']}", hang=2)


def _hosted_row(one: Mapping[str, Any], compared: bool) -> list[str]:
    volume = one["break_even_tokens_per_month"]
    verdict = "?" if not compared else "never" if volume is None else tokens_text(volume)
    cached = "-" if one["cached"] is None else exact_usd(one["cached"])
    return [one["name"], exact_usd(one["input"]), cached, exact_usd(one["output"]), exact_usd(one["blended"]), verdict]
