from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from llmdeploy.errors import LlmdeployError
from llmdeploy.manifest import Manifest
from llmdeploy.sources import folder as source

CONFIG = json.dumps({"model_type": "llama"})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("hello")
    _age(folder)
    return folder


def _age(folder: Path, seconds: float = 60) -> None:
    then = time.time() - seconds
    for path in folder.iterdir():
        os.utime(path, (then, then))


def read(model: Path, *, safetensors_only: bool = True) -> Manifest:
    cache = model.parent / "cache" / "digests.json"
    return source.read_folder(model, cache=cache, safetensors_only=safetensors_only, on_progress=lambda _message: None)[0]


def forbid_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> str:
        raise AssertionError("hashed again")

    monkeypatch.setattr(source, "_hash", fail)


def test_a_manifest_of_a_folder(model: Path) -> None:
    manifest = read(model)
    assert (manifest.kind, manifest.location, manifest.revision) == ("folder", str(model), "local")
    assert [(file.path, file.size_bytes, file.sha256, file.url) for file in manifest.files] == [
        ("config.json", len(CONFIG), hashlib.sha256(CONFIG.encode()).hexdigest(), None),
        ("model.safetensors", 7, hashlib.sha256(b"weights").hexdigest(), None),
    ]


def test_the_config_is_decoded(model: Path) -> None:
    config = source.read_folder(model, cache=model / "c", safetensors_only=True, on_progress=print)[1]
    assert config == {"model_type": "llama"}


def test_an_unchanged_folder_is_not_hashed_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(model)
    forbid_hashing(monkeypatch)
    assert read(model) == before


def test_a_changed_file_is_hashed_again(model: Path) -> None:
    before = read(model)
    (model / "model.safetensors").write_bytes(b"WEIGHTS")
    assert read(model).digest != before.digest


def test_a_replaced_file_of_the_same_size_and_time_is_hashed_again(model: Path) -> None:
    before = read(model)
    found = (model / "model.safetensors").stat()
    (model / "new").write_bytes(b"WEIGHTS")
    os.utime(model / "new", ns=(found.st_atime_ns, found.st_mtime_ns))
    (model / "new").replace(model / "model.safetensors")
    assert read(model).digest != before.digest


def test_a_file_that_was_just_written_is_not_remembered(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _age(model, seconds=0)
    read(model)
    forbid_hashing(monkeypatch)
    with pytest.raises(AssertionError, match="hashed again"):
        read(model)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', '{"x": [1, 2]}', '{"x": ["a", "b", "c", "d"]}'])
def test_a_broken_cache_is_ignored(model: Path, content: str) -> None:
    cache = model.parent / "cache" / "digests.json"
    cache.parent.mkdir()
    cache.write_text(content)
    assert read(model).files[1].sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_cache_that_cannot_be_written_is_no_error(model: Path) -> None:
    (model.parent / "cache").write_text("in the way")
    assert len(read(model).files) == 2


def test_links_of_a_hugging_face_cache_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for name, content in (("config.json", CONFIG), ("model.safetensors", "weights")):
        blob = blobs / hashlib.sha256(content.encode()).hexdigest()
        blob.write_text(content)
        (snapshot / name).symlink_to(Path("../../blobs") / blob.name)
    assert [file.path for file in read(snapshot).files] == ["config.json", "model.safetensors"]


def test_a_broken_link_is_as_if_it_were_not_there(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("gone")
    with pytest.raises(LlmdeployError, match="holds no safetensors"):
        read(model)


def test_no_config(model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(LlmdeployError, match=r"holds no config\.json"):
        read(model)


def test_a_config_that_is_no_json(model: Path) -> None:
    (model / "config.json").write_text("nope")
    with pytest.raises(LlmdeployError, match=r"config\.json of .*my-model is not valid JSON"):
        read(model)


def test_pickles_only(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert [file.path for file in read(model, safetensors_only=False).files] == ["config.json", "pytorch_model.bin"]
    with pytest.raises(LlmdeployError, match="Python pickles"):
        read(model)


def test_an_unusual_name(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model one.safetensors")
    with pytest.raises(LlmdeployError, match="unusual name: 'model one"):
        read(model)


def test_a_file_that_changes_while_it_is_read_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hashlib.sha256

    def disturbed() -> object:
        (model / "config.json").write_text("changed while it is hashed")
        return real()

    monkeypatch.setattr(source.hashlib, "sha256", disturbed)
    with pytest.raises(LlmdeployError, match="changed while it was read"):
        read(model)


def test_progress_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_LONG_S", -1.0)
    monkeypatch.setattr(source, "_BLOCK_BYTES", 4)
    told: list[str] = []
    source.read_folder(model, cache=model / "c", safetensors_only=True, on_progress=told.append)
    assert told[-2:] == ["hashing model.safetensors: 57 %", "hashing model.safetensors: 100 %"]


def test_a_folder_that_vanished_is_told(tmp_path: Path) -> None:
    with pytest.raises(LlmdeployError, match=r"cannot read .*gone: No such file"):
        read(tmp_path / "gone")
