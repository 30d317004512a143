"""What `evidence` sees of a real gateway: everything as it was planned, and each wrong setting made by hand as exactly that."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.sdk import EVIDENCE, Observation, Traits
from llmdeploy_host._gateway_evidence import FACTS
from llmdeploy_host._gateway_spec import LOG_FIELDS
from llmdeploy_host._key_format import mint
from llmdeploy_host.host_gateway import RESOURCE

from ...support import require_root, require_tool
from .gateway_lab import Seen, free_port, wait_for
from .gateway_world import World, processes

pytestmark = pytest.mark.integration

Edit = Callable[[str], str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_root()
    require_tool("haproxy", "s6-svscan", "curl", "/usr/bin/python3")
    made = World(tmp_path_factory.mktemp("stack"))
    try:
        made.begin()
        made.spec = made.spec.model_copy(update={"generic_errors": True})
        made.create()
        yield made
    finally:
        made.end()


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """The same gateway for every test, as it was applied before and after each."""
    yield shared
    # without the note of what is loaded, the next update loads what it writes
    Path(shared.paths.run, "edge", "loaded").unlink(missing_ok=True)
    for path in Path(shared.paths.log, "gateway").iterdir():
        if path.name == "current":
            path.write_bytes(b"")
    shared.update()


def look(world: World) -> dict[str, Observation]:
    """What the operation tells, by fact."""
    found = [Observation.model_validate(one) for one in world.operate(EVIDENCE)]
    assert tuple(one.fact for one in found) == FACTS
    assert all(one.command for one in found if not one.reason)
    return {one.fact: one for one in found}


def planned(world: World) -> dict[str, Any]:
    """What the plan promised of every fact that is looked at."""
    traits = RESOURCE.traits(world.spec.tree()).model_dump(mode="json")
    return {fact: traits[fact] for fact in FACTS}


def bad(world: World, *, unclear: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every fact that is not as it was planned; those of `unclear`, and no others, must have a reason.

    Where it sends requests cannot be told of any configuration that was edited by hand.
    """
    found = look(world)
    untold = {fact for fact, one in found.items() if one.reason}
    assert untold - {"data_flows"} == set(unclear) - {"data_flows"}, [one.reason for one in found.values()]
    return {fact: one.value for fact, one in found.items() if not one.reason and one.value != planned(world)[fact]}


def by_hand(world: World, edit: Edit) -> None:
    """Edit haproxy.cfg on the machine and load it."""
    path = Path(world.paths.lib, "gateway", "haproxy.cfg")
    before, after = path.read_text(), edit(path.read_text())
    assert before != after
    path.write_text(after)
    reload(world)


def reload(world: World) -> None:
    master = world.master()
    children = Path(f"/proc/{master}/task/{master}/children")
    old = set(children.read_text().split())
    os.kill(master, signal.SIGUSR2)
    # the old worker is gone when the new one has taken its sockets over: there are no open streams
    wait_for(lambda: children.read_text() and not old & set(children.read_text().split()))
    wait_for(lambda: answers(world))


def answers(world: World) -> bool:
    try:
        return world.status(None, "/healthz") == 200
    except OSError:
        return False


def logged(field: str) -> Edit:
    """Add a field to the log's lines."""
    return lambda text: re.sub(r"^(  log-format '{)", rf"\1{field},", text, flags=re.MULTILINE)


def without_keys(text: str) -> str:
    """The configuration without what asks for a key."""
    return re.sub(r".*deny deny_status 401.*\n", "", text)


# --- as it was applied ------------------------------------------------------------------------------------------------------


def test_everything_is_as_it_was_planned(world: World) -> None:
    assert bad(world) == {}
    Traits.model_validate({fact: one.value for fact, one in look(world).items()})


def test_looking_leaves_nothing_and_tells_no_secret(world: World) -> None:
    folders = [Path(world.paths.run), Path(world.paths.lib, "gateway")]
    before = {path for folder in folders for path in folder.rglob("*") if "state" not in str(path)}
    live, drift = processes(), world.drift()
    told = str(world.operate(EVIDENCE))
    assert {path for folder in folders for path in folder.rglob("*") if "state" not in str(path)} == before
    assert {pid for pid, command in processes().items() if world.slug in command} == {
        pid for pid, command in live.items() if world.slug in command
    }
    assert world.drift() == drift == []
    assert world.secret("one") not in told
    assert "llmd_live_" not in told.replace("grep -rlaE 'llmd_(live|test)_", "")
    assert not re.search(r"[A-Z2-7]{24}", told), "a marker is told"


