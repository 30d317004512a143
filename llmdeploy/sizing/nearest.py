"""When nothing fits: what is closest to the wish and would, computed by sizing it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from ..diagnostics import nearest as nearest_word
from ..serving import Engine, stack_error
from .cpu import cpu_candidates, is_for_cpu
from .evaluate import Answers
from .model import Candidate, SizingRequest
from .search import candidates, holds, wanted
from .text import few, usd

_STEP = 1024
"""Tokens: contexts are offered in whole K."""


def refusal(request: SizingRequest, engine: Engine, found: tuple[Candidate, ...]) -> Exception:
    """Return the error for a stack that fits nowhere: the reason of the machine that comes closest, and what would fit."""
    if not found:
        return _nothing_to_look_at(request)
    best = max(found, key=_closeness)
    offers = list(_offers(request, engine))
    hint = "what fits: " + "; ".join(text for _, text in offers) if offers else "a smaller model, or other machines"
    path = next((path for path, _ in offers), "hardware")
    if best.loaded is None and len({one.reason for one in found}) == 1 < len(found):
        # Not a matter of the machine at all, such as a number format that the engine does not know.
        return stack_error(path if offers else "model.quant", f"{request.facts.id}: {best.reason}", hint=hint)
    where = f"{best.machine.name}: " if best.machine.name else ""
    others = f" (and {len(found) - 1} more do not fit)" if len(found) > 1 else ""
    return stack_error(path, f"{request.facts.id} as {best.quant} does not fit: {where}{best.reason}{others}", hint=hint)


def check_region(request: SizingRequest) -> None:
    """Refuse a region where a provider that rents machines out has none: this machine would be taken for one of them.

    Raises:
        StackError: nothing is known there; the hint names the region that is written most alike.
    """
    regions = {region for names in request.elsewhere.values() for region in names}
    if request.machines or not regions or request.region is None:
        return
    hint = "`llmdeploy catalog refresh` asks the provider what it has there"
    if near := nearest_word(request.region, regions):
        hint = f"{near} Else {hint}"
    raise stack_error("region", f'no machines are known in "{request.region}"', hint=hint)


def _closeness(one: Candidate) -> tuple[bool, float, str]:
    if one.loaded is None:
        return False, 0.0, one.machine.name
    return True, one.loaded.memory.headroom / max(1, one.loaded.memory.usable), one.machine.name


def _offers(request: SizingRequest, engine: Engine) -> Iterator[tuple[str, str]]:
    """Yield (part of the stack file, what to put there) that would fit when nothing else is changed."""
    known = Answers()
    context = _largest(request.context // _STEP, lambda n: _holds(replace(request, context=n * _STEP), engine, known))
    if context:
        yield "model.context", f"context: {few(context * _STEP)}"
    concurrency = _largest(request.concurrency - 1, lambda n: _holds(replace(request, concurrency=n), engine, known))
    if concurrency:
        yield "model.concurrency", f"concurrency: {concurrency}"
    if request.replicas > 1 and any(machine.available is not None for machine in request.machines):
        replicas = _largest(request.replicas - 1, lambda n: _holds(replace(request, replicas=n), engine, known))
        if replicas:
            yield "replicas", f"replicas: {replicas}"
    if request.quant != "auto" and (one := _first(replace(request, quant="auto"), engine)):
        yield "model.quant", f"quant: {one.quant}{_on(one)}"
    loose = replace(request, gpu="auto", count=None, instance_type=None)
    if loose != request and (one := _first(loose, engine)):
        yield "hardware", f"gpu: {one.machine.gpu.name if one.machine.gpu else 'none'}{_on(one)}"
    elif loose != request and request.quant != "auto" and (one := _first(replace(loose, quant="auto"), engine)):
        yield "hardware", f"quant: {one.quant}{_on(one)}"


def _holds(request: SizingRequest, engine: Engine, known: Answers) -> bool:
    return cpu_candidates(request, engine)[0].fits if is_for_cpu(request) else holds(request, engine, known)


def _on(one: Candidate) -> str:
    price = f", {usd(one.usd_per_hour)} per hour" if one.usd_per_hour is not None else ""
    return f" on {one.machines} x {one.machine.name}{price}"


def _first(request: SizingRequest, engine: Engine) -> Candidate | None:
    return next((one for one in candidates(request, engine) if one.fits), None)


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from 1 to `limit` that fits, 0 when none does; what fits also fits with less."""
    if limit < 1 or not fits(1):
        return 0
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _nothing_to_look_at(request: SizingRequest) -> Exception:
    """Return the error that nothing of what the stack file names can be had."""
    offered = [machine for machine in request.machines if machine.gpu is not None]
    if request.instance_type is not None and not wanted(replace(request, gpu="auto")):
        return _not_offered("hardware.instance_type", request.instance_type, [one.name for one in offered], request)
    if request.gpus and request.gpu not in ("auto", *request.gpus):
        hint = gpu_like(request.gpu, request.gpus) or "`llmdeploy catalog list gpus`"
        return stack_error("hardware.gpu", f'there is no GPU "{request.gpu}" in the catalogue', hint=hint)
    if request.gpu != "auto" and not wanted(replace(request, instance_type=None)):
        return _not_offered("hardware.gpu", request.gpu, [one.gpu.name for one in offered if one.gpu], request)
    if request.gpu != "auto":
        summary = f"{request.instance_type} has no {request.gpu}"
        return stack_error("hardware.instance_type", summary, hint="leave gpu or instance_type out")
    return stack_error("hardware.gpu", "there is no machine with a GPU", hint="`gpu: none` serves on CPU")


def gpu_like(name: str, known: Collection[str]) -> str:
    """Return the hint for a GPU that nobody knows: those whose names begin so (`h100` has several forms), or the nearest."""
    forms = sorted(one for one in known if one.startswith(f"{name.lower().replace('-', '_')}_"))
    quoted = " or ".join(f'"{one}"' for one in forms)
    return f"did you mean {quoted}?" if forms else nearest_word(name, known)


def _not_offered(path: str, name: str, offered: list[str], request: SizingRequest) -> Exception:
    regions = request.elsewhere.get(name)
    if regions:
        return stack_error(path, f"{name} is not offered in this region", hint=f"it is in {', '.join(regions)}")
    known = f"{name} is not among the machines that can be had here" if offered else f"{name}: no machine here has a GPU"
    hint = nearest_word(name, set(offered)) if offered else "say which GPUs the machines have, or `gpu: none` to serve on CPU"
    return stack_error(path, known, hint=hint)
