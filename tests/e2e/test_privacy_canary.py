"""No content persists: a random marker goes through the real stack in every way there is, and is looked for on the whole machine.

The tests run in order: what is sent, what crashes, what was left, and that the search finds what is planted.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llmdeploy.catalog import tiny_random
from tests.lab.machine import Process
from tests.lab.marker import card_number, marker, shapes
from tests.lab.scan import Scan

from .canary_requests import Bodies
from .guarded import Endpoint, Guarded, gateway_says, read_all
from .laptop import Laptop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ANSWER_LETTERS = 32
"""How much of an answer is looked for: enough to occur nowhere else."""

ENDED = b'"finish_reason":"length"'
"""In the last piece of an answer that came to its end."""


@dataclass
class Sent:
    """What was sent since when, and what the model said."""

    marker: str = field(default_factory=marker)
    card: str = field(default_factory=card_number)
    since: float = field(default_factory=time.time)
    answers: list[str] = field(default_factory=list[str])
    replies: dict[str, list[tuple[str, int, bytes]]] = field(default_factory=dict[str, list[tuple[str, int, bytes]]])
    """Stack -> (field, status, body)."""

    def needles(self) -> dict[str, bytes]:
        """Return every shape of the marker, the card number and the answers."""
        tokens = json.loads(tiny_random.files()["tokenizer.json"])["model"]["vocab"]
        ids = {"marker": [tokens[letter] for letter in self.marker]}
        answers = {f"answer {place}": text[:ANSWER_LETTERS].encode() for place, text in enumerate(self.answers)}
        return {**shapes({"marker": self.marker}, {"card number": self.card}, ids), **answers}


@pytest.fixture(scope="module")
def sent() -> Sent:
    return Sent()


@pytest.fixture(scope="module")
def endpoints(guarded: Guarded, shared_laptop: Laptop) -> Iterator[dict[str, Endpoint]]:
    """The stack under a profile, and the one of the README without any; both answer again afterwards."""
    plain = Endpoint(8443, shared_laptop.tls(), "localhost", shared_laptop.key())
    found = {"guarded": guarded.endpoint(), "laptop": plain}
    for endpoint in found.values():
        endpoint.wait()
    yield found
    for endpoint in found.values():
        endpoint.wait()


def answer_of(body: bytes) -> str:
    """Return what the model said."""
    choice = json.loads(body)["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


@pytest.mark.parametrize("name", ["laptop", "guarded"])
def test_every_request_gets_where_it_should(endpoints: dict[str, Endpoint], sent: Sent, name: str) -> None:
    endpoint = endpoints[name]
    for canary in Bodies(endpoint, sent.marker, sent.card).all():
        status, body = endpoint.send(canary.raw, canary.name_asked_for)
        assert status in canary.statuses, (canary.field, status, body[:500])
        sent.replies.setdefault(name, []).append((canary.field, status, body))
        if canary.answered:
            sent.answers.append(answer_of(body))
    assert len(sent.answers) >= 5
    assert all(len(answer) > ANSWER_LETTERS for answer in sent.answers)


def test_what_the_stacks_tell_of_themselves_holds_nothing_of_it(sent: Sent, guarded: Guarded) -> None:
    told = pages(guarded)
    assert Scan(guarded.machine, sent.needles(), sent.since).among(told) == []
    for name in ("vllm:generation_tokens_total", "haproxy_frontend_http_requests_total"):
        assert any(name in page.decode() for page in told.values())


def test_a_profile_keeps_what_was_sent_out_of_error_texts(sent: Sent) -> None:
    def repeating(stack: str) -> set[str]:
        refused = [(name, body.lower()) for name, status, body in sent.replies[stack] if status != 200]
        assert len(refused) > 20
        return {name for name, body in refused if sent.marker.lower().encode() in body}

    assert repeating("guarded") == set()
    assert "unknown model" in repeating("laptop"), "without a profile it is the engine's own text that comes back"


def open_stream(endpoint: Endpoint, request: bytes) -> ssl.SSLSocket:
    """Return a connection on which an answer has begun."""
    connection = endpoint.open()
    connection.sendall(request)
    begun = b""
    while b"data: " not in begun:
        part = connection.recv(65536)
        assert part, begun
        begun += part
    assert begun.startswith(b"HTTP/1.1 200"), begun
    return connection


def rest_of(connection: ssl.SSLSocket) -> bytes:
    """Return what still came."""
    with connection:
        return read_all(connection)


def processes(guarded: Guarded, words: str) -> list[Process]:
    """Return the processes of the stack's own user whose command holds `words`."""
    users = {line.split(":")[0]: int(line.split(":")[2]) for line in guarded.machine.run("getent passwd").splitlines()}
    user = users[f"llmd-{guarded.slug.rsplit('-', 1)[1]}"]
    return [one for one in guarded.machine.processes() if words in one.command and one.user_id == user]


