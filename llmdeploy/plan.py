"""A plan: what will change and why, with what it was made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .change import Change
from .identity import Identity
from .policy import Finding
from .prices import CostLine
from .resource import Resource, Tree

Mode = Literal["apply", "destroy"]


@dataclass(frozen=True)
class Plan:
    """A promise: apply does exactly this, and only fills in what is `UNKNOWN` here.

    changes: every address, dependencies first; `no-op` included. resources: the desired nodes (empty when destroying). outputs:
    the stack's outputs as a tree with references. lineage and serial: of the state it was made from (None and 0: none yet).
    stack_sha256 and lock_sha256 bind it to its inputs. summary: heading -> sentences (sizing, cost, compliance) above the
    changes. warnings: sentences that must be read. kept: addresses that a destroy leaves.
    """

    stack: str
    mode: Mode
    identity: Identity
    serial: int
    created_at: str
    stack_sha256: str
    lock_sha256: str
    changes: tuple[Change, ...]
    resources: tuple[Resource, ...] = ()
    provider_configs: Mapping[str, Mapping[str, Tree]] = field(default_factory=dict[str, Mapping[str, Tree]])
    outputs: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    summary: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    cost: tuple[CostLine, ...] = ()
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    outputs_changed: bool = False

    @property
    def effective(self) -> tuple[Change, ...]:
        """The changes that do something."""
        return tuple(change for change in self.changes if change.action != "no-op")

    @property
    def nothing_to_do(self) -> bool:
        """Whether apply would do nothing at all."""
        return not self.effective and not self.outputs_changed

    @property
    def counts(self) -> Mapping[str, int]:
        """How many addresses are created, updated, replaced, deleted."""
        counted = Counter(change.action for change in self.effective)
        return {action: counted[action] for action in ("create", "update", "replace", "delete")}
