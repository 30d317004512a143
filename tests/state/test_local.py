"""State in files: round trips, torn journals, lost files, locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy import __version__
from llmdeploy.errors import Locked, StateCorrupt, StateError
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
    assert fold(State("l", "s"), [*records, {"kind": "gone", "address": "thing.a"}]).entries == {}


def test_a_journal_torn_at_any_byte_keeps_its_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append([{"kind": "begin", "n": 0}])
    journal.append([{"kind": "gone", "address": f"thing.ä{n}"} for n in range(4)])
    journal.close()
    whole = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        # The newline is the last byte of a record: without it, the record is whole all the same.
        expected = sum(1 for end in ends if end - 1 <= length)
        assert len(Journal(path).records()) == expected


def test_a_run_after_a_torn_end_goes_on_behind_the_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append([{"kind": "begin", "n": 0}, {"kind": "gone", "address": "thing.ä"}])
    journal.close()
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = len(Journal(path).records())
        later = Journal(path)
        later.append([{"kind": "begin", "n": 1}])
        later.append([{"kind": "gone", "address": "thing.b"}])
        later.close()
        assert [record.get("n", record.get("address")) for record in Journal(path).records()[kept:]] == [1, "thing.b"]


def test_records_that_found_no_space_come_with_the_next_write(tmp_path: Path) -> None:
    path, full = tmp_path / "journal.jsonl", tmp_path / "full"
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    full.symlink_to("/dev/full")
    full.rename(path)
    journal = Journal(path)
    with pytest.raises(OSError, match="No space"):
        journal.append([{"kind": "begin", "n": 0}])
    journal.close()
    path.unlink()
    journal.append([{"kind": "gone", "address": "thing.a"}])
    assert [record["kind"] for record in journal.records()] == ["begin", "gone"]
    journal.close()


def test_damage_before_good_records_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append([{"kind": "begin"}, {"kind": "gone", "address": "thing.a"}])
    path.write_bytes(path.read_bytes().replace(b"begin", b"bogin"))
    with pytest.raises(StateCorrupt, match=r"journal\.jsonl:1 is damaged"):
        Journal(path).records()


def test_concurrent_appends_are_all_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")

    def work(n: int) -> None:
        for i in range(20):
            journal.append([{"kind": "step", "n": n, "i": i}])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = journal.records()
    assert [record["seq"] for record in records] == list(range(1, 161))
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
        store.append([{"kind": "begin", "lineage": "l", "stack": "s", "serial": 0}, {"kind": "gone", "address": "thing.a"}])
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
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    with pytest.raises(StateError, match="cannot write the journal"), store.lock("apply", 0):
        store.append([{"kind": "begin"}])
    (tmp_path / "journal.jsonl").unlink()
    assert store.read() == State("l", "s", 1)
