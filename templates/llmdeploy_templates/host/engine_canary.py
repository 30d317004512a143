"""Sends planted content through an engine's socket and looks for it in every file that could keep it. Needs root.

It prints `content_found<TAB>JSON list` or `content_found?<TAB>reason`, and lines `content_found: text` that show why. What it
writes itself, to prove that its search finds, it removes again; what it sends stays in the engine's prefix cache for a while.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .evidence.kernel import Unclear, runs
from .evidence.scan import Marks, Search, changed_files, prove

FACT = "content_found"
MOST_FINDINGS = 40
MOST_PROMPT = 4 * 2**20
UNSENT = (0, 429, 503)


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


def send(asker: Asker, marks: Marks) -> Mapping[str, int]:
    """Send everything and return the status of each field's answer; 0 where none came."""
    listed = asker.json("/v1/models")
    if not listed or not listed.get("data"):
        raise Unclear("the engine does not tell which model it serves")
    model = listed["data"][0]
    statuses: dict[str, int] = {}
    for field, target, body, headers in requests(str(model["id"]), int(model.get("max_model_len") or 8192), marks):
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        statuses[field], _ = asker.ask(target, encoded, headers)
    return statuses


# --- where it is looked for -------------------------------------------------------------------------------------------------


def open_files(pid: int) -> Iterator[tuple[str, str]]:
    """Yield path in /proc and name of every plain file that a process has open for writing, removed ones too."""
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except FileNotFoundError:
        return  # it ended meanwhile, as children do
    for number in numbers:
        path = f"{folder}/{number}"
        try:
            if stat.S_ISREG(os.stat(path).st_mode) and os.lstat(path).st_mode & 0o200:
                yield path, os.readlink(path)
        except OSError:
            continue


def look(search: Search, asked: Mapping[str, Any], since: float) -> None:
    """Search everything that could have kept what was sent since then."""
    for folder in asked["folders"]:
        search.below(folder, since)
    running = [pid for pid in asked["pids"] if runs(pid)]
    if not running:
        raise Unclear("its processes ended meanwhile")
    for folder in asked["shared"]:
        search.below(f"/proc/{running[0]}/root{folder}", since)
    for folder in asked["logs"]:
        search.below(folder, 0)
    for pid in asked["pids"]:
        for path, name in open_files(pid):
            search.file(path, name)
    if asked["journal"]:
        search.journals(since)


def settled(asked: Mapping[str, Any], deadline: float) -> None:
    """Wait until nothing was written for a second: what the engine prints passes through its logger."""
    size = -1
    while time.monotonic() < deadline:
        if asked["journal"]:
            subprocess.run(["journalctl", f"--namespace={asked['journal']}", "--sync"], stderr=subprocess.DEVNULL, check=False)
        now = sum(os.lstat(path).st_size for folder in asked["logs"] for path in changed_files(folder, 0))
        if now == size:
            return
        size = now
        time.sleep(1)


def find(asked: Mapping[str, Any]) -> list[str]:
    """Return where planted content was found."""
    deadline = time.monotonic() + asked["timeout_s"]
    show(prove(asked["folders"]))
    since, marks = time.time(), Marks()
    asker = Asker(asked["socket"], deadline)
    statuses = send(asker, marks)
    show("sent: " + " ".join(f"{field}={code}" for field, code in statuses.items()))
    told = asker.json("/tokenize", {"prompt": marks.stem, "add_special_tokens": False})
    settled(asked, min(deadline, time.monotonic() + 20))
    search = Search(marks, told.get("tokens", []) if told else [])
    look(search, asked, since)
    show(f"searched: {len(search.seen)} files (its log, what changed, what is open), {search.read} bytes")
    unsent = [field for field, code in statuses.items() if code in UNSENT or (field in WELL and code != 200)]
    if unsent and not search.found:
        raise Unclear("the engine did not take the request with " + ", ".join(f"{one} ({statuses[one]})" for one in unsent))
    return sorted(search.found)[:MOST_FINDINGS]


def show(text: str) -> None:
    """Print what shows the fact, as one line."""
    print(f"{FACT}: " + " ".join(text.split()))


def main(asked: str) -> None:
    """Tell the fact. `asked`: what is asked, as JSON."""
    try:
        print(f"{FACT}\t{json.dumps(find(json.loads(asked)))}")
    except (Unclear, OSError, ValueError) as error:
        print(f"{FACT}?\t" + " ".join(str(error).split()))
