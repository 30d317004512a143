"""Which files of a repository or folder an inference engine needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from ..errors import LlmdeployError

INDEX = "model.safetensors.index.json"
BIN_INDEX = "pytorch_model.bin.index.json"

_CONFIGURATION = re.compile(
    r"""
    (config|generation_config|preprocessor_config|processor_config|video_preprocessor_config)\.json
    | (quantize_config|quant_config|hf_quant_config)\.json
    | tokenizer[A-Za-z0-9._-]* | special_tokens_map\.json | added_tokens\.json | tekken\.json
    | vocab\.(json|txt) | merges\.txt | [A-Za-z0-9._-]+\.(model|tiktoken)
    | chat_template[A-Za-z0-9._-]* | additional_chat_templates/[A-Za-z0-9._-]+\.jinja
    """,
    re.VERBOSE,
)
_SAFETENSORS = re.compile(r"[^/]+\.safetensors")
_CONSOLIDATED = re.compile(r"consolidated[^/]*\.safetensors")
_BIN = re.compile(r"pytorch_model[^/]*\.bin")


def configuration(paths: Iterable[str]) -> list[str]:
    """Return the small files: configuration, tokenizer, chat template and the index of the weights. Sorted."""
    return sorted(path for path in paths if _CONFIGURATION.fullmatch(path) or path in (INDEX, BIN_INDEX))


def weights(paths: Iterable[str], indexes: Mapping[str, bytes], *, where: str, safetensors_only: bool) -> list[str]:
    """Return the weight files: what the index names, else one whole file, else every part. Sorted.

    Formats are never mixed, and a second copy in another format (`consolidated.safetensors`) is left out. indexes: content of
    the index files that are there. where: names the source in errors.

    Raises:
        LlmdeployError: no usable weights, or the index names files that are not there.
    """
    there = sorted(paths)
    if safetensors := plain_safetensors(there):
        return _by_index(safetensors, indexes.get(INDEX), "model.safetensors", where)
    pickled = [path for path in there if _BIN.fullmatch(path)]
    if pickled and not safetensors_only:
        return _by_index(pickled, indexes.get(BIN_INDEX), "pytorch_model.bin", where)
    if pickled:
        raise LlmdeployError(
            f"{where} holds its weights as Python pickles (.bin) only, and this stack accepts safetensors only",
            hint="name a repository that holds safetensors: a pickle can run code when it is loaded",
        )
    formats = [path for path in there if path.endswith((".gguf", ".onnx", ".pt", ".pth"))]
    other = f"; {formats[0]} is in a format that is not served" if formats else ""
    raise LlmdeployError(f"{where} holds no safetensors{other}", hint="name a repository or folder that holds safetensors")


def plain_safetensors(paths: Iterable[str]) -> list[str]:
    """Return the safetensors files, without a second copy in another format. Sorted."""
    found = sorted(path for path in paths if _SAFETENSORS.fullmatch(path))
    return [path for path in found if not _CONSOLIDATED.fullmatch(path)] or found


def total_size(index: bytes, where: str) -> int | None:
    """Return the bytes of all tensors as the index of the weights has them, None where it does not say."""
    metadata = _mapping(index, f"the index of the weights of {where}").get("metadata")
    size = cast("dict[str, object]", metadata).get("total_size") if isinstance(metadata, dict) else None
    return size if isinstance(size, int) and size > 0 else None


def decode_config(content: bytes, where: str) -> Mapping[str, Any]:
    """Return the decoded config.json. Raises LlmdeployError when it is no JSON mapping."""
    return _mapping(content, f"config.json of {where}")


def _by_index(files: list[str], index: bytes | None, whole: str, where: str) -> list[str]:
    if index is None:
        return [whole] if whole in files else files
    name = f"the index of the weights of {where}"
    parts = _mapping(index, name).get("weight_map")
    if not isinstance(parts, dict):
        raise LlmdeployError(f"{name} has no weight_map")
    named = sorted({str(part) for part in cast("dict[str, object]", parts).values()})
    missing = [part for part in named if part not in files]
    if missing or not named:
        lost = f"names {missing[0]}, which is not there" if missing else "names no file"
        raise LlmdeployError(f"{name} {lost}", hint="the upload or copy is not complete")
    return named


def _mapping(content: bytes, name: str) -> Mapping[str, Any]:
    try:
        decoded = json.loads(content)
    except (ValueError, RecursionError):
        raise LlmdeployError(f"{name} is not valid JSON") from None
    if not isinstance(decoded, dict):
        raise LlmdeployError(f"{name} is not a JSON object")
    return cast("dict[str, Any]", decoded)
