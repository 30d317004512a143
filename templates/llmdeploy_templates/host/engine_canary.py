"""Sends planted content through an engine's socket and looks for it in every file that could keep it. Needs root.

Its first argument is what is asked, as JSON. It prints `content_found<TAB>JSON list` or `content_found?<TAB>reason`, and lines
`content_found: text` that show why. What it writes itself, to prove that its search finds, it removes again.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

FACT = "content_found"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
CHUNK = 2**22
MOST_BYTES = 4 * 2**30
MOST_FINDINGS = 40
MOST_PROMPT = 4 * 2**20
UNSENT = (0, 429, 503)


class CannotTell(Exception):
    """Why the search means nothing."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self.path = path

    def connect(self) -> None:
        """Open it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def canary() -> str:
    """Return a text that is nowhere else: 24 letters of the base32 alphabet, from the system's randomness."""
    return "".join(secrets.choice(LETTERS) for _ in range(24))


# --- what is sent -----------------------------------------------------------------------------------------------------------


class Asker:
    """Requests to one engine."""

    def __init__(self, path: str, deadline: float) -> None:
        self.path = path
        self.deadline = deadline

    def ask(self, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body of the answer, (0, reason) when none came."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            return 0, b"no time was left"
        connection = UnixConnection(self.path, min(60, left_s))
        try:
            sent = {"Content-Type": "application/json", **headers}
            connection.request("POST" if body else "GET", target, body or None, sent)
            answer = connection.getresponse()
            return answer.status, answer.read(2**20)
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def json(self, target: str, body: object = None) -> Any:
        """Return the decoded answer, None when it is none."""
        status, answer = self.ask(target, json.dumps(body).encode() if body is not None else b"", {})
        try:
            return json.loads(answer) if status == 200 else None
        except ValueError:
            return None


Plan = Iterator[tuple[str, str, object, Mapping[str, str]]]
"""Name of the field, path, body (bytes as they are, else JSON), headers."""

WELL = ("prompt", "message", "stream")
"""Requests that must succeed: a search after refusals alone would prove little."""


def requests(model: str, context: int, mark: Mapping[str, str]) -> Plan:
    """Yield a request for each field that may hold content. `mark` holds the planted text of each field."""
    yield from completions(model, context, mark)
    yield from chats(model, mark)
    simple = json.dumps({"model": model, "prompt": "a", "max_tokens": 1}).encode()
    yield "header", "/v1/completions", simple, {"X-Request-Id": mark["header"], "Authorization": f"Bearer {mark['header']}"}
    yield "query", f"/v1/completions?q={mark['query']}", simple, {}
    yield "path", f"/v1/{mark['path']}", simple, {}
    yield "malformed", "/v1/completions", b'{"model": "' + mark["malformed"].encode(), {}
    yield "responses", "/v1/responses", {"model": model, "input": mark["responses"], "max_output_tokens": 16}, {}
    yield "tokenize", "/tokenize", {"model": model, "prompt": mark["tokenize"]}, {}


def completions(model: str, context: int, mark: Mapping[str, str]) -> Plan:
    """Yield the requests to /v1/completions."""
    copies = min(MOST_PROMPT // 26, context)
    fields: dict[str, dict[str, object]] = {
        "prompt": {"prompt": mark["prompt"]},
        "stop": {"stop": [mark["stop"]]},
        "bad_words": {"bad_words": [mark["bad_words"]]},
        "choice": {"structured_outputs": {"choice": [mark["choice"], "no"]}},
        "regex": {"structured_outputs": {"regex": "(" + mark["regex"]}},
        "user": {"user": mark["user"]},
        "extra_field": {mark["extra_field"]: 1},
        "model": {"model": mark["model"]},
        "wrong_type": {"prompt": {"text": mark["wrong_type"]}},
        "too_long": {"prompt": f"{mark['too_long']} " * copies},
        "cache_salt": {"cache_salt": mark["cache_salt"]},
    }
    for field, values in fields.items():
        yield field, "/v1/completions", {"model": model, "prompt": "a", "max_tokens": 1, **values}, {}


def chats(model: str, mark: Mapping[str, str]) -> Plan:
    """Yield the requests to /v1/chat/completions."""
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": json.dumps({"q": mark["arguments"]})}}
    called: list[object] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": mark["arguments"]},
    ]
    schema = {"type": "object", "properties": {mark["tools"]: {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "look", "description": mark["tools"], "parameters": schema}}
    fields: dict[str, dict[str, object]] = {
        "message": {"messages": [{"role": "user", "content": mark["message"]}]},
        "system": {"messages": [{"role": "system", "content": mark["system"]}, {"role": "user", "content": "a"}]},
        "arguments": {"messages": called},
        "tools": {"tools": [tool], "tool_choice": "none"},
        "metadata": {"metadata": {"note": mark["metadata"]}},
        "template": {"chat_template_kwargs": {"note": mark["template"]}},
        "stream": {"messages": [{"role": "user", "content": mark["stream"]}], "stream": True},
    }
    for field, values in fields.items():
        asked = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1, **values}
        yield field, "/v1/chat/completions", asked, {}


class Marks(dict[str, str]):
    """The planted text of each field: one canary that all share, and the field's number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = canary()

    def __missing__(self, field: str) -> str:
        """Return the text of a field that is asked for the first time."""
        self[field] = f"{self.stem}{LETTERS[len(self)]}"
        return self[field]

    def field(self, letter: str) -> str:
        """Return the field that a letter after the canary stands for."""
        return next((field for field, text in self.items() if text[-1] == letter), "content")


def send(asker: Asker, marks: Marks) -> Mapping[str, int]:
    """Send everything and return the status of each field's answer; 0 where none came."""
    listed = asker.json("/v1/models")
    if not listed or not listed.get("data"):
        raise CannotTell("the engine does not tell which model it serves")
    model = listed["data"][0]
    statuses: dict[str, int] = {}
    for field, target, body, headers in requests(str(model["id"]), int(model.get("max_model_len") or 8192), marks):
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        statuses[field], _ = asker.ask(target, encoded, headers)
    return statuses


# --- where it is looked for -------------------------------------------------------------------------------------------------


def patterns(stem: str, tokens: list[int]) -> dict[bytes, str]:
    """Return what to look for -> how it is written. URLs and JSON leave the canary's letters as they are."""
    raw = stem.encode()
    found = {
        raw: "",
        raw[::-1]: "reversed",
        raw.lower(): "in small letters",
        raw.hex().encode(): "hexadecimal",
        raw.hex().upper().encode(): "hexadecimal",
        stem.encode("utf-16-le"): "as UTF-16",
        stem.encode("utf-16-be"): "as UTF-16",
    }
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw + b"\0" * 3)
        # Letters at the edges hold bits of what stands beside.
        found[encoded[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]] = "base64"
    inner = tokens[2:-2]
    if len(inner) >= 6:
        found |= {between.join(map(str, inner)).encode(): "as token ids" for between in (", ", ",", " ")}
    return found


