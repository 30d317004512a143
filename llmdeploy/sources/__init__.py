"""Where a model comes from: the catalogue, the Hugging Face Hub, or a folder; and the exact image of a program."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..catalog import Catalog
from ..diagnostics import nearest
from ..errors import LlmdeployError, NotBuilt, StackError
from ..manifest import Manifest, WeightFile
from ..pins import PinnedModel

TINY_RANDOM = "tiny-random"
HUB_TOKEN = "env:HF_TOKEN"  # noqa: S105 - the name of a variable, not what it holds
_LOCK_HINT = "run `llmdeploy lock`, and commit stack.lock.yaml"


@dataclass(frozen=True)
class ResolvedModel:
    """A model, down to the digest of every file.

    config: its decoded config.json. served_name: what clients call it unless the stack file says otherwise. notes: sentences
    that the plan should say. license: as its card or the catalogue names it. gated: whether its licence must be accepted before
    a download. token: reference to what the Hub may ask for (None: nothing is downloaded). pin: what `llmdeploy lock` writes.
    """

    manifest: Manifest
    config: Mapping[str, Any]
    served_name: str
    pin: PinnedModel
    notes: tuple[str, ...] = ()
    license: str | None = None
    gated: bool = False
    token: str | None = None


@dataclass(frozen=True)
class _Request:
    """What the stack file asks for, and whence it can be answered."""

    id: str
    catalog: Catalog
    variant: str | None
    revision: str | None
    environ: Mapping[str, str]
    folder: Path
    safetensors_only: bool
    pinned: PinnedModel | None
    on_progress: Callable[[str], None]

    @property
    def source(self) -> str:
        """What holds the weights: the variant where there is one."""
        return self.variant or self.id


def resolve_model(
    model_id: str,
    *,
    catalog: Catalog,
    revision: str | None,
    variant: str | None,
    environ: Mapping[str, str],
    folder: Path,
    safetensors_only: bool,
    pinned: PinnedModel | None,
    on_progress: Callable[[str], None] = lambda _message: None,
) -> ResolvedModel:
    """Find the model that the stack file names and return its manifest. A pinned model of the Hub needs no network.

    model_id: a name of the catalogue, a repository `organisation/name`, or a folder (relative to `folder`, where the stack file
    lies). variant: another repository or folder that holds the weights. pinned: its pin; None to look afresh.

    Raises:
        StackError: there is no such model, or the pin is of another one.
        NotBuilt: a source that this version cannot read.
        LlmdeployError: the source cannot be read, or does not fit.
    """
    request = _Request(model_id, catalog, variant, revision, environ, folder, safetensors_only, pinned, on_progress)
    if pinned is not None and (pinned.id, pinned.variant, pinned.requested_revision) != (model_id, variant, revision):
        raise _stale(f"is of {_named(pinned.id, pinned.variant, pinned.requested_revision)}", request)
    row = catalog.model(request.source)
    if request.source == TINY_RANDOM:
        return _generated(request)
    if "://" in request.source:
        raise _foreign(request.source)
    if row is not None and row["hf_id"] is not None:
        return _hub(request, row["hf_id"])
    if request.source.startswith(("/", "./", "../", "~")) or request.source in (".", ".."):
        return _folder(request)
    if os.path.isdir(folder / request.source):
        return _folder(request)
    if request.source.count("/") == 1:
        return _hub(request, request.source)
    raise StackError(
        f'there is no model "{request.source}" in the catalogue, and no such folder beside the stack file',
        hint=nearest(request.source, catalog.model_names()) or "a repository of the Hub is named organisation/name",
    )


def folder_of(source: str, folder: Path) -> Path | None:
    """Return the folder that `source` names (relative to `folder`), None when it names none that is there."""
    path = folder / os.path.expanduser(source)
    return path if source != TINY_RANDOM and "://" not in source and os.path.isdir(path) else None


def needs_hub(source: str, folder: Path) -> bool:
    """Tell whether only the Hub knows `source`: no folder (relative to `folder`), no bucket, nothing that llmdeploy writes."""
    place = source.startswith(("/", "./", "../", "~")) or source in (".", "..", TINY_RANDOM) or "://" in source
    return not place and not os.path.isdir(folder / source) and source.count("/") == 1


def image_digest(image: str) -> str:
    """Return the digest (`sha256:` and 64 hex digits) that the tag of a container image (`[REGISTRY/]NAME:TAG`) points at now.

    Raises:
        LlmdeployError: its registry cannot be reached, has no such image for everybody, or answers with something else.
    """
    # Imported here: a plan talks to no registry.
    from . import images

    return images.image_digest(image)


def generated_files(location: str) -> Mapping[str, bytes]:
    """Return the files, by path, of a model that llmdeploy writes itself. `location` is that of its manifest."""
    if location != TINY_RANDOM:
        raise LlmdeployError(f'llmdeploy cannot write a model "{location}"')
    from ..catalog import tiny_random

    return tiny_random.files(seed=0)


def _generated(request: _Request) -> ResolvedModel:
    from ..catalog import tiny_random
    from .selection import decode_config

    if request.revision is not None:
        raise StackError(f"{TINY_RANDOM} has no revisions", hint="leave model.revision out")
    files = tuple(WeightFile(path=path, size_bytes=size, sha256=digest) for path, size, digest in tiny_random.manifest())
    manifest = Manifest(kind="generated", location=TINY_RANDOM, revision="1", files=files)
    _check_pinned_files(request, manifest)
    config = decode_config(tiny_random.config(), TINY_RANDOM)
    return _resolved(request, manifest, config, TINY_RANDOM)


def _folder(request: _Request) -> ResolvedModel:
    from .folder import read_folder

    if request.revision is not None:
        raise StackError("a folder has no revisions", hint="leave model.revision out")
    path = request.folder / os.path.expanduser(request.source)
    if not os.path.isdir(path):
        raise StackError(f"there is no folder {path}")
    manifest, config = read_folder(
        path,
        cache=request.folder / ".llmdeploy" / "cache" / "digests.json",
        safetensors_only=request.safetensors_only,
        on_progress=request.on_progress,
    )
    _check_pinned_files(request, manifest)
    return _resolved(request, manifest, config, request.source)


def _hub(request: _Request, repository: str) -> ResolvedModel:
    from .hub import Hub

    hub = Hub(request.environ)
    pinned = request.pinned
    if pinned is None:
        found = hub.read(repository, request.revision, safetensors_only=request.safetensors_only)
        return _resolved(
            request, found.manifest, found.config, repository, license=found.license, gated=found.gated, token=HUB_TOKEN
        )
    if (pinned.kind, pinned.location) != ("hub", repository):
        raise _stale(f"takes it from {pinned.location}", request)
    _check_formats(request, pinned)
    files = tuple(file.model_copy(update={"url": hub.url(repository, pinned.revision, file.path)}) for file in pinned.files)
    manifest = Manifest(kind="hub", location=repository, revision=pinned.revision, files=files)
    return _resolved(request, manifest, pinned.config, repository, license=pinned.license, gated=pinned.gated, token=HUB_TOKEN)


def _resolved(
    request: _Request,
    manifest: Manifest,
    config: Mapping[str, Any],
    location: str,
    *,
    license: str | None = None,
    gated: bool = False,
    token: str | None = None,
) -> ResolvedModel:
    row = request.catalog.model(request.id)
    license = license or (row["license"] if row is not None and request.variant is None else None)
    pin = PinnedModel(
        id=request.id,
        variant=request.variant,
        requested_revision=request.revision,
        kind=manifest.kind,
        location=location,
        revision=manifest.revision,
        license=license,
        gated=gated,
        files=tuple(file.model_copy(update={"url": None}) for file in manifest.files),
        config=dict(config),
    )
    notes = (f"{request.id}: {row['notes']}",) if row is not None and "notes" in row else ()
    name = Path(manifest.location if manifest.kind == "folder" and request.variant is None else request.id).name
    return ResolvedModel(manifest, config, name or "model", pin, notes, license, gated, token)


def _check_pinned_files(request: _Request, manifest: Manifest) -> None:
    if request.pinned is None:
        return
    if request.pinned.kind != manifest.kind:
        raise _stale(f"takes it from {request.pinned.location}", request)
    known = {file.path: file for file in request.pinned.files}
    found = {file.path: file.model_copy(update={"url": None}) for file in manifest.files}
    differing = sorted(path for path in {*known, *found} if known.get(path) != found.get(path))
    if differing:
        raise _stale(f"has other content for {differing[0]} than is there now", request)


def _check_formats(request: _Request, pinned: PinnedModel) -> None:
    from .selection import weights

    weights([file.path for file in pinned.files], {}, where=pinned.location, safetensors_only=request.safetensors_only)


def _stale(what: str, request: _Request) -> StackError:
    wanted = _named(request.id, request.variant, request.revision)
    return StackError(f"stack.lock.yaml {what}; the stack file asks for {wanted}", hint=_LOCK_HINT)


def _named(model_id: str, variant: str | None, revision: str | None) -> str:
    parts = [model_id, f"variant {variant}" if variant else "", f"revision {revision}" if revision else ""]
    return ", ".join(part for part in parts if part)


def _foreign(source: str) -> LlmdeployError:
    if source.startswith("s3://"):
        return NotBuilt(f"models in S3 cannot be read by this version: {source}", hint="download it and name the folder")
    return StackError("a model is named, not addressed", hint="write organisation/name for a repository of the Hugging Face Hub")