def test_the_log_of_other_clients_is_no_part_of_it(world: World) -> None:
    assert world.status(world.secret("one")) == 200
    assert "label:one" not in str(world.operate(EVIDENCE))


# --- wrong by hand ----------------------------------------------------------------------------------------------------------

UNKNOWN_CONFIG = ("guards",)
"""With another configuration than the one that was applied, nobody knows what becomes of an engine's error texts."""


def test_an_older_tls_is_seen(world: World) -> None:
    old = r"\1 ssl-min-ver TLSv1.0 ciphers ALL:@SECLEVEL=0"
    by_hand(world, lambda text: re.sub(r"(bind ipv4@.*)", old, text))
    assert bad(world, unclear=UNKNOWN_CONFIG) == {"tls_min": "1.0"}


def test_a_second_door_without_tls_is_seen(world: World) -> None:
    by_hand(world, lambda text: text.replace("  bind ipv4@", f"  bind ipv4@127.0.0.1:{free_port()}\n  bind ipv4@"))
    assert bad(world, unclear=UNKNOWN_CONFIG) == {"tls_min": "none", "in_transit": "plain"}


@pytest.mark.parametrize(("address", "value"), [("0.0.0.0", "public"), ("", "public")], ids=["every-ipv4", "another-door"])  # noqa: S104
def test_a_wider_door_is_seen(world: World, address: str, value: str) -> None:
    def wider(text: str) -> str:
        if address:
            return text.replace("bind ipv4@127.0.0.1:", f"bind ipv4@{address}:")
        second = f"  bind ipv4@:{free_port()} ssl crt {world.paths.lib}/gateway/tls.pem\n"
        return text.replace("  bind ipv4@", f"{second}  bind ipv4@")

    by_hand(world, wider)
    assert bad(world, unclear=UNKNOWN_CONFIG) == {"exposure": value}


def test_another_field_of_the_log_is_seen(world: World) -> None:
    by_hand(world, logged('"client":"%ci"'))
    ((fact, names),) = bad(world, unclear=UNKNOWN_CONFIG).items()
    assert (fact, set(names)) == ("log_fields", {"client", *LOG_FIELDS})


def test_a_query_that_is_written_down_is_found(world: World) -> None:
    by_hand(world, logged('"uri":"%HU"'))
    found = bad(world, unclear=UNKNOWN_CONFIG)
    current = f"{world.paths.log}/gateway/current"
    assert set(found.pop("log_fields")) == {"uri", *LOG_FIELDS}
    assert found == {"content_found": [f"path in {current}", f"query in {current}"]}


@pytest.mark.parametrize(
    ("header", "coding", "form"),
    [
        ("x-session-id", "base64", "base64"),
        ("authorization", "hex,lower", "hexadecimal"),
        ("cookie", "lower", "in small letters"),
    ],
)
def test_a_coded_header_that_is_written_down_is_found(world: World, header: str, coding: str, form: str) -> None:
    keep = f"  http-request set-var(txn.kept) req.hdr({header}),{coding}\n"
    note = logged('"model":"%[var(txn.kept)]"')
    by_hand(world, lambda text: note(text).replace("  # 1. exact", f"{keep}  # 1. exact"))
    found = bad(world, unclear=UNKNOWN_CONFIG)
    assert found == {"content_found": [f"content {form} in {world.paths.log}/gateway/current"]}


def test_a_body_that_an_engine_writes_down_is_found(world: World) -> None:
    """In any log of the stack, by any of its processes; nobody needs a key here."""
    kept = Path(world.paths.log, "engine-local", "current")

    class Keeping(list[Seen]):
        def append(self, seen: Seen, /) -> None:
            super().append(seen)
            with kept.open("ab") as file:
                file.write(seen.body)

    kept.parent.mkdir(mode=0o700)
    by_hand(world, without_keys)
    world.engine.seen = Keeping()
    try:
        assert bad(world, unclear=UNKNOWN_CONFIG) == {
            "authenticated": False,
            "content_found": [f"body in {kept}"],
        }
    finally:
        world.engine.seen = []
        shutil.rmtree(kept.parent)


def test_a_query_that_is_taken_is_seen(world: World) -> None:
    by_hand(world, lambda text: re.sub(r".*query_not_accepted.*\n", "", text))
    assert bad(world) == {"guards": ["own-request-ids"]}


