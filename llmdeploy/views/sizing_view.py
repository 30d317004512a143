"""Whether a stack fits, on what, and why not on anything else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ..resource import Tree
from ..sizing.text import plural, rate, size
from .figures import GIB, usd
from .screen import BLANK, Line, line
from .table import columns, table

_HEADINGS = ("MACHINES", "GPUS", "SPLIT", "QUANT", "USD/HOUR", "LEFT/GPU", "KV TOKENS", "REQUESTS", "TOKENS/S")
_LEFT_OUT_FIRST = ("SPLIT", "GPUS", "LEFT/GPU", "KV TOKENS")
"""Columns that a screen has to do without when it is too narrow, in this order: the kind of machine tells the GPUs too."""


# --- the block of a plan ----------------------------------------------------------------------------------------------------


def sizing_block(document: Mapping[str, Tree]) -> tuple[str, ...]:
    """Return the sentences above the changes: the verdict, then what it rests on; none without a sizing.

    The arithmetic behind them and all that was looked at is what `llmdeploy size` tells.
    """
    if not document:
        return ()
    if not document["fits"]:
        return (_verdict(document), *document["explanation"])
    return tuple(filter(None, (_chosen(document), _holds(document), _price(document), _memory(document), _speed(document))))


def _chosen(document: Mapping[str, Tree]) -> str:
    """Return the verdict: which weights on which machines."""
    quantization = document["quantization"]
    made = {"variant": f" from {quantization['repository']}", "load": ", made while loading,"}.get(quantization["made"], "")
    return f"fits: {document['model']['id']} as {quantization['name']}{made} on {chosen_machines(document)}"


def chosen_machines(document: Mapping[str, Tree], times: str = "x", gpu_title: Callable[[str], str] = str) -> str:
    """Return the chosen machines, and the GPUs that are used: `2 x g6e.12xlarge, using 4 x l40s on each`."""
    kind, count, gpu = machine_kind(document), document["machines"], document["gpu"]
    if not document["machine"]:
        return "this machine"
    told = f"{count} {times} {kind}" if kind else plural(count, "machine")
    if not gpu:
        return told
    used = document["gpus_per_replica"] * document["replicas"] // count
    return f"{told}, using {used} {times} {gpu_title(gpu)}{' on each' if count > 1 else ''}"


def machine_kind(document: Mapping[str, Tree]) -> str:
    """Return the name under which the chosen machines are sold; empty for those of one's own, which are told by their GPUs."""
    name = str(document.get("machine") or "")
    return "" if name == "machine" or re.fullmatch(rf"\d+x{re.escape(str(document.get('gpu')))}", name) else name


def _holds(document: Mapping[str, Tree]) -> str:
    held, asked, replicas = document["kv_cache"]["requests"], document["concurrency"], document["replicas"]
    wish = f"{asked:,} asked for" if held > asked else "as asked for"
    told = f"{plural(held, 'request')} of {document['context']:,} tokens at once, {wish}"
    if replicas == 1:
        return f"holds {told}"
    shared = replicas * document["machines_per_replica"] > document["machines"]
    together = "; replicas on one machine fail together" if shared else ""
    return f"each of {replicas} replicas holds {told}{together}"


def _price(document: Mapping[str, Tree]) -> str:
    """Say that nothing cheaper holds it, or what does with narrower numbers; empty without a price or a choice.

    Published numbers go before narrower ones, and of those alike the cheapest is chosen: what is cheaper is narrower.
    """
    chosen = document["candidates"][0]
    others = [one for one in document["candidates"][1:] if one["fits"] and one["usd_per_hour"] is not None]
    if not others or chosen["usd_per_hour"] is None:
        return ""
    told = f"{usd(chosen['usd_per_hour'])} USD per hour"
    least = min(others, key=lambda one: (one["usd_per_hour"], one["machine"]))
    if least["usd_per_hour"] >= chosen["usd_per_hour"]:
        return f"{told}, the cheapest of {1 + len(others)} kinds of machine that hold it"
    cheaper = f"{usd(least['usd_per_hour'])} as {least['quantization']} on {least['machines']} x {least['machine']}"
    return f"{told}; cheaper with narrower numbers: {cheaper}"


