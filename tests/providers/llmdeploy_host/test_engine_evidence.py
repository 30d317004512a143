"""What the probe of an engine sees: its two scripts alone, and with processes that stand in for an engine.

The real vLLM is looked at in `tests/e2e/test_engine_evidence.py`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.evidence import EVIDENCE, Observation, observations_of
from llmdeploy.sdk import Context, Identity, ProcessSpec, Ref, Run, Traits
from llmdeploy_host import _engine_evidence, _evidence, _probe_program
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._engine_evidence import Place
from llmdeploy_host.host_engine import RESOURCE, engine_service
from llmdeploy_templates.host import engine_canary, engine_evidence
from llmdeploy_templates.host.evidence import kernel, scan
from tests.providers.llmdeploy_host.test_host_engine import PATHS, PROCESS, SPANNING, contained, prior_of, spec_of
from tests.support import require_root, require_tool

ANYWHERE = "0.0.0.0"  # noqa: S104 - it is read, not bound


def place(**changed: Any) -> Place:
    spec = spec_of(engine="vllm", version="0.32.0", **changed)
    service = engine_service(PATHS, spec, "isolated")
    return Place("vllm", service, spec.supervisor, f"{PATHS.run}/engine/0.sock", "/lib/volume/engine-0", f"{PATHS.run}/work-0")


# --- what is promised -------------------------------------------------------------------------------------------------------


def test_promises_of_an_engine_on_the_machine() -> None:
    traits = RESOURCE.traits(spec_of(engine="vllm", version="0.32.0", log_retention_days=7).tree())
    assert traits.process is not None
    assert (traits.process.engine, traits.process.argv, traits.process.env) == ("vllm", PROCESS.argv, PROCESS.env)
    assert [(one.name, one.version) for one in traits.software or ()] == [("vllm", "0.32.0")]
    assert (traits.exposure, traits.in_transit, traits.retention_days) == ("none", "local", 7)
    assert (traits.privileged, traits.core_dumps, traits.private, traits.content_found) == (False, False, True, ())
    assert traits.egress is None, "the machine decides at create whether it can have a network of its own"


def test_a_process_that_is_not_given_its_socket_is_taken_to_be_open() -> None:
    argv = tuple(word for word in PROCESS.argv if word not in ("--uds", "{socket}"))
    traits = RESOURCE.traits(spec_of(process=PROCESS.model_copy(update={"argv": argv})).tree())
    assert (traits.exposure, traits.in_transit) == ("private", "plain")


def test_only_a_container_alone_has_surely_no_way_out() -> None:
    assert RESOURCE.traits(contained().tree()).egress == "none"
    assert RESOURCE.traits(contained(process=SPANNING, head=Ref("host.a", "address")).tree()).egress == "open"


def test_a_state_file_from_before_tells_no_engine_and_plans_no_change() -> None:
    old = {name: value for name, value in spec_of().tree().items() if name not in ("engine", "version")}
    traits = RESOURCE.traits(old)
    assert (traits.process, traits.software) == (None, None)
    wanted = spec_of(engine="vllm", version="0.32.0")
    assert RESOURCE.plan(prior_of(spec_of()), wanted.tree()).action == "no-op"


def test_what_cannot_run_yet_cannot_be_seen(tmp_path: Path) -> None:
    run = Run(Identity("short", "1a2b3c4d" + 24 * "0"), tmp_path, os.environ)
    found = observations_of(RESOURCE.operations[EVIDENCE](Context(run, "host_engine.a"), prior_of(contained()), {}))
    assert {one.fact for one in found} == set(_engine_evidence.FACTS)
    assert all("planned only" in one.reason for one in found)


def test_every_fact_is_one_of_a_resource() -> None:
    assert set(_engine_evidence.FACTS) <= set(Traits.model_fields)
    assert {*engine_evidence.FACTS, engine_canary.FACT, "private"} == set(_engine_evidence.FACTS)


# --- the scripts on the machine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s6", "systemd"])
def test_scripts_pass_shellcheck(kind: str) -> None:
    require_tool("shellcheck")
    where = place(supervisor=kind)
    for question in _engine_evidence.questions(PATHS, where, (1, 2)):
        script = _evidence.script_of([question])
        assert len(script.encode()) < 120_000, "one argument of a command"
        checked = subprocess.run(["shellcheck", "-s", "sh", "-"], input=script, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


def test_where_the_journal_keeps_the_log_it_is_asked() -> None:
    running, files, canary = _engine_evidence.questions(PATHS, place(supervisor="systemd"), (7,))
    assert f"/etc/systemd/journald@{PATHS.user}-engine-0.conf" in running.script
    assert "journalctl" in canary.script
    assert PATHS.log not in files.command


def told_by(capsys: pytest.CaptureFixture[str], script: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Run a script here and return fact -> value, or fact? -> reason."""
    script.main(json.dumps(asked), *([str(os.getuid())] if script is engine_evidence else []))
    rows = (line.split("\t", 1) for line in capsys.readouterr().out.splitlines() if "\t" in line)
    return {fact: text if fact.endswith("?") else json.loads(text) for fact, text in rows}


