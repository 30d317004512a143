"""Whether a stack fits, on what, and why not on anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..resource import Tree
from .screen import BLANK, Line, line
from .table import table

_GIB = 2**30
_WIDE = ("MACHINES", "GPUS", "SPLIT", "QUANT", "USD/HOUR", "LEFT/GPU", "KV TOKENS", "REQUESTS", "TOKENS/S")
_NARROW = ("MACHINES", "GPUS", "QUANT", "USD/HOUR", "REQUESTS")
_WIDE_COLUMNS = 118


def sizing_lines(document: Mapping[str, Tree], width: int | None) -> Iterator[Line]:
    """Yield the verdict, the arithmetic, what fits as a table, and the reasons of what does not."""
    yield line((_verdict(document), "bold green" if document["fits"] else "bold red"), hang=2)
    yield from (line(f"  {sentence}", hang=4) for sentence in document["explanation"])
    found = document["candidates"]
    yield from _fitting([one for one in found if one["fits"]], len(found), width)
    yield from _failing([one for one in found if not one["fits"]])


def _fitting(found: Sequence[Mapping[str, Tree]], of: int, width: int | None) -> Iterator[Line]:
    """Yield a table with the cheapest of each set of GPUs: the others differ in processors and main memory only."""
    if not found or (len(found) == 1 and not found[0]["machine"]):
        return
    kinds: dict[tuple[Tree, ...], Mapping[str, Tree]] = {}
    for one in found:
        kinds.setdefault(tuple(one[name] for name in ("gpu", "gpus", "machines", "tensor_parallel", "quantization")), one)
    yield BLANK
    cheapest = f", the cheapest of each set of GPUs ({len(kinds)})" if len(kinds) < len(found) else ""
    yield line((f"What fits: {len(found)} of {of}{cheapest}", "bold"))
    headings = _WIDE if width is None or width >= _WIDE_COLUMNS else _NARROW
    rows = [dict(zip(_WIDE, _row(one), strict=True)) for one in kinds.values()]
    yield from table(headings, [[row[name] for name in headings] for row in rows], width)
    if headings is _WIDE and any(one["decode_tokens_per_s"] for one in found):
        yield line(
            "LEFT/GPU: memory beyond what was asked for. TOKENS/S: a prediction for all requests at full context together,"
            " planning value to physical bound.",
            hang=2,
        )


def _verdict(document: Mapping[str, Tree]) -> str:
    model = document["model"]["id"]
    asked = f"{document['concurrency']} x {document['context']:,} tokens"
    if not document["fits"]:
        reason = str(document["reason"])
        return reason if "does not fit" in reason else f"Does not fit: {reason}"
    where = f"{document['machines']} x {document['machine']}" if document["machine"] else "this machine"
    return f"Fits: {model} as {document['quantization']['name']}, {asked}, on {where}"


def _row(one: Mapping[str, Tree]) -> Sequence[str]:
    price, speed, headroom = one["usd_per_hour"], one["decode_tokens_per_s"], one["headroom_bytes"]
    return (
        f"{one['machines']} x {one['machine'] or 'this machine'}",
        f"{one['gpus']} x {one['gpu']}" if one["gpu"] else "-",
        _split(one),
        str(one["quantization"]),
        "-" if price is None else f"{price:,.2f}",
        "-" if headroom is None else f"{headroom / _GIB:,.1f} GiB",
        f"{one['kv_tokens']:,}",
        f"{one['requests']:,}",
        f"{speed['planning']:,.0f}-{speed['bound']:,.0f}" if speed else "-",
    )


def _split(one: Mapping[str, Tree]) -> str:
    parts = [f"{name}{one[key]}" for name, key in (("tp", "tensor_parallel"), ("pp", "pipeline_parallel")) if one[key] > 1]
    return " ".join(parts) or "-"


def _failing(found: Sequence[Mapping[str, Tree]]) -> Iterator[Line]:
    """Yield each reason once, with everything that it holds for."""
    if not found:
        return
    reasons: dict[str, list[str]] = {}
    for one in found:
        reasons.setdefault(f"{one['quantization']}: {one['reason']}", []).append(one["machine"] or "this machine")
    yield BLANK
    yield line(("What does not fit", "bold"))
    for reason, machines in reasons.items():
        yield line("  ", (", ".join(dict.fromkeys(machines)), "bold"), f" as {reason}", hang=4)
