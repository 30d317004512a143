"""The whole command line with its state in S3 (moto's server): life of a stack, two machines, killed runs, moving."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from llmdeploy.state import aws
from tests.cli.conftest import Cli
from tests.cli.lab import environment, write_stack
from tests.cli.test_state_verbs import with_state
from tests.lab.object_store import REGION, ObjectStore, Request, proxy

pytestmark = pytest.mark.integration


@pytest.fixture
def server(store_server: ObjectStore) -> ObjectStore:
    return store_server


@pytest.fixture
def bucket(bucket_name: str) -> str:
    return bucket_name


def s3(bucket: str, **more: object) -> dict[str, object]:
    return {"s3": {"bucket": bucket, "region": REGION, "prefix": "team", **more}}


def keys(bucket: str) -> list[str]:
    found = aws.client("s3", REGION, 10).list_objects_v2(Bucket=bucket)
    return sorted(one["Key"] for one in found.get("Contents", ()))


def test_a_stack_lives_with_its_state_in_a_bucket(cli: Cli, bucket: str) -> None:
    with_state(cli.stack(keys=("a",)), s3(bucket))
    assert cli.ok("init") == f"s3://{bucket}/team/demo can hold the state. Next: llmdeploy plan\n"
    assert "4 to create" in cli.ok("plan")
    assert "Done: 4 created" in cli.ok("apply", "--yes")
    assert keys(bucket) == ["team/demo/journal.json", "team/demo/state.json"]
    assert not (cli.folder / ".llmdeploy" / "state.json").exists()
    assert cli.ok("plan").startswith("No changes.")
    assert cli.ok("state", "list").split() == ["badge.a", "door.front", "thing.one", "thing.two"]
    cli.ok("keys", "rotate", "a")
    assert "id2" in cli.ok("keys", "list")
    assert "thing.one" in cli.ok("status")
    assert "Forgotten" in cli.ok("state", "rm", "door.front", "--yes")
    assert f"its state (s3://{bucket}/team/demo) stay" in " ".join(cli.ok("destroy", "--yes").split())
    assert json.loads(cli.ok("state", "pull"))["resources"] == []


def test_a_saved_plan_is_applied_and_then_stale(cli: Cli, bucket: str) -> None:
    with_state(cli.stack(), s3(bucket))
    cli.ok("plan", "--out", "saved")
    cli.ok("apply", "saved")
    assert cli("apply", "saved").code == 1
    assert cli.ok("plan").startswith("No changes.")


def test_another_machine_goes_on_without_the_folder(cli: Cli, bucket: str, tmp_path: Path) -> None:
    with_state(cli.stack(), s3(bucket))
    cli.ok("apply", "--yes")
    shutil.rmtree(cli.folder / ".llmdeploy")
    assert cli.ok("plan").startswith("No changes.")
    assert cli.ok("state", "list").split() == ["thing.one", "thing.two"]


def test_destroy_and_show_need_no_stack_file(cli: Cli, bucket: str) -> None:
    path = cli.stack()
    with_state(path, s3(bucket))
    cli.ok("apply", "--yes")
    path.write_text("state: {s3: [broken\n")
    assert "thing.one" in cli.ok("show")
    path.unlink()
    assert "thing.one" in cli.ok("show")
    assert "Destroyed: 2 removed" in cli.ok("destroy", "--yes")


def test_a_plan_needs_no_folder_of_its_own(cli: Cli, bucket: str) -> None:
    with_state(cli.stack(), s3(bucket))
    (cli.folder / ".llmdeploy").write_text("a file where the folder would be")
    answer = cli("plan")
    assert answer.code == 0
    assert "2 to create" in answer.out
    assert "Warning: cannot write .llmdeploy/backend.json" in " ".join(answer.err.split())


def test_an_encrypted_state_shows_nothing_to_the_bucket(cli: Cli, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_KEY", "a passphrase of this test")
    state = {**s3(bucket), "encryption": {"passphrase": "env:STATE_KEY"}}
    with_state(cli.stack(text="canary-91d"), state)
    cli.ok("apply", "--yes")
    client = aws.client("s3", REGION, 10)
    versions = client.list_object_versions(Bucket=bucket)["Versions"]
    bodies = [client.get_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])["Body"].read() for one in versions]
    assert len(bodies) > 5
    assert not any(b"canary-91d" in body or b"thing.one" in body for body in bodies)
    assert "canary-91d" in cli.ok("state", "pull")
    assert cli.ok("plan").startswith("No changes.")


def test_kms_keys_of_the_service_and_of_llmdeploy(cli: Cli, bucket: str) -> None:
    arn = aws.client("kms", REGION, 10).create_key()["KeyMetadata"]["Arn"]
    with_state(cli.stack(), {**s3(bucket, kms_key=arn), "encryption": {"kms_key": arn}})
    assert "encrypted by llmdeploy can hold the state" in cli.ok("init")
    cli.ok("apply", "--yes")
    assert cli.ok("plan").startswith("No changes.")


# --- moving -----------------------------------------------------------------------------------------------------------------


def test_a_state_is_moved_there_and_back(cli: Cli, bucket: str) -> None:
    path = cli.stack()
    cli.ok("apply", "--yes")
    lineage = json.loads(cli.ok("state", "pull"))["lineage"]
    with_state(path, s3(bucket))
    answer = cli("plan")
    assert answer.code == 1
    assert "holds a state with 2 resources; the stack file says s3://" in " ".join(answer.err.split())
    assert f"lies in s3://{bucket}/team/demo now" in cli.ok("init", "--migrate-state")
    assert cli.ok("plan").startswith("No changes.")
    assert json.loads(cli.ok("state", "pull"))["lineage"] == lineage
    kept = sorted(one.name for one in (cli.folder / ".llmdeploy").glob("moved-*"))
    assert kept == ["moved-1-state.json"]

    cli.stack()
    answer = cli("apply", "--yes")
    assert answer.code == 1
    assert "llmdeploy init --migrate-state" in answer.err
    cli.ok("init", "--migrate-state")
    assert cli.ok("plan").startswith("No changes.")
    assert "team/demo/state.json.moved-1" in keys(bucket)
    assert not (cli.folder / ".llmdeploy" / "backend.json").exists()

    other = cli.folder / "colleague"
    with_state(write_stack(other), s3(bucket))
    answer = cli("plan", "colleague")
    assert answer.code == 1
    assert "was moved to .llmdeploy/ beside the stack file" in " ".join(answer.err.split())

    with_state(cli.stack(), s3(bucket))
    cli.ok("init", "--migrate-state")
    assert cli.ok("plan").startswith("No changes.")
    assert "Destroyed: 2 removed" in cli.ok("destroy", "--yes")


def test_another_stacks_state_is_not_overwritten_by_a_move(cli: Cli, bucket: str) -> None:
    with_state(cli.stack(), s3(bucket))
    cli.ok("apply", "--yes")
    other = cli.folder / "other"
    path = write_stack(other)
    cli.ok("apply", "--yes", "other")
    with_state(path, s3(bucket))
    answer = cli("init", "other", "--migrate-state")
    assert answer.code == 1
    assert "holds another or a newer state" in answer.err
    assert (other / ".llmdeploy" / "state.json").exists()


def test_a_stack_with_resources_cannot_be_renamed_by_a_move(cli: Cli, bucket: str) -> None:
    with_state(cli.stack(), s3(bucket))
    cli.ok("apply", "--yes")
    with_state(cli.stack(name="renamed"), s3(bucket))
    assert "give the stack file its old" in " ".join(cli("plan").err.split())
    assert "a stack cannot be renamed" in cli("init", "--migrate-state").err
    with_state(cli.stack(), s3(bucket))
    assert cli.ok("plan").startswith("No changes.")


# --- what can be wrong ------------------------------------------------------------------------------------------------------


def test_a_bucket_that_does_not_fit_is_told_without_a_traceback(cli: Cli, bucket: str, server: ObjectStore) -> None:
    path = cli.stack()
    with_state(path, s3("no-such-bucket-of-ours"))
    for verb in (["init"], ["plan"], ["apply", "--yes"], ["show"], ["destroy", "--yes"], ["state", "pull"]):
        answer = cli(*verb)
        assert (answer.code, "Traceback" in answer.err) == (1, False)
        assert "there is no such bucket" in answer.err
        assert "Hint:" in answer.err
    with_state(path, s3(bucket))
    aws.client("s3", REGION, 10).put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert "Warning: versioning is off" in cli("init").err


def test_a_store_that_ignores_conditions_is_refused(
    cli: Cli, bucket: str, server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ignore(request: Request) -> str:
        for name in [one for one in request.headers if one.lower() in ("if-match", "if-none-match")]:
            del request.headers[name]
        return ""

    with_state(cli.stack(), s3(bucket))
    with proxy(server.url, ignore) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        answer = cli("init")
    assert answer.code == 1
    assert "ignores conditional writes" in " ".join(answer.err.split())


def test_a_local_provider_with_shared_state_must_be_given_its_secrets(cli: Cli, bucket: str) -> None:
    document: dict[str, object] = {"version": 1, "name": "demo", "model": {"id": "tiny-random"}, "provider": {"local": {}}}
    document["state"] = s3(bucket)
    path = cli.folder / "stack.yaml"
    path.write_text(json.dumps(document))
    answer = cli("validate")
    assert answer.code == 1
    text = " ".join(answer.err.split()) + " ".join(answer.out.split())
    assert "storage.key and gateway.tls" in text
    tls = {"cert": "file:chain.pem", "key": "file:key.pem"}
    path.write_text(json.dumps({**document, "storage": {"key": "file:volume.key"}, "gateway": {"tls": tls}}))
    assert cli("validate").code == 0
    path.write_text(json.dumps({**document, "storage": {"encryption": "none"}, "gateway": {"tls": tls}}))
    assert cli("validate").code == 0


# --- processes that end -----------------------------------------------------------------------------------------------------

PROGRAM = "import sys; from llmdeploy.__main__ import main; sys.exit(main())"
SHORT_LEASE = (
    "import sys; from llmdeploy.state import s3; s3.LEASE_S = 2.0; from llmdeploy.__main__ import main; sys.exit(main())"
)


@pytest.fixture
def spawn(tmp_path: Path, server: ObjectStore) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start commands in the background; kill those that are left."""
    with ExitStack() as left:

        def start(*arguments: str, program: str = PROGRAM) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                cwd=tmp_path,
                env=environment(server.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            left.enter_context(process)
            left.callback(process.kill)
            return process

        yield start


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"{text!r} never came: {process.communicate()[1]}")