def asked_of(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    log = {"kind": "systemd", "settings": str(tmp_path / "journal.conf")}
    return {
        "engine": "vllm",
        "socket": str(tmp_path / "engine.sock"),
        "argv": [],
        "env": ["PLANNED"],
        "files": {},
        "log": log,
        "supervised": ["echo", "0"],
        **changed,
    }


def test_nothing_is_told_of_an_engine_that_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = told_by(capsys, engine_evidence, asked_of(tmp_path))
    assert set(told) == {f"{fact}?" for fact in engine_evidence.FACTS}
    assert all("not running: nothing listens on" in reason for reason in told.values())


SERVER = """
import http.server, os, socket, socketserver, sys
path, log, extra = sys.argv[1], sys.argv[2], sys.argv[3]
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, code, text):
        self.send_response(code); self.send_header("Content-Length", str(len(text))); self.end_headers()
        self.wfile.write(text.encode())
    def do_GET(self):
        models = '{"data": [{"id": "tiny", "max_model_len": 64}]}'
        self.answer(200, {"/version": '{"version": "9.9"}', "/v1/models": models}.get(self.path, "{}"))
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if log and b'"prompt": "' in body: open(log, "ab").write(body[:200] + b"\\n")
        self.answer(503 if extra == "full" else 200, "{}")
    def address_string(self): return "x"
    def log_message(self, *a): pass
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): daemon_threads = True
held = socket.create_server(("0.0.0.0", 0)) if extra == "tcp" else None
server = Server(path, Handler)
print("ready", flush=True)
server.serve_forever()
"""
"""A double of an engine: it speaks just enough HTTP, and writes prompts into a file when it is given one."""


@contextmanager
def engine(tmp_path: Path, *, log: str = "", extra: str = "", argv: tuple[str, ...] = (), **env: str) -> Generator[int]:
    """Run the double with further arguments and variables, and give its process."""
    command = [sys.executable, "-c", SERVER, str(tmp_path / "engine.sock"), log, extra, *argv]
    environ = {"PATH": os.environ["PATH"], **env}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process.pid
        finally:
            process.kill()


def test_arguments_and_environment_are_told_without_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--seed", "7", "--api-key", "s3cret", "t0pmost", "--hf-token=hushhush", "--port", "1")
    variables = {"VLLM_LOGGING_LEVEL": "DEBUG", "VLLM_API_KEY": "s3cret", "OWN": "s3cret", "PLANNED": "p"}
    with engine(tmp_path, argv=argv, **variables):
        told = told_by(capsys, engine_evidence, asked_of(tmp_path))
    process = told["process"]
    assert process["argv"][-8:] == ["--seed", "7", "--api-key", "***", "***", "--hf-token=***", "--port", "1"]
    assert process["env"]["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert process["env"]["PLANNED"] == "p"
    assert {name for name, value in process["env"].items() if value == "***"} >= {"VLLM_API_KEY", "OWN", "PATH"}
    assert "s3cret" not in json.dumps(told)
    assert told["software"] == [{"name": "vllm", "version": "9.9"}]


def test_a_file_of_settings_that_was_changed_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "llmdeploy-logging.json"
    settings.write_text("{}\n")
    asked = asked_of(tmp_path, files={str(settings): hashlib.sha256(b"{}\n").hexdigest()})
    with engine(tmp_path, VLLM_LOGGING_CONFIG_PATH=str(settings)):
        told = [told_by(capsys, engine_evidence, asked)["process"]["env"]["VLLM_LOGGING_CONFIG_PATH"]]
        settings.write_text('{"loggers": 1}\n')
        told.append(told_by(capsys, engine_evidence, asked)["process"]["env"]["VLLM_LOGGING_CONFIG_PATH"])
        settings.unlink()
        told.append(told_by(capsys, engine_evidence, asked)["process"]["env"]["VLLM_LOGGING_CONFIG_PATH"])
    assert told == [str(settings), *[f"{settings} (its content was changed)"] * 2]


def test_a_port_that_is_open_to_all_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with engine(tmp_path):
        told = told_by(capsys, engine_evidence, asked_of(tmp_path))
        assert (told["exposure"], told["in_transit"], told["egress"]) == ("none", "local", "open")
    os.unlink(tmp_path / "engine.sock")
    with engine(tmp_path, extra="tcp"):
        told = told_by(capsys, engine_evidence, asked_of(tmp_path))
        assert (told["exposure"], told["in_transit"]) == ("public", "plain")


def test_an_engine_that_listens_elsewhere_is_found_through_its_supervisor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with engine(tmp_path, extra="tcp") as pid:
        elsewhere = {"socket": str(tmp_path / "other.sock"), "supervised": ["echo", str(pid)]}
        told = told_by(capsys, engine_evidence, asked_of(tmp_path, **elsewhere))
    assert told["exposure"] == "public"
    assert "does not answer" in told["software?"]


def test_the_children_of_an_engine_belong_to_it(tmp_path: Path) -> None:
    with engine(tmp_path) as pid:
        assert pid in engine_evidence.holders(str(tmp_path / "engine.sock"))
        assert pid in engine_evidence.family([os.getpid()])
        assert engine_evidence.top(pid, [os.getpid(), pid]) == os.getpid()


def test_rights_and_limits_are_those_of_the_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_root()
    with engine(tmp_path) as pid:
        assert told_by(capsys, engine_evidence, asked_of(tmp_path))["privileged"] is True, "it runs as root"
        subprocess.run(["prlimit", f"--pid={pid}", "--core=0:0"], check=True)
        told = told_by(capsys, engine_evidence, asked_of(tmp_path))
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    assert told["core_dumps"] is False or pattern.startswith("|")


@pytest.mark.parametrize(
    ("limits", "pattern", "dumps"),
    [
        ("0 0", "core", False),
        ("unlimited unlimited", "core", True),
        ("0 unlimited", "core", True),
        ("0 0", "|/usr/share/apport/apport %p", True),
        ("0 0", "|/bin/false", False),
        ("0 0", "|/lib/systemd/systemd-coredump %P", False),
        ("0 0", "|", False),
    ],
)
def test_where_a_crash_leaves_memory(monkeypatch: pytest.MonkeyPatch, limits: str, pattern: str, dumps: bool) -> None:
    soft, hard = limits.split()
    files = {"/proc/7/limits": f"Limit\nMax core file size        {soft}          {hard}          bytes\n"}

    def text_of(path: str) -> str:
        return files.get(path, f"{pattern}\n")

    monkeypatch.setattr(engine_evidence, "text_of", text_of)
    looked = object.__new__(engine_evidence.Engine)
    looked.pids = [7]
    assert looked.core_dumps() is dumps


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("0100007F:1F90", "127.0.0.1", 8080),
        ("00000000:0050", ANYWHERE, 80),
        ("00000000000000000000000001000000:0016", "::1", 22),
        ("0000000000000000FFFF00000100007F:0001", "::ffff:127.0.0.1", 1),
    ],
)
def test_addresses_are_read_as_the_kernel_writes_them(text: str, address: str, port: int) -> None:
    found, at = kernel.endpoint(text)
    assert (found.replace("7f00:1", "127.0.0.1"), at) == (address, port)


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("127.0.0.1", "host"),
        ("::1", "host"),
        ("::ffff:127.0.0.1", "host"),
        ("10.1.2.3", "private"),
        ("192.168.0.7", "private"),
        (ANYWHERE, "public"),
        ("::", "public"),
        ("8.8.8.8", "public"),
    ],
)
def test_who_reaches_an_address(address: str, who: str) -> None:
    assert kernel.reach(address) == who


