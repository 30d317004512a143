"""Where the keys and values of a stack file stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..diagnostics import Place
from .tree import Node


@dataclass(frozen=True)
class SourceMap:
    """The places of a stack file's keys and values."""

    root: Node

    def place(self, path: str | Sequence[str | int]) -> Place:
        """Return the place of `path` ("keys[1].name", or its parts), or of its nearest ancestor in the file.

        A scalar stands where its value is, a mapping or a list where its key is.
        """
        _, node = self.nearest(path)
        return node.place if node.is_scalar else node.key_place or node.place

    def key_place(self, path: str | Sequence[str | int]) -> Place:
        """Return the place of the key of `path`, or of its nearest ancestor."""
        _, node = self.nearest(path)
        return node.key_place or node.place

    def nearest(self, path: str | Sequence[str | int]) -> tuple[tuple[str | int, ...], Node]:
        """Return the longest part of `path` that is in the file, with its node."""
        parts: Sequence[str | int] = re.findall(r"[^.\[\]]+", path) if isinstance(path, str) else path
        found: list[str | int] = []
        node = self.root
        for part in parts:
            child = _child(node, part)
            if child is None:
                break
            found.append(part)
            node = child
        return tuple(found), node


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(str(part))
    if isinstance(node.value, list) and re.fullmatch(r"[0-9]{1,6}", str(part)):
        index = int(part)
        return node.value[index] if index < len(node.value) else None
    return None
