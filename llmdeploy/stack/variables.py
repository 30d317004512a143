"""`${var.name}` and `${env:NAME}`: where variables come from, and how they get into the stack file's texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..diagnostics import Diagnostics, nearest
from .reading import MAX_BYTES, decode, read, unseen_character
from .scalars import Scalar, resolve
from .terms import MAX_FINDINGS, dotted, shown
from .tree import BROKEN, Broken, Node, parse

_HINT = "write ${var.name} or ${env:NAME}, and $${ for a plain ${"
_USE = re.compile(r"\$\$\{|\$\{(?P<use>[^{}]*)(?P<end>\}?)")
_VAR = re.compile(r"var\.([A-Za-z_][A-Za-z0-9_]*)")
_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class Variable:
    """A variable's value, and the text it has inside a longer text. A broken one was already told as an error."""

    value: Scalar | Broken
    text: str = ""


@dataclass
class Interpolation:
    """Turns nodes into plain data with every `${...}` replaced. Errors go to `found`, their paths to `broken`."""

    environ: Mapping[str, str]
    found: Diagnostics
    variables: Mapping[str, Variable] | None = None
    broken: set[tuple[str | int, ...]] = field(default_factory=set[tuple[str | int, ...]])
    used_variables: set[str] = field(default_factory=set[str])
    used_environ: dict[str, str] = field(default_factory=dict[str, str])
    _budget: int = MAX_BYTES

    def data(self, node: Node, path: tuple[str | int, ...] = ()) -> object:
        """Return what the node means: dict, list, scalar, or `BROKEN` where an error was told."""
        if isinstance(node.value, dict):
            return {key: self.data(child, (*path, key)) for key, child in node.value.items()}
        if isinstance(node.value, list):
            return [self.data(child, (*path, index)) for index, child in enumerate(node.value)]
        return self.scalar(node.value, node, path)

    def scalar(self, value: Scalar | Broken, node: Node, path: tuple[str | int, ...]) -> Scalar | Broken:
        """Return what the scalar `value` of `node` means."""
        if isinstance(value, str) and "${" in value:
            value = self._replaced(value, node, path)
        if isinstance(value, Broken):
            self.broken.add(path)
        return value

    def _replaced(self, text: str, node: Node, path: tuple[str | int, ...]) -> Scalar | Broken:
        whole = _USE.fullmatch(text)
        if whole and whole["use"] and (name := _VAR.fullmatch(whole["use"])) and whole["end"]:
            return self._variable(name[1], node, path).value
        pieces: list[str] = []
        end = 0
        for use in _USE.finditer(text):
            piece = self._piece(use, node, path)
            if piece is None:
                return BROKEN
            pieces += [text[end : use.start()], piece]
            end = use.end()
            self._budget -= len(piece)
            if self._budget < 0:
                return self._error("the values put into this file are too large", node, path, f"at most {MAX_BYTES >> 20} MiB")
        return "".join([*pieces, text[end:]])

    def _piece(self, use: re.Match[str], node: Node, path: tuple[str | int, ...]) -> str | None:
        """Return the text for one `${...}`, or None after an error."""
        inside: str | None = use["use"]
        if inside is None:
            return "${"
        if use["end"] and (name := _VAR.fullmatch(inside)):
            variable = self._variable(name[1], node, path)
            return None if isinstance(variable.value, Broken) else variable.text
        if use["end"] and (name := _ENV.fullmatch(inside)):
            return self._environment(name[1], node, path)
        self._error(f"${{{shown(inside)}{use['end']} is not understood", node, path, _HINT)
        return None

    def _variable(self, name: str, node: Node, path: tuple[str | int, ...]) -> Variable:
        if self.variables is None:
            message = "a variable cannot be made of another variable"
            return Variable(self._error(message, node, path, "use ${env:NAME} or a value"))
        self.used_variables.add(name)
        variable = self.variables.get(name)
        if variable is None:
            hint = _near(name, self.variables, self.found) if self.variables else "declare it under variables:"
            return Variable(self._error(f'no variable is named "{shown(name)}"', node, path, hint))
        return variable

    def _environment(self, name: str, node: Node, path: tuple[str | int, ...]) -> str | None:
        value = self.environ.get(name)
        if value is None:
            summary = f"the environment variable {shown(name)} is not set"
            hint = f"export {shown(name)} before this command; for a secret write env:{shown(name)}"
            self._error(summary, node, path, hint)
            return None
        self.used_environ[name] = value
        return value

    def _error(self, summary: str, node: Node, path: tuple[str | int, ...], hint: str) -> Broken:
        self.found.error(summary, node.place, path=dotted(path), hint=hint)
        return BROKEN


