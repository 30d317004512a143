"""Doubles of the parts of GitHub's and GitLab's REST APIs that the example pipelines call, served on loopback.

They stand for services that cannot run here. They hold each call to the rights of its token, and give two items on a page, so
that a script that forgets the second page or asks for too much fails. What calls them is real: `gh`, Python, the shell scripts.
"""

from __future__ import annotations

import io
import json
import re
import ssl
import threading
import zipfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PAGE = 2
GITHUB_BOT = "github-actions[bot]"
Item = dict[str, Any]


class Refused(Exception):
    """The service says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status, self.message = status, message


@dataclass
class Call:
    """One request: what it asks for, with the query and the body as one mapping."""

    method: str
    path: str
    values: Mapping[str, str]
    token: str


@dataclass
class Service:
    """What both have in common: routes, tokens with their rights, and a log of calls."""

    address: str = ""
    calls: list[str] = field(default_factory=list[str])
    tokens: dict[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])

    def grant(self, rights: Mapping[str, str]) -> str:
        """Return a token with these rights."""
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = rights
        return token

    def routes(self) -> Iterable[tuple[str, str, str, Callable[..., Any]]]:
        """Return (method, path pattern, right needed such as "issues: write", function of the call and the pattern's groups)."""
        raise NotImplementedError

    def answer(self, call: Call) -> Any:
        """Return what the service answers: bytes as they are, else JSON; a list in pages."""
        self.calls.append(f"{call.method} {call.path}")
        for method, pattern, right, function in self.routes():
            found = re.fullmatch(pattern, call.path)
            if method == call.method and found:
                self._check(call, right)
                return function(call, *found.groups())
        raise Refused(404, f"no {call.method} {call.path}")

    def _check(self, call: Call, needed: str) -> None:
        if call.token not in self.tokens:
            raise Refused(401, "Bad credentials")
        rights = self.tokens[call.token]
        for one in needed.split(" and "):
            kinds, _, level = one.partition(": ")
            given = {rights.get(kind) for kind in kinds.split(" or ")}
            if not given & ({"write"} if level == "write" else {"read", "write"}):
                raise Refused(403, f"Resource not accessible by integration: needs {one}")


@dataclass
class GitHub(Service):
    """Pull requests, comments, issues, workflow runs and their artefacts of one repository, `acme/chat`."""

    pulls: list[Item] = field(default_factory=list[Item])
    comments: list[Item] = field(default_factory=list[Item])
    issues: list[Item] = field(default_factory=list[Item])
    runs: list[Item] = field(default_factory=list[Item])
    artefacts: dict[tuple[int, str], bytes] = field(default_factory=dict[tuple[int, str], bytes])

    repository = "acme/chat"

    def routes(self) -> Iterable[tuple[str, str, str, Callable[..., Any]]]:
        """Return what the workflows call, with the permission that GitHub's documentation asks for."""
        root = f"/api/v3/repos/{self.repository}"
        comment = "issues or pull-requests"
        return (
            ("GET", rf"{root}/commits/(\w+)/pulls", "contents: read and pull-requests: read", self._pulls_of),
            ("GET", rf"{root}/issues/(\d+)/comments", f"{comment}: read", self._comments_of),
            ("POST", rf"{root}/issues/(\d+)/comments", f"{comment}: write", self._comment),
            ("PATCH", rf"{root}/issues/comments/(\d+)", f"{comment}: write", self._edit_comment),
            ("GET", rf"{root}/issues", "issues: read", self._open_issues),
            ("POST", rf"{root}/issues", "issues: write", self._open_issue),
            ("PATCH", rf"{root}/issues/(\d+)", "issues: write", self._edit_issue),
            ("GET", rf"{root}/actions/workflows/plan\.yml/runs", "actions: read", self._runs_of),
            ("GET", rf"{root}/actions/runs/(\d+)/artifacts", "actions: read", self._artefacts_of),
            ("GET", rf"{root}/actions/artifacts/(\d+)-([\w-]+)/zip", "actions: read", self._artefact),
        )

    def _pulls_of(self, call: Call, sha: str) -> list[Item]:
        return [one for one in self.pulls if sha in (one["merge_commit_sha"], one["head"]["sha"])]

    def _comments_of(self, call: Call, number: str) -> list[Item]:
        return [one for one in self.comments if one["issue"] == int(number)]

    def _comment(self, call: Call, number: str) -> Item:
        made = {
            "id": 3_000_000_000 + len(self.comments),
            "issue": int(number),
            "user": {"login": GITHUB_BOT},
            "body": call.values["body"],
        }
        self.comments.append(made)
        return made

    def _edit_comment(self, call: Call, number: str) -> Item:
        found = next(one for one in self.comments if one["id"] == int(number))
        found["body"] = call.values["body"]
        return found

    def _open_issues(self, call: Call) -> list[Item]:
        return [one for one in self.issues if one["state"] == "open"]

    def _open_issue(self, call: Call) -> Item:
        made: Item = {"number": len(self.issues) + 1, "state": "open", "user": {"login": GITHUB_BOT}, **call.values}
        self.issues.append(made)
        return made

    def _edit_issue(self, call: Call, number: str) -> Item:
        found = next(one for one in self.issues if one["number"] == int(number))
        found |= call.values
        return found

    def _runs_of(self, call: Call) -> Item:
        asked = {name: call.values[name] for name in ("head_sha", "event")}
        found = [run for run in reversed(self.runs) if asked.items() <= run.items()]
        return {"total_count": len(found), "workflow_runs": found}

    def _artefacts_of(self, call: Call, run: str) -> Item:
        names = [name for number, name in self.artefacts if number == int(run)]
        url = f"{self.address}/api/v3/repos/{self.repository}/actions/artifacts"
        found = [{"name": name, "archive_download_url": f"{url}/{run}-{name}/zip", "expired": False} for name in names]
        return {"total_count": len(found), "artifacts": found}

    def _artefact(self, call: Call, run: str, name: str) -> bytes:
        return self.artefacts[int(run), name]


@dataclass
class GitLab(Service):
    """Merge requests, notes, pipelines, jobs and issues of the project 7. The token's own user has the id 1."""

    merge_requests: list[Item] = field(default_factory=list[Item])
    notes: list[Item] = field(default_factory=list[Item])
    pipelines: list[Item] = field(default_factory=list[Item])
    jobs: list[Item] = field(default_factory=list[Item])
    archives: dict[int, bytes] = field(default_factory=dict[int, bytes])
    issues: list[Item] = field(default_factory=list[Item])

    def routes(self) -> Iterable[tuple[str, str, str, Callable[..., Any]]]:
        """Return what the script calls; all of it needs the scope `api`."""
        root = "/api/v4/projects/7"
        return (
            ("GET", "/api/v4/user", "api: read", self._me),
            ("GET", rf"{root}/merge_requests/(\d+)/notes", "api: read", self._notes_of),
            ("POST", rf"{root}/merge_requests/(\d+)/notes", "api: write", self._note),
            ("PUT", rf"{root}/merge_requests/\d+/notes/(\d+)", "api: write", self._edit_note),
            ("GET", rf"{root}/repository/commits/(\w+)/merge_requests", "api: read", self._merge_requests_of),
            ("GET", rf"{root}/merge_requests/(\d+)/pipelines", "api: read", self._pipelines_of),
            ("GET", rf"{root}/pipelines/(\d+)/jobs", "api: read", self._jobs_of),
            ("GET", rf"{root}/jobs/(\d+)/artifacts", "api: read", self._archive),
            ("GET", rf"{root}/issues", "api: read", self._open_issues),
            ("POST", rf"{root}/issues", "api: write", self._open_issue),
            ("PUT", rf"{root}/issues/(\d+)", "api: write", self._edit_issue),
        )

    def _me(self, call: Call) -> Item:
        return {"id": 1}

    def _archive(self, call: Call, job: str) -> bytes:
        return self.archives[int(job)]

    def _open_issues(self, call: Call) -> list[Item]:
        return [one for one in self.issues if one["state"] == "opened"]

    def _notes_of(self, call: Call, iid: str) -> list[Item]:
        return [one for one in self.notes if one["iid"] == int(iid)]

    def _note(self, call: Call, iid: str) -> Item:
        made: Item = {"id": 100 + len(self.notes), "iid": int(iid), "author": {"id": 1}, "body": call.values["body"]}
        self.notes.append(made)
        return made

    def _edit_note(self, call: Call, number: str) -> Item:
        found = next(one for one in self.notes if one["id"] == int(number))
        found["body"] = call.values["body"]
        return found

    def _merge_requests_of(self, call: Call, sha: str) -> list[Item]:
        return [one for one in self.merge_requests if sha in (one["merge_commit_sha"], one["squash_commit_sha"], one["sha"])]

    def _pipelines_of(self, call: Call, iid: str) -> list[Item]:
        return [one for one in reversed(self.pipelines) if one["iid"] == int(iid)]

    def _jobs_of(self, call: Call, pipeline: str) -> list[Item]:
        return [one for one in self.jobs if one["pipeline"] == int(pipeline)]

    def _open_issue(self, call: Call) -> Item:
        made: Item = {"iid": len(self.issues) + 1, "state": "opened", "author": {"id": 1}, **call.values}
        self.issues.append(made)
        return made

    def _edit_issue(self, call: Call, iid: str) -> Item:
        found = next(one for one in self.issues if one["iid"] == int(iid))
        found |= call.values
        if found.get("state_event") == "close":
            found["state"] = "closed"
        return found


# --- serving them -----------------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _service(self) -> Service:
        return cast(_Server, self.server).service

    def _handle(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        is_json = body.startswith("{")
        values = {**dict(parse_qsl(url.query)), **(json.loads(body) if is_json else dict(parse_qsl(body)))}
        token = self.headers.get("private-token") or (self.headers.get("authorization") or " ").split()[-1]
        try:
            answer = self._service.answer(Call(self.command, url.path, values, token))
        except Refused as error:
            return self._send(error.status, json.dumps({"message": error.message}).encode())
        if isinstance(answer, bytes):
            return self._send(200, answer, {"content-type": "application/zip"})
        headers: dict[str, str] = {}
        if isinstance(answer, list):
            answer, headers = self._page(cast("list[Item]", answer), int(values.get("page", 1)), url.path)
        return self._send(200, json.dumps(answer).encode(), headers)

    def _page(self, items: list[Item], page: int, path: str) -> tuple[list[Item], dict[str, str]]:
        more = len(items) > page * PAGE
        link = {"link": f'<{self._service.address}{path}?page={page + 1}>; rel="next"'} if more else {}
        return items[(page - 1) * PAGE : page * PAGE], {**link, "x-next-page": str(page + 1) if more else ""}

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the service keeps its own list of calls."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    service: Service


@contextmanager
def serving(service: Service, tls: tuple[Path, Path] | None = None) -> Generator[None]:
    """Serve on loopback, over TLS with this certificate and key, or without."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.service = service
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    service.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    built = built.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem, secret = folder / "github.pem", folder / "github.key"
    pem.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return pem, secret


def zipped(folder: Path, paths: Iterable[str]) -> bytes:
    """Return an artefact of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in paths:
            archive.write(folder / path, path)
    return buffer.getvalue()