def test_how_long_a_journal_keeps_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "journal.conf"
    with engine(tmp_path):
        assert "is not set" in told_by(capsys, engine_evidence, asked_of(tmp_path))["retention_days?"]
        settings.write_text("[Journal]\nMaxRetentionSec=12day\n")
        assert told_by(capsys, engine_evidence, asked_of(tmp_path))["retention_days"] == 12
        (tmp_path / "journal.conf.d").mkdir()
        (tmp_path / "journal.conf.d" / "longer.conf").write_text("[Journal]\nMaxRetentionSec=0\n")
        assert "12day and 0" in told_by(capsys, engine_evidence, asked_of(tmp_path))["retention_days?"]


# --- planted content --------------------------------------------------------------------------------------------------------


def planted(tmp_path: Path, pid: int, **changed: Any) -> dict[str, Any]:
    folder = tmp_path / "kept"
    folder.mkdir(exist_ok=True)
    asked = {"socket": str(tmp_path / "engine.sock"), "pids": [pid], "folders": [str(folder)], "logs": [], "shared": []}
    return {**asked, "journal": "", "timeout_s": 60, **changed}


def test_an_engine_that_keeps_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with engine(tmp_path) as pid:
        assert told_by(capsys, engine_canary, planted(tmp_path, pid)) == {"content_found": []}
    assert list((tmp_path / "kept").iterdir()) == [], "the control was removed"


