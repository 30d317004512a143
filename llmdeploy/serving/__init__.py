"""Inference engines: flags, KV rules, quantization and metric names. One file per engine, and the only place with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..diagnostics import nearest
from .model import (
    Device,
    Engine,
    KvLayout,
    KvRequest,
    Parallel,
    Quantization,
    RenderRequest,
    stack_error,
)

__all__ = [
    "Device",
    "Engine",
    "KvLayout",
    "KvRequest",
    "Parallel",
    "Quantization",
    "RenderRequest",
    "engine",
    "engine_names",
    "stack_error",
]


def _vllm() -> Engine:
    from .vllm import VLLM

    return VLLM


_ENGINES: Final[Mapping[str, Callable[[], Engine]]] = {"vllm": _vllm}


def engine_names() -> tuple[str, ...]:
    """Return the names that a stack file may use."""
    return tuple(sorted(_ENGINES))


def engine(name: str) -> Engine:
    """Return the engine of that name. Raises StackError with the nearest valid name."""
    if name not in _ENGINES:
        raise stack_error("engine", f'no engine is called "{name}"', hint=nearest(name, _ENGINES))
    return _ENGINES[name]()
