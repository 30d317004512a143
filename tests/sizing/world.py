"""GPUs, models and machines for the tests of sizing: the real catalogue, the real rules of vLLM, machines put together freely."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from llmdeploy.catalog import Catalog
from llmdeploy.machine import Gpu, MachineType
from llmdeploy.manifest import ModelFacts
from llmdeploy.prices import Price
from llmdeploy.serving import engine
from llmdeploy.sizing import SizingRequest

VLLM = engine("vllm")
GIB = 2**30


@cache
def catalog() -> Catalog:
    """Return the catalogue that llmdeploy ships."""
    return Catalog.load(None)


def facts(name: str, **changed: Any) -> ModelFacts:
    """Return what the catalogue knows of a model."""
    found = catalog().facts(name)
    assert found is not None, name
    return replace(found, **changed)


def gpu(name: str) -> Gpu:
    """Return a GPU of the catalogue."""
    return catalog().gpus[name]


def machine(kind: str, gpus: int, usd: float | None = None, **changed: Any) -> MachineType:
    """Return a machine with so many GPUs of a kind."""
    card = gpu(kind)
    price = None if usd is None else Price(usd, "hour", "a test")
    wanted: dict[str, Any] = {"name": f"{gpus}x{kind}", "gpu_memory_bytes": card.memory_bytes, "price": price, **changed}
    return MachineType(gpu=card, gpus=gpus, **wanted)


def request(model: str | ModelFacts, *machines: MachineType, **changed: Any) -> SizingRequest:
    """Return a wish: 8 requests of 8K unless it says otherwise."""
    known = facts(model) if isinstance(model, str) else model
    wanted: dict[str, Any] = {"context": 8192, "concurrency": 8, **changed}
    return SizingRequest(known, machines=machines, gpus=catalog().gpus, **wanted)