@pytest.mark.parametrize("where", ["kept", "elsewhere"])
def test_prompts_in_a_file_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str) -> None:
    (tmp_path / where).mkdir()
    log = tmp_path / where / "engine.log"
    with engine(tmp_path, log=str(log)) as pid:
        told = told_by(capsys, engine_canary, planted(tmp_path, pid, shared=[str(tmp_path / "elsewhere")]))
    assert any(found.startswith("prompt in ") and found.endswith(str(log)) for found in told["content_found"]), told


def test_an_open_file_is_searched_wherever_it_lies(tmp_path: Path) -> None:
    away = tmp_path / "away.log"
    marks = scan.Marks()
    with open(away, "w") as file:
        file.write(f"x {marks['prompt']}\n")
        file.flush()
        away.unlink()
        search = scan.Search(marks)
        engine_canary.look(search, planted(tmp_path, os.getpid()), time.time())
    assert any(found.startswith("prompt in ") and "away.log" in found for found in search.found), search.found


def test_an_engine_that_took_no_request_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with engine(tmp_path, extra="full") as pid:
        told = told_by(capsys, engine_canary, planted(tmp_path, pid))
    assert "did not take the request with prompt (503)" in told["content_found?"]


def test_a_search_that_does_not_find_its_own_control_proves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(folder: str, since: float) -> Iterator[str]:
        return iter(())

    monkeypatch.setattr(scan, "changed_files", never)
    with engine(tmp_path) as pid:
        told = told_by(capsys, engine_canary, planted(tmp_path, pid))
    assert "does not find what was planted" in told["content_found?"]
    assert list((tmp_path / "kept").iterdir()) == []


