"""A server that speaks the API of the Hugging Face Hub, with a second one as its content delivery network."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "5f0b02c75b57c5855da9ae460ce51323ea669d8a"
_BLOCK_BYTES = 64 * 1024


@dataclass
class Repository:
    """One model repository: its files, and how it behaves."""

    files: Mapping[str, bytes]
    gated: str | bool = False
    license: str | None = "apache-2.0"
    private: bool = False
    without_lfs: bool = False


@dataclass(frozen=True)
class Seen:
    """One request: which server ("hub" or "cdn"), its path, token and range, and how many bytes of body it got."""

    server: str
    path: str
    authorization: str | None
    range: str | None
    sent: list[int]


@dataclass
class Faults:
    """What goes wrong. Keys are file names. cut: bytes after which each next answer ends early. status: of the next answers.

    corrupt: other bytes of the same length. stall: after that many bytes wait for `go_on`. no_ranges: the CDN ignores Range.
    """

    cut: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    status: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    corrupt: set[str] = field(default_factory=set[str])
    stall: dict[str, int] = field(default_factory=dict[str, int])
    no_ranges: bool = False
    api_answer: bytes | None = None
    redirect_to: str | None = None


class HubServer:
    """Both servers. `with HubServer(...) as hub:`; every request is in `seen`."""

    def __init__(self, repositories: Mapping[str, Repository], *, token: str = "", members: bool = True) -> None:
        self.repositories = dict(repositories)
        self.renamed: dict[str, str] = {}
        self.token = token
        self.members = members
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self._hub = _server(self, _HubHandler)
        self._cdn = _server(self, _CdnHandler)

    def __enter__(self) -> HubServer:
        for server in (self._hub, self._cdn):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.go_on.set()
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._hub.server_address[1]}"

    @property
    def cdn(self) -> str:
        """Where large files really are."""
        return f"http://127.0.0.1:{self._cdn.server_address[1]}"

    def blob(self, digest: str) -> tuple[str, bytes] | None:
        """Return name and content of the file with that digest."""
        for repository in self.repositories.values():
            for path, content in repository.files.items():
                if hashlib.sha256(content).hexdigest() == digest:
                    return path, content
        return None

    def bytes_sent(self, server: str) -> int:
        """Return how many bytes of bodies that server sent."""
        return sum(sum(seen.sent) for seen in self.seen if seen.server == server)


def _server(owner: HubServer, handler: type[_Handler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type(handler.__name__, (handler,), {"owner": owner}))
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    owner: HubServer
    kind = ""
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def note(self) -> Seen:
        seen = Seen(self.kind, self.path, self.headers["Authorization"], self.headers["Range"], [])
        self.owner.seen.append(seen)
        return seen

    def answer(self, status: int, body: bytes, headers: Mapping[str, str], seen: Seen, *, name: str = "") -> None:
        faults = self.owner.faults
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cuts = faults.cut.get(name, [])
        limit = min(cuts.pop(0) if cuts else len(body), len(body))
        stall = faults.stall.get(name)
        try:
            for start in range(0, limit, _BLOCK_BYTES):
                if stall is not None and start >= stall:
                    self.owner.stalled.set()
                    self.owner.go_on.wait(60)
                    stall = None
                block = body[start : min(start + _BLOCK_BYTES, limit)]
                self.wfile.write(block)
                seen.sent.append(len(block))
        except OSError:
            pass
        self.close_connection = limit < len(body) or self.close_connection

    def refuse(self, status: int, code: str, seen: Seen) -> None:
        body = json.dumps({"error": code}).encode()
        self.answer(status, body, {"X-Error-Code": code, "Content-Type": "application/json"}, seen)


class _HubHandler(_Handler):
    kind = "hub"

    def do_GET(self) -> None:
        seen = self.note()
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) == 6 and parts[4] == "revision":
            self._info("/".join(parts[2:4]), unquote(parts[5]), seen)
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], unquote("/".join(parts[4:])), seen)
        else:
            self.refuse(404, "", seen)

    def _allowed(self, name: str, seen: Seen, *, content: bool) -> Repository | None:
        owner = self.owner
        if name in owner.renamed:
            self.answer(307, b"", {"Location": self.path.replace(name, owner.renamed[name])}, seen)
            return None
        repository = owner.repositories.get(name)
        known = bool(owner.token) and seen.authorization == f"Bearer {owner.token}"
        if seen.authorization is not None and not known:
            self.refuse(401, "", seen)
        elif repository is None or (repository.private and not known):
            self.refuse(404 if known else 401, "RepoNotFound", seen)
        elif content and repository.gated and not (known and owner.members):
            self.refuse(403 if known else 401, "GatedRepo", seen)
        else:
            return repository
        return None

    def _info(self, name: str, revision: str, seen: Seen) -> None:
        if statuses := self.owner.faults.status.get("api"):
            return self.refuse(statuses.pop(0), "", seen)
        repository = self._allowed(name, seen, content=False)
        if repository is None:
            return None
        if revision not in ("main", "refs/pr/1", COMMIT):
            return self.refuse(404, "RevisionNotFound", seen)
        siblings = [_sibling(path, content, repository) for path, content in repository.files.items()]
        card = {"license": repository.license} if repository.license else {}
        info = {"id": name, "sha": COMMIT, "private": repository.private, "gated": repository.gated, "disabled": False}
        answer = self.owner.faults.api_answer or json.dumps({**info, "cardData": card, "siblings": siblings}).encode()
        return self.answer(200, answer, {"Content-Type": "application/json"}, seen, name="api")

    def _resolve(self, name: str, commit: str, path: str, seen: Seen) -> None:
        if statuses := self.owner.faults.status.get(path):
            return self.refuse(statuses.pop(0), "", seen)
        repository = self._allowed(name, seen, content=True)
        if repository is None:
            return None
        content = repository.files.get(path)
        if content is None or commit not in ("main", COMMIT):
            return self.refuse(404, "EntryNotFound", seen)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}  # noqa: S324 - as git does
        if not _is_lfs(path, repository):
            return self.answer(200, content, headers, seen, name=path)
        digest = hashlib.sha256(content).hexdigest()
        target = self.owner.faults.redirect_to or f"{self.owner.cdn}/blobs/{digest}?X-Amz-Signature=signed"
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"', "Location": target}
        return self.answer(302, b"", headers, seen)


class _CdnHandler(_Handler):
    kind = "cdn"

    def do_GET(self) -> None:
        seen = self.note()
        if seen.authorization is not None:
            # Object stores refuse a request that is signed and carries a token.
            return self.refuse(400, "InvalidArgument", seen)
        found = self.owner.blob(urlsplit(self.path).path.rpartition("/")[2])
        if found is None:
            return self.refuse(403, "AccessDenied", seen)
        name, content = found
        if statuses := self.owner.faults.status.get(name):
            return self.refuse(statuses.pop(0), "", seen)
        if name in self.owner.faults.corrupt:
            content = bytes(byte ^ 0xFF for byte in content)
        headers = {"Accept-Ranges": "bytes", "Content-Type": "binary/octet-stream"}
        start, end = _range(seen.range, len(content))
        if start is None or self.owner.faults.no_ranges:
            return self.answer(200, content, headers, seen, name=name)
        if start >= len(content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"}, seen)
        span = f"bytes {start}-{end - 1}/{len(content)}"
        return self.answer(206, content[start:end], {**headers, "Content-Range": span}, seen, name=name)


def _range(value: str | None, size: int) -> tuple[int | None, int]:
    """Return the first byte that is asked for (None: all of them), and the one after the last."""
    if not value:
        return None, size
    first, _, last = value.removeprefix("bytes=").partition("-")
    return int(first), min(size, int(last) + 1) if last else size


def _is_lfs(path: str, repository: Repository) -> bool:
    return path.endswith((".safetensors", ".bin", ".model")) and not repository.without_lfs


def _sibling(path: str, content: bytes, repository: Repository) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324 - as git does
    row: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if _is_lfs(path, repository):
        row["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return row
