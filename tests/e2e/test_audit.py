"""`llmdeploy audit` on a real stack: what is right passes, what is made wrong by hand fails, what cannot be seen never passes.

Every wrong setting is made on the running stack, seen by exactly its control, and taken back before the next one.
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from .guarded import FOLDER, Guarded, gateway_says
from .laptop import CHECKOUT, Laptop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GATEWAY: Final = "host_gateway.local"
ENGINE: Final = "host_engine.local"
SENTENCE: Final = "nothing more: it is no statement that a law, a contract or a standard is kept"


@dataclass(frozen=True)
class Audit:
    """One report: result by (control, address)."""

    document: dict[str, Any]

    def of(self, result: str) -> set[tuple[str, str]]:
        """Return the controls and resources with this result."""
        return {(one["control"], one["address"]) for one in self.document["results"] if one["result"] == result}

    def about(self, control: str, address: str) -> str:
        """Return one result, and why."""
        (one,) = [one for one in self.document["results"] if (one["control"], one["address"]) == (control, address)]
        return f"{one['result']}: {one['sentence']}"

    @property
    def evidence(self) -> str:
        """The file of the evidence, from the stack's folder."""
        return str(self.document["evidence"]["file"])

    @property
    def head(self) -> str:
        """The digest of its last line."""
        return str(self.document["evidence"]["head"])


def audited(guarded: Guarded) -> Audit:
    """Run an audit; its exit status says whether anything failed."""
    return Audit(guarded.json("audit", status=(0, 1)))


@pytest.fixture(scope="module", autouse=True)
def up(guarded: Guarded) -> None:
    guarded.endpoint().wait()


@pytest.fixture(scope="module")
def first(guarded: Guarded) -> Audit:
    """The audit of the stack as it was applied."""
    return Audit(guarded.json("audit"))


def test_nothing_fails_where_everything_is_as_applied(first: Audit) -> None:
    assert first.of("fail") == set()
    seen = first.of("pass")
    for control in ("ENC-01", "ENC-03", "KEY-06", "LOG-05", "NET-01", "RET-01", "STATE-01", "STATE-02", "SUP-01", "TLS-02"):
        assert control in {name for name, _ in seen}, control
    for control in ("KEY-01", "KEY-02", "KEY-05", "LOG-02", "LOG-03", "TLS-01"):
        assert (control, GATEWAY) in seen, first.about(control, GATEWAY)
    for control in ("ENG-01", "HOST-03", "LOG-01", "LOG-03", "LOG-04", "LOG-05"):
        assert (control, ENGINE) in seen, first.about(control, ENGINE)
    assert {("DPA-01", ""), ("RES-01", "host.local")} <= first.of("manual"), "what the operator states is no pass"


def test_the_reports_say_the_same_to_everybody(guarded: Guarded, first: Audit) -> None:
    printed = guarded.cli("audit --format junit --out report.xml")
    assert SENTENCE in " ".join(printed.split())
    assert "compliant" not in printed.lower()
    suite = ET.fromstring(guarded.machine.path(f"{FOLDER}/report.xml").read_text())  # noqa: S314 - written by the program itself
    cases = list(suite.iter("testcase"))
    assert len(cases) == len(first.document["results"]) - len(first.of("not_applicable"))
    assert [case for case in cases if case.find("failure") is not None] == []
    skipped = [case for case in cases if case.find("skipped") is not None]
    assert len(skipped) == len(first.of("not_checked") | first.of("manual"))


def test_a_stack_without_a_profile_is_held_to_the_baseline(guarded: Guarded, shared_laptop: Laptop) -> None:
    report = Audit(shared_laptop.json("audit"))
    assert report.document["profiles"] == []
    assert report.of("fail") == set()
    assert {("KEY-01", GATEWAY), ("LOG-01", ENGINE), ("TLS-01", GATEWAY)} <= report.of("pass")


# --- the evidence -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def latest(guarded: Guarded) -> Audit:
    return audited(guarded)


def test_the_evidence_is_intact_and_its_head_is_in_the_state(guarded: Guarded, latest: Audit) -> None:
    report = latest
    assert report.head in guarded.cli("show --format json")
    assert "Intact" in guarded.cli(f"audit --verify {report.evidence} --head {report.head}")
    private = guarded.machine.path(f"{FOLDER}/{report.evidence}")
    assert oct(private.stat().st_mode & 0o777) == "0o600"
    text = private.read_text()
    for secret in (*guarded.secrets.values(), guarded.endpoint().key):
        assert secret not in text


