"""What engines say of their processes. The replicas of a stack run the same one, which is read once."""

from __future__ import annotations

from functools import lru_cache

from ..serving import engine
from ..traits import EngineProcess

_Said = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def leaks(process: EngineProcess) -> tuple[str, ...]:
    """Return how a process writes content down, as sentences."""
    return _said(process)[0]


def keeps_content(process: EngineProcess) -> tuple[str, ...]:
    """Return where a process keeps content longer than a request takes, as sentences."""
    return _said(process)[1]


def reports(process: EngineProcess) -> tuple[str, ...]:
    """Return whom a process reports to, as sentences."""
    return _said(process)[2]


def _said(process: EngineProcess) -> _Said:
    return _read(process.engine, process.argv, tuple(sorted(process.env.items())))


@lru_cache(maxsize=64)
def _read(name: str, argv: tuple[str, ...], env: tuple[tuple[str, str], ...]) -> _Said:
    asked, variables = engine(name), dict(env)
    ways = (asked.leaks, asked.keeps_content, asked.reports)
    first, second, third = (tuple(judge(argv, variables)) for judge in ways)
    return first, second, third
