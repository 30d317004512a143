"""State in a bucket: no write is lost, and none is made by a run that was taken for dead. On a bucket in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from llmdeploy.errors import Fenced, Locked, StateCorrupt, StateError
from llmdeploy.state import s3
from llmdeploy.state.bucket import Stored
from llmdeploy.state.journal import Record
from llmdeploy.state.lock import LockInfo
from llmdeploy.state.model import Entry, State
from llmdeploy.state.s3 import S3Store
from llmdeploy.testing.effects import Effects, PowerCut
from llmdeploy.testing.memory_bucket import MemoryBucket

LEASE_S = 120.0


def entry(key: str, **values: object) -> Entry:
    return Entry.model_validate({"address": f"thing.{key}", "type": "thing", "provider": "p", **values})


def done(key: str) -> Record:
    return {"kind": "done", "entry": entry(key).model_dump(mode="json")}


def store_on(bucket: MemoryBucket, warnings: list[str] | None = None) -> S3Store:
    warn: Callable[[str], None] = (lambda _sentence: None) if warnings is None else warnings.append
    return S3Store(bucket, "team/chat", "s3://b/team/chat", lease_s=LEASE_S, warn=warn)


def keys_of(state: State | None) -> set[str]:
    return {address.removeprefix("thing.") for address in state.entries} if state else set()


class Work:
    """A run that makes one thing after the other and tells which records it was told to be durable."""

    def __init__(self, bucket: MemoryBucket, *keys: str, warnings: list[str] | None = None) -> None:
        self.store = store_on(bucket, warnings)
        self.keys = keys
        self.durable: set[str] = set()

    def run(self) -> None:
        with self.store.lock("apply", 0):
            state = self.store.read() or State("l" * 32, "chat")
            self.store.begin(state)
            for key in self.keys:
                self.store.append([done(key)])
                self.durable.add(key)
            entries = {**state.entries, **{f"thing.{key}": entry(key) for key in self.keys}}
            self.store.write(replace(state, serial=state.serial + 1, entries=entries))


@pytest.fixture(params=["one journal", "many states"])
def journal_limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run once as usual, and once with a journal so small that nearly every record puts it into the state."""
    if request.param == "many states":
        monkeypatch.setattr(s3, "JOURNAL_LIMIT", 400)


def test_nothing_there_is_no_state() -> None:
    assert store_on(MemoryBucket()).read() is None


@pytest.mark.usefixtures("journal_limit")
def test_runs_follow_each_other() -> None:
    bucket = MemoryBucket()
    serials = [0]
    for keys in ("abc", "de", "f"):
        Work(bucket, *keys).run()
        state = store_on(bucket).read()
        assert state is not None
        serials.append(state.serial)
    assert keys_of(state) == set("abcdef")
    assert serials == sorted(set(serials))
    assert sorted(bucket.content()) == ["team/chat/journal.json", "team/chat/state.json"], "the lock was not given back"


@pytest.mark.usefixtures("journal_limit")
def test_a_run_that_dies_at_any_call_loses_no_record_that_was_durable() -> None:
    before = MemoryBucket()
    Work(before, "a", "b").run()
    counting = Effects()
    Work(before.copy(counting), "c", "d", "e", "f").run()
    for point in range(1, counting.count + 1):
        bucket = before.copy(Effects(cut_at=point))
        work = Work(bucket, "c", "d", "e", "f")
        with pytest.raises(PowerCut):
            work.run()
        after = bucket.copy()
        after.advance(LEASE_S + 1)
        state = store_on(after).read()
        assert keys_of(state) >= {"a", "b"} | work.durable, counting.points[point - 1]
        again = Work(after, "g")
        again.run()
        assert keys_of(store_on(after).read()) >= {"a", "b", "g"} | work.durable, counting.points[point - 1]


@pytest.mark.usefixtures("journal_limit")
def test_the_first_run_of_all_that_dies_at_any_call_is_followed_by_another() -> None:
    counting = Effects()
    Work(MemoryBucket(counting), "a", "b").run()
    for point in range(1, counting.count + 1):
        bucket = MemoryBucket(Effects(cut_at=point))
        work = Work(bucket, "a", "b")
        with pytest.raises(PowerCut):
            work.run()
        after = bucket.copy()
        after.advance(LEASE_S + 1)
        Work(after, "c").run()
        assert keys_of(store_on(after).read()) >= {"c"} | work.durable, counting.points[point - 1]