def test_evidence_that_was_touched_is_refused(guarded: Guarded, latest: Audit) -> None:
    report = latest
    path = guarded.machine.path(f"{FOLDER}/{report.evidence}")
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    middle = len(content) // 2
    touched = {
        "a byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "a line in the middle": b"".join(lines[:3] + lines[4:]),
        "the last line": b"".join(lines[:-1]),
        "the order": b"".join([lines[0], lines[2], lines[1], *lines[3:]]),
    }
    for what, changed in touched.items():
        path.write_bytes(changed)
        printed = guarded.cli(f"audit --verify {report.evidence} --head {report.head}", status=1)
        assert "Traceback" not in printed, what
    path.write_bytes(content)
    guarded.cli(f"audit --verify {report.evidence} --head {report.head}")


# --- wrong settings -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """A setting that is made wrong by `do` and right again by `undo`, and who must see it.

    Both are shell scripts; $lib and $run are the stack's folders, `reload` has the gateway read its files again.
    """

    do: str
    undo: str
    fails: tuple[tuple[str, str], ...]


CFG: Final = "$lib/gateway/haproxy.cfg"
WEIGHTS: Final = "$lib/volume/weights/model.safetensors"
VOLUME: Final = "$lib/volume"
STRANGER: Final = "$(echo /var/lib/llmdeploy/shared/runtimes/*/venv/lib/python3*/site-packages)/stranger-1.0.dist-info"
MOUNT: Final = f"gocryptfs -q -nosyslog -allow_other -o nosuid,nodev {VOLUME}.enc/fs {VOLUME} >/dev/null 2>&1"
OLD_TLS: Final = r"s/ssl-min-ver TLSv1.2/ssl-min-ver TLSv1.0/; s/\(ssl-default-bind-ciphers\) .*/\1 ALL:@SECLEVEL=0/"
KEEP: Final = "cp -p {0} {0}.kept; "
BACK: Final = "mv {0}.kept {0}; "
WRONG: Final = {
    "the gateway's private key can be read": Wrong(
        "chmod 0711 $lib/gateway; chmod 0644 $lib/gateway/tls.pem",
        "chmod 0600 $lib/gateway/tls.pem; chmod 0700 $lib/gateway",
        (("KEY-05", GATEWAY), ("KEY-05", "host_home.local")),
    ),
    "an API key's file can be read": Wrong(
        f"chmod 0644 {FOLDER}/.llmdeploy/keys/me.key",
        f"chmod 0600 {FOLDER}/.llmdeploy/keys/me.key",
        (("KEY-05", "api_key.me"), ("STATE-01", "state")),
    ),
    "the state can be read": Wrong(
        f"chmod 0644 {FOLDER}/.llmdeploy/state.json", f"chmod 0600 {FOLDER}/.llmdeploy/state.json", (("STATE-01", "state"),)
    ),
    "a byte of the weights is another one": Wrong(
        KEEP.format(WEIGHTS) + f"printf x | dd of={WEIGHTS} bs=1 seek=5000 conv=notrunc status=none",
        BACK.format(WEIGHTS),
        (("SUP-01", "host_weights.local"),),
    ),
    "the gateway knows a key in clear": Wrong(
        KEEP.format("$lib/gateway/keys.map") + f'echo "$(cat {FOLDER}/.llmdeploy/keys/me.key) me" >>$lib/gateway/keys.map',
        BACK.format("$lib/gateway/keys.map"),
        (("KEY-01", GATEWAY),),
    ),
    "the log has one more field": Wrong(
        KEEP.format(CFG) + f"""sed -i '/^  log-format/s/"bytes_out"/"client":"%ci","bytes_out"/' {CFG}; reload""",
        BACK.format(CFG) + "reload",
        (("LOG-02", GATEWAY),),
    ),
    "the gateway takes TLS 1.0": Wrong(
        KEEP.format(CFG) + f"sed -i '{OLD_TLS}' {CFG}; reload", BACK.format(CFG) + "reload", (("TLS-01", GATEWAY),)
    ),
    "the log holds the path that was asked for": Wrong(
        KEEP.format(CFG) + f"""sed -i '/^  log-format/s/"bytes_out"/"asked":"%HU","bytes_out"/' {CFG}; reload""",
        BACK.format(CFG) + "reload",
        (("LOG-02", GATEWAY), ("LOG-03", GATEWAY)),
    ),
    "the engine has a package that nobody asked for": Wrong(
        f"mkdir {STRANGER}; printf 'Name: stranger\\nVersion: 1.0\\n' >{STRANGER}/METADATA; : >{STRANGER}/RECORD",
        f"rm -r {STRANGER}",
        (("SUP-01", "host_engine_runtime.local"),),
    ),
    "the volume is a plain folder": Wrong(
        f"cp -a {VOLUME} /root/plain; umount -l {VOLUME}; cp -a /root/plain/. {VOLUME}; rm -r /root/plain",
        f'rm -r {VOLUME}/*; echo "$VOLUME_KEY" | {MOUNT}; chmod 0711 {VOLUME}',
        (("ENC-01", "host_volume.local"),),
    ),
}


@contextmanager
def made(guarded: Guarded, do: str, undo: str) -> Generator[None]:
    """Run one script before and one after."""
    machine, slug = guarded.machine, guarded.slug
    head = f"""set -eu; lib=/var/lib/llmdeploy/{slug} run=/run/llmdeploy/{slug} log=/var/log/llmdeploy/{slug}
    reload() {{ s6-svc -2 $run/services/gateway; }}
    """
    socket = machine.path(f"/run/llmdeploy/{slug}/edge/admin.sock")

    def run(script: str) -> None:
        before = gateway_says(socket, "show info") if "reload" in script else b""
        machine.run(head + script, environ=guarded.secrets)
        if before:
            machine.wait_for("the gateway to reload", f"! kill -0 {worker(before)}", timeout_s=20)

    try:
        run(do)
        yield
    finally:
        run(undo)


def worker(info: bytes) -> int:
    """Return the number of HAProxy's worker."""
    return int(next(line for line in info.decode().splitlines() if line.startswith("Pid: ")).split()[1])


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_seen_by_exactly_its_control(guarded: Guarded, name: str) -> None:
    wrong = WRONG[name]
    with made(guarded, wrong.do, wrong.undo):
        report = audited(guarded)
    assert report.of("fail") == set(wrong.fails)
    assert not set(wrong.fails) & report.of("pass")


