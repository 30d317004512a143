"""State in files: round trips, torn journals, lost files, locks."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy import __version__
from llmdeploy.errors import Locked, StateCorrupt, StateError
from llmdeploy.state.disk import OsDisk
from llmdeploy.state.fold import fold
from llmdeploy.state.journal import Journal, Record
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import Entry, State

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.from_regex(r"\A[a-z0-9_-]{1,8}\Z")
ENTRIES = st.builds(
    Entry,
    address=KEYS.map("thing.{}".format),
    type=st.just("thing"),
    provider=st.just("p"),
    id=st.text(max_size=8),
    generation=st.integers(1, 5),
    status=st.sampled_from(["ok", "tainted", "creating"]),
    spec=st.dictionaries(KEYS, TREES, max_size=3),
    outputs=st.dictionaries(KEYS, TREES, max_size=3),
    steps=st.tuples(KEYS),
)


def state_of(entries: list[Entry], serial: int) -> State:
    return State("l" * 32, "s", serial, {entry.address: entry for entry in entries})


STATES = st.builds(state_of, st.lists(ENTRIES, max_size=4), st.integers(0, 99))


def entry(key: str, **values: object) -> Entry:
    return Entry.model_validate({"address": f"thing.{key}", "type": "thing", "provider": "p", **values})


@given(STATES)
def test_a_state_reads_back_as_written(state: State) -> None:
    assert State.from_json(state.to_json(__version__), "state.json") == state


@given(st.lists(ENTRIES, max_size=5))
def test_folding_done_records_gives_the_last_of_each(entries: list[Entry]) -> None:
    records: list[Record] = [{"kind": "done", "entry": one.model_dump(mode="json")} for one in entries]
    assert fold(State("l", "s"), records).entries == {one.address: one for one in entries}


def test_fold_follows_one_creation() -> None:
    wanted = entry("a", spec={"size": 1})
    records: list[Record] = [{"kind": "intent", "action": "create", "entry": wanted.model_dump(mode="json")}]
    state = fold(State("l", "s"), records)
    assert state.entries["thing.a"].status == "creating"
    records += [{"kind": "acked", "address": "thing.a", "id": "i-1"}, {"kind": "step", "address": "thing.a", "name": "one"}]
    state = fold(State("l", "s"), records)
    assert (state.entries["thing.a"].id, state.entries["thing.a"].steps) == ("i-1", ("one",))
    done = state.entries["thing.a"].model_copy(update={"status": "ok", "steps": ()})
    records += [{"kind": "done", "entry": done.model_dump(mode="json")}]
    assert fold(State("l", "s"), records).entries["thing.a"] == done
    assert fold(State("l", "s"), [*records, {"kind": "gone", "address": "thing.a", "id": "i-1", "generation": 1}]).entries == {}


def test_a_journal_torn_at_any_byte_keeps_its_whole_groups(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(OsDisk(), path)
    journal.append([{"kind": "begin", "n": 0}])
    for n in range(3):
        journal.append([{"kind": "gone", "address": f"thing.ä{n}{m}"} for m in range(2)])
    whole = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        # The newline is the last byte of a line: without it, the line is whole all the same.
        groups = sum(1 for end in ends if end - 1 <= length)
        assert len(Journal(OsDisk(), path).records()) == max(0, 2 * groups - 1)


def test_a_group_whose_first_block_never_reached_the_disk_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(OsDisk(), path)
    journal.append([{"kind": "begin"}])
    durable = path.read_bytes()
    journal.append([{"kind": "gone", "address": f"thing.{n}"} for n in range(300)])
    torn = bytearray(path.read_bytes())
    torn[len(durable) : 4096] = bytes(4096 - len(durable))
    path.write_bytes(torn)
    assert [record["kind"] for record in Journal(OsDisk(), path).records()] == ["begin"]


def test_a_run_after_a_torn_end_goes_on_behind_the_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(OsDisk(), path)
    journal.append([{"kind": "begin", "n": 0}, {"kind": "gone", "address": "thing.ä"}])
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = len(Journal(OsDisk(), path).records())
        later = Journal(OsDisk(), path)
        later.append([{"kind": "begin", "n": 1}])
        later.append([{"kind": "gone", "address": "thing.b"}])
        assert [record.get("n", record.get("address")) for record in Journal(OsDisk(), path).records()[kept:]] == [1, "thing.b"]


@contextmanager
def room_for(size: int) -> Generator[None]:
    """Let no file of this process grow beyond `size` bytes: a write over it is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_records_that_found_no_space_come_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(OsDisk(), path)
    journal.append([{"kind": "begin", "n": 0}])
    before = path.read_bytes()
    with room_for(len(before) + 9), pytest.raises(OSError, match="File too large"):
        journal.append([{"kind": "gone", "address": "thing.a"}])
    assert path.read_bytes() == before
    journal.append([{"kind": "gone", "address": "thing.b"}])
    assert [record.get("address") for record in journal.records()] == [None, "thing.a", "thing.b"]


