"""What differs between the world and the graph, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .resource import Group, Tree, as_mapping, as_sequence
from .traits import Traits

Action = Literal["no-op", "create", "update", "replace", "delete", "adopt"]
"""adopt: an object that carries this stack's ownership tags and is not in the state is written into it, as it is."""


@dataclass(frozen=True)
class FieldChange:
    """One field of the spec: dotted path, value before and after (`UNKNOWN` possible), and whether it forces a replace."""

    path: str
    before: Tree
    after: Tree
    replaces: bool = False


@dataclass(frozen=True)
class Drift:
    """What was found on the live object and was not put there by llmdeploy, in one sentence."""

    field: str
    sentence: str


@dataclass(frozen=True)
class Change:
    """What apply will do with one address.

    before and after are the whole specs (after may hold `UNKNOWN`), fields only what differs. reason is the one line that says
    why (never empty for replace, nor for an update without differing fields). resume: an interrupted create goes on.
    details: sentences about what happens inside the machine.
    in_doubt: resume, and nobody knows whether the object exists: its creation was sent and never acknowledged.
    create_first: a replace makes the new object before it removes the old one. found: id of an object that a sweep found.
    deposed: generations of replaced objects at this address that are still there and are removed with this change.
    rollout: how members of its group change, when it is updated or replaced as one of them.
    generation: the generation that the object has after the change; it grows when a new object is wanted.
    dependencies: addresses, as stored in state for a later destroy. outputs: those known before apply, `UNKNOWN` otherwise.
    """

    address: str
    type: str
    provider: str
    action: Action
    reason: str = ""
    before: Mapping[str, Tree] | None = None
    after: Mapping[str, Tree] | None = None
    fields: tuple[FieldChange, ...] = ()
    drift: tuple[Drift, ...] = ()
    resume: bool = False
    in_doubt: bool = False
    create_first: bool = False
    found: str = ""
    deposed: tuple[int, ...] = ()
    rollout: Group | None = None
    details: tuple[str, ...] = ()
    generation: int = 1
    dependencies: tuple[str, ...] = ()
    outputs: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    traits: Traits = field(default_factory=Traits)
    group: str = ""
    path: str = ""

    @property
    def effective(self) -> bool:
        """Whether it does something."""
        return self.action != "no-op" or bool(self.deposed)


def compare(before: Tree, after: Tree, path: str = "") -> list[FieldChange]:
    """Return the differences of two trees, leaf by leaf; lists are compared as wholes.

    An `UNKNOWN` on the right differs from everything on the left.
    """
    left, right = as_mapping(before), as_mapping(after)
    if left is not None and right is not None:
        return [
            change
            for key in sorted({*left, *right})
            for change in compare(left.get(key), right.get(key), f"{path}.{key}" if path else key)
        ]
    old, new = _plain(before), _plain(after)
    return [] if old == new else [FieldChange(path, old, new)]


def _plain(tree: Tree) -> Tree:
    if (mapping := as_mapping(tree)) is not None:
        return {key: _plain(value) for key, value in mapping.items()}
    sequence = as_sequence(tree)
    return tree if sequence is None else [_plain(item) for item in sequence]
