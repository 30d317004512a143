"""State in S3 as a service speaks it (moto's server): conditions, answers that are lost, and every failure in one sentence."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from llmdeploy.errors import Fenced, Locked, StateError
from llmdeploy.state import aws
from llmdeploy.state.boto import BotoBucket
from llmdeploy.state.bucket import Conflict
from llmdeploy.state.check import check_bucket
from llmdeploy.state.model import Entry, State
from llmdeploy.state.s3 import S3Store
from tests.lab.object_store import REGION, ObjectStore, Request, Trouble, proxy

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def entry(key: str) -> Entry:
    return Entry.model_validate({"address": f"thing.{key}", "type": "thing", "provider": "p"})


def store_in(bucket: BotoBucket) -> S3Store:
    return S3Store(bucket, "team/chat", f"s3://{bucket.name}/team/chat")


def work(store: S3Store, *keys: str) -> None:
    """Run once: make these things."""
    with store.lock("apply", 0):
        state = store.read() or State("l" * 32, "chat")
        store.begin(state)
        for key in keys:
            store.append([{"kind": "done", "entry": entry(key).model_dump(mode="json")}])
        entries = {**state.entries, **{f"thing.{key}": entry(key) for key in keys}}
        store.write(replace(state, serial=state.serial + 1, entries=entries))


def addresses(store: S3Store) -> list[str]:
    state = store.read()
    return sorted(state.entries) if state else []


def test_conditions_hold(bucket_name: str) -> None:
    bucket = BotoBucket(bucket_name, REGION)
    assert bucket.get("k") is None
    first = bucket.put("k", b"one", if_match=None)
    with pytest.raises(Conflict):
        bucket.put("k", b"two", if_match=None)
    second = bucket.put("k", b"two", if_match=first)
    with pytest.raises(Conflict):
        bucket.put("k", b"three", if_match=first)
    with pytest.raises(Conflict):
        bucket.delete("k", if_match=first)
    held = bucket.get("k")
    assert held is not None
    assert (held.content, held.etag) == (b"two", second)
    assert 0 <= held.age_s < 60
    bucket.delete("k", if_match=second)
    assert bucket.get("k") is None
    with pytest.raises(Conflict):
        bucket.put("k", b"four", if_match=second)
    bucket.put("k", b"five", if_match=None)


def test_runs_follow_each_other(bucket_name: str) -> None:
    bucket = BotoBucket(bucket_name, REGION)
    work(store_in(bucket), "a", "b")
    work(store_in(bucket), "c")
    assert addresses(store_in(bucket)) == ["thing.a", "thing.b", "thing.c"]
    assert store_in(bucket).holder() is None


# --- many processes ---------------------------------------------------------------------------------------------------------

CONTENDER = """
import sys
from llmdeploy.errors import Locked
from llmdeploy.state.boto import BotoBucket
from llmdeploy.state.s3 import S3Store
store = S3Store(BotoBucket(sys.argv[1], sys.argv[2]), "team/chat", "s3://b")
print("ready", flush=True)
for line in sys.stdin:
    try:
        with store.lock("apply", 0):
            print("won", flush=True)
            sys.stdin.readline()
        print("gave back", flush=True)
    except Locked:
        print("locked", flush=True)
"""


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python programs; kill those that are left."""
    with ExitStack() as left:

        def start(program: str, *arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", program, *arguments]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
            )
            left.enter_context(process)
            left.callback(process.kill)
            return process

        yield start