def test_the_gateway_is_killed_in_mid_stream(endpoints: dict[str, Endpoint], sent: Sent, guarded: Guarded) -> None:
    endpoint = endpoints["guarded"]
    stream = open_stream(endpoint, Bodies(endpoint, sent.marker, sent.card).stream("gateway killed"))
    (worker,) = processes(guarded, "haproxy")
    os.kill(worker.pid, signal.SIGKILL)
    assert ENDED not in rest_of(stream)
    endpoint.wait()


def test_clients_go_away(endpoints: dict[str, Endpoint], sent: Sent) -> None:
    endpoint = endpoints["guarded"]
    bodies = Bodies(endpoint, sent.marker, sent.card)
    open_stream(endpoint, bodies.stream("reader gone")).close()
    whole = bodies.stream("writer gone")
    with endpoint.open() as connection:
        connection.sendall(whole[: len(whole) - 10])
    endpoint.wait()


FAULT = """

def _fails_on_demand(forward):
    def run(self, *arguments, **named):
        import os
        if os.path.exists("/tmp/fault"):
            raise RuntimeError("a fault of the test")
        return forward(self, *arguments, **named)
    return run

Sampler.forward = _fails_on_demand(Sampler.forward)
"""


@pytest.fixture
def fault(guarded: Guarded) -> Iterator[Path]:
    """A switch: while the file is there, the engine's sampler fails, as one does when memory or a GPU gives out.

    It works in engines that are started after this.
    """
    (sampler,) = guarded.machine.path("/var/lib/llmdeploy/shared/runtimes").glob(
        "*/venv/lib/python3*/site-packages/vllm/v1/sample/sampler.py"
    )
    text, switch = sampler.read_text(), guarded.machine.path("/tmp/fault")
    sampler.write_text(text + FAULT)
    yield switch
    switch.unlink(missing_ok=True)
    sampler.write_text(text)


def test_the_engine_crashes_in_mid_stream_and_by_an_error_of_its_own(
    endpoints: dict[str, Endpoint], sent: Sent, guarded: Guarded, fault: Path
) -> None:
    endpoint = endpoints["guarded"]
    bodies = Bodies(endpoint, sent.marker, sent.card)
    stream = open_stream(endpoint, bodies.stream("engine crashed"))
    for words in ("VLLM::EngineCore", "--uds"):
        (process,) = processes(guarded, words)
        os.kill(process.pid, signal.SIGSEGV)
    assert ENDED not in rest_of(stream)
    endpoint.wait()

    fault.touch()
    asked = [{"role": "user", "content": bodies.text("failing")}]
    more = {"stop": [bodies.text("stop")], "bad_words": [bodies.text("bad")], "user": bodies.text("user")}
    status, body = endpoint.ask({"messages": asked, "structured_outputs": {"choice": [bodies.text("one")]}, **more})
    assert status >= 500
    assert sent.marker.encode() not in body
    said = f"grep -q 'a fault of the test' /var/log/llmdeploy/{guarded.slug}/engine-0/*"
    guarded.machine.wait_for("the engine's last words", said)


def test_the_other_engine_is_killed_in_mid_stream(endpoints: dict[str, Endpoint], sent: Sent, shared_laptop: Laptop) -> None:
    endpoint = endpoints["laptop"]
    stream = open_stream(endpoint, Bodies(endpoint, sent.marker, sent.card).stream("engine killed"))
    user = f"llmd-{shared_laptop.slug().rsplit('-', 1)[1]}"
    shared_laptop.machine.run(f"pkill -KILL -u {user} -f VLLM::EngineCore")
    assert ENDED not in rest_of(stream)


def pages(guarded: Guarded) -> dict[str, bytes]:
    """Return what the stacks tell of themselves: metrics, counters, tables, and every verb that shows something."""
    machine, found = guarded.machine, dict[str, bytes]()
    for path in machine.run("find /run/llmdeploy -name '*.sock'").split():
        ask = f"curl -s -m 10 --unix-socket {path} http://x/metrics || true"
        found[f"metrics of {path}"] = machine.run(ask).encode()
        if path.endswith("admin.sock"):
            for command in ("show stat", "show table keys", "show info", "show sess all", "show activity"):
                found[f"{command} of {path}"] = gateway_says(machine.path(path), command)
    for verb in ("status", "show --format json", "output", "logs host_engine.local -n 5000", "logs host_gateway.local -n 5000"):
        found[verb] = guarded.cli(verb).encode()
    return found


