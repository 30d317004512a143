"""Base of the types on a machine that can be planned, and not made yet."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from llmdeploy.sdk import Outputs, PlannedChange, Prior, ResourceType, Tree

from ._connection import HostSpec

S = TypeVar("S", bound=HostSpec)
O = TypeVar("O", bound=Outputs)  # noqa: E741 - as in the sdk


class PlannedHostType(ResourceType[S, O]):
    """One kind of thing on a machine, as a plan shows it: `details` says what happens inside the machine. Pure."""

    @abstractmethod
    def details(self, spec: S) -> tuple[str, ...]:
        """Return the sentences about what a create or an update does on the machine."""

    def plan(self, prior: Prior | None, values: Mapping[str, Tree]) -> PlannedChange:
        """Decide as every type does, and say what happens."""
        planned = super().plan(prior, values)
        return planned if planned.action == "no-op" else replace(planned, details=self.details(self.spec.model_validate(values)))
