"""What happens during an apply, as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .change import Action


@dataclass(frozen=True)
class Started:
    """An operation on `address` began; `at` is UTC, ISO 8601."""

    address: str
    action: Action
    at: str


@dataclass(frozen=True)
class Progress:
    """An operation goes on; `message` says what it does now. `elapsed_s` counts from its start."""

    address: str
    message: str
    elapsed_s: float
    at: str


@dataclass(frozen=True)
class Done:
    """An operation ended well."""

    address: str
    action: Action
    elapsed_s: float
    at: str


@dataclass(frozen=True)
class Failed:
    """An operation failed; `message` is for a person, `tail` the last lines of what ran."""

    address: str
    action: Action
    message: str
    hint: str
    tail: str
    elapsed_s: float
    at: str


@dataclass(frozen=True)
class Skipped:
    """Not tried because `because` (an address) failed, or because the run was stopped (empty)."""

    address: str
    action: Action
    because: str
    at: str


@dataclass(frozen=True)
class Note:
    """A sentence about the run as a whole."""

    message: str
    at: str


Event = Started | Progress | Done | Failed | Skipped | Note
Emit = Callable[[Event], None]