def test_memory_that_goes_to_a_disk_is_seen(guarded: Guarded, tmp_path: Path) -> None:
    """The kernel is the one of this machine, and so is its swap."""
    swap = tmp_path / "swap"
    swap.touch(mode=0o600)
    swap.write_bytes(bytes(2**20))
    subprocess.run(["mkswap", swap], capture_output=True, check=True)
    if subprocess.run(["swapon", swap], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"swap cannot be turned on below {tmp_path}")
    try:
        report = audited(guarded)
    finally:
        subprocess.run(["swapoff", swap], check=True)
    assert report.of("fail") == {("LOG-05", "host.local")}


# --- what cannot be seen ------------------------------------------------------------------------------------------------------


def test_error_texts_that_cannot_be_provoked_without_a_key_are_not_taken_for_right(guarded: Guarded) -> None:
    with made(guarded, KEEP.format(CFG) + f"sed -i '/http-response return/d' {CFG}; reload", BACK.format(CFG) + "reload"):
        report = audited(guarded)
    assert ("LOG-02", GATEWAY) in report.of("not_checked")


def test_a_gateway_that_is_not_there_passes_nothing_that_it_does(guarded: Guarded) -> None:
    with made(guarded, "s6-svc -wD -T 20000 -d $run/services/gateway", "s6-svc -wu -u $run/services/gateway"):
        report = audited(guarded)
    asked = {(control, GATEWAY) for control in ("KEY-02", "LOG-02", "LOG-03", "NET-01", "TLS-01")}
    assert asked <= report.of("not_checked")
    assert report.of("fail") == set()


def test_without_an_interpreter_for_the_probes_nothing_passes(guarded: Guarded) -> None:
    # The command line itself goes on: its own environment takes the interpreter by its real name.
    ours = f"real=$(readlink -f /usr/bin/python3); for link in {CHECKOUT}/.venv/bin/python*; do ln -sfn $real $link; done; "
    with made(guarded, ours + "mv /usr/bin/python3 /usr/bin/python3.away", "mv /usr/bin/python3.away /usr/bin/python3"):
        report = audited(guarded)
    assert {control for control, address in report.of("pass") if address == GATEWAY} == set()
    assert ("LOG-01", ENGINE) in report.of("not_checked")
    assert report.of("fail") == set()


SERVICE: Final = "$run/services/engine-0"


def test_an_engine_that_is_gone_is_not_checked_and_one_that_logs_requests_fails(guarded: Guarded) -> None:
    down, start = f"s6-svc -wD -T 60000 -d {SERVICE}; ", f"{SERVICE}/data/start"
    with made(guarded, down, ""):
        report = audited(guarded)
    asked = {(control, ENGINE) for control in ("HOST-03", "LOG-01", "LOG-05", "NET-01", "TLS-02")}
    assert asked <= report.of("not_checked")
    assert report.of("fail") == set()

    flag = f"{KEEP.format(start)} sed -i 's/--no-enable-log-requests/--enable-log-requests/' {start}; s6-svc -wu -u {SERVICE}"
    with made(guarded, flag, f"{BACK.format(start)} {down} s6-svc -wu -u {SERVICE}"):
        guarded.machine.wait_for("the engine's process", "pgrep -f -- ' --enable-log-requests'")
        report = audited(guarded)
    assert report.of("fail") == {("LOG-01", ENGINE)}


def test_everything_passes_again(guarded: Guarded, first: Audit) -> None:
    guarded.endpoint().wait()
    report = audited(guarded)
    assert report.of("pass") == first.of("pass")
    assert report.of("fail") == set()
