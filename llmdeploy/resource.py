"""The desired node: what should exist, and how one resource refers to another's outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import NoneType
from typing import Annotated, Any, Final, TypeVar, cast, final

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
)

_ADDRESS = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_-]+){1,2}\Z")
MAX_ADDRESS_LENGTH = 128

Tree = Any
"""A JSON-like value (dict, list, str, int, float, bool, None) that may also hold `Ref` and `UNKNOWN`."""


def check_address(address: str) -> str:
    """Return `address` when it has the form `type.key[.subkey]` (`[a-z0-9_.-]`, at most 128 characters); else ValueError."""
    if len(address) > MAX_ADDRESS_LENGTH or not _ADDRESS.match(address):
        raise ValueError(
            f'bad address "{address}": expected type.key[.subkey] of [a-z0-9_-], at most {MAX_ADDRESS_LENGTH} characters'
        )
    return address


@final
class Unknown:
    """A value that only apply can tell; shown as "(known after apply)". There is one instance: `UNKNOWN`."""

    def __repr__(self) -> str:
        return "(known after apply)"

    def __copy__(self) -> Unknown:
        return self

    def __deepcopy__(self, memo: object) -> Unknown:
        return self

    def __reduce__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()


@final
class Ref:
    """An output of another resource. `output` may be dotted to reach inside: `connection.address`. Immutable.

    Not a dataclass: pydantic would turn one into a dict when it dumps a spec.
    """

    __slots__ = ("address", "output")

    def __init__(self, address: str, output: str) -> None:
        self.address: Final = address
        self.output: Final = output

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and (self.address, self.output) == (other.address, other.output)

    def __hash__(self) -> int:
        return hash((self.address, self.output))

    def __repr__(self) -> str:
        return f"{self.address}#{self.output}"


T = TypeVar("T")


def _let_ref_pass(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    return value if isinstance(value, Ref | Unknown) else handler(value)


def _keep_ref(value: object, handler: SerializerFunctionWrapHandler) -> object:
    return value if isinstance(value, Ref | Unknown) else handler(value)


Input = Annotated[T, WrapValidator(_let_ref_pass), WrapSerializer(_keep_ref)]
"""A field that the layout may fill with a `Ref`. Operations always see the resolved value of type T."""


@dataclass(frozen=True)
class Replace:
    """Marks a field that cannot change in place. `reason` is the line that the plan shows."""

    reason: str


@dataclass(frozen=True)
class ReplaceWith:
    """Marks a `Ref` field: when the resource it points to is replaced, this one is replaced too."""

    reason: str


@dataclass(frozen=True)
class NotDiffed:
    """Marks a field whose change is no change of the resource, such as the connection to its host."""


class Spec(BaseModel):
    """What is wanted. Units live in names (`disk_gib`, `timeout_s`); values are JSON types; secrets are references."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def tree(self) -> dict[str, Tree]:
        """Return the fields as a tree in which references stay references."""
        return self.model_dump(mode="python", by_alias=True)


class Outputs(BaseModel):
    """What a resource tells others after it was made. Never a secret."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def tree(self) -> dict[str, Tree]:
        """Return the fields as a JSON tree."""
        return self.model_dump(mode="json", by_alias=True)


@cache
def markers(spec: type[BaseModel]) -> Mapping[str, tuple[object, ...]]:
    """Return the `Replace`, `ReplaceWith` and `NotDiffed` markers of each field of `spec`."""
    kinds = (Replace, ReplaceWith, NotDiffed)
    found = {name: tuple(m for m in info.metadata if isinstance(m, kinds)) for name, info in spec.model_fields.items()}
    return {name: marks for name, marks in found.items() if marks}


@dataclass(frozen=True)
class Group:
    """How members of one group change: in `order`, at most `max_unavailable` at once, stopping when `gate` fails.

    gate, exit and enter name operations of the resource type. `exit` takes a member out of service and succeeds when it is gone,
    `enter` brings it back; both may be called again. `gate` decides whether the next one may start: it raises, or says False.
    """

    name: str
    order: int = 0
    max_unavailable: int = 1
    gate: str | None = None
    enter: str | None = None
    exit: str | None = None


@dataclass(frozen=True)
class Resource:
    """One desired node of the graph.

    address: `type.key[.subkey]`; provider: the name of the provider that owns the type; values: the spec as a tree with
    references; depends_on: addresses it must follow besides those it refers to; group: heading under which views show it;
    path: the part of the stack file it comes from; prevent_destroy: a plan that would delete or replace it is refused;
    ignore_changes: fields that somebody else changes: what exists stays as it is.
    """

    address: str
    type: str
    provider: str
    values: Mapping[str, Tree]
    depends_on: frozenset[str] = frozenset()
    group: str = ""
    path: str = ""
    prevent_destroy: bool = False
    rollout: Group | None = None
    ignore_changes: frozenset[str] = frozenset()
    dependencies: frozenset[str] = field(init=False, compare=False)
    """Addresses that must be there before this one."""

    def __post_init__(self) -> None:
        check_address(self.address)
        object.__setattr__(self, "dependencies", self.depends_on.union(ref.address for ref in iter_refs(self.values)))


_LEAVES = (str, int, float, NoneType)
"""What most of a tree is. To ask first whether something is a leaf is much faster than to ask whether it is a mapping."""


def as_mapping(tree: Tree) -> Mapping[str, Tree] | None:
    """Return `tree` when it is a mapping, else None."""
    return cast("Mapping[str, Tree]", tree) if not isinstance(tree, _LEAVES) and isinstance(tree, Mapping) else None


def as_sequence(tree: Tree) -> Sequence[Tree] | None:
    """Return `tree` when it is a list or tuple, else None."""
    return cast("Sequence[Tree]", tree) if isinstance(tree, list | tuple) else None


def _branches(tree: Tree) -> Iterable[Tree]:
    """Return the children of `tree` that are no leaves."""
    mapping = as_mapping(tree)
    children = mapping.values() if mapping is not None else as_sequence(tree) or ()
    return [child for child in children if not isinstance(child, _LEAVES)]


def iter_refs(tree: Tree) -> Iterator[Ref]:
    """Yield every reference in `tree`."""
    if isinstance(tree, Ref):
        yield tree
        return
    for child in _branches(tree):
        yield from iter_refs(child)


def has_unknown(tree: Tree) -> bool:
    """Tell whether `tree` holds `UNKNOWN` anywhere."""
    return isinstance(tree, Unknown) or any(has_unknown(child) for child in _branches(tree))


def resolve(tree: Tree, outputs: Mapping[str, Mapping[str, Tree]]) -> Tree:
    """Return `tree` with each reference replaced by the output it names; `UNKNOWN` where that is not known yet.

    outputs maps address to outputs. Tuples become lists, as in JSON.
    """
    if isinstance(tree, _LEAVES):
        return tree
    if isinstance(tree, Ref):
        return _follow(tree, outputs)
    if (mapping := as_mapping(tree)) is not None:
        return {key: resolve(value, outputs) for key, value in mapping.items()}
    if (sequence := as_sequence(tree)) is not None:
        return [resolve(value, outputs) for value in sequence]
    return tree


def _follow(ref: Ref, outputs: Mapping[str, Mapping[str, Tree]]) -> Tree:
    value: Tree = outputs.get(ref.address, UNKNOWN)
    for part in ref.output.split("."):
        if isinstance(value, Unknown):
            return UNKNOWN
        mapping = as_mapping(value)
        if mapping is None:
            raise KeyError(f"{ref} reaches into a value that is no mapping")
        value = mapping.get(part, UNKNOWN)
    return value