def test_damage_before_good_records_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(OsDisk(), path)
    journal.append([{"kind": "begin"}])
    journal.append([{"kind": "gone", "address": "thing.a"}])
    path.write_bytes(path.read_bytes().replace(b"begin", b"bogin"))
    with pytest.raises(StateCorrupt, match=r"journal\.jsonl:1 is damaged"):
        Journal(OsDisk(), path).records()


def test_concurrent_appends_are_all_there(tmp_path: Path) -> None:
    journal = Journal(OsDisk(), tmp_path / "journal.jsonl")

    def work(n: int) -> None:
        for i in range(20):
            journal.append([{"kind": "step", "n": n, "i": i}])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = journal.records()
    assert len(records) == 160
    for n in range(8):
        assert [record["i"] for record in records if record["n"] == n] == list(range(20))


def write(store: LocalStore, state: State) -> None:
    with store.lock("test", 0):
        store.write(state)


def test_generations_are_kept_and_files_are_private(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / ".llmdeploy")
    for serial in range(9):
        write(store, State("l", "s", serial))
    folder = tmp_path / ".llmdeploy"
    backups = sorted(folder.glob("state.json.backup*"))
    assert [json.loads(path.read_text())["serial"] for path in backups] == [7, 6, 5, 4, 3]
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}


def test_a_run_without_changes_keeps_the_older_generations(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for serial in (1, 2, 2, 2, 2, 2, 2, 2):
        write(store, State("l", "s", serial))
    backups = sorted(tmp_path.glob("state.json.backup*"))
    assert [json.loads(path.read_text())["serial"] for path in backups] == [1]


@pytest.mark.parametrize("content", ["", "  \n", "{", "null", "[]", '{"format_version": 1}', "\x00" * 100])
def test_an_empty_or_broken_state_is_never_no_state(tmp_path: Path, content: str) -> None:
    store = LocalStore(tmp_path)
    write(store, State("l", "s", 3))
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(StateCorrupt) as error:
        store.read()
    assert "backup" in error.value.hint


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"format_version": 2, "llmdeploy_version": "9.1"}')
    with pytest.raises(StateCorrupt, match=r"llmdeploy 9\.1"):
        LocalStore(tmp_path).read()


