"""Load a stack file: text to `Stack`, with every error of the user told at once, each with its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ..diagnostics import Diagnostic, Diagnostics
from ..errors import StackError
from .explain import explain
from .model import Installed, Stack
from .reading import decode, read
from .source import SourceMap
from .terms import MAX_FINDINGS
from .tree import Broken, Node, parse
from .variables import Interpolation, Variable, gather

FILE_NAME = "stack.yaml"


@dataclass(frozen=True)
class Loaded:
    """A valid stack file.

    `sha256` binds what it says: the file's bytes, the variables in force and the environment variables it reads. `file_sha256` is
    that of the bytes alone.
    """

    stack: Stack
    source: SourceMap
    path: Path
    folder: Path
    sha256: str
    file_sha256: str
    warnings: tuple[Diagnostic, ...] = ()


def load(
    path: Path,
    *,
    providers: Mapping[str, type[BaseModel]],
    variables: Mapping[str, str],
    var_files: Sequence[Path] = (),
    environ: Mapping[str, str],
    version: str,
) -> Loaded:
    """Read and check the stack file at `path` (a file, or a folder that holds `stack.yaml`).

    `providers` are the Config models of the installed providers by name, `variables` the values of `--var`, `version` is
    llmdeploy's own. Nothing but these files is read, and nothing is written.

    Raises:
        StackError: the file cannot be read or is wrong; it carries every finding.
    """
    file = path / FILE_NAME if _is_folder(path) else path
    content = read(file, what="stack file", hint="`llmdeploy init` writes one")
    found = Diagnostics()
    root = _tree(content, str(file), found)
    declared = root.value.get("variables") if isinstance(root.value, dict) else None
    in_force, environ_used = gather(declared, files=var_files, given=variables, environ=environ, found=found)
    interpolation = Interpolation(environ, found, in_force, used_environ=environ_used)
    source = SourceMap(root)
    stack = _stack(_data(root, interpolation), source, Installed(providers, version), interpolation.broken, found)
    _warn(stack, source, interpolation, found)
    return Loaded(
        stack=stack,
        source=source,
        path=file,
        folder=file.parent,
        sha256=_digest(content, in_force, interpolation.used_environ),
        file_sha256=hashlib.sha256(content).hexdigest(),
        warnings=tuple(found),
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _tree(content: bytes, file: str, found: Diagnostics) -> Node:
    text = decode(content, file, found)
    root = parse(text, file, found) if text is not None else None
    if root is not None and not isinstance(root.value, dict):
        found.error("a stack file is a mapping (key: value)", root.place, hint="`llmdeploy init` writes one")
        root = None
    if root is None:
        _raise_if_errors(found)
        raise StackError(f"{file} cannot be read as a stack file")
    return root


def _data(root: Node, interpolation: Interpolation) -> dict[str, object]:
    """Return the file's data with the variables in force in place of their defaults."""
    children = root.value if isinstance(root.value, dict) else {}
    data = {key: interpolation.data(child, (key,)) for key, child in children.items() if key != "variables"}
    in_force = interpolation.variables or {}
    values = {name: variable.value for name, variable in in_force.items() if not isinstance(variable.value, Broken)}
    return {**data, "variables": values}


def _stack(
    data: Mapping[str, object], source: SourceMap, installed: Installed, broken: set[tuple[str | int, ...]], found: Diagnostics
) -> Stack:
    try:
        stack = Stack.model_validate(data, context=installed)
    except ValidationError as error:
        findings, untold = explain(error, source=source, providers=installed.providers, broken=broken)
        found.items += findings
        _raise_if_errors(found, untold)
        raise
    _raise_if_errors(found)
    return stack


def _raise_if_errors(found: Diagnostics, untold: int = 0) -> None:
    """Raise what was found, cut to what a person can read."""
    errors = found.errors
    untold += max(0, len(errors) - MAX_FINDINGS)
    if untold:
        Diagnostics([*errors[:MAX_FINDINGS], Diagnostic("error", f"{untold} more errors are not shown")]).raise_if_errors()
    found.raise_if_errors()


def _warn(stack: Stack, source: SourceMap, interpolation: Interpolation, found: Diagnostics) -> None:
    unused = [name for name in interpolation.variables or {} if name not in interpolation.used_variables]
    for path in (f"variables.{name}" for name in unused):
        found.warning("is declared but not used", source.key_place(path), path=path)
    for index, key in enumerate(stack.keys):
        if key.allow_fallback and stack.gateway.fallback is None:
            path = f"keys[{index}].allow_fallback"
            found.warning("has no effect: there is no gateway.fallback", source.place(path), path=path)


def _digest(content: bytes, variables: Mapping[str, Variable], environ: Mapping[str, str]) -> str:
    inputs = {"variables": {name: [variable.text] for name, variable in variables.items()}, "environ": dict(environ)}
    text = json.dumps(inputs, sort_keys=True)
    return hashlib.sha256(content + b"\0" + text.encode()).hexdigest()
