"""Container images in the registries that serve them: the digest that a tag has now, by the OCI distribution API.

Asked as `docker pull` asks, and without an account, because engines' images are public. The token that a registry gives to
anybody goes to that registry only, encrypted, and is in no URL, error or log.

The digest is that of what the tag points at. For an image of several platforms this is its index and not the manifest for one
of them: `docker pull NAME@sha256:...` takes either, but the index names every manifest by its digest, so it pins all of them,
and each machine finds its own platform in it. It is also what `docker pull` of the tag prints, and what one HEAD request tells;
Docker Hub counts a GET as a pull, and a HEAD not.
"""

from __future__ import annotations

import re
import urllib.error
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, Self
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ValidationError

from ..errors import LlmdeployError
from . import web

DOCKER_HUB: Final = "registry-1.docker.io"
"""The server of images that are named without one."""

_DOCKER_HUB_NAMES: Final = ("docker.io", "index.docker.io", DOCKER_HUB)
_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Index and manifest, as OCI and as Docker name them."""

_WITHOUT_HEAD: Final = (400, 403, 405, 501)
"""What servers, or proxies before them, answer that do not know HEAD."""

_MAX_MANIFEST_BYTES: Final = 4 * 2**20
_MAX_TOKEN_BYTES: Final = 2**20
_AGAIN: Final = "nothing is written: run `llmdeploy lock` again"
_PUBLIC_ONLY: Final = "nothing is written: only images that everybody may pull can be pinned"
_REGISTRY: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?\Z")
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_BEARER: Final = re.compile(r"\bBearer\s+(.*)\Z", re.IGNORECASE | re.DOTALL)
_PARAMETER: Final = re.compile(r"""\b(\w+)\s*=\s*(?:"([^"]*)"|([^\s",]+))""")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+\Z")


class _Manifest(BaseModel):
    mediaType: str | None = None


class _Token(BaseModel):
    token: str | None = None
    access_token: str | None = None


@dataclass(frozen=True)
class ImageName:
    """An image by its tag, as people write it (`text`): registry (host, with its port where it has one), name there, and tag."""

    text: str
    registry: str
    name: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[REGISTRY/]NAME:TAG` as docker does: without a registry it is Docker Hub's, and a bare name is in `library/`.

        Raises:
            LlmdeployError: it is no such name.
        """
        first, slash, rest = text.partition("/")
        elsewhere = slash and ("." in first or ":" in first or first == "localhost")
        registry, path = (first, rest) if elsewhere else (DOCKER_HUB, text)
        name, _, tag = path.rpartition(":")
        if registry in _DOCKER_HUB_NAMES:
            registry, name = DOCKER_HUB, name if "/" in name else f"library/{name}"
        if not (_REGISTRY.match(registry) and _NAME.match(name) and _TAG.match(tag)):
            raise LlmdeployError(f"{text!r} is no name of an image", hint="expected [REGISTRY/]NAME:TAG")
        return cls(text, registry, name, tag)

    @property
    def url(self) -> str:
        """Where its manifest is; unencrypted on this machine only."""
        scheme = "http" if web.is_loopback(urlsplit(f"//{self.registry}").hostname) else "https"
        return f"{scheme}://{self.registry}/v2/{self.name}/manifests/{self.tag}"


def image_digest(image: str) -> str:
    """Return the digest (`sha256:` and 64 hex digits) that the tag of `image` points at now.

    Raises:
        LlmdeployError: the registry cannot be reached, has no such image for everybody, or answers with something else.
    """
    asked = _Asked(ImageName.parse(image))
    try:
        return asked.told() or asked.made()
    except urllib.error.HTTPError as error:
        raise asked.refused(error) from None