def gather(
    declared: Node | None,
    *,
    files: Sequence[Path],
    given: Mapping[str, str],
    environ: Mapping[str, str],
    found: Diagnostics,
) -> tuple[dict[str, Variable], dict[str, str]]:
    """Return the variables in force (declared defaults, then files, then `given`), and the environment they used.

    Raises:
        StackError: a variables file cannot be read at all. Everything else goes to `found`.
    """
    interpolation = Interpolation(environ, found)
    variables: dict[str, Variable] = {}
    if declared is not None:
        variables = _values(declared, ("variables",), interpolation)
    names = frozenset(variables)
    for file in files:
        if root := _read(file, found):
            variables |= _known(_values(root, (), interpolation), root, names, found)
    for name, text in given.items():
        if name in names:
            variables[name] = _given(name, text, found)
        else:
            found.error(f"--var {shown(name)}: the stack file declares no such variable", hint=_declared(name, names, found))
    return variables, interpolation.used_environ


def _values(node: Node, path: tuple[str | int, ...], interpolation: Interpolation) -> dict[str, Variable]:
    if not isinstance(node.value, dict):
        if node.value is not BROKEN:
            message = "must be a mapping of names and values"
            interpolation.found.error(message, node.key_place or node.place, path=dotted(path))
        return {}
    return {name: _value(child, (*path, name), interpolation) for name, child in node.value.items()}


def _value(node: Node, path: tuple[str | int, ...], interpolation: Interpolation) -> Variable:
    if isinstance(node.value, dict | list):
        message = "a variable is one value: text, a number, true, false or null"
        interpolation.found.error(message, node.key_place or node.place, path=dotted(path))
        return Variable(BROKEN)
    value = interpolation.scalar(node.value, node, path)
    # The text as written: 0.10 put into a longer text must not become 0.1.
    return Variable(value, value if isinstance(value, str) else node.raw)


def _read(file: Path, found: Diagnostics) -> Node | None:
    content = read(file, what="variables file", hint="--var-file takes a YAML file of names and values")
    text = decode(content, str(file), found)
    return parse(text, str(file), found) if text is not None else None


def _known(variables: dict[str, Variable], root: Node, names: frozenset[str], found: Diagnostics) -> dict[str, Variable]:
    nodes = root.value if isinstance(root.value, dict) else {}
    for name in variables:
        if name not in names:
            summary = f'the stack file declares no variable "{shown(name)}"'
            found.error(summary, nodes[name].key_place, hint=_declared(name, names, found))
    return {name: variable for name, variable in variables.items() if name in names}


def _declared(name: str, names: frozenset[str], found: Diagnostics) -> str:
    return _near(name, names, found) if names else "it declares none; add it under variables:"


def _near(name: str, names: Iterable[str], found: Diagnostics) -> str:
    # Each search costs time in proportion to the names, and what comes after the first findings is not shown.
    return nearest(name[:64], names) if len(found.items) < MAX_FINDINGS else ""


def _given(name: str, text: str, found: Diagnostics) -> Variable:
    """Read one `--var name=text` as a YAML scalar; empty is the empty text."""
    unseen = unseen_character(text) if len(text) <= MAX_BYTES else "a text of more than 1 MiB"
    complaint = f"{unseen} is not allowed" if unseen else ""
    value: Scalar | Broken = text
    if not complaint and text.startswith(("'", '"')):
        inner = Diagnostics()
        node = parse(text, "--var", inner)
        value = node.value if node and isinstance(node.value, str) else text
        complaint = "the quotes do not match" if inner.errors or not (node and isinstance(node.value, str)) else ""
    elif not complaint and text.lstrip().startswith(("[", "{")):
        complaint = "a variable is one value: text, a number, true, false or null"
    elif not complaint and text:
        value, complaint = resolve(text)
    if complaint:
        found.error(f"--var {shown(name)}: {complaint}", hint=f"""for text write --var '{shown(name)}="..."'""")
        return Variable(BROKEN)
    return Variable(value, value if isinstance(value, str) else text)
