"""What an HTML plan tells of the sizing: the memory of one GPU as a bar, predictions, and the machines that were looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..resource import Tree
from .figures import GIB, TIMES, count, gib, gpu_title, percent, three, usd
from .sizing_view import cheapest


@dataclass(frozen=True)
class Segment:
    """A part of the memory bar. style: CSS class; size: GiB; share: of the whole, as text; weight: the same as a number."""

    name: str
    style: str
    size: str
    share: str
    weight: float
    note: str


@dataclass(frozen=True)
class Figure:
    """One number that is looked at alone."""

    name: str
    value: str
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Candidate:
    """One row of the machines that were looked at; texts are empty where there is no figure."""

    machine: str
    gpus: str
    parallel: str
    quantization: str
    headroom: str
    kv_tokens: str
    requests: str
    decode: str
    price: str
    fits: bool
    reason: str
    chosen: bool


@dataclass(frozen=True)
class SizingView:
    """All of it. subject: what the bar shows; total: GiB of it; refused: why nothing fits, "" when it does.

    fitting: the cheapest of each set of GPUs, empty where there is no choice.
    """

    subject: str
    total: str
    usable: str
    usable_share: float
    segments: tuple[Segment, ...]
    figures: tuple[Figure, ...]
    fitting: tuple[Candidate, ...]
    failing: tuple[Candidate, ...]
    explanation: tuple[str, ...]
    refused: str


def sizing_view(sizing: Mapping[str, Tree]) -> SizingView | None:
    """Return what is shown of the sizing; None for a plan without one."""
    if not sizing:
        return None
    memory: Mapping[str, Tree] = sizing.get("memory") or {}
    parts = _parts(memory, sizing) if memory else []
    whole = max(float(memory.get("total_bytes") or 0), sum(size for _, _, size, _ in parts))
    found: list[Mapping[str, Tree]] = list(sizing.get("candidates") or ())
    fitting = cheapest(row for row in found if row["fits"])
    gpu = sizing.get("gpu")
    return SizingView(
        subject=f"Memory of one {gpu_title(str(gpu))}" if gpu else "Memory of the engine's process",
        total=gib(whole),
        usable=gib(memory["usable_bytes"]) if memory.get("usable_bytes") and memory["usable_bytes"] < whole else "",
        usable_share=100 * float(memory.get("usable_bytes") or whole) / whole if whole else 100.0,
        segments=tuple(
            Segment(name, style, gib(size), percent(size, whole), round(100 * size / whole, 3) if whole else 0.0, note)
            for name, style, size, note in parts
        ),
        figures=tuple(_figures(sizing)),
        fitting=tuple(_candidate(row, sizing) for row in fitting) if len(fitting) > 1 else (),
        failing=tuple(_candidate(row, sizing) for row in found if not row["fits"]),
        explanation=tuple(str(sentence) for sentence in sizing.get("explanation") or ()),
        refused="" if sizing["fits"] else str(sizing.get("reason") or "it does not fit"),
    )


def quantization_name(sizing: Mapping[str, Tree]) -> str:
    """Return the quantization that was chosen, "" when nothing was."""
    chosen: Mapping[str, Tree] = sizing.get("quantization") or {}
    return str(chosen.get("name") or "")


def _parts(memory: Mapping[str, Tree], sizing: Mapping[str, Tree]) -> list[tuple[str, str, float, str]]:
    """Return name, style, bytes and note of each part of the memory, from the bottom up."""
    needed = min(memory["kv_needed_bytes"], memory["kv_cache_bytes"])
    asked, context = count(sizing["concurrency"]), count(sizing["context"])
    found = [
        ("Weights", "weights", float(memory["weights_bytes"]), ""),
        ("KV cache, needed", "kv-needed", float(needed), f"for {asked} requests of {context} tokens"),
        ("KV cache, spare", "kv-beyond", float(memory["kv_cache_bytes"] - needed), "for more requests, or a reused beginning"),
        ("Engine", "overhead", float(memory["overhead_bytes"]), "working memory of a step"),
        ("Free", "free", float(max(0, memory["free_bytes"])), "left to others on the GPU"),
    ]
    return [part for part in found if part[2] > 0]


def _figures(sizing: Mapping[str, Tree]) -> list[Figure]:
    cache: Mapping[str, Tree] = sizing.get("kv_cache") or {}
    found: list[Figure] = []
    each = " on each replica" if sizing["replicas"] > 1 else ""
    if cache:
        found.append(Figure("KV cache", count(cache["tokens"]), "tokens", f"what the engine will report{each}"))
        asked = f"of {count(sizing['context'])} tokens{each}; {count(sizing['concurrency'])} asked for"
        found.append(Figure("Requests at full context", three(cache["requests"]), "at once", asked))
    throughput: Mapping[str, Tree] = sizing.get("throughput") or {}
    names = {
        "decode_tokens_per_s": ("Output together", "tokens/s", f"{count(sizing['concurrency'])} requests at once{each}"),
        "request_tokens_per_s": ("Output alone", "tokens/s", "one request, nothing else to do"),
        "prefill_tokens_per_s": ("Prompts", "tokens/s", f"read before an answer begins{each}"),
        "time_to_first_token_s": ("First token", "s", "after a prompt of full context"),
    }
    for name, (title, unit, note) in names.items():
        if throughput.get(name):
            found.append(Figure(title, _range(throughput[name]), unit, note))
    return found


def _range(pair: Mapping[str, Tree]) -> str:
    """Return the value to plan with and the bound that physics sets, the smaller first."""
    low, high = sorted((float(pair["planning"]), float(pair["bound"])))
    return three(low) if three(low) == three(high) else f"{three(low)}\u2013{three(high)}"


def _candidate(row: Mapping[str, Tree], sizing: Mapping[str, Tree]) -> Candidate:
    fits = bool(row["fits"])
    machines = int(row.get("machines") or 0)
    each = f"{row['gpus']} {TIMES} {gpu_title(str(row['gpu']))}" if row.get("gpu") else "CPU"
    chosen = all(row.get(name) == sizing.get(name) for name in ("machine", "gpu", "tensor_parallel", "pipeline_parallel"))
    chosen = chosen and fits and row.get("quantization") == quantization_name(sizing)
    return Candidate(
        machine=f"{machines} {TIMES} {row['machine']}" if machines > 1 else str(row["machine"] or "this machine"),
        gpus=each,
        parallel=f"{row.get('tensor_parallel') or 1} {TIMES} {row.get('pipeline_parallel') or 1}",
        quantization=str(row.get("quantization") or ""),
        headroom=f"{row['headroom_bytes'] / GIB:+,.2f}" if row.get("headroom_bytes") is not None else "",
        kv_tokens=count(row["kv_tokens"]) if fits and row.get("kv_tokens") is not None else "",
        requests=three(row["requests"]) if fits and row.get("requests") is not None else "",
        decode=_range(row["decode_tokens_per_s"]) if fits and row.get("decode_tokens_per_s") else "",
        price=usd(row["usd_per_hour"]) if row.get("usd_per_hour") is not None else "unknown",
        fits=fits,
        reason=str(row.get("reason") or ""),
        chosen=chosen,
    )