def test_nothing_of_it_is_found_anywhere(endpoints: dict[str, Endpoint], sent: Sent, guarded: Guarded) -> None:
    machine, slug = guarded.machine, guarded.slug
    endpoints["guarded"].wait()
    scan = Scan(machine, sent.needles(), sent.since)
    assert scan.hits(pages(guarded)) == []
    log = f"/var/log/llmdeploy/{slug}"
    fields = len(sent.replies["guarded"])
    lines = [json.loads(line) for line in machine.path(f"{log}/gateway/current").read_text().splitlines() if line.startswith("{")]
    assert len(lines) > fields, "the requests of the test are in the log that was read"
    seen = {f"{log}/gateway/current", f"{log}/engine-0/current", "the kernel's messages"}
    assert seen <= scan.read
    assert scan.cores == [], "a crash writes no memory to the disk"


@pytest.fixture
def planted(sent: Sent, guarded: Guarded) -> Iterator[dict[str, str]]:
    """Texts in every shape and at every kind of place, as a leak would leave them: shape -> place."""
    machine, slug = guarded.machine, guarded.slug
    folder = machine.path(f"/var/log/llmdeploy/{slug}/planted")
    folder.mkdir()
    found = dict[str, str]()
    for number, (shape, needle) in enumerate(sent.needles().items()):
        (folder / f"{number}.log").write_bytes(b"before " + needle + b" after\n")
        found[shape] = f"/var/log/llmdeploy/{slug}/planted/{number}.log"
    yield found
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_every_shape_is_found_when_it_is_planted(sent: Sent, guarded: Guarded, planted: dict[str, str]) -> None:
    hits = {(hit.shape, hit.place) for hit in Scan(guarded.machine, sent.needles(), sent.since).hits()}
    assert {(shape, place) for shape, place in planted.items()} <= hits


PLACES = (
    "/var/log/llmdeploy/{slug}/gateway/planted",
    "/var/lib/llmdeploy/{slug}/volume/planted",
    "/run/llmdeploy/{slug}/planted",
    "/root/guarded/.llmdeploy/planted",
    "/tmp/planted",
    "/dev/shm/planted",
    "/var/tmp/planted",
)
HOLDER = """
import mmap, os, sys
removed = open("/var/tmp/removed", "w+")
os.unlink("/var/tmp/removed")
removed.write(sys.stdin.readline())
removed.flush()
shared = open("/var/tmp/mapped", "w+b")
shared.truncate(4096)
os.utime("/var/tmp/mapped", (0, 0))
view = mmap.mmap(shared.fileno(), 4096)
view[:24] = os.environ["MARK"].encode()
os.unlink("/var/tmp/mapped")
print("ready", flush=True)
sys.stdin.read()
"""


def test_every_kind_of_place_is_looked_at(sent: Sent, guarded: Guarded) -> None:
    machine, mark = guarded.machine, sent.marker
    places = [place.format(slug=guarded.slug) for place in PLACES]
    for place in places:
        machine.path(place).write_text(f"before {mark} after")
    machine.path("/root/core.1").write_bytes(b"\x7fELF" + bytes(12) + b"\x04\x00")
    machine.path("/root/old.gz").write_bytes(gzip.compress(b"first") + gzip.compress(mark.encode()))
    machine.run(f"set -e; ln -s /nowhere/{mark} /root/link; touch /root/{mark}")
    command = machine.command(f"exec python3 -c '{HOLDER}' {mark}", {"MARK": mark})
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, cwd="/", text=True, stdin=pipe, stdout=pipe, stderr=nowhere) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(f"{mark}\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "ready\n"
        scan = Scan(machine, sent.needles(), sent.since)
        found = {hit.place for hit in scan.hits({"a page": mark.encode()})}
        holder.stdin.close()
    for place in (*places, "/root/core.1", "/root/old.gz", "/root/link", f"/root/{mark}"):
        machine.path(place).unlink()
    assert set(places) <= found
    assert scan.cores == ["/root/core.1"]
    assert {"/root/old.gz, unpacked (1)", "the target of /root/link", f"the name of /root/{mark}", "a page"} <= found
    for part in ("cmdline of python3", "environ of python3", "/var/tmp/removed (deleted) of", "/var/tmp/mapped (deleted) of"):
        assert any(part in place for place in found), part
