"""`stack.lock.yaml`: what exactly a stack is made of. `llmdeploy lock` writes it, everything else only obeys it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from .diagnostics import Diagnostic, Diagnostics, Place
from .errors import LlmdeployError, StackError
from .manifest import WeightFile

FILE_NAME = "stack.lock.yaml"
_MAX_BYTES = 16 * 2**20
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_HEADER = """\
# Written by `llmdeploy lock`. Commit this file beside the stack file; apply obeys it and never writes it.
# Do not edit it: change the stack file and run `llmdeploy lock` again.
"""


def _pinned(file: WeightFile) -> WeightFile:
    if not _HEX.match(file.sha256) or file.size_bytes < 0 or file.url is not None:
        raise ValueError("must have a path, a size of at least 0, a sha256 of 64 hex digits, and nothing else")
    return file


class _Pin(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PinnedModel(_Pin):
    """A model at one revision.

    id, variant and requested_revision are as the stack file has them: where they differ, the pin is stale. kind and location say
    where the files come from (a repository, a folder as written in the stack file, or the name of a generated model). revision is
    the exact one. config is the decoded config.json.
    """

    id: str
    variant: str | None = None
    requested_revision: str | None = None
    kind: Literal["generated", "folder", "hub"]
    location: str
    revision: str
    license: str | None = None
    gated: bool = False
    files: tuple[Annotated[WeightFile, AfterValidator(_pinned)], ...]
    config: dict[str, Any]


class PinnedEngine(_Pin):
    """An engine: its version, and where its runtime comes from.

    That is the digest of its list of exact package versions, or an image by its tag, with the digest that the tag had
    (`sha256:...`, as container engines take it). A file that was written before there were digests of images has none.
    """

    name: str
    version: str
    runtime: str
    requirements_sha256: str | None = Field(default=None, pattern=_HEX.pattern.replace(r"\Z", "$"))
    image: str | None = Field(default=None, min_length=1)
    image_digest: str | None = Field(default=None, pattern="^sha256:" + _HEX.pattern.replace(r"\Z", "$"))

    @model_validator(mode="after")
    def _digest_of_an_image(self) -> Self:
        if self.image_digest is not None and self.image is None:
            raise ValueError("has an image_digest, and no image that it is of")
        return self


class Pins(_Pin):
    """The whole lock file. A part that is None is not pinned."""

    version: Literal[1] = 1
    written_by: str = ""
    engine: PinnedEngine | None = None
    model: PinnedModel | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of what is pinned, whatever the file looks like."""
        content = self.model_dump(mode="json", exclude={"written_by"})
        return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read(path: Path) -> Pins | None:
    """Return the pins in the lock file, or None when there is none.

    Raises:
        StackError: it is broken, foreign, or of a newer version; carries file, line and column.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StackError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        _refuse(path, 1, 1, "is too large for a lock file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(path, content.count(b"\n", 0, error.start) + 1, 1, "is not UTF-8 text")
    return _validate(path, *_parse(path, text))


def write(path: Path, pins: Pins) -> None:
    """Write the lock file: the same pins give the same bytes, and after a crash it is the old or the new file.

    Raises:
        LlmdeployError: it cannot be written.
    """
    import yaml

    class Dumper(yaml.SafeDumper):  # an anchor would be refused by `read`
        def ignore_aliases(self, data: object) -> bool:
            return True

    tree = pins.model_dump(mode="json", exclude_none=True, exclude={"model": {"config"}})
    if pins.model is not None:
        tree["model"]["config"] = _sorted(pins.model.config)
    text = yaml.dump(tree, Dumper=Dumper, sort_keys=False, width=130)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(_HEADER + text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise LlmdeployError(f"cannot write {path}: {error.strerror}") from None


def _sorted(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _sorted(value) for key, value in sorted(cast("dict[str, Any]", tree).items())}
    return [_sorted(item) for item in cast("list[Any]", tree)] if isinstance(tree, list) else tree


def _parse(path: Path, text: str) -> tuple[Any, Mapping[tuple[str | int, ...], Place]]:
    # Imported here: a stack without a lock file needs no YAML for it.
    import yaml
    from yaml.constructor import SafeConstructor

    try:
        root: Any = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if root is None:
            return None, {}
        constructor: Any = SafeConstructor()
        places = _places(path, root)
        return constructor.construct_document(root), places
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        _refuse(path, line, column, f"is not valid YAML: {error.problem or error.context}")
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        _refuse(path, 1, 1, "is not valid YAML")


def _places(path: Path, root: Any) -> Mapping[tuple[str | int, ...], Place]:
    """Return where each value stands. An alias or a key that comes twice is refused: llmdeploy writes neither."""
    places: dict[tuple[str | int, ...], Place] = {}
    seen: set[int] = set()

    def visit(node: Any, at: tuple[str | int, ...]) -> None:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        if id(node) in seen:
            _refuse(path, line, column, "holds a YAML alias")
        seen.add(id(node))
        places[at] = Place(str(path), line, column)
        if node.id == "sequence":
            for index, item in enumerate(node.value):
                visit(item, (*at, index))
        elif node.id == "mapping":
            for key, value in node.value:
                if (*at, str(key.value)) in places:
                    _refuse(path, key.start_mark.line + 1, key.start_mark.column + 1, f'has the key "{key.value}" twice')
                visit(value, (*at, str(key.value)))

    visit(root, ())
    return places


def _validate(path: Path, document: Any, places: Mapping[tuple[str | int, ...], Place]) -> Pins:
    if not isinstance(document, dict) or "version" not in document:
        _refuse(path, 1, 1, "is not a lock file of llmdeploy")
    version = cast("dict[str, Any]", document)["version"]
    if version != 1:
        place = places[("version",)]
        _refuse(path, place.line, place.column, f"has version {version}; this llmdeploy reads version 1")
    try:
        return Pins.model_validate(document)
    except ValidationError as errors:
        found = Diagnostics()
        for error in errors.errors():
            where = error["loc"]
            while where not in places:
                where = where[:-1]
            message = error["msg"].removeprefix("Value error, ")
            message = "must be a mapping" if error["type"] == "model_type" else message
            dotted = ".".join(str(part) for part in error["loc"])
            found.error(message, places[where], path=dotted, hint="run `llmdeploy lock`")
        found.raise_if_errors()
        raise


def _refuse(path: Path, line: int, column: int, what: str) -> NoReturn:
    diagnostic = Diagnostic(
        "error",
        f"the lock file {what}",
        Place(str(path), line, column),
        hint="restore it from version control, or run `llmdeploy lock`",
    )
    raise StackError(str(diagnostic), diagnostics=[diagnostic])
