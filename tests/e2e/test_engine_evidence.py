"""The probe of `host_engine` on the real vLLM: all is well as it is installed, and each wrong setting made by hand is seen."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.evidence import EVIDENCE, Observation, observations_of
from llmdeploy.sdk import Traits
from llmdeploy.serving.vllm import VLLM
from llmdeploy_host import _service, host_engine
from llmdeploy_host._host_type import locked
from llmdeploy_host._session import run_script
from tests.e2e.engine_lab import HOST, Machine, running_engine, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DAYS = 30


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with running_engine(tmp_path_factory.mktemp("stack")) as made:
        yield made


def look(machine: Machine) -> tuple[Observation, ...]:
    return observations_of(host_engine.RESOURCE.operations[EVIDENCE](machine.context(), machine.prior(), {}))


def values(found: tuple[Observation, ...]) -> dict[str, Any]:
    """Return the value of each fact."""
    assert [one for one in found if one.reason] == []
    return {one.fact: one.value for one in found}


def judged(process: Mapping[str, Any]) -> tuple[str, ...]:
    argv, env = process["argv"], process["env"]
    return (*VLLM.leaks(argv, env), *VLLM.reports(argv, env), *VLLM.keeps_content(argv, env))


def main_pid(machine: Machine) -> int:
    return int(machine.inspect()["pid"])


@contextmanager
def mode(path: str, bits: int) -> Generator[None]:
    before = os.stat(path).st_mode & 0o7777
    os.chmod(path, bits)
    yield
    os.chmod(path, before)


def listing(machine: Machine) -> set[str]:
    folders = (machine.paths.run, machine.paths.log, machine.spec.volume)
    found = (path for folder in folders for path in Path(folder).rglob("*"))
    return {str(path) for path in found if "supervise" not in path.parts and not path.name.startswith("@")}


def test_all_is_well_as_it_is_installed(machine: Machine) -> None:
    before = listing(machine)
    found = look(machine)
    told = values(found)
    process = told.pop("process")
    isolated = machine.outputs is not None and machine.outputs.network == "isolated"
    assert told == {
        "software": [{"name": "vllm", "version": VLLM.default_version}],
        "exposure": "none" if isolated else "host",
        "in_transit": "local",
        "egress": "none" if isolated else "open",
        "privileged": False,
        "core_dumps": False,
        "private": True,
        "retention_days": DAYS,
        "content_found": [],
    }
    assert judged(process) == ()
    assert process["argv"] == list(host_engine.engine_service(machine.paths, machine.spec, "isolated").argv)
    assert {name: process["env"][name] for name in machine.spec.process.env}.items() <= process["env"].items()
    assert machine.drift() == (), "the probe changed nothing"
    assert listing(machine) == before, "and left nothing behind"


def test_what_is_seen_is_what_was_promised(machine: Machine) -> None:
    promised = host_engine.RESOURCE.traits(machine.spec.tree()).model_dump(mode="json")
    for one in look(machine):
        Traits.model_validate({one.fact: one.value})
        if one.fact not in ("process", "egress", "exposure"):
            assert one.value == promised[one.fact], one.fact
        assert one.command
        assert one.output or one.fact == "private"


def test_every_field_was_sent_and_the_control_was_found(machine: Machine) -> None:
    (content,) = [one for one in look(machine) if one.fact == "content_found"]
    control, sent, searched = content.output.splitlines()
    assert control.endswith("found in each")
    statuses = dict(pair.split("=") for pair in sent.removeprefix("sent: ").split())
    assert len(statuses) >= 20
    assert {field for field, status in statuses.items() if status == "200"} >= {"prompt", "message", "system", "stream", "stop"}
    refused = {field for field, status in statuses.items() if status.startswith("4")}
    assert refused >= {"model", "wrong_type", "too_long", "malformed", "regex"}
    assert "searched: 0 files" not in searched


@pytest.mark.parametrize(
    ("name", "words"), [("logging", "settings that are not on its command line"), ("start", "another program")]
)
def test_files_of_the_engine_that_were_changed_are_seen(machine: Machine, name: str, words: str) -> None:
    (path,) = [Path(one) for one in host_engine.engine_files(machine.paths, machine.spec) if f"llmdeploy-{name}" in one]
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    (sentence,) = judged(values(look(machine))["process"])
    assert words in sentence
    path.write_bytes(before)
    assert judged(values(look(machine))["process"]) == ()


def test_a_log_that_others_can_read_is_seen(machine: Machine) -> None:
    folder = f"{machine.paths.log}/engine-0"
    with mode(machine.paths.log, 0o755), mode(folder, 0o711), mode(f"{folder}/current", 0o644):
        assert values(look(machine))["private"] is False
    assert values(look(machine))["private"] is True


def test_a_socket_that_others_can_open_is_seen(machine: Machine) -> None:
    assert machine.outputs
    socket = Path(machine.outputs.socket)
    with mode(str(socket.parent), 0o755), mode(str(socket), 0o666):
        assert values(look(machine))["exposure"] == "host"


def test_a_process_that_may_dump_its_memory_is_seen(machine: Machine) -> None:
    pid = main_pid(machine)
    raised = ["prlimit", f"--pid={pid}", "--core=unlimited:unlimited"]
    if subprocess.run(raised, check=False, capture_output=True).returncode != 0:
        pytest.skip("not even root may raise a limit here")
    assert values(look(machine))["core_dumps"] is True
    subprocess.run(["prlimit", f"--pid={pid}", "--core=0:0"], check=True)
    assert values(look(machine))["core_dumps"] is False


def test_a_log_that_is_kept_for_too_long_is_seen(machine: Machine) -> None:
    settings = Path(f"{machine.paths.run}/services/engine-0/data/retention_minutes")
    before = settings.read_text()
    settings.write_text(f"{400 * 24 * 60}\n")
    assert values(look(machine))["retention_days"] == 400
    settings.write_text(before)
    old = Path(f"{machine.paths.log}/engine-0/@4000000000000000000000.s")
    old.write_text("")
    os.utime(old, (0, 0))
    assert values(look(machine))["retention_days"] > 365 * 50
    old.unlink()


def test_a_log_that_nobody_shortens_is_not_taken_for_kept(machine: Machine) -> None:
    janitor = f"{machine.paths.run}/services/llmdeploy-janitor"
    subprocess.run(["s6-svc", "-wd", "-d", janitor], check=True)
    (kept,) = [one for one in look(machine) if one.fact == "retention_days"]
    assert (kept.value, "not running" in kept.reason) == (None, True)
    subprocess.run(["s6-svc", "-wu", "-u", janitor], check=True)
    assert values(look(machine))["retention_days"] == DAYS


def test_a_way_out_of_its_network_is_seen(machine: Machine) -> None:
    space = f"--net=/proc/{main_pid(machine)}/ns/net"
    add = ["nsenter", space, "ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1"]
    if subprocess.run(add, check=False, capture_output=True).returncode != 0:
        pytest.skip("this kernel makes no pairs of interfaces")
    assert values(look(machine))["egress"] == "open"
    subprocess.run(["nsenter", space, "ip", "link", "delete", "out0"], check=True)
    assert values(look(machine))["egress"] == "none"


def test_an_engine_started_by_hand_with_wrong_settings_is_seen(machine: Machine) -> None:
    """As root, in the machine's network, with requests logged: what a hurried person does to find an error."""
    service = host_engine.engine_service(machine.paths, machine.spec, "loopback")
    wrong = replace(
        service,
        argv=(*service.argv, "--enable-log-requests", "--log-error-stack"),
        env={**service.env, "VLLM_LOGGING_LEVEL": "DEBUG", "VLLM_LOGGING_CONFIG_PATH": ""},
        user=None,
        isolate_network=False,
    )
    install = _service.install_script(machine.paths, wrong, machine.spec.supervisor)
    run_script(machine.context(), HOST, locked(machine.paths, "test", install))
    until(lambda: machine.inspect()["state"] == "ready")
    told = values(look(machine))
    assert (told["privileged"], told["egress"], told["exposure"]) == (True, "open", "host")
    sentences = " ".join(judged(told["process"]))
    assert all(
        word in sentences for word in ("--enable-log-requests", "--log-error-stack", "VLLM_LOGGING_LEVEL DEBUG", "crashes")
    )
    log = f"{machine.paths.log}/engine-0/current"
    leaked = {sentence.removesuffix(f" in {log}") for sentence in told["content_found"] if sentence.endswith(log)}
    assert leaked >= {"prompt", "message", "stop", "choice", "user", "wrong_type", "regex", "too_long", "header"}, leaked


def test_an_engine_that_does_not_run_tells_nothing(machine: Machine) -> None:
    stop = _service.stop_script(machine.paths, "engine-0", machine.spec.supervisor)
    run_script(machine.context(), HOST, locked(machine.paths, "test", stop))
    found = look(machine)
    told = [one for one in found if not one.reason]
    assert {one.fact for one in told} <= {"private"}, "other users' rights to its files can still be seen"
    assert all("not running" in one.reason for one in found if one.reason)
    assert {one.fact for one in found if one.reason} >= {"process", "content_found", "core_dumps", "privileged"}
