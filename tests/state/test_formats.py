"""Files that released formats wrote: today's llmdeploy reads each into the same values, and brings entries up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmdeploy.errors import StateCorrupt, StateError
from llmdeploy.resource import Tree
from llmdeploy.sdk import Context, Found, ManagedType, Outputs, Prior, Renames, Spec
from llmdeploy.state.disk import OsDisk
from llmdeploy.state.journal import Journal, Record
from llmdeploy.state.local import LocalStore
from llmdeploy.state.model import FORMAT, Deposed, Entry, State
from llmdeploy.state.seal import Passphrase, Seal
from llmdeploy.state.upgrade import renamed_found, upgrade

FIXTURES = Path(__file__).parent / "fixtures"
PASSPHRASE = b"the passphrase of the fixtures"

DISK = Entry(
    address="disk.root",
    type="disk",
    provider="site",
    provider_config={"hosts": ["10.0.0.11"], "region": None},
    version=2,
    id="disk-7",
    generation=3,
    spec={"size_gib": 40, "label": "größer", "tags": {"a": True}},
    outputs={"path": "/dev/disk/by-id/7", "ratio": 0.5},
    prevent_destroy=True,
    deposed=(Deposed(id="disk-6", generation=2, spec={"size_gib": 20}, outputs={}, dependencies=("host.one",)),),
)
ENGINE = Entry(
    address="engine.one.0",
    type="engine",
    provider="site",
    status="creating",
    steps=("image 1a2b", "start"),
    dependencies=("disk.root", "host.one"),
)
STATE_1 = State(
    lineage="0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    stack="support-chat",
    serial=12,
    entries={"disk.root": DISK, "engine.one.0": ENGINE},
    outputs={"endpoint": "https://llm.example.com:8443", "keys": {"first": {"file": "first.key"}}},
)
JOURNAL_1: list[list[Record]] = [
    [{"kind": "begin", "lineage": STATE_1.lineage, "stack": "support-chat", "serial": 12}],
    [
        {"kind": "intent", "action": "update", "entry": DISK.model_dump(mode="json")},
        {"kind": "acked", "address": "engine.one.0", "id": "engine-1"},
    ],
    [{"kind": "step", "address": "engine.one.0", "name": "healthy"}],
]


def test_every_format_has_a_fixture() -> None:
    assert sorted(path.name for path in FIXTURES.glob("state-*.json")) == [f"state-{n}.json" for n in range(1, FORMAT + 1)]


def test_a_state_of_format_1_is_read_and_written_byte_for_byte() -> None:
    content = (FIXTURES / "state-1.json").read_bytes()
    assert State.from_json(content, "state-1.json") == STATE_1
    assert STATE_1.to_json("0.1.0").encode() == content, "this is another format: give it a number and a fixture"


def test_a_journal_of_format_1_is_read_and_written_byte_for_byte(tmp_path: Path) -> None:
    assert list(Journal(OsDisk(), FIXTURES / "journal-1.jsonl").records()) == [one for group in JOURNAL_1 for one in group]
    journal = Journal(OsDisk(), tmp_path / "journal.jsonl")
    for group in JOURNAL_1:
        journal.append(group)
    assert (tmp_path / "journal.jsonl").read_bytes() == (FIXTURES / "journal-1.jsonl").read_bytes()


def test_a_folder_of_format_1_is_read_with_its_journal(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes((FIXTURES / "state-1.json").read_bytes())
    (tmp_path / "journal.jsonl").write_bytes((FIXTURES / "journal-1.jsonl").read_bytes())
    state = LocalStore(tmp_path).read()
    assert state is not None
    assert state.serial == 13
    engine = state.entries["engine.one.0"]
    assert (engine.id, engine.steps) == ("engine-1", ("image 1a2b", "start", "healthy"))
    assert state.entries["disk.root"].status == "updating"


def test_a_sealed_folder_of_format_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes((FIXTURES / "sealed-state-1.json").read_bytes())
    (tmp_path / "journal.jsonl").write_bytes((FIXTURES / "sealed-journal-1.jsonl").read_bytes())
    state = LocalStore(tmp_path, seal=Seal(Passphrase(lambda: PASSPHRASE))).read()
    assert state is not None
    assert state.entries["engine.one.0"].id == "engine-1"
    assert state.outputs == STATE_1.outputs


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    newer = (FIXTURES / "state-1.json").read_text().replace('"format_version": 1', f'"format_version": {FORMAT + 1}')
    (tmp_path / "state.json").write_text(newer)
    with pytest.raises(StateCorrupt, match=rf"by llmdeploy 0\.1\.0 in format {FORMAT + 1}") as error:
        LocalStore(tmp_path).read()
    assert error.value.hint == "use that version or newer"


# --- schema and names of entries ----------------------------------------------------------------------------------------------


class DiskSpec(Spec):
    """A disk."""

    size_mib: int


class DiskOut(Outputs):
    """Where it is."""

    path: str


class Disk(ManagedType[DiskSpec, DiskOut]):
    """A disk whose size was in GiB in version 1, and had a colour in version 2."""

    name: ClassVar[str] = "disk"
    version: ClassVar[int] = 3
    spec = DiskSpec
    outputs = DiskOut

    def create(self, ctx: Context, spec: DiskSpec) -> DiskOut:
        raise AssertionError("not made here")

    def update(self, ctx: Context, prior: Prior, spec: DiskSpec) -> DiskOut:
        raise AssertionError("not changed here")

    def delete(self, ctx: Context, prior: Prior) -> None:
        raise AssertionError("not removed here")

    def upgrade(self, version: int, entry: dict[str, Tree]) -> dict[str, Tree]:
        spec = dict(entry["spec"])
        if version == 1:
            return {**entry, "spec": {"size_mib": spec["size_gib"] * 1024, "color": "red"}}
        return {**entry, "spec": {name: value for name, value in spec.items() if name != "color"}}


def disk(address: str = "disk.root", **values: object) -> Entry:
    return Entry.model_validate({"address": address, "type": address.split(".")[0], "provider": "site", **values})


def state_of(*entries: Entry) -> State:
    return State("l", "s", 4, {entry.address: entry for entry in entries})


TYPES: Mapping[str, Any] = {"disk": Disk()}


@pytest.mark.parametrize(
    ("version", "spec"), [(1, {"size_gib": 2}), (2, {"size_mib": 2048, "color": "red"}), (3, {"size_mib": 2048})]
)
def test_an_entry_of_any_version_is_brought_to_the_present_one(version: int, spec: dict[str, Tree]) -> None:
    before = state_of(disk(version=version, spec=spec, outputs={"path": "/dev/a"}, id="i"))
    after = upgrade(before, TYPES)
    assert after.entries["disk.root"] == disk(version=3, spec={"size_mib": 2048}, outputs={"path": "/dev/a"}, id="i")
    assert after.serial == 4 + (version != 3)
    assert upgrade(after, TYPES) is after


def test_an_entry_of_a_newer_version_is_refused() -> None:
    with pytest.raises(StateCorrupt, match=r"disk\.root has schema version 4, this version knows 3"):
        upgrade(state_of(disk(version=4)), TYPES)


RENAMES = {"site": {"drive": "disk", "disk.root": "disk.system", "disk.a.b": "disk.ab"}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("drive.data", "disk.data"),
        ("disk.root", "disk.system"),
        ("disk.root.0", "disk.system.0"),
        ("disk.rooted", "disk.rooted"),
        ("disk.a.b.c", "disk.ab.c"),
        ("disk.a", "disk.a"),
    ],
)
def test_a_rename_keeps_what_exists(old: str, new: str) -> None:
    replaced = Deposed(id="x", generation=1, spec={}, outputs={}, dependencies=(old,))
    before = state_of(
        disk(old, version=3, id="i-1", generation=2),
        disk("disk.z", version=3, dependencies=(old,), deposed=(replaced,)),
    )
    after = upgrade(before, TYPES, RENAMES)
    assert sorted(after.entries) == sorted([new, "disk.z"])
    kept = after.entries[new]
    assert (kept.address, kept.type, kept.id, kept.generation) == (new, "disk", "i-1", 2)
    assert after.entries["disk.z"].dependencies == after.entries["disk.z"].deposed[0].dependencies == (new,)
    assert after.serial == 4 + (old != new)
    assert upgrade(after, TYPES, RENAMES) is after


def test_names_of_another_provider_are_left_alone() -> None:
    before = state_of(replace_provider(disk("disk.root", version=3)))
    assert upgrade(before, TYPES, RENAMES) is before


def replace_provider(entry: Entry) -> Entry:
    return entry.model_copy(update={"provider": "other"})


def test_two_resources_never_get_one_address() -> None:
    with pytest.raises(StateCorrupt, match=r"two resources would have the address disk\.system"):
        upgrade(state_of(disk("disk.root", version=3), disk("disk.system", version=3)), TYPES, RENAMES)


def test_what_is_half_made_under_its_old_name_is_finished_first() -> None:
    """Its token follows from its address: under another one, a second object would be made."""
    with pytest.raises(StateError, match=r"disk\.root is called disk\.system in this version") as error:
        upgrade(state_of(disk("disk.root", version=3, status="creating")), TYPES, RENAMES)
    assert "llmdeploy apply" in error.value.hint


def test_an_object_that_is_found_by_its_tags_is_known_under_its_new_name() -> None:
    found = Found("drive.data", "drive", "site", "i-1", 1, {}, {})
    assert renamed_found(found, RENAMES["site"]) == replace(found, address="disk.data", type="disk")


def test_a_run_after_a_rename_that_is_killed_leaves_one_entry(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with store.lock("apply", 0):
        store.write(state_of(disk("disk.root", version=3, id="i-1")))
    with store.lock("apply", 0):
        state = store.read()
        assert state is not None
        state = upgrade(state, TYPES, RENAMES)
        store.begin(state)
        store.append([{"kind": "gone", "address": "disk.system", "id": "i-1", "generation": 1}])
    after = LocalStore(tmp_path).read()
    assert after is not None
    assert dict(after.entries) == {}


def test_a_provider_declares_its_renames_with_one_attribute() -> None:
    class Site:
        renamed: ClassVar[Mapping[str, str]] = RENAMES["site"]

    assert isinstance(Site(), Renames)
    assert not isinstance(object(), Renames)
