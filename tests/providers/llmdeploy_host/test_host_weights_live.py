from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from llmdeploy.sdk import CommandFailed, Manifest, Prior
from llmdeploy_host import host_weights
from llmdeploy_host.host_weights import RESOURCE, STATUS, weights_script
from tests.sources.hub_server import COMMIT, HubServer, Repository
from tests.support import require_root, require_tool

from .weights_lab import Lab, content, lab, manifest

pytestmark = pytest.mark.integration

CANARY = "hf_CANARYcanaryCANARYcanary"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "empty.model": b"",
    "model-00001-of-00002.safetensors": content(3_000_000, 1),
    "model-00002-of-00002.safetensors": content(2_000_000, 2),
    "additional_chat_templates/tool_use.jinja": b"{{ messages }}",
}
BIG = "model-00001-of-00002.safetensors"


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_root()
    require_tool("curl", "setpriv", "flock")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, {"no_proxy": "127.0.0.1", "HF_TOKEN": CANARY}, lambda _location: FILES) as made:
        yield made


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer({"org/name": Repository(FILES, gated="auto")}, token=CANARY) as running:
        yield running


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other without a pause."""

    def script(volume: str, user: str, wanted: Manifest, *, trusted: bool = True) -> str:
        return weights_script(volume, user, wanted, trusted=trusted, pause_s=0)

    monkeypatch.setattr(host_weights, "weights_script", script)


def hub(server: HubServer, files: Mapping[str, bytes] = FILES) -> Manifest:
    return manifest("hub", "org/name", files, lambda path: f"{server.endpoint}/org/name/resolve/{COMMIT}/{path}")


def folder(tmp_path: Path, files: Mapping[str, bytes] = FILES) -> Manifest:
    source = tmp_path / "a model's folder"
    shutil.rmtree(source, ignore_errors=True)
    for path, body in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(body)
    return manifest("folder", str(source), files)


GENERATED = manifest("generated", "tiny-random", FILES)


# --- the three sources ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hub", "folder", "generated"])
def test_create_look_repeat_delete(here: Lab, server: HubServer, tmp_path: Path, kind: str) -> None:
    wanted = {"hub": lambda: hub(server), "folder": lambda: folder(tmp_path), "generated": lambda: GENERATED}[kind]()
    outputs = here.create(wanted, token="env:HF_TOKEN")
    assert here.files() == FILES
    assert outputs.tree() == RESOURCE.predict(here.spec(wanted).tree(), here.run.identity)
    assert sorted(path.name for path in here.volume.iterdir()) == ["weights", "weights.receipt"]

    prior = here.prior(wanted, outputs)
    assert here.look(prior).drift == ()
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in here.weights.rglob("*")}
    asked = len(server.seen)
    assert RESOURCE.update(here.context(), prior, here.spec(wanted)) == outputs
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in here.weights.rglob("*")} == before
    assert len(server.seen) == asked

    RESOURCE.delete(here.context(), prior)
    assert list(here.volume.iterdir()) == []
    RESOURCE.delete(here.context(), prior)
    assert not here.look(prior).exists


def test_only_the_user_of_the_stack_reads_them(here: Lab) -> None:
    here.create(GENERATED)
    for path in [here.weights, *here.weights.rglob("*")]:
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == (0o500 if path.is_dir() else 0o400)
        assert path.owner() == here.user


def test_files_in_lfs_come_from_another_server_without_the_token(here: Lab, server: HubServer) -> None:
    here.create(hub(server), token="env:HF_TOKEN")
    assert {seen.authorization for seen in server.seen if seen.server == "hub"} == {f"Bearer {CANARY}"}
    assert {seen.authorization for seen in server.seen if seen.server == "cdn"} == {None}
    assert server.bytes_sent("cdn") == 5_000_000


def test_a_public_model_needs_no_token(here: Lab, server: HubServer) -> None:
    server.repositories["org/name"] = Repository(FILES)
    here.create(hub(server), token="env:NOT_SET")
    assert here.files() == FILES


# --- interrupted, and worse -------------------------------------------------------------------------------------------------


def test_a_transfer_that_breaks_off_goes_on_where_it_was(here: Lab, server: HubServer, hasty: None) -> None:
    server.faults.cut[BIG] = [1_000_000, 900_000, 10]
    here.create(hub(server), token="env:HF_TOKEN")
    assert here.files() == FILES
    assert [seen.range for seen in server.seen if seen.server == "cdn"] == [
        None, "bytes=1000000-", "bytes=1900000-", "bytes=1900010-", None,
    ]  # fmt: skip
    assert server.bytes_sent("cdn") == 5_000_000


def _start_script(here: Lab, wanted: Manifest) -> subprocess.Popen[bytes]:
    """Start the script the way the session does, to be killed alone: its children must notice."""
    script = f"set -eu\numask 077\n{weights_script(str(here.volume), here.user, wanted)}"
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "no_proxy": "127.0.0.1"}
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environ)
    assert process.stdin is not None
    process.stdin.write(f'header = "Authorization: Bearer {CANARY}"\n'.encode())
    process.stdin.close()
    return process


def test_killed_in_the_middle_it_goes_on_and_fetches_nothing_twice(here: Lab, server: HubServer) -> None:
    wanted = hub(server)
    server.faults.stall[BIG] = 1_966_080
    process = _start_script(here, wanted)
    try:
        assert server.stalled.wait(30)
        parts = here.volume / "weights.part"
        _until(lambda: sum(part.stat().st_size for part in parts.glob("*.part")) > 1_900_000)
    finally:
        process.kill()
        process.wait()
    _until(lambda: not _processes_with(str(here.volume)))
    assert here.files() == {}
    (part,) = parts.glob("*.part")
    came = part.stat().st_size
    server.go_on.set()
    del server.faults.stall[BIG]
    asked = len(server.seen)

    here.create(wanted, token="env:HF_TOKEN")
    assert here.files() == FILES
    cdn = [seen for seen in server.seen[asked:] if seen.server == "cdn"]
    assert [seen.range for seen in cdn] == [f"bytes={came}-", None]
    assert sum(sum(seen.sent) for seen in cdn) == 5_000_000 - came


def test_the_token_is_in_no_argument_and_no_environment_while_it_works(here: Lab, server: HubServer) -> None:
    server.faults.stall[BIG] = 1_000_000
    failed: list[BaseException] = []

    def create() -> None:
        try:
            here.create(hub(server), token="env:HF_TOKEN")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    assert server.stalled.wait(30)
    try:
        assert _processes_with("curl", str(here.volume)), "the transfer is not running"
        assert _processes_with(CANARY) == []
        assert not [path for path in here.volume.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    finally:
        server.go_on.set()
        thread.join(60)
    assert failed == []
    assert CANARY not in " ".join(here.told)


def test_what_a_killed_run_left_is_used_for_another_revision(here: Lab, server: HubServer, hasty: None) -> None:
    server.faults.status["model-00002-of-00002.safetensors"] = [404]
    with pytest.raises(CommandFailed):
        here.create(hub(server), token="env:HF_TOKEN")
    sent = server.bytes_sent("cdn")
    newer = {**FILES, "config.json": b'{"model_type": "newer"}'}
    server.repositories["org/name"] = Repository(newer, gated="auto")
    here.create(hub(server, newer), token="env:HF_TOKEN")
    assert here.files() == newer
    assert server.bytes_sent("cdn") - sent == 2_000_000


def test_killed_at_any_moment_it_converges_and_no_file_is_ever_half(here: Lab, tmp_path: Path) -> None:
    older, newer = FILES, {**FILES, BIG: content(3_000_000, 8), "tokenizer.json": b"{}"}
    del newer["empty.model"]
    here.create(folder(tmp_path, older))
    wanted = folder(tmp_path, newer)
    moments = random.Random(4)
    for _ in range(10):
        process = _start_script(here, wanted)
        try:
            process.wait(timeout=moments.uniform(0, 0.4))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        assert all(body in (older.get(path), newer.get(path)) for path, body in here.files().items())
    outputs = here.create(wanted)
    assert here.files() == newer
    assert here.look(here.prior(wanted, outputs)).drift == ()


def test_stopped_between_two_moves_it_converges(here: Lab) -> None:
    outputs = here.create(GENERATED)
    (here.volume / "weights.receipt").unlink()
    (here.weights / BIG).unlink()
    prior = here.prior(GENERATED, outputs)
    assert not here.look(prior).exists
    assert here.create(GENERATED) == outputs
    assert here.look(prior).drift == ()


def test_a_server_without_ranges_starts_again(here: Lab, server: HubServer, hasty: None) -> None:
    server.faults.no_ranges = True
    server.faults.cut[BIG] = [1_000_000]
    here.create(hub(server), token="env:HF_TOKEN")
    assert here.files() == FILES


def test_a_damaged_part_is_thrown_away_once(here: Lab, server: HubServer) -> None:
    parts = here.volume / "weights.part"
    parts.mkdir()
    (parts / f"{hashlib.sha256(FILES[BIG]).hexdigest()}.{BIG}.part").write_bytes(content(1_000_000, 99))
    here.create(hub(server), token="env:HF_TOKEN")
    assert here.files() == FILES
    assert server.bytes_sent("cdn") == 2_000_000 + 3_000_000 + 2_000_000


# --- refusals ---------------------------------------------------------------------------------------------------------------


def refusal(here: Lab, wanted: Manifest, *, with_token: bool = True) -> CommandFailed:
    with pytest.raises(CommandFailed) as caught:
        here.create(wanted, token="env:HF_TOKEN" if with_token else None)
    assert caught.value.hint
    assert CANARY not in f"{caught.value} {caught.value.hint} {caught.value.tail}"
    assert here.files() == {}
    assert not (here.volume / "weights.receipt").exists()
    return caught.value


def test_wrong_bytes_never_get_into_place(here: Lab, server: HubServer) -> None:
    server.faults.corrupt.add(BIG)
    error = refusal(here, hub(server))
    assert error.status == STATUS["wrong"]
    assert str(error) == f"{BIG}: what came has another content than its digest says"
    assert server.bytes_sent("cdn") == 3_000_000


def test_a_gated_model_without_a_token(here: Lab, server: HubServer) -> None:
    error = refusal(here, hub(server), with_token=False)
    assert error.status == STATUS["denied"]
    assert str(error).endswith("the server refuses it (status 401)")
    assert "HF_TOKEN" in error.hint


def test_a_gated_model_that_was_not_granted(here: Lab, server: HubServer) -> None:
    server.members = False
    assert str(refusal(here, hub(server))).endswith("(status 403)")


def test_a_file_that_is_gone(here: Lab, server: HubServer) -> None:
    wanted = hub(server, {**FILES, "lost.safetensors": b"x"})
    assert str(refusal(here, wanted)) == "lost.safetensors: the server does not have it (status 404)"


def test_a_server_that_keeps_failing(here: Lab, server: HubServer, hasty: None) -> None:
    server.faults.status[BIG] = [503] * 50
    error = refusal(here, hub(server))
    assert error.status == STATUS["network"]
    assert str(error) == f"{BIG}: the transfer failed 6 times in a row"
    assert "503" in error.tail


def test_a_server_that_has_less_than_it_says(here: Lab, server: HubServer, hasty: None) -> None:
    wanted = hub(server)
    server.faults.cut["config.json"] = [5] * 50
    assert refusal(here, wanted).status == STATUS["network"]


def test_a_shorter_file_than_planned_ends(here: Lab, server: HubServer, hasty: None) -> None:
    server.repositories["org/name"] = Repository({**FILES, "config.json": b"{}"}, gated="auto")
    assert refusal(here, hub(server)).status in (STATUS["network"], STATUS["wrong"])


def test_nobody_listens(here: Lab, server: HubServer, hasty: None) -> None:
    wanted = manifest("hub", "org/name", FILES, lambda path: f"http://127.0.0.1:1/{path}")
    assert refusal(here, wanted).status == STATUS["network"]


def test_a_source_folder_that_lost_a_file(here: Lab, tmp_path: Path) -> None:
    wanted = folder(tmp_path)
    (Path(wanted.location) / BIG).unlink()
    assert str(refusal(here, wanted)) == f"{wanted.location}/{BIG}: it is not there"


def test_a_source_folder_that_changed(here: Lab, tmp_path: Path) -> None:
    wanted = folder(tmp_path)
    (Path(wanted.location) / BIG).write_bytes(content(3_000_000, 7))
    assert refusal(here, wanted).status == STATUS["wrong"]


def test_a_volume_that_is_not_mounted_gets_nothing(here: Lab) -> None:
    (here.volume.parent / "volume.enc").mkdir()
    with pytest.raises(CommandFailed, match="is not mounted"):
        here.create(GENERATED)
    assert list(here.volume.iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_fetched(here: Lab, server: HubServer, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=36m", "tmpfs", str(here.volume)], check=True)
    try:
        error = refusal(here, hub(server))
        assert error.status == STATUS["disk"]
        assert server.seen == []
        # What came already counts: 4 MB less are needed.
        parts = here.volume / "weights.part"
        (parts / f"{hashlib.sha256(FILES[BIG]).hexdigest()}.{BIG}").write_bytes(FILES[BIG])
        assert f"need {(2_000_037 + 2_000_037 // 64 + 32 * 2**20) // 1_000_000} MB more" in str(refusal(here, hub(server)))
    finally:
        subprocess.run(["umount", str(here.volume)], check=True)


# --- another model, and drift -----------------------------------------------------------------------------------------------


def test_a_new_revision_replaces_what_changed_and_removes_what_is_gone(here: Lab, server: HubServer) -> None:
    first = here.create(hub(server), token="env:HF_TOKEN")
    kept = (here.weights / BIG).stat().st_ino
    newer = {"config.json": b"{}", BIG: FILES[BIG], "model.safetensors": content(500_000, 5)}
    server.repositories["org/name"] = Repository(newer, gated="auto")
    sent = server.bytes_sent("cdn")
    outputs = RESOURCE.update(
        here.context(), here.prior(hub(server, FILES), first), here.spec(hub(server, newer), token="env:HF_TOKEN")
    )
    assert here.files() == newer
    assert [path for path in here.weights.rglob("*") if path.is_dir()] == []
    assert (here.weights / BIG).stat().st_ino == kept
    assert server.bytes_sent("cdn") - sent == 500_000
    assert outputs.digest != first.digest
    assert here.look(here.prior(hub(server, newer), outputs)).drift == ()
    assert [drift.field for drift in here.look(here.prior(hub(server, FILES), first)).drift] == ["digest"]


def test_an_open_file_keeps_its_old_content_during_an_update(here: Lab, tmp_path: Path) -> None:
    outputs = here.create(folder(tmp_path))
    before = here.prior(folder(tmp_path), outputs)
    with (here.weights / "config.json").open("rb") as reader:
        newer = folder(tmp_path, {**FILES, "config.json": b"{}"})
        RESOURCE.update(here.context(), before, here.spec(newer))
        assert reader.read() == FILES["config.json"]


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def _flip_unseen(path: Path) -> None:
    found = path.stat()
    _flip(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


DRIFTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "flipped": (_flip, [f"{BIG}: content differs"]),
    "cut": (lambda path: os.truncate(path, 10), [f"{BIG}: content differs (it has another size)"]),
    "lost": (Path.unlink, [f"{BIG}: is missing"]),
    "linked": (_link, [f"{BIG}: is missing"]),
    "readable": (lambda path: path.chmod(0o444), [f"{BIG}: owner or rights differ"]),
    "given": (lambda path: os.chown(path, 0, 0), [f"{BIG}: owner or rights differ"]),
    "open folder": (lambda path: path.parent.chmod(0o755), ["weights: owner or rights differ"]),
    "extra": (
        lambda path: (path.parent / "adapter.safetensors").write_bytes(b"x"),
        ["adapter.safetensors: is not part of the model"],
    ),
    "odd name": (lambda path: (path.parent / "a\tb é.bin").write_bytes(b"x"), ["a?b ??.bin: is not part of the model"]),
    "touched": (os.utime, []),
    "wiped": (lambda path: shutil.rmtree(path.parent), []),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_named_and_repaired(here: Lab, tmp_path: Path, drift: str) -> None:
    harm, sentences = DRIFTS[drift]
    wanted = folder(tmp_path)
    prior = here.prior(wanted, here.create(wanted))
    harm(here.weights / BIG)
    found = here.look(prior)
    assert [drift.sentence for drift in found.drift] == sentences
    assert found.exists is (drift != "wiped")
    drifted = Prior(prior.address, prior.id, prior.spec, prior.outputs, drift=found.drift)
    assert RESOURCE.plan(drifted, prior.spec).action == ("update" if sentences else "no-op")
    RESOURCE.update(here.context(), drifted, here.spec(wanted))
    assert here.files() == FILES
    assert (here.look(prior).exists, here.look(prior).drift) == (True, ())


def test_a_flip_that_hides_its_time_is_found_by_verify_and_repaired(here: Lab, tmp_path: Path) -> None:
    wanted = folder(tmp_path)
    prior = here.prior(wanted, here.create(wanted))
    _flip_unseen(here.weights / BIG)
    assert here.look(prior).drift == ()
    result = RESOURCE.operations["verify"](here.context(), prior, {})
    assert result.data == {"state": "differs", "problems": [f"{BIG}: content differs"]}
    facts = {"volume": "yes", "digest": wanted.digest, f"content.{BIG}": "yes"}
    drifted = Prior(prior.address, prior.id, prior.spec, prior.outputs, drift=RESOURCE.observe(prior, facts).drift)
    RESOURCE.update(here.context(), drifted, here.spec(wanted))
    assert RESOURCE.operations["verify"](here.context(), prior, {}).data == {"state": "ok", "problems": []}


def test_an_unmounted_volume_is_drift_and_not_loss(here: Lab) -> None:
    prior = here.prior(GENERATED, here.create(GENERATED))
    (here.volume.parent / "volume.enc").mkdir()
    found = here.look(prior)
    assert found.exists
    assert [drift.sentence for drift in found.drift] == ["weights: the volume is not mounted"]


def test_verify_tells_when_nothing_is_there(here: Lab) -> None:
    prior = here.prior(GENERATED, here.create(GENERATED))
    shutil.rmtree(here.weights)
    assert RESOURCE.operations["verify"](here.context(), prior, {}).data == {
        "state": "differs",
        "problems": ["the weights are not there"],
    }


# --- preflight and progress -------------------------------------------------------------------------------------------------


def test_preflight_asks_for_one_byte(here: Lab, server: HubServer) -> None:
    values = here.spec(hub(server), token="env:HF_TOKEN").tree()
    assert RESOURCE.preflight(here.run, values, None) == []
    assert server.seen[-1].range == "bytes=0-0"
    (problem,) = RESOURCE.preflight(here.run, here.spec(hub(server)).tree(), None)
    assert "refuses the files of org/name" in problem.sentence


def test_preflight_of_a_hub_that_cannot_be_reached(here: Lab) -> None:
    wanted = manifest("hub", "org/name", FILES, lambda path: f"http://127.0.0.1:1/{path}")
    (problem,) = RESOURCE.preflight(here.run, here.spec(wanted).tree(), None)
    assert "cannot be reached from there" in problem.sentence


def test_preflight_of_a_folder_that_is_not_there_yet(here: Lab) -> None:
    here.volume = here.volume / "not" / "yet"
    assert RESOURCE.preflight(here.run, here.spec(GENERATED).tree(), None) == []


def test_a_long_transfer_tells_how_far_it_is(here: Lab, server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    body = content(40_000_000)
    server.repositories["org/name"] = Repository({"model.safetensors": body}, gated="auto")
    server.faults.stall["model.safetensors"] = 20_000_000

    def heard(message: str) -> None:
        here.told.append(message)
        server.go_on.set()

    context = here.context()
    monkeypatch.setattr(context, "progress", heard)
    RESOURCE.create(context, here.spec(hub(server, {"model.safetensors": body}), token="env:HF_TOKEN"))
    assert here.told[0].startswith("weights: 50 % of 0.0 GB, ")
    assert here.told[-1] == "verifying model.safetensors"
    assert _processes_with(str(here.volume)) == []


def test_short_transfers_say_nothing(here: Lab) -> None:
    here.create(GENERATED)
    assert here.told == []


def test_on_a_volume_of_gocryptfs(here: Lab, tmp_path: Path) -> None:
    require_tool("gocryptfs", "fusermount")
    cipher, plain = tmp_path / "cipher", here.volume
    cipher.mkdir()
    subprocess.run(["gocryptfs", "-q", "-init", "-scryptn", "10", str(cipher)], input=b"x", check=True)
    subprocess.run(["gocryptfs", "-q", "-allow_other", str(cipher), str(plain)], input=b"x", check=True)
    try:
        prior = here.prior(GENERATED, here.create(GENERATED))
        assert here.look(prior).drift == ()
        subprocess.run(["fusermount", "-u", str(plain)], check=True)
        subprocess.run(["gocryptfs", "-q", "-allow_other", str(cipher), str(plain)], input=b"x", check=True)
        told: list[str] = here.told
        RESOURCE.update(here.context(), prior, here.spec(GENERATED))
        assert told == [], "a remount must not hash everything again"
        _flip(here.weights / BIG)
        assert [drift.sentence for drift in here.look(prior).drift] == [f"{BIG}: content differs"]
    finally:
        subprocess.run(["fusermount", "-u", str(plain)], check=True)


def _processes_with(*words: str) -> list[int]:
    """Return processes (not this one) whose arguments or environment hold every word."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            text = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
        except OSError:
            continue
        if all(word.encode() in text for word in words):
            found.append(int(folder.name))
    return found


def _until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does; the test's own time limit ends it."""
    while not condition():
        os.sched_yield()