def test_too_much_to_search_proves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "MOST_BYTES", 1)
    with engine(tmp_path) as pid:
        assert "to search" in told_by(capsys, engine_canary, planted(tmp_path, pid))["content_found?"]


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda text: text,
    "reversed": lambda text: text[::-1],
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "hex": lambda text: text.hex().encode(),
    "json": lambda text: json.dumps(text.decode("latin-1")).encode(),
    "utf-16": lambda text: text.decode("latin-1").encode("utf-16-le"),
}


@given(st.binary(max_size=9), st.binary(max_size=9), st.sampled_from(sorted(ENCODINGS)), st.integers(1, 40))
def test_content_is_found_however_it_is_written_and_wherever_it_is_cut(before: bytes, after: bytes, how: str, piece: int) -> None:
    marks = scan.Marks()
    text = ENCODINGS[how](before + marks["prompt"].encode() + after)
    search = scan.Search(marks)

    class Pieces(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(piece)

    search.stream(Pieces(b"." * 50 + text + b"." * 50), "file")
    assert search.found


def test_token_ids_count_as_content() -> None:
    marks = scan.Marks()
    search = scan.Search(marks, list(range(100, 120)))
    search.stream(io.BytesIO(b"prompt_token_ids: [5, " + ", ".join(map(str, range(100, 120))).encode() + b"]"), "log")
    assert search.found == {"content as token ids in log"}


def test_other_texts_are_not_taken_for_content() -> None:
    marks, other = scan.Marks(), scan.Marks().stem
    search = scan.Search(marks, [1, 2, 3])
    search.stream(io.BytesIO(f"{other} {marks.stem[:-1]} 1, 2, 3".encode()), "file")
    assert search.found == set()


def test_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "file").write_text("x")
    assert list(scan.changed_files(str(tmp_path), 0)) == [str(tmp_path / "file")]
    search = scan.Search(scan.Marks())
    with pytest.raises(kernel.Unclear, match="cannot be read"):
        search.file(str(tmp_path / "link"))


# --- what is made of it -----------------------------------------------------------------------------------------------------


def test_each_fact_shows_its_own_command_and_its_own_lines() -> None:
    running, *_ = _engine_evidence.questions(PATHS, place(), ())
    output = "\n".join(
        [
            f"{_BEGIN}0",
            "pids: 7 8",
            "egress: pid 7: net:[1]: nothing but loopback",
            'egress\t"none"',
            "core_dumps?\tprocess 7 ended meanwhile",
            f"{_STATUS}0",
        ]
    )
    found = _engine_evidence.told(PATHS, place(), _evidence.answers([running], "node", output), output)
    by_fact = {one.fact: one for one in found}
    assert by_fact["egress"].value == "none"
    assert by_fact["egress"].output == "pid 7: net:[1]: nothing but loopback"
    assert "/proc/PID/ns/net" in by_fact["egress"].command
    assert (by_fact["core_dumps"].value, by_fact["core_dumps"].reason) == (None, "process 7 ended meanwhile")
    assert by_fact["privileged"].reason == "the probe did not tell it"
    assert _engine_evidence.pids_of(output) == (7, 8)


_BEGIN, _STATUS = "::question ", "::status "


def test_a_machine_without_python_tells_nothing(tmp_path: Path) -> None:
    running, *_ = _engine_evidence.questions(PATHS, place(), ())
    output = f"{_BEGIN}0\ntimeout: failed to run command 'python3'\n{_STATUS}127\n"
    found = list(_engine_evidence.told(PATHS, place(), _evidence.answers([running], "node", output), output))
    assert all(one.reason == "the probe ended with status 127" for one in found)
    assert all("python3" in one.output for one in found)


def test_a_machine_that_cannot_be_asked_gives_every_fact_a_reason(tmp_path: Path) -> None:
    run = Run(Identity("short", "1a2b3c4d" + 24 * "0"), tmp_path, os.environ)
    far = Connection(transport="ssh", address="10.9.9.9")
    found = _engine_evidence.observe(Context(run, "host_engine.a"), far, Paths(run.slug), place())
    assert {one.fact for one in found} == set(_engine_evidence.FACTS)
    assert all(one.reason and one.host == "10.9.9.9" for one in found)