def test_a_generation_that_was_used_counts_though_its_record_went_into_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """New generations count from the serial."""
    monkeypatch.setattr(s3, "JOURNAL_LIMIT", 1)
    bucket = MemoryBucket()
    store = store_on(bucket)
    with store.lock("apply", 0):
        store.begin(State("l" * 32, "chat", 3))
        store.append([{"kind": "intent", "action": "create", "entry": entry("a", generation=9).model_dump(mode="json")}])
        store.append([{"kind": "gone", "address": "thing.a", "id": "", "generation": 9}])
    state = store_on(bucket).read()
    assert state is not None
    assert (dict(state.entries), state.serial >= 9) == ({}, True)


class Paused:
    """A run that stops at one point, and goes on when it is told to."""

    def __init__(self, bucket: MemoryBucket, point: int) -> None:
        self._here, self._go = threading.Event(), threading.Event()
        self._point = point
        self.work = Work(bucket.door(Effects(on_point=self._at)), "c", "d", "e", "f")
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._here.wait(10)

    def _at(self, number: int, _name: str) -> None:
        if number == self._point:
            self._here.set()
            assert self._go.wait(10)

    def _run(self) -> None:
        try:
            self.work.run()
        except (StateError, AssertionError) as error:
            self.error = error

    def resume(self) -> None:
        self._go.set()
        self._thread.join(10)


@pytest.mark.usefixtures("journal_limit")
def test_a_run_that_is_paused_at_any_call_and_taken_over_can_write_no_more() -> None:
    before = MemoryBucket()
    Work(before, "a", "b").run()
    counting = Effects()
    Work(before.copy(counting), "c", "d", "e", "f").run()
    fenced = 0
    for point in range(1, counting.count + 1):
        name = counting.points[point - 1]
        bucket = before.copy()
        paused = Paused(bucket, point)
        bucket.advance(LEASE_S + 1)
        told = paused.work.durable.copy()
        Work(bucket, "x", "y").run()
        left = store_on(bucket).read()
        assert keys_of(left) >= {"a", "b", "x", "y"} | told, name
        paused.resume()
        final = store_on(bucket).read()
        if isinstance(paused.error, Fenced):
            fenced += 1
            assert final == left, name
        else:
            # Before its first call or after its last, it is a run like any other.
            assert paused.error is None, name
            assert keys_of(final) >= {"a", "b", "x", "y", "c", "d", "e", "f"}, name
        assert "team/chat/state.json.lock" not in bucket.content(), name
    assert fenced >= counting.count - 4


@pytest.mark.usefixtures("journal_limit")
def test_two_runs_that_both_began_are_told_apart() -> None:
    """The second begins, and is still at work, when the first goes on: the first may not write in between either."""
    bucket = MemoryBucket()
    Work(bucket, "a").run()
    first, second = store_on(bucket), store_on(bucket)
    with first.lock("apply", 0):
        state = first.read()
        assert state is not None
        first.begin(state)
        first.append([done("b")])
        bucket.advance(LEASE_S + 1)
        with second.lock("apply", 0):
            state = second.read()
            assert keys_of(state) == {"a", "b"}
            assert state is not None
            second.begin(state)
            for _ in range(2):
                with pytest.raises(Fenced, match="somebody else wrote since this run read the state"):
                    first.append([done("c")])
            with pytest.raises(Fenced):
                first.write(state.with_entry(entry("d")))
            second.append([done("e")])
        assert keys_of(store_on(bucket).read()) == {"a", "b", "e"}
    assert keys_of(store_on(bucket).read()) == {"a", "b", "e"}


def test_a_run_that_was_shut_out_does_not_come_back_by_reading() -> None:
    bucket = MemoryBucket()
    Work(bucket, "a").run()
    first = store_on(bucket)
    with first.lock("apply", 0):
        state = first.read()
        assert state is not None
        first.begin(state)
        assert first.read() == state
        first.append([done("b")])
        bucket.advance(LEASE_S + 1)
        Work(bucket, "x").run()
        left = bucket.content()
        assert keys_of(first.read()) == {"a", "b", "x"}
        with pytest.raises(Fenced):
            first.append([done("c")])
        with pytest.raises(Fenced):
            first.write(state)
        with pytest.raises(Fenced):
            first.begin(state)
    assert bucket.content() == left
    Work(bucket, "d").run()


