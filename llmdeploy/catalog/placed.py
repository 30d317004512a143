"""A YAML file that a user wrote, as plain data, and where each of its values stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..diagnostics import Diagnostics, Place
from ..errors import StackError

_MAX_BYTES = 2**20

Where = tuple[str | int, ...]
"""Keys and indices from the top of the document to a value."""


@dataclass(frozen=True)
class Placed:
    """The data, and the places of its values and of the keys in front of them, by their path."""

    data: Any
    values: Mapping[Where, Place]
    keys: Mapping[Where, Place]

    def place(self, path: Where, *, at_key: bool = False) -> Place:
        """Return where the value (or its key) at `path` stands, or the nearest that is there of what it is in."""
        if at_key and path in self.keys:
            return self.keys[path]
        while path not in self.values:
            path = path[:-1]
        return self.values[path]


@dataclass
class _Walk:
    file: str
    found: Diagnostics
    values: dict[Where, Place] = field(default_factory=dict[Where, Place])
    keys: dict[Where, Place] = field(default_factory=dict[Where, Place])
    seen: set[int] = field(default_factory=set[int])

    def visit(self, node: Any, at: Where) -> None:
        place = self._place(node)
        if id(node) in self.seen:
            self.found.error("aliases (*name) are not allowed", place, hint="write the value out")
            return
        self.seen.add(id(node))
        self.values[at] = place
        if node.id == "sequence":
            for index, item in enumerate(node.value):
                self.visit(item, (*at, index))
        elif node.id == "mapping":
            for key, value in node.value:
                where = (*at, str(key.value))
                if where in self.keys:
                    self.found.error(f'the key "{key.value}" stands twice', self._place(key), hint="remove one of them")
                self.keys[where] = self._place(key)
                self.visit(value, where)

    def _place(self, node: Any) -> Place:
        return Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1)


def read(path: Path) -> Placed | None:
    """Return what the file says, None when there is no such file.

    Raises:
        StackError: it cannot be read, or is no plain YAML; carries file, line and column.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StackError(f"cannot read {path}: {error.strerror}") from None
    found = Diagnostics()
    if len(content) > _MAX_BYTES:
        found.error("the file is larger than 1 MiB", Place(str(path), 1, 1))
    placed = _parsed(content, path, found)
    found.raise_if_errors()
    return placed


def _parsed(content: bytes, path: Path, found: Diagnostics) -> Placed | None:
    import yaml
    from yaml.constructor import SafeConstructor

    walk = _Walk(str(path), found)
    try:
        root: Any = yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
        if root is None:
            return Placed({}, {(): Place(str(path), 1, 1)}, {})
        walk.visit(root, ())
        constructor: Any = SafeConstructor()
        return Placed(constructor.construct_document(root), walk.values, walk.keys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(str(path), mark.line + 1, mark.column + 1) if mark else Place(str(path), 1, 1)
        found.error(f"this is not YAML: {error.problem or error.context}", place)
    except UnicodeDecodeError as error:
        found.error("this is not UTF-8 text", Place(str(path), content.count(b"\n", 0, error.start) + 1, 1))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError):
        found.error("this is not YAML that can be read", Place(str(path), 1, 1))
    return None