def test_an_id_of_the_client_that_is_taken_over_is_seen(world: World) -> None:
    keep = "  http-request set-var(txn.theirs) req.hdr(x-request-id)\n"
    answer = "  http-after-response set-header x-request-id %[var(txn.theirs)] if { var(txn.theirs) -m found }\n"

    def taken(text: str) -> str:
        text = text.replace("  # 1. exact", f"{keep}  # 1. exact")
        return text.replace("  default_backend engine", f"{answer}  default_backend engine")

    by_hand(world, taken)
    assert bad(world, unclear=("log_fields", "content_found")) == {"guards": ["no-query"]}


def test_an_open_door_is_seen(world: World) -> None:
    by_hand(world, without_keys)
    assert bad(world, unclear=UNKNOWN_CONFIG) == {"authenticated": False}


@pytest.mark.parametrize("rule", ["path /v1/embeddings", "path /metrics"])
def test_one_door_that_is_open_is_seen(world: World, rule: str) -> None:
    def opened(text: str) -> str:
        return text.replace(
            "  # 1. exact", f"  use_backend engine if {{ {rule} }}\n  http-request allow if {{ {rule} }}\n  # 1. exact"
        )

    by_hand(world, opened)
    assert bad(world, unclear=UNKNOWN_CONFIG)["authenticated"] is False


def test_a_program_that_takes_some_of_its_connections_is_seen(world: World) -> None:
    with socket.create_server(("127.0.0.1", world.spec.port), reuse_port=True):
        assert bad(world, unclear=FACTS) == {}
        assert "another program takes connections" in look(world)["tls_min"].reason
    assert bad(world) == {}


def test_error_texts_are_not_judged_by_a_configuration_that_somebody_loaded(world: World) -> None:
    path = Path(world.paths.lib, "gateway", "haproxy.cfg")
    whole = path.read_bytes()
    path.write_bytes(whole + b"# by hand\n")
    assert "has not loaded" in look(world)["guards"].reason
    path.write_bytes(whole)
    assert bad(world) == {}
    # somebody loaded another one, and put the file back
    long_ago = time.time() - 3600
    os.utime(Path(world.paths.run, "edge", "loaded"), (long_ago, long_ago))
    assert "after its configuration was noted" in look(world)["guards"].reason


def test_a_server_elsewhere_is_seen(world: World) -> None:
    assert look(world)["data_flows"].value == []
    by_hand(world, lambda text: re.sub(r"^(backend engine\n)", r"\1  server away 192.0.2.7:443\n", text, flags=re.MULTILINE))
    (flow,) = look(world)["data_flows"].value
    assert (flow["to"], flow["carries"]) == ("192.0.2.7", "prompts")
    Traits.model_validate({"data_flows": [flow]})


def test_where_it_sends_is_not_told_of_a_configuration_that_was_edited(world: World) -> None:
    by_hand(world, lambda text: text + "\n# by hand\n")
    assert "has not loaded" in look(world)["data_flows"].reason


def test_error_texts_that_nobody_asked_to_replace_are_no_guard(world: World) -> None:
    world.update(generic_errors=False)
    try:
        assert look(world)["guards"].value == ["no-query", "own-request-ids"]
    finally:
        world.update(generic_errors=True)
    assert look(world)["guards"].value == ["generic-errors", "no-query", "own-request-ids"]


# --- keys and files ---------------------------------------------------------------------------------------------------------


def test_a_key_in_a_file_is_seen(world: World) -> None:
    stray = Path(world.paths.lib, "gateway", "notes.txt")
    stray.write_bytes(b"x=" + mint().secret.reveal() + b"\n")
    stray.chmod(0o600)
    try:
        assert bad(world) == {"stored_keys": "clear"}
        # what only looks like a key is none
        stray.write_bytes(b"llmd_live_" + b"a" * 8 + b"_" + b"a" * 49)
        assert bad(world) == {}
    finally:
        stray.unlink()


def test_a_key_in_the_log_is_seen(world: World) -> None:
    with Path(world.paths.log, "gateway", "current").open("ab") as log:
        log.write(b"somebody printed " + mint().secret.reveal() + b"\n")
    assert bad(world) == {"stored_keys": "clear"}


@pytest.mark.parametrize("name", ["hunter2", "llmd"])
def test_a_key_in_memory_that_is_no_hash_is_seen(world: World, name: str) -> None:
    text = name if name != "llmd" else mint().secret.reveal().decode()
    path = f"{world.paths.lib}/gateway/keys.map"
    script = f"echo 'add map {path} {text} k|p|1|1|0|0|9999999999' | {_ask(world)}"
    subprocess.run(["sh", "-c", script], check=True)
    assert bad(world) == {"stored_keys": "clear"}


