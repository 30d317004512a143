"""Every kind of machine that can be had, each with the best way to run the stack on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import StackError
from ..machine import Gpu, MachineType, Placement, Slot
from ..serving import Engine
from ..serving.model import Parallel, Quantization
from .evaluate import Answers, Evaluator, Fit, sentence_of
from .model import Candidate, SizingRequest
from .text import plural

_SPANS = (2, 4)
"""Machines that one replica may span where a single one does not hold it."""


def candidates(request: SizingRequest, engine: Engine) -> tuple[Candidate, ...]:
    """Return one candidate for each kind of machine with a GPU: first what fits, has a price, the best numbers, and is cheap.

    Several machines for one replica are looked at only where no single one holds it.
    """
    search = _Search(request, engine)
    found = [search.best(machine, 1) for machine in wanted(request)]
    for span in _SPANS:
        if any(one.fits for one in found):
            break
        wider = [search.best(one.machine, span) for one in found]
        found = [new if new.fits else old for new, old in zip(wider, found, strict=True)]
    return tuple(search.with_throughput(one) for one in sorted(found, key=_rank))


def holds(request: SizingRequest, engine: Engine, known: Answers) -> bool:
    """Whether anything fits; quicker than `candidates`, which look at every kind of machine. known: kept between wishes."""
    search = _Search(request, engine, known)
    kinds = {(one.gpu.name if one.gpu else "", one.gpus, one.gpu_memory_bytes, one.available): one for one in wanted(request)}
    largest = sorted(kinds.values(), key=lambda one: one.gpus * one.gpu_memory_bytes, reverse=True)
    return any(search.best(machine, span).fits for span in (1, *_SPANS) for machine in largest)


def wanted(request: SizingRequest) -> list[MachineType]:
    """Return the kinds of machine with the GPU and of the type that the stack file asks for."""
    return [
        machine
        for machine in request.machines
        if machine.gpu is not None and request.gpu in ("auto", machine.gpu.name) and request.instance_type in (None, machine.name)
    ]


def placement_of(one: Candidate, replicas: int) -> Placement:
    """Return what runs where: replicas go to the machines in turn, and take their GPUs in order."""
    each, span = one.gpus_per_machine, one.per_replica
    if span > 1:
        whole = tuple(range(each))
        spread = [Slot(replica * span + rank, replica, rank, whole) for replica in range(replicas) for rank in range(span)]
        return Placement(one.machine, one.machines, tuple(spread))
    turns = [(replica, *divmod(replica, one.machines)) for replica in range(replicas)]
    shared = [Slot(machine, replica, 0, tuple(range(turn * each, (turn + 1) * each))) for replica, turn, machine in turns]
    return Placement(one.machine, one.machines, tuple(shared))


def _rank(one: Candidate) -> tuple[bool, bool, tuple[int, float, int], float, int, int, tuple[int, int, str]]:
    price = one.usd_per_hour
    numbers = _precision(one.loaded.quantization) if one.fits and one.loaded else (0, 0.0, 0)
    gpus = one.gpus if one.machine.available is not None else one.machines * one.machine.gpus
    # Without prices the smallest machine: it is the cheapest of those with the same GPUs.
    rest = one.machine.memory_bytes, one.machine.vcpus, one.machine.name
    # Nobody can say that what has no price is cheap: it comes after all that has one, however wide its numbers.
    return not one.fits, price is None, numbers, price or 0.0, gpus, one.machine.gpu_memory_bytes, rest


def _precision(quantization: Quantization) -> tuple[int, float, int]:
    """Rank number formats: as published, then the widest first; converted at load before another repository."""
    if quantization.made == "published":
        return (0, 0.0, 0)
    return (1, -round(quantization.linear_bytes, 1), 0 if quantization.made == "load" else 1)


@dataclass(frozen=True)
class _Split:
    """GPUs of one machine for one replica, and whether that fits."""

    gpus: int
    fit: Fit


class _Search:
    def __init__(self, request: SizingRequest, engine: Engine, known: Answers | None = None) -> None:
        self._request = request
        self._engine = engine
        self._evaluator = Evaluator(request, engine, known or Answers())
        self._formats: dict[str, list[Quantization]] = {}

    def best(self, machine: MachineType, span: int) -> Candidate:
        """Return the best that fits on machines of this kind, `span` for each replica; what comes nearest when nothing does."""
        last = Candidate(machine, self._request.quant, reason="the machine has no GPU")
        if machine.gpu is None:
            return last
        try:
            formats = self._formats.get(machine.gpu.name) or self._quantizations(machine.gpu)
        except StackError as error:
            return Candidate(machine, self._request.quant, reason=sentence_of(error))
        self._formats[machine.gpu.name] = formats
        for quantization in formats:
            last = self._on(machine, machine.gpu, quantization, span)
            if last.fits:
                break
        return last

    def with_throughput(self, one: Candidate) -> Candidate:
        """Return the candidate with predictions, when it fits."""
        if not one.fits or one.machine.gpu is None or one.loaded is None:
            return one
        predicted = self._evaluator.throughput(one.machine.gpu, one.parallel, one.loaded)
        return replace(one, loaded=replace(one.loaded, throughput=predicted))

    def _quantizations(self, gpu: Gpu) -> list[Quantization]:
        """Return what may be tried, in order. Raises StackError with the reason when there is nothing."""
        request, engine = self._request, self._engine
        if request.quant != "auto":
            return [engine.quantize(request.facts, request.quant, gpu)]
        found = [engine.quantize(request.facts, name, gpu) for name in engine.quantizations(request.facts, gpu)]
        # A conversion that the GPU cannot compute in only costs numbers and time: it must be asked for.
        found = sorted((one for one in found if one.made != "load" or one.native), key=_precision)
        return found or [engine.quantize(request.facts, "auto", gpu)]

    def _on(self, machine: MachineType, gpu: Gpu, quantization: Quantization, span: int) -> Candidate:
        request = self._request
        count = request.count
        if count is not None and (count > machine.gpus if span == 1 else count != span * machine.gpus):
            have = plural(machine.gpus, "GPU") if span == 1 else f"{span} machines of {plural(machine.gpus, 'GPU')}"
            return Candidate(machine, quantization.name, reason=f"{have}, hardware.count asks for {count}")
        sizes = [count // span] if count is not None else [machine.gpus] if span > 1 else _divisors(machine.gpus)
        tried = [_Split(gpus, self._split(machine, gpu, quantization, gpus, span)) for gpus in sizes]
        split = next((one for one in tried if not one.fit.reason), tried[-1])
        machines, shared = _packing(request.replicas, machine, split.gpus, span)
        if not split.fit.reason and span == 1 and count is None and machine.available is None:
            split = self._spread(machine, tried, split, shared)
        return Candidate(
            machine,
            quantization.name,
            parallel=split.fit.parallel,
            machines=machines,
            per_replica=span,
            shared=shared,
            reason=split.fit.reason or _too_few(machine, machines),
            loaded=split.fit.loaded,
        )

    def _spread(self, machine: MachineType, tried: list[_Split], smallest: _Split, shared: int) -> _Split:
        """Return the largest split that keeps the number of machines: a rented GPU that idles is paid all the same."""
        pipeline = smallest.fit.parallel.pipeline
        room = [one for one in tried if one.gpus * shared <= machine.gpus and not one.fit.reason]
        return max((one for one in room if one.fit.parallel.pipeline == pipeline), key=lambda one: one.gpus)

    def _split(self, machine: MachineType, gpu: Gpu, quantization: Quantization, gpus: int, span: int) -> Fit:
        """Return the split with the widest tensor parallelism that fits; the rest are stages of a pipeline.

        When none fits, the widest that the model can be split in. Narrower ones hold more where a cache is on every rank.
        """
        splits = (Parallel(tensor, span * gpus // tensor, span) for tensor in reversed(_divisors(gpus)))
        tried: list[Fit] = []
        for parallel in splits:
            tried.append(self._evaluator.evaluate(machine, gpu, quantization, parallel))
            if not tried[-1].reason:
                return tried[-1]
        return next((fit for fit in tried if fit.loaded is not None), tried[0])


def _packing(replicas: int, machine: MachineType, each: int, span: int) -> tuple[int, int]:
    """Return (machines, replicas on the fullest of them). each: GPUs of one machine for one replica.

    As few as can be of those that are paid; of those that somebody owns all that are needed for one replica each.
    """
    if span > 1:
        return replicas * span, 1
    machines = -(-replicas // (machine.gpus // each))
    if machine.available is not None and machines <= machine.available:
        machines = min(machine.available, replicas)
    return machines, -(-replicas // machines)


def _too_few(machine: MachineType, needed: int) -> str:
    if machine.available is None or needed <= machine.available:
        return ""
    there = "there is 1" if machine.available == 1 else f"there are {machine.available}"
    return f"{plural(needed, 'machine')} of this kind are needed, {there}"


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]
