"""A plan: what will change and why, with what it was made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .change import Change
from .errors import StackError
from .identity import Identity
from .policy import Finding
from .prices import CostLine
from .resource import Resource, Tree
from .sdk import Found

Mode = Literal["apply", "destroy", "refresh-only"]


@dataclass(frozen=True)
class Plan:
    """A promise: apply does exactly this, and only fills in what is `UNKNOWN` here.

    changes: every address, dependencies first; `no-op` included. resources: the desired nodes (empty when destroying). outputs:
    the stack's outputs as a tree with references. lineage and serial: of the state it was made from (None and 0: none yet).
    stack_sha256 and lock_sha256 bind it to its inputs. summary: heading -> sentences (sizing, cost, compliance) above the
    changes. warnings: sentences that must be read. kept: addresses that a destroy leaves. variables: what the stack file was
    read with. targets: addresses that were asked for alone; such a plan is a part of the whole. found: objects of this stack
    that were not in the state. account: where the provider's calls go (account, region, machine), which a saved plan is bound to.
    prior_outputs: the stack's outputs before. expires_at: when a saved plan is too old to be applied. cost: the bill once the
    plan is carried out; prior_cost: of what exists now. sizing, economics and compliance: documents for views and programs
    (docs/json.md).
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
    prior_cost: tuple[CostLine, ...] = ()
    sizing: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    economics: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    compliance: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    outputs_changed: bool = False
    variables: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    targets: tuple[str, ...] = ()
    found: tuple[Found, ...] = ()
    account: Mapping[str, str] = field(default_factory=dict[str, str])
    prior_outputs: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    expires_at: str = ""

    @property
    def effective(self) -> tuple[Change, ...]:
        """The changes that do something."""
        return tuple(change for change in self.changes if change.effective)

    @property
    def nothing_to_do(self) -> bool:
        """Whether apply would do nothing at all."""
        return not self.effective and not self.outputs_changed

    @property
    def counts(self) -> Mapping[str, int]:
        """How many addresses are created, updated, replaced, deleted, adopted. A deposed object counts as one more delete."""
        counted = Counter(change.action for change in self.effective)
        counted["delete"] += sum(len(change.deposed) for change in self.changes)
        return {action: counted[action] for action in ("create", "update", "replace", "delete", "adopt")}

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """Addresses whose creation was sent and never acknowledged; apply settles them first."""
        return tuple(change.address for change in self.changes if change.in_doubt)


class PlanRefused(StackError):
    """The compliance profiles refuse this plan. `plan` is the whole of it with its findings, for those who want to look."""

    def __init__(self, message: str, plan: Plan) -> None:
        super().__init__(message, diagnostics=plan.findings)
        self.plan = plan
