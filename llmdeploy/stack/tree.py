"""YAML as a tree in which every key and value knows its place. Anchors, aliases, tags and merge keys are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml.error import Mark

from ..diagnostics import Diagnostics, Place
from .scalars import Scalar, resolve
from .terms import shown

MAX_DEPTH = 32
MAX_NODES = 50_000

_HINTS = (
    ("expected chomping or indentation", "a value that starts with > or | needs quotes"),
    ("mapping values are not allowed", 'check the indentation; a value that holds ": " needs quotes'),
    ("could not find expected ':'", "write key: value; check the indentation"),
    ("that cannot start any token", "put the value in quotes"),
    ("expected <block end>", "check the indentation: keys of one mapping start in the same column"),
    ("expected ',' or", "a comma or a closing bracket is missing"),
    ("unknown escape character", "in double quotes write \\\\ for a backslash, or use single quotes"),
)


class Broken:
    """Stands for a value about which an error was already told; never the value itself."""


BROKEN = Broken()


@dataclass(slots=True)
class Node:
    """A value and its place; `raw` is a scalar as it was written. The node of a mapping's value knows its key's place."""

    value: Scalar | Broken | dict[str, Node] | list[Node]
    place: Place
    raw: str = ""
    key_place: Place | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether this is neither a mapping nor a list."""
        return not isinstance(self.value, dict | list)


class _Stop(Exception):
    """The rest of the file cannot be read; the reason is already among the diagnostics."""


def parse(text: str, file: str, found: Diagnostics) -> Node | None:
    """Return the document as a tree; every error goes to `found`. None: nothing usable came out."""
    builder = _Builder(text, file, found)
    try:
        return builder.document()
    except _Stop:
        return None
    except yaml.YAMLError as error:
        builder.syntax_error(error)
        return None


class _Builder:
    def __init__(self, text: str, file: str, found: Diagnostics) -> None:
        self._text = text
        self._file = file
        self._found = found
        self._nodes = 0
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))

    def document(self) -> Node | None:
        next(self._events)
        start = next(self._events)
        if not isinstance(start, yaml.DocumentStartEvent):
            self._found.error("the file is empty", Place(self._file, 1, 1))
            return None
        if start.version or start.tags:
            self._found.error("lines that start with % are not allowed", self._place(start), hint="remove them")
        root = self._node(next(self._events), 0)
        next(self._events)
        rest = next(self._events)
        if not isinstance(rest, yaml.StreamEndEvent):
            self._found.error("a second document starts here", self._place(rest), hint="remove it, with the line ---")
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(f"the file holds more than {MAX_NODES} values", event)
        if depth > MAX_DEPTH:
            self._stop(f"nested deeper than {MAX_DEPTH} levels", event)
        refused = self._refused(event)
        node = self._built(event, depth)
        if refused:
            node.value = BROKEN
        return node

    def _built(self, event: yaml.Event, depth: int) -> Node:
        place = self._place(event)
        match event:
            case yaml.ScalarEvent():
                value, complaint = resolve(event.value) if event.implicit[0] else (event.value, "")
                if complaint:
                    self._found.error(complaint, place)
                return Node(BROKEN if complaint else value, place, event.value)
            case yaml.SequenceStartEvent():
                return Node(self._list(depth), place)
            case yaml.MappingStartEvent():
                return Node(self._mapping(depth), place)
            case _:
                return Node(BROKEN, place)

    def _list(self, depth: int) -> list[Node]:
        nodes: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            nodes.append(self._node(event, depth + 1))
        return nodes

    def _mapping(self, depth: int) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, place = self._key(event, depth), self._place(event)
            node = self._node(next(self._events), depth + 1)
            node.key_place = place
            if key is None:
                continue
            first = nodes.setdefault(key, node)
            if first is not node and first.key_place:
                summary = f'the key "{shown(key)}" stands twice, first in line {first.key_place.line}'
                self._found.error(summary, place, hint="write into one of them what both say")
        return nodes

    def _key(self, event: yaml.Event, depth: int) -> str | None:
        """Return the key, or None after an error about it."""
        if not isinstance(event, yaml.ScalarEvent):
            node = self._node(event, depth + 1)
            if node.value is not BROKEN:
                self._found.error("a key must be text", node.place)
            return None
        if self._refused(event):
            return None
        plain = event.implicit[0]
        if plain and event.value == "<<":
            self._found.error("merge keys (<<) are not allowed", self._place(event), hint="write the keys out")
            return None
        value, complaint = resolve(event.value) if plain else (event.value, "")
        if complaint or not isinstance(value, str):
            self._found.error("a key must be text", self._place(event), hint=complaint or "put it in quotes")
            return None
        return value

    def _refused(self, event: yaml.Event) -> bool:
        """Tell an alias, an anchor or a tag; return whether there was one."""
        if isinstance(event, yaml.AliasEvent):
            self._found.error("aliases (*name) are not allowed", self._place(event), hint="write out the value, or quote it")
            return True
        anchor = bool(getattr(event, "anchor", None))
        if anchor:
            self._found.error("anchors (&name) are not allowed", self._place(event), hint="remove it, or quote the value")
        tag = bool(getattr(event, "tag", None))
        if tag:
            self._found.error("tags (!name) are not allowed", self._place(event), hint="remove it, or quote the value")
        return anchor or tag

    def _place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1) if mark else Place(self._file, 1, 1)

    def _stop(self, summary: str, event: yaml.Event) -> None:
        self._found.error(summary, self._place(event))
        raise _Stop

    def syntax_error(self, error: yaml.YAMLError) -> None:
        """Tell what the parser did not understand, at the place where it went wrong."""
        problem = str(getattr(error, "problem", None) or "it cannot be read")
        context = str(getattr(error, "context", None) or "")
        opened: Mark | None = getattr(error, "context_mark", None)
        mark: Mark | None = getattr(error, "problem_mark", None)
        unclosed = opened is not None and "quoted scalar" in context and "end of stream" in problem
        if unclosed:
            problem, mark = "this quote is never closed", opened
        place = Place(self._file, mark.line + 1, mark.column + 1) if mark else Place(self._file, 1, 1)
        if tab := self._tab(place.line):
            self._found.error("a tab indents this line", tab, hint="YAML indents with spaces only")
            return
        hint = next((hint for part, hint in _HINTS if part in problem), "")
        if "${" in self._line(place.line):
            hint = 'inside { } and [ ] write "${var.name}" in quotes'
        self._found.error(f"this is not YAML: {problem}", place, hint=hint)

    def _line(self, line: int) -> str:
        lines = self._text.splitlines()
        return lines[line - 1] if line <= len(lines) else ""

    def _tab(self, line: int) -> Place | None:
        text = self._line(line)
        indent = text[: len(text) - len(text.lstrip())]
        return Place(self._file, line, indent.index("\t") + 1) if "\t" in indent else None