class Unreliable(MemoryBucket):
    """A bucket whose n-th write gets no answer, done or not."""

    def __init__(self, n: int, applied: bool) -> None:
        super().__init__()
        self._left = n
        self._applied = applied

    def put(self, key: str, content: bytes, *, if_match: str | None) -> str:
        self._left -= 1
        if self._left != 0:
            return super().put(key, content, if_match=if_match)
        if self._applied:
            super().put(key, content, if_match=if_match)
        raise StateError("no answer")


def append(store: S3Store, key: str) -> None:
    """Append a record; that no answer came is all that may go wrong."""
    try:
        store.append([done(key)])
    except StateError as error:
        if error.message != "no answer":
            raise


@pytest.mark.usefixtures("journal_limit")
@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("n", range(4, 10))
def test_a_write_without_an_answer_is_made_good_by_the_next(n: int, applied: bool) -> None:
    bucket = Unreliable(n, applied)
    store = store_on(bucket)
    with store.lock("apply", 0):
        state = State("l" * 32, "chat")
        store.begin(state)
        for key in "abcdef":
            append(store, key)
        assert keys_of(store_on(bucket).read()) >= set("abcde")
        entries = {f"thing.{key}": entry(key) for key in "abcdefg"}
        store.append([])
        store.write(State("l" * 32, "chat", 1, entries))
    assert keys_of(store_on(bucket).read()) == set("abcdefg")


class Resent(MemoryBucket):
    """A bucket whose client sends every write twice, because the first answer never came."""

    def put(self, key: str, content: bytes, *, if_match: str | None) -> str:
        super().put(key, content, if_match=if_match)
        return super().put(key, content, if_match=if_match)


@pytest.mark.usefixtures("journal_limit")
def test_a_write_that_the_client_sent_twice_is_no_conflict() -> None:
    bucket = Resent()
    Work(bucket, "a", "b").run()
    Work(bucket, "c").run()
    assert keys_of(store_on(bucket).read()) == {"a", "b", "c"}


# --- damage -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b'{"format_version": 1}'])
def test_an_empty_or_broken_state_is_never_no_state(content: bytes) -> None:
    bucket = MemoryBucket()
    Work(bucket, "a").run()
    bucket.put("team/chat/state.json", content, if_match=etag(bucket, "team/chat/state.json"))
    with pytest.raises(StateCorrupt) as error:
        store_on(bucket).read()
    assert error.value.hint == "restore an older version of this object"


@pytest.mark.parametrize("content", [b"", b"\0" * 30])
def test_a_broken_journal_is_an_error(content: bytes) -> None:
    bucket = MemoryBucket()
    Work(bucket, "a").run()
    journal = bucket.content()["team/chat/journal.json"]
    bucket.put("team/chat/journal.json", journal[:-1] + content, if_match=etag(bucket, "team/chat/journal.json"))
    with pytest.raises(StateCorrupt, match=r"journal\.json"):
        store_on(bucket).read()


def test_a_missing_state_beside_a_journal_is_an_error() -> None:
    bucket = MemoryBucket()
    Work(bucket, "a").run()
    bucket.delete("team/chat/state.json", if_match=etag(bucket, "team/chat/state.json"))
    with pytest.raises(StateCorrupt, match="missing beside its journal"):
        store_on(bucket).read()


def test_an_older_state_that_somebody_put_back_is_an_error() -> None:
    bucket = MemoryBucket()
    Work(bucket, "a").run()
    older = bucket.content()["team/chat/state.json"]
    Work(bucket, "b").run()
    bucket.put("team/chat/state.json", older, if_match=etag(bucket, "team/chat/state.json"))
    with pytest.raises(StateCorrupt, match="an older state was put in its place"):
        store_on(bucket).read()


def etag(bucket: MemoryBucket, key: str) -> str:
    held = bucket.get(key)
    assert held is not None
    return held.etag


# --- the lock ---------------------------------------------------------------------------------------------------------------


def test_the_lock_names_its_holder_and_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_JOB_URL", "https://ci.example.com/jobs/7")
    bucket = MemoryBucket()
    with store_on(bucket).lock("apply", 0):
        holder = store_on(bucket).holder()
        assert holder is not None
        bucket.advance(40)
        with pytest.raises(Locked) as error, store_on(bucket).lock("plan", 0):
            pass
    text = f"{error.value.message} {error.value.hint}"
    for part in ("apply by ", "https://ci.example.com/jobs/7", "last heard of 40 s ago", "--lock-timeout 5m", "ends in 80 s"):
        assert part in text
    assert f"llmdeploy state unlock {holder.id}" in text
    with store_on(bucket).lock("plan", 0):
        pass