def test_a_key_in_the_environment_is_seen(world: World) -> None:
    """Of a process that was started with the gateway's configuration."""
    secret = mint().secret.reveal().decode()
    config = f"{world.paths.lib}/gateway/haproxy.cfg"
    with subprocess.Popen(
        ["/usr/sbin/haproxy", "-W", "-db", "-f", "/dev/stdin", "--", config],
        env={"KEY": secret},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        wait_for(lambda: config in processes().get(process.pid, ""))
        try:
            assert bad(world) == {"stored_keys": "clear"}
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("lib/gateway/tls.pem", 0o644),
        ("lib/gateway/keys.map", 0o640),
        ("lib/gateway", 0o755),
        ("run/edge", 0o755),
        ("run/edge/admin.sock", 0o666),
        ("log/gateway", 0o755),
    ],
)
def test_a_file_that_others_can_read_is_seen(world: World, name: str, mode: int) -> None:
    root, _, rest = name.partition("/")
    path = Path(getattr(world.paths, root), rest)
    before = path.stat().st_mode & 0o7777
    path.chmod(mode)
    try:
        assert bad(world) == {"private": False}
    finally:
        path.chmod(before)


# --- how long lines are kept ------------------------------------------------------------------------------------------------


def test_a_log_that_is_kept_longer_is_seen(world: World) -> None:
    kept = Path(world.paths.run, "services", "gateway", "data", "retention_minutes")
    before = kept.read_text()
    kept.write_text(f"{400 * 24 * 60}\n")
    try:
        assert bad(world) == {"retention_days": 400}
    finally:
        kept.write_text(before)


def test_a_line_that_is_too_old_is_seen(world: World) -> None:
    """Whatever the time of its file says."""
    old = Path(world.paths.log, "gateway", "@4000000000000000deadbeef.s")
    written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 99.5 * 86_400))
    old.write_text(f'no json\n{{"ts":"{written}.000Z"}}\n')
    try:
        assert bad(world) == {"retention_days": 100}
    finally:
        old.unlink()


def test_nobody_keeps_a_log_whose_janitor_is_gone(world: World) -> None:
    service = f"{world.paths.run}/services/llmdeploy-janitor"
    subprocess.run(["s6-svc", "-wD", "-d", service], check=True, timeout=30)
    try:
        assert bad(world, unclear=("retention_days",)) == {}
        assert "janitor" in look(world)["retention_days"].reason
    finally:
        subprocess.run(["s6-svc", "-wu", "-u", service], check=True, timeout=30)
        wait_for(lambda: not look(world)["retention_days"].reason)


# --- what cannot be told ----------------------------------------------------------------------------------------------------


def test_of_a_gateway_that_was_stopped_nothing_is_told(world: World) -> None:
    subprocess.run(["s6-svc", "-wD", "-d", f"{world.paths.run}/services/gateway"], check=True, timeout=30)
    assert bad(world, unclear=FACTS) == {}
    assert {one.reason.split(" with /")[0] for one in look(world).values()} == {"no process of the gateway is running"}


def test_of_a_gateway_that_hangs_nothing_good_is_told(world: World) -> None:
    master = world.master()
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    os.kill(int(worker), signal.SIGSTOP)
    try:
        told = {fact for fact, one in look(world).items() if not one.reason}
    finally:
        os.kill(int(worker), signal.SIGCONT)
    assert told == {"exposure", "private", "retention_days"}


def test_without_lines_in_the_log_nothing_is_told_of_it(world: World) -> None:
    log = f"{world.paths.log}/gateway"
    (logger,) = (pid for pid, command in processes().items() if command.startswith("s6-log") and log in command)
    os.kill(logger, signal.SIGSTOP)
    try:
        assert bad(world, unclear=("guards", "log_fields", "content_found")) == {}
    finally:
        os.kill(logger, signal.SIGCONT)


def test_somebody_elses_port_is_not_taken_for_the_gateways(world: World) -> None:
    applied = world.spec
    world.spec = applied.model_copy(update={"port": free_port()})
    try:
        assert bad(world, unclear=FACTS) == {}
        assert "listens on port" in look(world)["tls_min"].reason
    finally:
        world.spec = applied


def _ask(world: World) -> str:
    code = "import socket,sys; s=socket.socket(1); s.connect(sys.argv[1]); s.sendall(sys.stdin.buffer.read()); s.recv(99)"
    return f"/usr/bin/python3 -c '{code}' {world.paths.run}/edge/admin.sock"