def say(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.timeout(300)
def test_of_twenty_processes_one_wins_each_of_twenty_rounds(
    bucket_name: str, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    contenders = [spawn(CONTENDER, bucket_name, REGION) for _ in range(20)]
    assert [hear(one) for one in contenders] == ["ready"] * 20
    for _ in range(20):
        for one in contenders:
            say(one, "go")
        answers = [hear(one) for one in contenders]
        assert sorted(answers) == ["locked"] * 19 + ["won"]
        winner = contenders[answers.index("won")]
        say(winner, "give it back")
        assert hear(winner) == "gave back"


HOLDER = """
import sys
from llmdeploy.state.boto import BotoBucket
from llmdeploy.state.s3 import S3Store
store = S3Store(BotoBucket(sys.argv[1], sys.argv[2]), "team/chat", "s3://b", lease_s=float(sys.argv[3]))
with store.lock("apply", 0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_dead_holders_lease_is_shown_and_taken_over(bucket_name: str, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    holder = spawn(HOLDER, bucket_name, REGION, "2")
    assert hear(holder) == "held"
    warnings: list[str] = []
    bucket = BotoBucket(bucket_name, REGION)
    store = S3Store(bucket, "team/chat", "s3://b", warn=warnings.append)
    with pytest.raises(Locked, match=rf"apply by .*process {holder.pid}\)") as error, store.lock("plan", 0):
        pass
    assert "llmdeploy state unlock" in error.value.hint
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with store.lock("apply", 30):
        mine = store.holder()
    assert mine is not None
    assert f"process {holder.pid}" in mine.took_over
    assert [one.split(":")[0] for one in warnings if one.startswith("waiting")] == ["waiting for the lock"]
    assert any(one.startswith("took over the lock of apply by") for one in warnings)


# --- trouble on the way -----------------------------------------------------------------------------------------------------

ONCE = ("500", "503", "409", "reset", "reset after")


@pytest.fixture
def behind(store_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Trouble], None]]:
    """Let this process talk to the server through a proxy with this trouble."""
    with ExitStack() as stack:

        def put(trouble: Trouble) -> None:
            monkeypatch.setenv("AWS_ENDPOINT_URL", stack.enter_context(proxy(store_server.url, trouble)))

        yield put


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the waits between botocore's tries."""

    def no_wait(seconds: float) -> None:
        del seconds

    monkeypatch.setattr("time.sleep", no_wait)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("what", ONCE)
def test_any_request_may_fail_once(bucket_name: str, behind: Callable[[Trouble], None], what: str) -> None:
    seen: list[Request] = []
    fails = 0

    def trouble(request: Request) -> str:
        seen.append(request)
        return what if len(seen) == fails else ""

    behind(trouble)
    bucket = BotoBucket(bucket_name, REGION)
    work(S3Store(bucket, "count", "s3://b"), "a", "b")
    calls = [request.method for request in seen]
    assert len(calls) > 8
    for number, method in enumerate(calls, 1):
        if what == "409" and method == "GET":
            continue
        seen.clear()
        fails = number
        store = S3Store(bucket, f"{what.replace(' ', '-')}/{number}", "s3://b")
        work(store, "a", "b")
        assert seen[number - 1].method == method
        work(store, "c")
        assert addresses(store) == ["thing.a", "thing.b", "thing.c"], number
        assert store.holder() is None, number


def test_an_answer_that_never_comes_is_asked_for_again(bucket_name: str, behind: Callable[[Trouble], None]) -> None:
    for number in (1, 4, 5, 6, 8):
        behind(lambda request, number=number: "hang after" if request.number == number else "")
        store = S3Store(BotoBucket(bucket_name, REGION, timeout_s=0.5), f"hang/{number}", "s3://b")
        work(store, "a")
        assert addresses(store) == ["thing.a"]


def test_an_answer_that_breaks_off_is_asked_for_again(bucket_name: str, behind: Callable[[Trouble], None]) -> None:
    work(store_in(BotoBucket(bucket_name, REGION)), "a")
    behind(lambda request: "cut" if request.number in (1, 2) else "")
    assert addresses(store_in(BotoBucket(bucket_name, REGION))) == ["thing.a"]
    behind(lambda request: "cut")
    with pytest.raises(StateError, match="broke off"):
        addresses(store_in(BotoBucket(bucket_name, REGION)))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("what", "sentence"),
    [("500", "answered 500 InternalError 5 times"), ("503", "answered 503 SlowDown 5 times"), ("reset", "no answer from")],
)
def test_trouble_that_lasts_is_told_in_one_sentence(
    bucket_name: str, behind: Callable[[Trouble], None], what: str, sentence: str
) -> None:
    behind(lambda _request: what)
    with pytest.raises(StateError, match=sentence) as error:
        store_in(BotoBucket(bucket_name, REGION)).read()
    assert "run the command again" in error.value.hint
    assert "\n" not in error.value.message


def test_a_page_of_a_proxy_is_no_answer(bucket_name: str, behind: Callable[[Trouble], None]) -> None:
    behind(lambda _request: "page")
    with pytest.raises(StateError, match="perhaps a proxy with a page of its own"):
        store_in(BotoBucket(bucket_name, REGION)).read()


def test_a_store_without_conditional_deletes_is_used_all_the_same(bucket_name: str, behind: Callable[[Trouble], None]) -> None:
    def refuse(request: Request) -> str:
        return "501" if request.method == "DELETE" and "If-Match" in request.headers else ""

    behind(refuse)
    store = store_in(BotoBucket(bucket_name, REGION))
    work(store, "a")
    assert store.holder() is None


def test_a_state_that_was_written_by_another_is_not_overwritten(bucket_name: str) -> None:
    first, second = (store_in(BotoBucket(bucket_name, REGION)) for _ in range(2))
    with first.lock("apply", 0):
        state = State("l" * 32, "chat")
        first.read()
        first.begin(state)
        holder = first.holder()
        assert holder is not None
        second.unlock(holder.id)
        work(second, "x")
        with pytest.raises(Fenced):
            first.append([{"kind": "done", "entry": entry("a").model_dump(mode="json")}])
        with pytest.raises(Fenced):
            first.write(state.with_entry(entry("a")))
    assert addresses(second) == ["thing.x"]


# --- checking a bucket ------------------------------------------------------------------------------------------------------


def test_a_good_bucket_passes_and_nothing_is_left_in_it(bucket_name: str) -> None:
    bucket = BotoBucket(bucket_name, REGION)
    assert check_bucket(bucket, "team/chat", "s3://b") == []
    assert "Contents" not in aws.client("s3", REGION, 10).list_objects_v2(Bucket=bucket_name)


def test_a_bucket_without_versions_is_told(bucket_name: str) -> None:
    suspended = {"Status": "Suspended"}
    aws.client("s3", REGION, 10).put_bucket_versioning(Bucket=bucket_name, VersioningConfiguration=suspended)
    [warning] = check_bucket(BotoBucket(bucket_name, REGION), "team/chat", "s3://b")
    assert "versioning is off" in warning


def strip(*names: str) -> Trouble:
    """Return the trouble of a store that knows nothing of these headers."""

    def trouble(request: Request) -> str:
        for name in list(request.headers):
            if name.lower() in names:
                del request.headers[name]
        return ""

    return trouble


def test_a_store_that_encrypts_nothing_is_told(bucket_name: str) -> None:
    aws.client("s3", REGION, 10).delete_bucket_encryption(Bucket=bucket_name)
    [warning] = check_bucket(BotoBucket(bucket_name, REGION), "team/chat", "s3://b")
    assert "encrypted at rest: see state.encryption" in warning


@pytest.mark.parametrize("ignored", ["if-none-match", "if-match"])
def test_a_store_that_ignores_conditions_is_refused(bucket_name: str, behind: Callable[[Trouble], None], ignored: str) -> None:
    behind(strip(ignored))
    with pytest.raises(StateError, match=r"ignores conditional writes") as error:
        check_bucket(BotoBucket(bucket_name, REGION), "team/chat", "s3://b")
    assert ignored in error.value.message.lower()
    assert "Contents" not in aws.client("s3", REGION, 10).list_objects_v2(Bucket=bucket_name)


def test_kms_is_asked_for_with_each_write_and_checked(bucket_name: str, behind: Callable[[Trouble], None]) -> None:
    key = aws.client("kms", REGION, 10).create_key()["KeyMetadata"]["Arn"]
    bucket = BotoBucket(bucket_name, REGION, kms_key=key)
    assert check_bucket(bucket, "team/chat", "s3://b") == []
    work(store_in(bucket), "a")
    for name in ("state.json", "journal.json"):
        assert bucket.encryption(f"team/chat/{name}") == ("aws:kms", key)
    behind(strip("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"))
    with pytest.raises(StateError, match=f"not with {key}"):
        check_bucket(BotoBucket(bucket_name, REGION, kms_key=key), "team/chat", "s3://b")


@pytest.mark.usefixtures("bucket_name")
def test_a_bucket_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateError, match="there is no such bucket") as error:
        check_bucket(BotoBucket("no-such-bucket", REGION), "chat", "s3://no-such-bucket")
    assert "state.s3.bucket" in error.value.hint
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StateError, match="there are no AWS credentials") as error:
        BotoBucket("no-such-bucket", REGION).get("k")
    assert "AWS_PROFILE" in error.value.hint
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StateError, match="nobody"):
        BotoBucket("no-such-bucket", REGION).get("k")


@pytest.mark.usefixtures("impatient")
def test_nobody_listens(bucket_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StateError, match=r"no answer from .*127\.0\.0\.1:9") as error:
        BotoBucket(bucket_name, REGION).get("k")
    assert "AWS_ENDPOINT_URL_S3" in error.value.hint


def test_the_state_can_be_read_by_eye(bucket_name: str) -> None:
    bucket = BotoBucket(bucket_name, REGION)
    work(store_in(bucket), "a")
    held = bucket.get("team/chat/state.json")
    assert held is not None
    document = json.loads(held.content)
    assert (document["format_version"], document["stack"], document["serial"]) == (1, "chat", 1)
