"""Models in a local folder: what is there, and its digests."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import LlmdeployError
from ..manifest import Manifest, WeightFile
from ..secret import write_private
from . import selection

_BLOCK_BYTES = 4 * 2**20
_MAX_SMALL_BYTES = 64 * 2**20
_LONG_S = 3.0
_SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was hashed may change again within the same tick of its clock: not remembered."""

Progress = Callable[[str], None]


def read_folder(
    folder: Path, *, cache: Path, safetensors_only: bool, on_progress: Progress
) -> tuple[Manifest, Mapping[str, Any]]:
    """Return the manifest and the decoded config.json of the model in `folder`.

    Links to files are followed, as in a Hugging Face cache. Digests are remembered in the file `cache` by size, time of change
    and inode, so that only changed files are hashed again.

    Raises:
        LlmdeployError: it is no folder, holds no model, or cannot be read.
    """
    try:
        paths = _list(folder)
        small = selection.configuration(paths)
        if "config.json" not in small:
            raise LlmdeployError(f"{folder} holds no config.json", hint="name the folder that holds the model's config.json")
        indexes = {name: _read_small(folder / name) for name in (selection.INDEX, selection.BIN_INDEX) if name in small}
        chosen = selection.weights(paths, indexes, where=str(folder), safetensors_only=safetensors_only)
        files = _hash_all(folder, sorted({*small, *chosen}), cache, on_progress)
        config = selection.decode_config(_read_small(folder / "config.json"), str(folder))
    except OSError as error:
        raise LlmdeployError(f"cannot read {error.filename or folder}: {error.strerror or error}") from None
    _check_whole(files, indexes.get(selection.INDEX), folder)
    location = str(folder.resolve())
    return Manifest(kind="folder", location=location, revision="local", files=files), config


@dataclass(frozen=True)
class Glance:
    """What a folder tells without a look into its weights: config.json, and bytes of the weights and of all files where known."""

    config: Mapping[str, Any]
    weight_bytes: int | None
    file_bytes: int | None
    whole: bool


def glance(folder: Path) -> Glance:
    """Return what the model in `folder` is, without reading a weight file; only its index has to be there, or not even that.

    Raises:
        LlmdeployError: it holds no config.json, or cannot be read.
    """
    try:
        paths = _list(folder)
        if "config.json" not in paths:
            raise LlmdeployError(f"{folder} holds no config.json", hint="name the folder that holds the model's config.json")
        config = selection.decode_config(_read_small(folder / "config.json"), str(folder))
        index = _read_small(folder / selection.INDEX) if selection.INDEX in paths else None
        weights = selection.plain_safetensors(paths)
        if not weights:
            return Glance(config, selection.total_size(index, str(folder)) if index else None, None, whole=False)
        sizes = {path: (folder / path).stat().st_size for path in {*selection.configuration(paths), *weights}}
    except OSError as error:
        raise LlmdeployError(f"cannot read {error.filename or folder}: {error.strerror or error}") from None
    return Glance(config, sum(sizes[path] for path in weights), sum(sizes.values()), whole=True)


def _check_whole(files: tuple[WeightFile, ...], index: bytes | None, folder: Path) -> None:
    """Refuse weights that are smaller than their index says. Raises LlmdeployError."""
    said = selection.total_size(index, str(folder)) if index else None
    there = sum(file.size_bytes for file in files if file.path.endswith(".safetensors"))
    if said is not None and there < said:
        raise LlmdeployError(
            f"the weights in {folder} hold {there:,} bytes, and their index says {said:,}", hint="the copy is not complete"
        )


def _list(folder: Path) -> list[str]:
    found = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    templates = folder / "additional_chat_templates"
    if templates.is_dir():
        found += [f"{templates.name}/{entry.name}" for entry in os.scandir(templates) if entry.is_file()]
    return found


def _read_small(path: Path) -> bytes:
    if path.stat().st_size > _MAX_SMALL_BYTES:
        raise LlmdeployError(f"{path} is larger than {_MAX_SMALL_BYTES // 2**20} MiB, which no configuration is")
    return path.read_bytes()


def _hash_all(folder: Path, paths: list[str], cache: Path, on_progress: Progress) -> tuple[WeightFile, ...]:
    known = _load(cache)
    files: list[WeightFile] = []
    changed = False
    for path in paths:
        target = (folder / path).resolve()
        key = _key(target.stat())
        entry = known.get(str(target))
        if entry is None or entry[:-1] != key:
            entry = [*key, _hash(target, key, on_progress)]
            known.pop(str(target), None)
            if time.time_ns() - key[1] > _SETTLED_NS:
                known[str(target)] = entry
            changed = True
        try:
            files.append(WeightFile(path=path, size_bytes=key[0], sha256=entry[-1]))
        except ValidationError:
            raise LlmdeployError(f"{folder} holds a file with an unusual name: {path!r}") from None
    if changed:
        # Without a cache the next run hashes again, which is no reason to fail.
        with suppress(OSError):
            write_private(cache, json.dumps(known, indent=0, sort_keys=True).encode())
    return tuple(files)


def _key(found: os.stat_result) -> list[Any]:
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _hash(path: Path, key: list[Any], on_progress: Progress) -> str:
    digest = hashlib.sha256()
    done, told = 0, time.monotonic()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            if time.monotonic() - told > _LONG_S:
                told = time.monotonic()
                on_progress(f"hashing {path.name}: {100 * done // max(key[0], done)} %")
        if _key(os.fstat(file.fileno())) != key:
            raise LlmdeployError(f"{path} changed while it was read", hint="wait until nothing writes to it, then try again")
    return digest.hexdigest()


def _load(cache: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(cache.read_bytes())
        return {str(path): [int(row[0]), int(row[1]), int(row[2]), str(row[3])] for path, row in content.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
