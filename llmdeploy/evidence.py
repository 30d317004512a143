"""What a probe saw of something that exists: a fact, and how it was found out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .operation import OperationResult

EVIDENCE = "evidence"
"""Name of the operation that probes one resource: it changes nothing, and its result is that of `observed`."""


class Observation(BaseModel):
    """One fact of one resource as it really is.

    fact: name of a field of `Traits`. value: its live value, as JSON; meaningless when `reason` is not empty. host: the machine
    or account that was asked. command: what was run, without secrets. output: what it printed, without secrets and content;
    bounded. reason: why the fact could not be told: such a fact is `not_checked`, never passed.
    """

    # An error about one does not repeat it: it may hold a secret that nobody has taken out yet.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    fact: str
    value: Any = None
    host: str = "localhost"
    command: str = Field(default="", max_length=65_536)
    output: str = Field(default="", max_length=65_536)
    reason: str = ""


def observed(observations: Iterable[Observation]) -> OperationResult:
    """Return what a probe saw as the result of the operation `evidence`."""
    return OperationResult([one.model_dump(mode="json") for one in observations])


def observations_of(result: OperationResult) -> tuple[Observation, ...]:
    """Return what a probe saw, from the result of its operation. Raises pydantic's ValidationError for anything else."""
    found: list[Mapping[str, Any]] = list(result.data or ())
    return tuple(Observation.model_validate(one) for one in found)