class _Asked:
    """One image, asked for with the token that its registry gives to anybody."""

    def __init__(self, image: ImageName) -> None:
        self._image = image
        self._token = ""

    def told(self) -> str:
        """Return the digest that the registry tells without the manifest, "" where it does not."""
        try:
            headers = self._manifest("HEAD").headers
        except urllib.error.HTTPError as error:
            if error.code in _WITHOUT_HEAD:
                return ""
            raise
        digest = headers.get("Docker-Content-Digest", "")
        return digest if _DIGEST.match(digest) and headers.get_content_type() in _TYPES else ""

    def made(self) -> str:
        """Return the digest of the manifest itself, which must be the one that the registry tells."""
        answer = self._manifest("GET")
        kind = answer.headers.get_content_type()
        try:
            stated = _Manifest.model_validate_json(answer.content).mediaType
        except ValidationError:
            stated = ""
        if kind not in _TYPES or stated not in (None, kind):
            raise LlmdeployError(
                f"{self._image.registry} answered about {self._image.text} with something that is no manifest of an image",
                hint=f"check whether a proxy answers in its place; {_AGAIN}",
            )
        digest = f"sha256:{sha256(answer.content).hexdigest()}"
        told = answer.headers.get("Docker-Content-Digest", digest)
        if told != digest:
            other = "came with other content than the digest" if _DIGEST.match(told) else "has no SHA-256 as the digest"
            raise LlmdeployError(
                f"the manifest of {self._image.text} {other} that {self._image.registry} tells",
                hint=f"{_AGAIN}, and if it stays, tell whoever runs that registry",
            )
        return digest

    def refused(self, error: urllib.error.HTTPError) -> LlmdeployError:
        """Return the sentence about a registry that gives no manifest."""
        where, image = self._image.registry, self._image.text
        if error.code == 404:
            return LlmdeployError(f"{where} has no image {image}", hint=f"check engine.version; {_AGAIN}")
        if error.code in (401, 403):
            return LlmdeployError(f"{where} has no image {image} for everybody (status {error.code})", hint=_PUBLIC_ONLY)
        return _busy(f"{where} answered with status {error.code} about {image}", error)

    def _manifest(self, method: Literal["GET", "HEAD"]) -> web.Answer:
        """Ask for the manifest, with a token where the registry wants one. Raises HTTPError where it refuses all the same."""
        try:
            return self._ask(method)
        except urllib.error.HTTPError as error:
            if error.code != 401 or self._token:
                raise
            challenge = _Challenge.read(error.headers.get_all("WWW-Authenticate", []))
        if challenge is None:
            raise LlmdeployError(f"{self._image.registry} wants a password for {self._image.text}", hint=_PUBLIC_ONLY)
        self._token = self._anonymous(challenge)
        return self._ask(method)

    def _ask(self, method: Literal["GET", "HEAD"]) -> web.Answer:
        headers = {"Accept": ", ".join(_TYPES)} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        hint = f"{_AGAIN} where {self._image.registry} can be reached"
        purpose = f" for the digest of {self._image.text}"
        return web.ask(
            web.Question(self._image.url, self._image.registry, hint, _MAX_MANIFEST_BYTES, purpose, headers, method=method)
        )

    def _anonymous(self, challenge: _Challenge) -> str:
        """Return the token that anybody gets from where the registry sends us."""
        image, server = self._image, challenge.server(near=self._image.url.startswith("http:"))
        if server is None:
            raise LlmdeployError(
                f"{image.registry} sends us for a token to something that is no https address",
                hint=f"check whether a proxy answers in its place; {_AGAIN}",
            )
        hint, purpose = f"{_AGAIN} where {server} can be reached", f" for a token to ask for {image.text}"
        url = challenge.url(f"repository:{image.name}:pull")
        try:
            found = _Token.model_validate_json(web.ask(web.Question(url, server, hint, _MAX_TOKEN_BYTES, purpose)).content)
        except urllib.error.HTTPError as error:
            raise _busy(f"{server} answered with status {error.code} about a token to ask for {image.text}", error) from None
        except ValidationError:
            found = _Token()
        token = found.token or found.access_token or ""
        if not _VISIBLE.match(token):
            raise LlmdeployError(
                f"{server} gave no token to ask for {image.text}", hint=f"check whether a proxy answers in its place; {_AGAIN}"
            )
        return token


@dataclass(frozen=True)
class _Challenge:
    """Where a registry sends for a token, and for what (`WWW-Authenticate: Bearer realm=...`)."""

    realm: str
    service: str | None
    scopes: tuple[str, ...]

    @classmethod
    def read(cls, headers: Iterable[str]) -> Self | None:
        """Return the one that asks for a token, None when there is none."""
        told = next((match[1] for header in headers if (match := _BEARER.search(header))), None)
        if told is None:
            return None
        found: dict[str, str] = {}
        for key, quoted, bare in _PARAMETER.findall(told):
            found.setdefault(key.lower(), quoted or bare)
        return cls(found.get("realm", ""), found.get("service"), tuple(found.get("scope", "").split()))

    def server(self, *, near: bool) -> str | None:
        """Return who is asked, None for a way that is weaker than the registry's own. near: the registry is on this machine."""
        try:
            parts = urlsplit(self.realm)
            good = _VISIBLE.match(self.realm) and parts.hostname and parts.username is None and parts.port != 0
        except ValueError:
            return None
        encrypted = parts.scheme == "https" or (near and parts.scheme == "http" and web.is_loopback(parts.hostname))
        return parts.netloc if good and encrypted else None

    def url(self, scope: str) -> str:
        """Return what is asked. scope: where the registry names none."""
        service = [("service", self.service)] if self.service else []
        query = urlencode([*service, *(("scope", one) for one in self.scopes or (scope,))])
        return f"{self.realm}{'&' if urlsplit(self.realm).query else '?'}{query}"


def _busy(what: str, error: urllib.error.HTTPError) -> LlmdeployError:
    wait = "it asks to slow down, so wait some minutes" if error.code == 429 else "try later"
    return LlmdeployError(what, hint=f"{wait}; {_AGAIN}")