def _memory(document: Mapping[str, Tree]) -> str:
    memory = document["memory"]
    weights, engine, cache = memory["weights_bytes"], memory["overhead_bytes"], memory["kv_cache_bytes"]
    disk = f"disk: {size(document['disk_bytes'])}"
    if not document["gpu"]:
        taken = size(weights + engine + cache)
        return f"memory: {size(weights)} weights + {size(engine)} engine + {size(cache)} KV cache = {taken}; {disk}"
    each = [f"{part / GIB:,.1f}" for part in (weights, engine, cache, weights + engine + cache, memory["total_bytes"])]
    return "each GPU: {} GiB weights + {} engine + {} KV cache = {} of {} GiB; ".format(*each) + disk


def _speed(document: Mapping[str, Tree]) -> str:
    found = document["throughput"]
    if not found:
        return ""
    together, alone = _range(found["decode_tokens_per_s"]), _range(found["request_tokens_per_s"])
    first = found["time_to_first_token_s"]
    each = "each replica, predicted" if document["replicas"] > 1 else "predicted"
    return (
        f"{each}: {together} tokens/s for {plural(document['concurrency'], 'request')} together, {alone} for one;"
        f" first token after {first['bound']:.1f}-{first['planning']:.1f} s"
    )


def _range(one: Mapping[str, float]) -> str:
    """Return the value to plan with and the physical bound."""
    return f"{rate(one['planning'])}-{rate(one['bound'])}"


# --- `llmdeploy size` -------------------------------------------------------------------------------------------------------


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
    kinds = cheapest(found)
    yield BLANK
    fewer = f", the cheapest of each set of GPUs ({len(kinds)})" if len(kinds) < len(found) else ""
    yield line((f"What fits: {len(found)} of {of}{fewer}", "bold"))
    headings, rows = _columns([_row(one) for one in kinds], width)
    yield from table(headings, rows, width)
    if "LEFT/GPU" in headings:
        yield line("LEFT/GPU: memory of one GPU beyond what was asked for.", hang=2)
    if any(one["decode_tokens_per_s"] for one in kinds):
        speed = "TOKENS/S: a prediction for all requests at full context together, planning value to physical bound."
        yield line(speed, hang=2)


def _columns(rows: Sequence[Sequence[str]], width: int | None) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the headings and rows that fit into the width."""
    headings = list(_HEADINGS)
    for name in _LEFT_OUT_FIRST:
        if width is None or columns(headings, rows) <= width:
            break
        place = headings.index(name)
        del headings[place]
        rows = [[*row[:place], *row[place + 1 :]] for row in rows]
    return headings, rows


def cheapest(found: Iterable[Mapping[str, Tree]]) -> list[Mapping[str, Tree]]:
    """Return the first, which is the cheapest, of each set of GPUs."""
    kinds: dict[tuple[Tree, ...], Mapping[str, Tree]] = {}
    for one in found:
        kinds.setdefault(tuple(one[name] for name in ("gpu", "gpus", "machines", "tensor_parallel", "quantization")), one)
    return list(kinds.values())


def _verdict(document: Mapping[str, Tree]) -> str:
    model = document["model"]["id"]
    asked = f"{document['concurrency']} x {document['context']:,} tokens"
    if not document["fits"]:
        reason = str(document["reason"])
        return reason if "does not fit" in reason else f"Does not fit: {reason}"
    return f"Fits: {model} as {document['quantization']['name']}, {asked}, on {chosen_machines(document)}"


def _row(one: Mapping[str, Tree]) -> Sequence[str]:
    price, speed, headroom = one["usd_per_hour"], one["decode_tokens_per_s"], one["headroom_bytes"]
    return (
        f"{one['machines']} x {one['machine'] or 'this machine'}",
        f"{one['gpus']} x {one['gpu']}" if one["gpu"] else "-",
        _split(one),
        str(one["quantization"]),
        "-" if price is None else usd(price),
        "-" if headroom is None else size(headroom),
        f"{one['kv_tokens']:,}",
        f"{one['requests']:,}",
        _range(speed) if speed else "-",
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