class Search:
    """A search for some texts, with a limit on what is read."""

    def __init__(self, wanted: Mapping[bytes, str], marks: Marks) -> None:
        self.wanted = wanted
        self.marks = marks
        self.read = 0
        self.files = 0
        self.found: set[str] = set()

    def file(self, path: str, name: str = "") -> None:
        """Search one file."""
        # A name may have become a link or a pipe meanwhile; those below /proc are links to what is open.
        flags = os.O_RDONLY | os.O_NONBLOCK | (0 if "/fd/" in path else os.O_NOFOLLOW)
        try:
            with open(os.open(path, flags), "rb") as file:
                self.files += 1
                self.stream(file, name or path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CannotTell(f"{name or path} cannot be read: {error.strerror}") from None

    def stream(self, file: Any, name: str) -> None:
        """Search what can be read."""
        longest = max(map(len, self.wanted)) + 1
        rest = b""
        while piece := file.read(CHUNK):
            self.read += len(piece)
            if self.read > MOST_BYTES:
                raise CannotTell(f"there is more than {MOST_BYTES >> 30} GiB to search")
            self._look(rest + piece, name)
            rest = (rest + piece)[-longest:]

    def _look(self, data: bytes, name: str) -> None:
        for text, written in self.wanted.items():
            at = data.find(text)
            while at >= 0:
                after = data[at + len(text) : at + len(text) + 1].decode("ascii", "replace")
                field = self.marks.field(after) if not written else "content"
                self.found.add(f"{field}{' ' * bool(written)}{written} in {name}")
                at = data.find(text, at + 1)


def files_below(folder: str, since: float) -> Iterator[str]:
    """Yield the plain files below a folder that changed since then."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                seen = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(seen.st_mode) and max(seen.st_mtime, seen.st_ctime) >= since:
                yield path


def open_files(pid: int) -> Iterator[tuple[str, str]]:
    """Yield path in /proc and name of every plain file that a process has open for writing, removed ones too."""
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:
        raise CannotTell(f"process {pid} ended meanwhile") from None
    for number in numbers:
        path = f"{folder}/{number}"
        try:
            if stat.S_ISREG(os.stat(path).st_mode) and os.lstat(path).st_mode & 0o200:
                yield path, os.readlink(path)
        except OSError:
            continue


def look(search: Search, asked: Mapping[str, Any], since: float) -> None:
    """Search everything that could have kept what was sent since then."""
    seen: set[str] = set()
    changed = (*asked["folders"], *(f"/proc/{asked['pids'][0]}/root{name}" for name in asked["shared"]))
    whole = dict.fromkeys(asked["logs"], 0.0)
    for folder, after in {**dict.fromkeys(changed, since), **whole}.items():
        for path in files_below(folder, after):
            if path not in seen:
                seen.add(path)
                search.file(path)
    for pid in asked["pids"]:
        for path, name in open_files(pid):
            if name not in seen:
                seen.add(name)
                search.file(path, name)
    if asked["journal"]:
        journal(search, asked["journal"], since)


def journal(search: Search, command: list[str], since: float) -> None:
    """Search a journal, which holds long lines compressed, through journalctl."""
    with subprocess.Popen([*command, f"--since=@{int(since)}"], stdout=subprocess.PIPE) as process:
        search.stream(process.stdout, " ".join(command))
    if process.returncode != 0:
        raise CannotTell(f"journalctl ended with status {process.returncode}")


# --- the control ------------------------------------------------------------------------------------------------------------


def control(asked: Mapping[str, Any]) -> int:
    """Plant a text in every folder, search for it in the same way, and remove it. Raises CannotTell where it is not found."""
    stem = canary()
    planted = [os.path.join(folder, f".llmdeploy-control-{stem[:8]}") for folder in asked["folders"] if os.path.isdir(folder)]
    since = time.time() - 1
    try:
        for path in planted:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(f"a line before\n{stem}\n")
        search = Search(patterns(stem, []), Marks())
        for folder in asked["folders"]:
            for path in files_below(folder, since):
                search.file(path)
        missed = [path for path in planted if not any(path in found for found in search.found)]
    finally:
        for path in planted:
            os.unlink(path)
    if missed or not planted:
        raise CannotTell(f"the search does not find what was planted in {' '.join(missed) or 'any folder'}")
    return len(planted)


def settled(folders: list[str], deadline: float) -> None:
    """Wait until nothing was written for a second: what the engine prints passes through its logger."""
    size = -1
    while time.monotonic() < deadline:
        now = sum(os.lstat(path).st_size for folder in folders for path in files_below(folder, 0))
        if now == size:
            return
        size = now
        time.sleep(1)


def find(asked: Mapping[str, Any]) -> list[str]:
    """Return where planted content was found."""
    deadline = time.monotonic() + asked["timeout_s"]
    planted = control(asked)
    show(f"control: planted in {planted} folders, found in each")
    since, marks = time.time() - 1, Marks()
    asker = Asker(asked["socket"], deadline)
    statuses = send(asker, marks)
    show("sent: " + " ".join(f"{field}={code}" for field, code in statuses.items()))
    told = asker.json("/tokenize", {"prompt": marks.stem, "add_special_tokens": False})
    settled(asked["logs"], min(deadline, time.monotonic() + 20))
    tokens: list[int] = told.get("tokens", []) if told else []
    search = Search(patterns(marks.stem, tokens), marks)
    look(search, asked, since)
    show(f"searched: {search.files} files (its log, what changed, what is open), {search.read} bytes")
    unsent = [field for field, code in statuses.items() if code in UNSENT or (field in WELL and code != 200)]
    if unsent and not search.found:
        raise CannotTell("the engine did not take the request with " + ", ".join(f"{one} ({statuses[one]})" for one in unsent))
    return sorted(search.found)[:MOST_FINDINGS]


def show(text: str) -> None:
    """Print what shows the fact, as one line."""
    print(f"{FACT}: " + " ".join(text.split()))


def main() -> None:
    """Tell the fact."""
    try:
        found = find(json.loads(sys.argv[1]))
        print(f"{FACT}\t{json.dumps(found)}")
    except (CannotTell, OSError, ValueError) as error:
        print(f"{FACT}?\t" + " ".join(str(error).split()))


if __name__ == "__main__":
    main()