def test_values_are_of_the_facts_type() -> None:
    spec = ProcessSpec.model_validate(PROCESS)
    told = {"process": {"engine": "vllm", "argv": list(spec.argv), "env": spec.env}, "software": [{"name": "a", "version": "1"}]}
    for fact, value in {**told, "content_found": ["prompt in x"], "retention_days": 3}.items():
        one = Observation(fact=fact, value=value)
        assert Traits.model_validate({one.fact: one.value}) != Traits()


def test_an_abstract_socket_in_the_machines_network_is_open_to_all(tmp_path: Path) -> None:
    require_root()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0llmdeploy-test")
        server.listen()
        looked = engine_evidence.Engine({"socket": "@llmdeploy-test", "supervised": ["true"]}, 0)
        assert [level for line, level in looked.open_to if "@llmdeploy-test" in line] == ["host"]


def test_a_port_of_the_machines_network_that_a_process_without_one_holds_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a supervisor hands it over: the process has nothing but loopback, and clients come in all the same."""
    require_root()
    with socket.create_server((ANYWHERE, 0)) as door:
        command = ["unshare", "--net", sys.executable, "-c", SERVER, str(tmp_path / "engine.sock"), "", ""]
        with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[door.fileno()]) as process:
            if not process.stdout or process.stdout.readline() != b"ready\n":
                pytest.skip("this kernel gives no process a network of its own")
            try:
                told = told_by(capsys, engine_evidence, asked_of(tmp_path))
            finally:
                process.kill()
    assert (told["egress"], told["exposure"], told["in_transit"]) == ("none", "public", "plain")


def test_a_child_that_ended_meanwhile_is_no_bad_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with engine(tmp_path) as pid:
        looked = engine_evidence.Engine(asked_of(tmp_path), os.getuid())
        looked.pids = [pid, 2**22 + 1]
        assert looked.each(lambda one: one == pid) == [True]
        looked.pids = [2**22 + 1]
        with pytest.raises(kernel.Unclear, match="ended meanwhile"):
            looked.privileged()


def test_a_password_in_an_address_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = "https://ops:s3cret@traces.example:4317/v1"
    with engine(tmp_path, argv=("--otlp-traces-endpoint", address), OTEL_EXPORTER_OTLP_ENDPOINT=address):
        told = told_by(capsys, engine_evidence, asked_of(tmp_path))["process"]
    assert told["argv"][-1] == told["env"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://***@traces.example:4317/v1"


def test_content_in_the_name_of_a_file_is_found(tmp_path: Path) -> None:
    marks = scan.Marks()
    (tmp_path / f"cache-{marks['prompt']}.bin").touch()
    search = scan.Search(marks)
    search.below(str(tmp_path), 0)
    assert search.found == {f"prompt in a name in {tmp_path}"}


def test_a_probe_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM and SIGHUP come when the user stops the audit or the connection breaks."""
    program = _probe_program.program(("evidence.kernel", "evidence.scan", "engine_canary"))
    waits = program.replace("sys.modules['host.engine_canary'].main", "search = sys.modules['host.evidence.scan'].Search\n"
                            "search.below = lambda *a: (print('planted', flush=True), __import__('time').sleep(60))\n"
                            "sys.modules['host.engine_canary'].main")  # fmt: skip
    asked = planted(tmp_path, os.getpid())
    for number in (signal.SIGTERM, signal.SIGHUP):
        with subprocess.Popen([sys.executable, "-I", "-c", waits, json.dumps(asked)], stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"planted\n"
            assert list((tmp_path / "kept").iterdir())
            process.send_signal(number)
            assert process.wait(timeout=30) == 128 + number
        assert list((tmp_path / "kept").iterdir()) == []
