"""The disk in memory forgets exactly what a real one may forget."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmdeploy.state.disk import Disk
from llmdeploy.testing.effects import Effects, PowerCut
from llmdeploy.testing.memory_disk import Kept, MemoryDisk

FOLDER = Path("/stack/.llmdeploy")
FILE, OTHER = FOLDER / "a", FOLDER / "b"


def made() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_folder(FOLDER)
    disk.sync_folder(Path("/"))
    disk.sync_folder(FOLDER.parent)
    return disk


def test_it_is_a_disk() -> None:
    disk: Disk = made()
    disk.create(FILE, b"one")
    disk.append(FILE, b" two")
    disk.link(FILE, OTHER)
    disk.truncate(FILE, 5)
    assert disk.read(OTHER) == b"one t"
    assert disk.names(FOLDER) == ["a", "b"]
    disk.rename(FILE, OTHER)
    disk.unlink(FILE)
    assert disk.names(FOLDER) == ["b"]
    with pytest.raises(FileNotFoundError):
        disk.read(FILE)
    with pytest.raises(FileExistsError):
        disk.link(OTHER, OTHER)
    with pytest.raises(FileNotFoundError):
        disk.create(Path("/nowhere/a"), b"")


def test_content_without_a_synced_name_is_lost_and_the_other_way_round() -> None:
    disk = made()
    disk.create(FILE, b"content")
    disk.sync(FILE)
    assert disk.crash(Kept()).names(FOLDER) == []
    disk.sync_folder(FOLDER)
    assert disk.crash(Kept()).read(FILE) == b"content"
    disk.append(FILE, b" and more")
    assert disk.crash(Kept()).read(FILE) == b"content"
    assert disk.crash(Kept(None, content=True)).read(FILE) == b"content and more"


def test_a_folder_that_was_not_synced_into_its_parent_is_lost_with_all_in_it() -> None:
    disk = MemoryDisk()
    disk.make_folder(FOLDER)
    disk.create(FILE, b"content")
    disk.sync(FILE)
    disk.sync_folder(FOLDER)
    assert disk.crash(Kept()).names(FOLDER.parent) == []
    disk.sync_folder(FOLDER.parent)
    disk.sync_folder(Path("/"))
    assert disk.crash(Kept()).read(FILE) == b"content"


def test_names_are_lost_from_the_youngest_on() -> None:
    disk = made()
    disk.create(FILE, b"old")
    disk.sync(FILE)
    disk.sync_folder(FOLDER)
    disk.link(FILE, FOLDER / "backup")
    disk.create(OTHER, b"new")
    disk.sync(OTHER)
    disk.rename(OTHER, FILE)
    worlds = [disk.crash(kept) for kept in disk.futures()]
    seen = [{name: world.read(FOLDER / name) for name in world.names(FOLDER)} for world in worlds]
    assert seen == [
        {"a": b"old"},
        {"a": b"old", "backup": b"old"},
        {"a": b"old", "backup": b"old", "b": b"new"},
        {"a": b"new", "backup": b"old"},
    ]


def test_a_rename_may_outlive_the_content_that_was_not_synced() -> None:
    disk = made()
    disk.create(OTHER, b"new")
    disk.rename(OTHER, FILE)
    assert disk.crash(Kept(None, content=False)).read(FILE) == b""


def test_the_last_write_can_be_torn_at_every_byte() -> None:
    disk = made()
    disk.append(FILE, b"first")
    disk.sync(FILE)
    disk.sync_folder(FOLDER)
    disk.append(FILE, b"abc")
    assert disk.torn_bytes() == 3
    assert [disk.crash(Kept(None, torn=n)).read(FILE) for n in range(4)] == [b"first", b"firsta", b"firstab", b"firstabc"]
    disk.sync(FILE)
    assert disk.torn_bytes() == 0


def test_a_lock_excludes_and_ends_with_its_process() -> None:
    disk = made()
    with disk.lock(FOLDER / "lock", 0) as got:
        assert got
        with disk.lock(FOLDER / "lock", 0) as again:
            assert not again
        with disk.crash(Kept()).lock(FOLDER / "lock", 0) as after:
            assert after


def test_after_the_power_is_cut_nothing_has_an_effect() -> None:
    disk = made()
    disk.effects = Effects(cut_at=2)
    disk.create(FILE, b"one")
    with pytest.raises(PowerCut, match="point 2, disk: append a"):
        disk.append(FILE, b"two")
    for _ in range(2):
        with pytest.raises(PowerCut):
            disk.unlink(FILE)
    assert disk.read(FILE) == b"one"
    assert disk.effects.count == 2