def test_a_dead_holders_lock_is_taken_over_and_told() -> None:
    bucket = MemoryBucket()
    dead = bucket.door(Effects(cut_at=5))
    with pytest.raises(PowerCut):
        Work(dead, "a").run()
    warnings: list[str] = []
    bucket.advance(LEASE_S + 301)
    store = store_on(bucket, warnings)
    dead_holder = store.holder()
    with store.lock("apply", 0):
        holder = store.holder()
    assert holder is not None
    assert dead_holder is not None
    assert holder.took_over.startswith(f"{dead_holder.id}: apply by ")
    assert warnings == [f"took over the lock of {dead_holder}, whose lease ended 5 min ago"]


def test_a_lock_that_becomes_free_is_waited_for() -> None:
    bucket = MemoryBucket()
    warnings: list[str] = []
    gone = threading.Event()

    holder = store_on(bucket)

    def free(sentence: str) -> None:
        warnings.append(sentence)
        gone.set()

    waiter = S3Store(bucket, "team/chat", "s3://b", warn=free)

    def hold() -> None:
        with holder.lock("apply", 0):
            started.set()
            assert gone.wait(10)

    started = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    assert started.wait(10)
    with waiter.lock("plan", 30):
        pass
    thread.join()
    assert warnings[0].startswith("waiting for the lock: apply by ")


def test_unlocking_compares_ids_and_shuts_the_holder_out() -> None:
    bucket = MemoryBucket()
    with pytest.raises(StateError, match="nobody holds the lock"):
        store_on(bucket).unlock("x")
    first = store_on(bucket)
    with first.lock("apply", 0):
        holder = first.holder()
        assert holder is not None
        with pytest.raises(StateError, match=f"has another id: {holder.id}"):
            store_on(bucket).unlock("x")
        assert store_on(bucket).unlock(holder.id) == holder
        with pytest.raises(Fenced, match="somebody took the lock away"):
            first.begin(State("l", "chat"))
    assert store_on(bucket).read() is None


def test_a_lock_of_somebody_else_is_left_alone() -> None:
    bucket = MemoryBucket()
    bucket.put("team/chat/state.json.lock", b"\xff not ours", if_match=None)
    bucket.advance(10**6)
    with pytest.raises(Locked, match="not one of llmdeploy"), store_on(bucket).lock("apply", 0):
        pass
    assert bucket.content()["team/chat/state.json.lock"] == b"\xff not ours"


class Pulse(MemoryBucket):
    """A bucket that tells when the lock was renewed."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed = threading.Event()

    def put(self, key: str, content: bytes, *, if_match: str | None) -> str:
        etag = super().put(key, content, if_match=if_match)
        info = LockInfo.from_json(content.decode()) if key.endswith(".lock") else None
        if info and info.renewals >= 2:
            self.renewed.set()
        return etag


def test_the_lease_is_renewed_while_its_holder_lives() -> None:
    bucket = Pulse()
    store = S3Store(bucket, "team/chat", "s3://b", lease_s=0.2)
    with store.lock("apply", 0):
        assert bucket.renewed.wait(10)
    assert bucket.content() == {}


class Seen(MemoryBucket):
    """A bucket that tells when its lock was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = threading.Semaphore(0)

    def get(self, key: str) -> Stored | None:
        found = super().get(key)
        if key.endswith(".lock"):
            self.looks.release()
        return found


def append_until_refused(store: S3Store) -> None:
    for _ in range(1000):
        store.append([done("a")])
        threading.Event().wait(0.01)


def test_a_holder_notices_by_itself_that_it_was_taken_over() -> None:
    bucket = Seen()
    store = S3Store(bucket, "team/chat", "s3://b", lease_s=0.2)
    with store.lock("apply", 0):
        state = State("l", "chat")
        store.begin(state)
        held = bucket.get("team/chat/state.json.lock")
        assert held is not None
        while bucket.looks.acquire(blocking=False):
            pass
        other = LockInfo.mine("apply", lease_s=120).to_json().encode()
        while True:  # its own renewal may come first
            try:
                bucket.put("team/chat/state.json.lock", other, if_match=etag(bucket, "team/chat/state.json.lock"))
                break
            except StateError:
                continue
        while bucket.looks.acquire(blocking=False):
            pass
        for _ in range(2):  # once for the conflict, once to see who has it
            assert bucket.looks.acquire(timeout=10)
        with pytest.raises(Fenced, match="the lock is held by another now: apply by"):
            append_until_refused(store)
    assert bucket.content()["team/chat/state.json.lock"] == other, "another's lock was removed"
