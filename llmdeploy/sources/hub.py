"""The Hugging Face Hub, or a mirror that speaks its API (`HF_ENDPOINT`).

The token never leaves for another server than the endpoint, and is in no URL, error or log.
"""

from __future__ import annotations

import re
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from ..errors import LlmdeployError
from ..manifest import Manifest, WeightFile
from . import selection, web

_PUBLIC = "https://huggingface.co"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_MAX_LISTING_BYTES = 32 * 2**20
_MAX_SMALL_BYTES = 64 * 2**20
_UNREACHABLE = "plan with --offline; to apply, run `llmdeploy lock` where there is a network, or name a folder as the model"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Lfs(BaseModel):
    sha256: Digest
    size: Annotated[int, Field(ge=0)]


class _Sibling(BaseModel):
    rfilename: str
    size: int | None = None
    lfs: _Lfs | None = None


class _Info(BaseModel):
    sha: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
    siblings: tuple[_Sibling, ...]
    gated: bool | str = False
    disabled: bool = False
    cardData: dict[str, Any] | None = None


@dataclass(frozen=True)
class HubModel:
    """A model of the Hub at one commit: its files, decoded config.json, licence as its card names it, and whether it is gated."""

    manifest: Manifest
    config: Mapping[str, Any]
    license: str | None
    gated: bool


