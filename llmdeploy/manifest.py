"""Which files a model consists of, and where each one comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*\Z")


class WeightFile(BaseModel):
    """One file: relative path, size, SHA-256 (hex) and, unless the source can make or copy it, the URL to fetch it from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size_bytes: int
    sha256: str
    url: str | None = None

    @field_validator("path")
    @classmethod
    def _safe(cls, value: str) -> str:
        if not _SAFE.match(value) or ".." in value.split("/"):
            raise ValueError("must be a plain relative path of letters, digits and ._+-")
        return value


class Manifest(BaseModel):
    """All files of one model at one revision.

    kind says how the files are brought: `generated` (llmdeploy writes them), `folder` (copied from `location`), `hub` (fetched
    from each file's URL). `digest` names the content, whatever brings it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["generated", "folder", "hub"]
    location: str
    revision: str
    files: tuple[WeightFile, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over path, size and digest of every file, sorted by path."""
        rows = sorted((f.path, f.size_bytes, f.sha256) for f in self.files)
        return sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(f.size_bytes for f in self.files)


ModelConfig = Mapping[str, Any]
"""A Hugging Face `config.json`, decoded."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before a file of it is fetched.

    id: as the stack file names it. config: its config.json. weight_bytes: bytes of the weight files of the published checkpoint,
    None when only the architecture is known; file_bytes: of all its files. parameters, active_parameters: of the whole model and
    of one token, None where only config.json can tell. variants: quantization -> repository that holds it. license: as the
    model's card or the catalogue names it. commercial: whether the licence allows commercial use, None when not known.
    gated: the licence must be accepted before a download. confidence, source: of the architecture.
    """

    id: str
    config: ModelConfig
    weight_bytes: int | None = None
    file_bytes: int | None = None
    parameters: int | None = None
    active_parameters: int | None = None
    variants: Mapping[str, str] = field(default_factory=dict[str, str])
    license: str | None = None
    commercial: bool | None = None
    gated: bool = False
    confidence: str = "seen"
    source: str = ""