def lock_held(bucket: str) -> bool:
    return "team/demo/state.json.lock" in keys(bucket)


def wait_for_lock(bucket: str) -> None:
    deadline = time.monotonic() + 30
    while not lock_held(bucket):
        assert time.monotonic() < deadline
        time.sleep(0.05)  # between two looks


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_an_apply_gives_the_lock_back(
    cli: Cli, bucket: str, spawn: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    with_state(cli.stack(gate="gate"), s3(bucket))
    process = spawn("apply", "--yes")
    read_until(process, "writing one")
    answer = cli("apply", "--yes")
    assert answer.code == 1
    assert re.search(rf"this stack is locked: apply by \S+@\S+ \(process {process.pid}\) since", " ".join(answer.err.split()))
    assert "llmdeploy state unlock" in answer.err
    process.send_signal(number)
    read_until(process, "Stopping after what runs now.")
    (cli.folder / "gate").touch()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not lock_held(bucket)
    assert cli.ok("state", "list") == "thing.one\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_any_other_verb_gives_the_lock_back(
    cli: Cli, bucket: str, spawn: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    """A plan that hangs in a provider's refresh; nobody but the command itself hears the signal."""
    with_state(cli.stack(), s3(bucket))
    cli.ok("apply", "--yes")
    (cli.folder / "world" / "one").unlink()
    program = (
        "import time, things_provider as t; t.Thing.read = lambda *_: time.sleep(60); "
        "from llmdeploy.__main__ import main; raise SystemExit(main())"
    )
    process = spawn("plan", program=program)
    wait_for_lock(bucket)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not lock_held(bucket)


def test_a_killed_apply_is_taken_over_and_finished(cli: Cli, bucket: str, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    with_state(cli.stack(gate="gate"), s3(bucket))
    process = spawn("apply", "--yes", program=SHORT_LEASE)
    read_until(process, "writing one")
    process.kill()
    process.communicate()
    (cli.folder / "gate").touch()
    answer = cli("apply", "--yes", "--lock-timeout", "30s")
    assert answer.code == 0, answer.err
    assert "Warning: took over the lock of apply by" in answer.err
    assert cli.ok("plan").startswith("No changes.")


def test_an_unlocked_apply_that_lives_after_all_is_shut_out(
    cli: Cli, bucket: str, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with_state(cli.stack(names=["one", "two", "three"], gate="gate"), s3(bucket))
    process = spawn("apply", "--yes")
    read_until(process, "writing one")
    process.send_signal(signal.SIGSTOP)
    lock_id = re.search(r"state unlock ([0-9a-f]{32})", " ".join(cli("apply", "--yes").err.split()))
    assert lock_id is not None
    assert "It was held: apply by" in cli.ok("state", "unlock", lock_id[1])
    (cli.folder / "gate").touch()
    assert "Done: 3 created" in cli.ok("apply", "--yes")
    before = json.loads(cli.ok("state", "pull"))
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "run the command again" in err
    assert "Traceback" not in err
    assert json.loads(cli.ok("state", "pull")) == before
    assert cli.ok("plan").startswith("No changes.")