class Hub:
    """The Hub as `environ` describes it: `HF_ENDPOINT` and `HF_TOKEN`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.endpoint = (environ.get("HF_ENDPOINT") or _PUBLIC).rstrip("/")
        _check_endpoint(self.endpoint)
        token = environ.get("HF_TOKEN", "").strip()
        if not re.fullmatch(r"[\x21-\x7e]*", token):
            raise LlmdeployError("HF_TOKEN holds characters that no token has")
        self._token = token if web.may_carry_token(self.endpoint) else ""

    def url(self, repository: str, revision: str, path: str) -> str:
        """Return the address of one file at one commit."""
        return f"{self.endpoint}/{repository}/resolve/{revision}/{quote(path)}"

    def read(self, repository: str, revision: str | None, *, safetensors_only: bool) -> HubModel:
        """Return what serving needs of `repository` at `revision` (a branch, tag or commit; None: its main branch).

        Raises:
            LlmdeployError: the Hub cannot be reached, refuses, or answers with something else; or the repository does not fit.
        """
        if not _REPOSITORY.match(repository):
            raise LlmdeployError(f'"{repository}" is no repository of the Hub: expected organisation/name')
        info = self._info(repository, revision or "main")
        siblings = {sibling.rfilename: sibling for sibling in info.siblings}
        small = selection.configuration(siblings)
        if "config.json" not in small:
            raise LlmdeployError(f"{repository} holds no config.json", hint="it is no model that vLLM can serve as it is")
        contents = {path: self._small(repository, info.sha, siblings[path]) for path in small}
        chosen = selection.weights(siblings, contents, where=repository, safetensors_only=safetensors_only)
        files = tuple(self._file(repository, info.sha, siblings[path], contents) for path in sorted({*small, *chosen}))
        return HubModel(
            manifest=Manifest(kind="hub", location=repository, revision=info.sha, files=files),
            config=selection.decode_config(contents["config.json"], repository),
            license=_license(info.cardData or {}),
            gated=bool(info.gated),
        )

    def _info(self, repository: str, revision: str) -> _Info:
        address = f"{self.endpoint}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
        content = self._get(address, repository, revision, _MAX_LISTING_BYTES)
        try:
            info = _Info.model_validate_json(content)
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the whole"
            raise LlmdeployError(
                f"{self.endpoint} gave an answer about {repository} that is not the Hub's ({place})",
                hint="check HF_ENDPOINT, and whether a proxy answers in its place",
            ) from None
        if info.disabled:
            raise LlmdeployError(f"{repository} is disabled on {self.endpoint}")
        return info

    def _small(self, repository: str, commit: str, sibling: _Sibling) -> bytes:
        """Return the content of a file; git knows no SHA-256 of those outside LFS, so it is made from the content."""
        url = self.url(repository, commit, sibling.rfilename)
        content = self._get(url, repository, commit, _MAX_SMALL_BYTES)
        size = sibling.lfs.size if sibling.lfs else sibling.size
        if size is not None and size != len(content):
            raise LlmdeployError(f"{sibling.rfilename} of {repository} came with {len(content)} bytes instead of {size}")
        if sibling.lfs and sha256(content).hexdigest() != sibling.lfs.sha256:
            raise LlmdeployError(f"{sibling.rfilename} of {repository} came with other content than its digest says")
        return content

    def _file(self, repository: str, commit: str, sibling: _Sibling, contents: Mapping[str, bytes]) -> WeightFile:
        path = sibling.rfilename
        if sibling.lfs:
            size, digest = sibling.lfs.size, sibling.lfs.sha256
        else:
            if path not in contents and (sibling.size or 0) > _MAX_SMALL_BYTES:
                raise LlmdeployError(
                    f"{self.endpoint} names no SHA-256 of {path} in {repository}",
                    hint="download the model and name its folder instead",
                )
            content = contents[path] if path in contents else self._small(repository, commit, sibling)
            size, digest = len(content), sha256(content).hexdigest()
        try:
            return WeightFile(path=path, size_bytes=size, sha256=digest, url=self.url(repository, commit, path))
        except ValidationError:
            raise LlmdeployError(f"{repository} holds a file with an unusual name: {path!r}") from None

    def _get(self, url: str, repository: str, revision: str, max_bytes: int) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            return web.ask(web.Question(url, self.endpoint, _UNREACHABLE, max_bytes, headers=headers)).content
        except urllib.error.HTTPError as error:
            raise self._refused(error, repository, revision) from None

    def _refused(self, error: urllib.error.HTTPError, repository: str, revision: str) -> LlmdeployError:
        page, reason = f"{self.endpoint}/{repository}", str(error.headers.get("X-Error-Code", ""))
        token_page = f"{self.endpoint}/settings/tokens"
        if error.code in (401, 403) and reason == "GatedRepo":
            lacks = "HF_TOKEN is not set" if not self._token else "the account of HF_TOKEN has not been let in"
            return LlmdeployError(
                f"{repository} is gated, and {lacks}",
                hint=f"accept its licence on {page}, make a token on {token_page}, and export it as HF_TOKEN",
            )
        if error.code in (401, 403) and self._token:
            return LlmdeployError(
                f"{self.endpoint} refused HF_TOKEN for {repository} (status {error.code}), or there is no such repository",
                hint=f"check the name on {page} and the token on {token_page}",
            )
        if error.code == 404 and reason == "RevisionNotFound":
            return LlmdeployError(f'{repository} has no revision "{revision}"', hint=f"see its branches on {page}/tree/main")
        if error.code == 404 and reason == "EntryNotFound":
            return LlmdeployError(f"{repository} lists a file that {self.endpoint} does not have", hint="try again in a minute")
        if error.code in (401, 403, 404):
            public = "" if self._token else "public "
            return LlmdeployError(
                f"{self.endpoint} has no {public}model repository {repository}",
                hint=f"check the name on {page}; for a private or gated one export HF_TOKEN",
            )
        wait = "it asks to slow down: export HF_TOKEN, or wait a few minutes" if error.code == 429 else "try again later"
        return LlmdeployError(f"{self.endpoint} answered with status {error.code} about {repository}", hint=wait)


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        parts, good = None, False
    if not good or parts is None or not re.fullmatch(r"[\x21-\x7e]+", endpoint):
        raise LlmdeployError("HF_ENDPOINT is not a web address", hint="expected something like https://hub.example.com")
    if parts.username is not None:
        # It would be repeated in the plan and in state.
        raise LlmdeployError("HF_ENDPOINT must not hold a user or password", hint="put the credential into HF_TOKEN")


def _license(card: Mapping[str, Any]) -> str | None:
    name = card.get("license_name") if card.get("license") == "other" else card.get("license")
    return name if isinstance(name, str) else None
