"""The arithmetic of a sizing in sentences, for the plan."""

from __future__ import annotations

from collections.abc import Iterator

from ..serving import Engine
from .model import Candidate, Range, Sizing, Throughput
from .text import plural, rate, size, usd
from .weights import Weights


def explanation(sizing: Sizing, weights: Weights, engine: Engine) -> tuple[str, ...]:
    """Return what the sizing rests on, one step in each sentence."""
    if sizing.device == "cpu":
        return tuple(_cpu(sizing, weights, engine))
    return tuple(_gpu(sizing, weights, engine))


def _cpu(sizing: Sizing, weights: Weights, engine: Engine) -> Iterator[str]:
    layout, memory = sizing.layout, sizing.memory
    yield f"weights: {size(memory.weights)}{_how(sizing, weights)}"
    requests, each, spare = sizing.max_num_seqs, layout.request_blocks, layout.spare_blocks
    token = layout.block_bytes // layout.block_tokens
    plain = layout.block_bytes % layout.block_tokens == 0 and token == layout.token_bytes
    block = f"{layout.block_tokens} tokens x {token:,} bytes" if plain else f"{layout.block_bytes:,} bytes"
    yield (
        f"KV cache: {plural(requests, 'request')} x {plural(each, 'block')} of {layout.block_tokens} tokens"
        f" ({layout.context:,} tokens each) + {spare} = {requests * each + spare:,} blocks; x {block} = {size(memory.cache)}"
    )
    if not plain:
        yield f"KV cache of one request: {layout.arithmetic}"
    parts = f"{size(memory.weights)} weights + {size(memory.cache)} KV cache + {size(memory.overhead)} engine"
    yield f"memory: {parts} = {size(sizing.memory_bytes)}"
    yield _disk(sizing, weights, engine)


def _gpu(sizing: Sizing, weights: Weights, engine: Engine) -> Iterator[str]:
    layout, memory, chosen = sizing.layout, sizing.memory, sizing.candidates[0]
    exact = "" if weights.exact else " (counted)"
    yield f"weights: {_counted(weights)} as {sizing.quantization.name}{_how(sizing, weights)} = {size(weights.total)}{exact}"
    yield from sizing.quantization.notes
    yield f"KV cache: {layout.arithmetic}; {plural(sizing.max_num_seqs, 'request')} need {size(memory.needed)} on each GPU"
    yield (
        f"memory of one {sizing.gpu}: {size(memory.total)} x {engine.gpu_memory_fraction():.0%} = {size(memory.usable)} usable;"
        f" {size(memory.weights)} weights + {size(memory.overhead)} engine (estimate) + {size(memory.cache)} KV cache, predicted:"
        f" {sizing.kv_cache_tokens:,} tokens, {plural(layout.requests(memory.cache), 'request')} of full context at once"
    )
    yield from _hardware(sizing, chosen)
    yield _disk(sizing, weights, engine)
    if sizing.throughput is not None:
        yield _prediction(sizing.throughput, sizing.max_model_len)


def _counted(weights: Weights) -> str:
    counted = weights.parameters
    active = f" ({_billions(counted.active)} for one token)" if counted.active < 0.95 * counted.total else ""
    return f"{_billions(counted.total)} parameters{active}"


def _billions(count: int) -> str:
    return f"{count / 1e9:,.1f} billion" if count >= 1e8 else f"{count / 1e6:,.1f} million"


def _how(sizing: Sizing, weights: Weights) -> str:
    quantization = sizing.quantization
    if quantization.made == "variant":
        return f", from {quantization.repository}"
    if quantization.made == "load":
        return f", made while loading {size(weights.disk)}"
    return ""


def _hardware(sizing: Sizing, chosen: Candidate) -> Iterator[str]:
    parallel = sizing.parallel
    split = f", each layer over {parallel.tensor} GPUs" if parallel.tensor > 1 else ""
    split += f", the layers over {parallel.pipeline} stages" if parallel.pipeline > 1 else ""
    price = f": {usd(chosen.usd_per_hour)} per hour" if chosen.usd_per_hour is not None else ""
    fitting = [one for one in sizing.candidates if one.fits]
    same = [one for one in fitting if one.quant == chosen.quant]
    why = ""
    if len(same) > 1 and chosen.usd_per_hour is not None:
        why = f", the cheapest of {len(same)} kinds that hold it as {chosen.quant}; next: {_next(chosen, same[1:])}"
    machine = f"{sizing.placement.count} x {chosen.machine.name} ({chosen.machine.gpus} x {sizing.gpu})"
    yield f"hardware: {machine}, {plural(chosen.gpus, 'GPU')} for each replica{split}{price}{why}"
    if chosen.shared > 1:
        both = "both replicas stand" if sizing.replicas == 2 else f"{chosen.shared} replicas stand"
        yield f"{both} on one machine: when it fails, they fail together"
    yield from _cheaper(chosen, fitting)


def _next(chosen: Candidate, others: list[Candidate]) -> str:
    """Name the next cheapest, with other GPUs where there are some."""
    one = next((other for other in others if other.machine.gpu != chosen.machine.gpu), others[0])
    price = f" at {usd(one.usd_per_hour)}" if one.usd_per_hour is not None else ""
    return f"{one.machines} x {one.machine.name}{price}"


def _cheaper(chosen: Candidate, fitting: list[Candidate]) -> Iterator[str]:
    """Say what narrower numbers would cost, where they cost less."""
    if chosen.usd_per_hour is None:
        return
    priced = [(one.usd_per_hour, one) for one in fitting if one.usd_per_hour is not None and one.quant != chosen.quant]
    cheaper = [pair for pair in priced if pair[0] < chosen.usd_per_hour]
    if cheaper:
        amount, one = min(cheaper, key=lambda pair: (pair[0], pair[1].machine.name))
        yield f"cheaper with narrower numbers: {one.quant} on {one.machines} x {one.machine.name}, {usd(amount)} per hour"


def _disk(sizing: Sizing, weights: Weights, engine: Engine) -> str:
    runtime = engine.runtime_disk_bytes(sizing.device)
    return f"disk: {size(weights.disk)} model files + {size(runtime)} engine = {size(weights.disk + runtime)}"


def _prediction(found: Throughput, context: int) -> str:
    together = f"{plural(found.requests, 'request')} of {context:,} tokens together {_range(found.decode)} tokens per second"
    return (
        f"prediction (planning value to physical bound), each replica: {together}, one alone {_range(found.request)};"
        f" prompts {_range(found.prefill)} tokens per second; a prompt of full context is answered after"
        f" {found.first_token_s.planning:.1f} s, at best {found.first_token_s.bound:.1f} s"
    )


def _range(one: Range) -> str:
    return f"{rate(one.planning)} to {rate(one.bound)}"