def test_a_missing_state_beside_a_backup_is_an_error(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write(store, State("l", "s", 3))
    write(store, State("l", "s", 4))
    (tmp_path / "state.json").unlink()
    with pytest.raises(StateCorrupt, match="backup is there"):
        store.read()


@pytest.mark.parametrize("serial", [0, 3])
def test_a_missing_state_beside_a_journal_is_only_the_first_run(tmp_path: Path, serial: int) -> None:
    store = LocalStore(tmp_path)
    begin: Record = {"kind": "begin", "lineage": "l", "stack": "s", "serial": serial}
    made: Record = {"kind": "done", "entry": entry("a").model_dump(mode="json")}
    with store.lock("test", 0):
        store.append([begin, made])
    if serial == 0:
        assert store.read() == State("l", "s", 1, {"thing.a": entry("a")})
        return
    with pytest.raises(StateCorrupt, match="missing beside its journal"):
        store.read()


def test_a_killed_run_of_a_renamed_empty_stack_is_found_under_its_new_name(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write(store, State("l", "old", 4))
    begin: Record = {"kind": "begin", "lineage": "l", "stack": "new", "serial": 4}
    made: Record = {"kind": "done", "entry": entry("a").model_dump(mode="json")}
    with store.lock("test", 0):
        store.append([begin, made])
    assert store.read() == State("l", "new", 5, {"thing.a": entry("a")})


def test_nothing_there_is_no_state(tmp_path: Path) -> None:
    assert LocalStore(tmp_path / "nowhere").read() is None


def test_a_journal_of_before_the_last_write_is_ignored(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    state = State("l", "s", 0).with_entry(entry("a"))
    with store.lock("test", 0):
        store.append([began(0), made("a"), {"kind": "gone", "address": "thing.a", "id": "", "generation": 1}])
        journal = (tmp_path / "journal.jsonl").read_bytes()
        store.write(replace(state, serial=1))
    (tmp_path / "journal.jsonl").write_bytes(journal)
    assert store.read() == replace(state, serial=1)


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from llmdeploy.state.local import LocalStore\n"
            "with LocalStore(Path(sys.argv[1])).lock('apply', 0):\n    print('held', flush=True)\n    sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdin
    assert holder.stdout.readline() == "held\n"
    store = LocalStore(tmp_path)
    with pytest.raises(Locked, match=rf"apply by .*process {holder.pid}.* ago"), store.lock("plan", 0.3):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    with store.lock("plan", 0):
        pass


def test_a_read_only_place_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".llmdeploy").write_text("a file")
    with pytest.raises(StateError, match="cannot lock"), LocalStore(tmp_path / ".llmdeploy").lock("apply", 0):
        pass


def test_no_space_is_told_and_loses_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write(store, State("l", "s", 1))
    with store.lock("apply", 0):
        with room_for(50), pytest.raises(StateError, match="cannot write the journal"):
            store.begin(State("l", "s", 1))
        with room_for(50), pytest.raises(StateError, match=r"cannot write .*state\.json"):
            store.write(State("l", "s", 2))
        assert store.read() == State("l", "s", 1)
        store.write(State("l", "s", 2))
    assert LocalStore(tmp_path).read() == State("l", "s", 2)


def test_a_missing_line_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(OsDisk(), path)
    for n in range(3):
        journal.append([{"kind": "gone", "address": f"thing.{n}"}])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(StateCorrupt, match=r"journal\.jsonl:2: records before this line are missing"):
        Journal(OsDisk(), path).records()


def began(serial: int, lineage: str = "l") -> Record:
    return {"kind": "begin", "lineage": lineage, "stack": "s", "serial": serial}


def made(key: str) -> Record:
    return {"kind": "done", "entry": entry(key).model_dump(mode="json")}


def test_a_run_after_one_that_died_before_it_dropped_its_journal_is_found(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with store.lock("test", 0):
        store.append([began(0), made("a")])
        journal = (tmp_path / "journal.jsonl").read_bytes()
        store.write(State("l", "s", 1).with_entry(entry("a")))
    (tmp_path / "journal.jsonl").write_bytes(journal)
    with store.lock("test", 0):
        state = store.read()
        assert state is not None
        store.begin(state)
        store.append([made("b")])
    assert store.read() == State("l", "s", 2, {"thing.a": entry("a"), "thing.b": entry("b")})


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([began(5)], "has serial 3, but a run began at serial 5"),
        ([began(3, "other")], "belong to different stacks"),
        ([made("a")], "has lost its beginning"),
    ],
)
def test_a_journal_that_does_not_belong_to_the_state_is_an_error(tmp_path: Path, records: list[Record], sentence: str) -> None:
    store = LocalStore(tmp_path)
    write(store, State("l", "s", 3))
    with store.lock("test", 0):
        store.append(records)
    with pytest.raises(StateCorrupt, match=sentence) as error:
        store.read()
    assert error.value.hint


def test_a_backup_that_a_killed_run_made_already_is_not_made_twice(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write(store, State("l", "s", 1))
    for serial in range(2, 12):
        (tmp_path / "state.json.backup").unlink(missing_ok=True)
        (tmp_path / "state.json.backup").hardlink_to(tmp_path / "state.json")  # killed between the link and the rename
        write(store, State("l", "s", serial))
    assert json.loads((tmp_path / "state.json.backup").read_text())["serial"] == 10


def test_unlocking_says_that_the_kernel_does_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / ".llmdeploy")
    with pytest.raises(StateError, match="nobody holds the lock"):
        store.unlock("x")
    with store.lock("apply", 0):
        other = LocalStore(tmp_path / ".llmdeploy")
        holder = other.holder()
        assert holder is not None
        with pytest.raises(StateError, match=f"has another id: {holder.id}"):
            other.unlock("x")
        with pytest.raises(StateError, match="the holder is alive: apply by") as error:
            other.unlock(holder.id)
        assert f"kill {holder.pid}" in error.value.hint
    with pytest.raises(StateError, match="nobody holds the lock"):
        store.unlock(holder.id)
