"""`host_gateway` with the real HAProxy under the real s6."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdeploy.sdk import CommandFailed, Interrupted, LlmdeployError, ProviderError
from llmdeploy_host.certificate import read_key
from llmdeploy_host.host_gateway import RESOURCE

from ...support import require_root, require_tool
from .gateway_lab import wait_for
from .gateway_world import World, processes
from .keys_lab import run_in

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_root()
    require_tool("haproxy", "s6-svscan", "curl", "/usr/bin/python3")
    made = World(tmp_path_factory.mktemp("stack"))
    try:
        made.begin()
        made.create()
        yield made
    finally:
        made.end()


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """The same gateway for every test, as it should be before and after each."""
    assert shared.drift() == []
    yield shared
    shared.engine.release()
    shared.update(keys=(shared.gateway_key("one"), shared.gateway_key("two")))


def test_what_create_returns_answers(world: World) -> None:
    assert world.status(None, "/healthz") == 200
    assert world.status(None) == 401
    assert world.status("llmd_live_wrong") == 401
    assert world.status(world.secret("one")) == 200
    assert world.status(world.secret("two"), "/metrics") == 404


def test_the_worker_is_the_stacks_user_in_a_chroot(world: World) -> None:
    children = Path(f"/proc/{world.master()}/task/{world.master()}/children").read_text().split()
    (worker,) = children
    status = Path(f"/proc/{worker}/status").read_text()
    user = Path(world.paths.lib).stat()
    assert user.st_uid == 0
    assert f"Uid:\t{world.home_outputs.uid}\t{world.home_outputs.uid}" in status
    assert "Gid:\t0" not in status
    assert os.readlink(f"/proc/{worker}/root") == world.paths.run


def test_a_removed_key_is_refused_at_once_while_its_open_stream_goes_on(world: World) -> None:
    stream, master = world.stream(world.secret("two")), world.master()
    workers = [pid for pid, command in processes().items() if world.slug in command and "haproxy" in command]
    world.update(keys=(world.gateway_key("one"),))
    assert world.status(world.secret("two")) == 401
    assert world.status(world.secret("one")) == 200
    assert world.master() == master
    assert [pid for pid, command in processes().items() if world.slug in command and "haproxy" in command] == workers
    world.finish(stream)


def test_rotation_overlaps_and_revocation_does_not(world: World) -> None:
    old = world.secret("two")
    world.operate_key("two", "rotate", overlap_hours=1)
    new = world.secret("two")
    world.update(keys=(world.gateway_key("one"), world.gateway_key("two")))
    assert [world.status(key) for key in (old, new)] == [200, 200]
    world.operate_key("two", "revoke", key_id=world.keys["two"].credentials[1].key_id)
    world.update(keys=(world.gateway_key("one"), world.gateway_key("two")))
    assert [world.status(key) for key in (old, new)] == [401, 200]


def test_a_credential_that_ended_is_refused_by_haproxy_itself(world: World) -> None:
    key = world.gateway_key("two")
    ended = tuple(c.model_copy(update={"not_before": 1, "not_after": 2}) for c in key.credentials)
    world.update(keys=(key.model_copy(update={"credentials": ended}),))
    assert world.status(world.secret("two")) == 401


@pytest.mark.parametrize("name", ["haproxy.cfg", "usage.lua", "keys.map", "tls.pem"])
def test_a_file_that_was_edited_or_lost_is_named_and_repaired(world: World, name: str) -> None:
    path = Path(world.paths.lib, "gateway", name)
    whole = path.read_bytes()
    path.write_bytes(whole + b"# by hand\n")
    assert f"gateway: {name} was changed by hand" in world.drift()
    path.unlink()
    assert f"gateway: {name} is missing" in world.drift()
    world.update()
    assert path.read_bytes() == whole
    assert world.drift() == []


@pytest.mark.parametrize("keys", [(), ("one", "two")])
def test_keys_that_are_live_but_not_in_the_stack_are_named_and_removed(world: World, keys: tuple[str, ...]) -> None:
    world.update(keys=tuple(world.gateway_key(name) for name in keys))
    add = f"add map {world.paths.lib}/gateway/keys.map {'0' * 64} stranger|x|1|1|0|0|9999999999\n"
    runtime(world, add)
    assert world.drift() == ["gateway: a key is live that is not in its keys.map"]
    world.update()
    assert world.drift() == []


def test_keys_that_are_not_live_are_named_and_brought_back(world: World) -> None:
    runtime(world, f"clear map {world.paths.lib}/gateway/keys.map\n")
    assert world.drift() == ["gateway: a key of keys.map is not live, or with other limits"]
    world.update()
    assert world.status(world.secret("one")) == 200
    assert world.drift() == []


def test_a_process_with_another_configuration_is_named_and_reloaded(world: World) -> None:
    """What a kill between writing the files and the reload leaves."""
    Path(world.paths.run, "edge", "loaded").write_text("something else\n")
    assert world.drift() == ["gateway: the running process has not loaded its configuration"]
    stream = world.stream(world.secret("one"))
    world.update()
    assert world.drift() == []
    world.finish(stream)


def test_a_killed_process_comes_back_by_itself(world: World) -> None:
    master = world.master()
    os.kill(master, signal.SIGKILL)
    wait_for(lambda: still_answers(world), timeout_s=30)
    assert world.master() != master
    assert world.drift() == []


def test_a_stopped_process_is_named_and_started(world: World) -> None:
    subprocess.run(["s6-svc", "-wD", "-d", f"{world.paths.run}/services/gateway"], check=True, timeout=30)
    assert world.drift() == ["gateway: the process is not running"]
    world.update()
    assert world.status(world.secret("one")) == 200


def test_a_new_certificate_is_shown_without_dropping_a_stream(world: World) -> None:
    before, stream, master = world.certificate.fingerprint, world.stream(world.secret("one")), world.master()
    world.certify(100)
    assert world.certificate.fingerprint != before
    world.update(chain_pem=world.certificate.chain_pem)
    assert shown_certificate(world) in world.certificate.chain_pem
    assert world.master() == master
    world.finish(stream)
    assert world.drift() == []


def test_another_header_and_name_are_a_reload(world: World) -> None:
    stream, master = world.stream(world.secret("one")), world.master()
    world.update(sticky="", served_name="another")
    assert world.master() == master
    world.finish(stream)
    assert world.drift() == []
    world.update(sticky="x-session-id", served_name="tiny")


def test_a_configuration_that_haproxy_refuses_leaves_the_running_one_alone(world: World) -> None:
    before, master = world.spec, world.master()
    with pytest.raises(CommandFailed) as caught:
        world.update(user="no-such-user")
    assert "HAProxy refuses the new configuration" in caught.value.tail
    assert "no-such-user" in caught.value.tail
    world.spec = before
    assert world.drift() == []
    assert world.master() == master
    assert not Path(world.paths.lib, "gateway.new").exists()


def test_an_engine_that_is_down_makes_503_and_inspect_says_so(world: World) -> None:
    assert world.operate("inspect")["state"] == "running"
    world.engine.healthy = False
    try:
        wait_for(lambda: world.operate("inspect")["state"] == "down" or None, timeout_s=30)
        assert world.status(None, "/healthz") == 503
        world.update()
        assert world.status(world.secret("one")) == 503
    finally:
        world.engine.healthy = True
        wait_for(lambda: world.operate("inspect")["state"] == "running" or None, timeout_s=30)


def test_drain_lets_requests_end_and_gives_no_new_ones(world: World) -> None:
    stream = world.stream(world.secret("one"))
    with pytest.raises(ProviderError, match=r"requests are still open: local \(1\)"):
        world.operate("drain", timeout_s=0.5)
    assert world.operate("inspect") == {
        "state": "degraded",
        "port": world.spec.port,
        "log": f"{world.paths.log}/gateway/current",
        "replicas": [{"replica": "local", "state": "draining", "sessions": 1}],
    }
    assert world.status(world.secret("one")) == 503
    world.finish(stream)
    assert world.operate("drain") == {"drained": ["local"]}
    assert world.operate("undrain", replica="local") == {"undrained": ["local"]}
    wait_for(lambda: world.status(world.secret("one")) == 200 or None)
    with pytest.raises(LlmdeployError, match="no replica other"):
        world.operate("drain", replica="other")


def test_the_log_is_metadata_and_can_be_read(world: World) -> None:
    world.status(world.secret("one"))
    key_id = world.keys["one"].credentials[0].key_id
    world.progress.clear()

    def logged() -> bool:
        world.operate("logs", lines=5)
        return any(f'"key_id":"{key_id}"' in line for line in world.progress)

    wait_for(lambda: logged() or None)
    assert not any(world.secret("one") in line for line in world.progress)


def test_the_port_is_ours_or_somebody_elses(world: World) -> None:
    values = world.spec.tree()
    assert RESOURCE.preflight(world.run, values, None) == ()
    other = run_in(world.run.folder, PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    (problem,) = RESOURCE.preflight(other, values, None)
    assert problem.sentence.startswith(f"port {world.spec.port} is taken by haproxy (process ")


@pytest.mark.parametrize("told", ["checking", "starting", "reloading", "bringing the keys"])
def test_a_kill_at_any_part_converges(world: World, told: str) -> None:
    """Even an API key that left the stack meanwhile is dead after the next apply, and no stream of others was cut."""
    stream = world.stream(world.secret("one"))
    if told == "bringing the keys":
        world.spec = world.spec.model_copy(update={"keys": (world.gateway_key("one"),)})
    else:
        world.spec = world.spec.model_copy(update={"keys": (world.gateway_key("one"),), "served_name": f"after-{told[:4]}"})
    assert world.killed_at(told)
    world.update()
    assert world.drift() == []
    assert [world.status(world.secret(name)) for name in ("one", "two")] == [200, 401]
    world.finish(stream)
    world.update(served_name="tiny")


def test_a_reboot_is_named_and_repaired(world: World) -> None:
    world.reboot()
    assert world.drift() == ["gateway: the process is not running"]
    world.update()
    assert world.drift() == []
    wait_for(lambda: world.status(world.secret("one")) == 200 or None)


def test_following_the_log_ends_when_the_run_is_stopped(world: World) -> None:
    world.progress.clear()
    ends: list[BaseException] = []

    def follow() -> None:
        try:
            world.operate("logs", lines=0, follow=True)
        except Interrupted as end:
            ends.append(end)

    thread = threading.Thread(target=follow)
    thread.start()
    try:

        def told() -> bool:
            return world.status(world.secret("one")) == 200 and any('"status":200' in line for line in world.progress)

        wait_for(lambda: told() or None)
    finally:
        world.run.abort.set()
        thread.join(20)
        world.run.abort.clear()
    assert len(ends) == 1


def test_secrets_are_only_where_they_belong(world: World) -> None:
    ca_key = world.run.custody.read("ca.key")
    assert ca_key is not None
    leaf_line = read_key(world.run, world.certificate.key_source).reveal().splitlines()[1]
    ca_line, api_key = ca_key.reveal().splitlines()[1], world.secret("one").encode()
    seen = Watch((leaf_line, ca_line, api_key))
    assert world.status(api_key.decode()) == 200
    with seen:
        world.certify(99)
        world.update(chain_pem=world.certificate.chain_pem)
        assert world.drift() == []
    assert seen.rounds > 3
    assert seen.found == []
    leaf_line = read_key(world.run, world.certificate.key_source).reveal().splitlines()[1]
    tls_pem = Path(world.paths.lib, "gateway", "tls.pem")
    for canary, places in {leaf_line: [tls_pem], ca_line: [], api_key: []}.items():
        assert [path for path in files_of(world) if canary in path.read_bytes()] == places
        assert canary.decode() not in str(world.prior())
        assert not any(canary.decode() in line for line in world.progress)
    assert tls_pem.stat().st_mode & 0o777 == 0o600
    assert tls_pem.parent.stat().st_mode & 0o777 == 0o700


class Watch:
    """Looks at the arguments and the environment of every process, again and again, for what must not be there."""

    def __init__(self, canaries: tuple[bytes, ...]) -> None:
        self.canaries, self.found, self.rounds = canaries, list[str](), 0
        self._end, self._thread = threading.Event(), threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.is_set():
            for pid in processes():
                texts = read(f"/proc/{pid}/cmdline") + read(f"/proc/{pid}/environ")
                self.found += [str(pid) for canary in self.canaries if canary in texts]
            self.rounds += 1


def test_delete_leaves_nothing_and_may_be_repeated(world: World) -> None:
    prior = world.prior()
    for _ in range(2):
        RESOURCE.delete(world.context("host_gateway.local"), prior)
        assert [path for path in files_of(world) if "gateway" in str(path) or "edge" in str(path)] == []
        assert not [command for command in processes().values() if world.slug in command and "haproxy" in command]
    assert world.is_gone()
    world.create()
    assert world.drift() == []


def files_of(world: World) -> list[Path]:
    roots = (world.paths.lib, world.paths.run, world.paths.log)
    return sorted(path for root in roots for path in Path(root).rglob("*") if path.is_file())


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def runtime(world: World, command: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{world.paths.run}/edge/admin.sock")
        client.sendall(command.encode())
        assert client.recv(1000).strip() == b""


def still_answers(world: World) -> bool | None:
    try:
        return world.status(world.secret("one")) == 200 or None
    except OSError:
        return None


def shown_certificate(world: World) -> str:
    return ssl.get_server_certificate(("127.0.0.1", world.spec.port))
