from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy import pins
from llmdeploy.errors import LlmdeployError, StackError
from llmdeploy.manifest import WeightFile
from llmdeploy.pins import PinnedEngine, PinnedModel, Pins

DIGEST = "ab" * 32


def example(config: dict[str, Any] | None = None) -> Pins:
    files = (
        WeightFile(path="config.json", size_bytes=2, sha256="cd" * 32),
        WeightFile(path="model.safetensors", size_bytes=10_000_000_000, sha256=DIGEST),
    )
    model = PinnedModel(
        id="org/model",
        kind="hub",
        location="org/model",
        revision="0" * 40,
        license="apache-2.0",
        files=files,
        config={"model_type": "llama", "hidden_size": 64} if config is None else config,
    )
    engine = PinnedEngine(name="vllm", version="0.32.0", runtime="venv", requirements_sha256=DIGEST)
    return Pins(written_by="llmdeploy 0.1.0", engine=engine, model=model)


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert pins.read(tmp_path / pins.FILE_NAME) is None


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / pins.FILE_NAME
    pins.write(path, example())
    assert pins.read(path) == example()
    assert [entry.name for entry in tmp_path.iterdir()] == [pins.FILE_NAME]


def test_the_file_is_made_to_be_read_and_compared(tmp_path: Path) -> None:
    path = tmp_path / pins.FILE_NAME
    pins.write(path, example())
    text = path.read_text()
    assert text.startswith("# Written by `llmdeploy lock`. Commit this file")
    assert text.partition("version: 1\n")[2] == (
        "written_by: llmdeploy 0.1.0\n"
        "engine:\n"
        "  name: vllm\n"
        "  version: 0.32.0\n"
        "  runtime: venv\n"
        f"  requirements_sha256: {DIGEST}\n"
        "model:\n"
        "  id: org/model\n"
        "  kind: hub\n"
        "  location: org/model\n"
        f"  revision: '{'0' * 40}'\n"
        "  license: apache-2.0\n"
        "  gated: false\n"
        "  files:\n"
        "  - path: config.json\n"
        "    size_bytes: 2\n"
        f"    sha256: {'cd' * 32}\n"
        "  - path: model.safetensors\n"
        "    size_bytes: 10000000000\n"
        f"    sha256: {DIGEST}\n"
        "  config:\n"
        "    hidden_size: 64\n"
        "    model_type: llama\n"
    )


def test_the_image_of_an_engine_is_kept_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / pins.FILE_NAME
    engine = PinnedEngine(name="vllm", version="1", runtime="container", image="a/b:v1", image_digest=f"sha256:{DIGEST}")
    pins.write(path, Pins(engine=engine))
    assert pins.read(path) == Pins(engine=engine)
    assert path.read_text().endswith(f"  runtime: container\n  image: a/b:v1\n  image_digest: sha256:{DIGEST}\n")


def test_a_file_that_was_written_before_there_were_digests_of_images_is_valid(tmp_path: Path) -> None:
    (path := tmp_path / "lock").write_text("version: 1\nengine: {name: vllm, version: '1', runtime: container}\n")
    found = pins.read(path)
    assert found is not None
    assert found.engine == PinnedEngine(name="vllm", version="1", runtime="container")


def test_the_order_of_config_changes_no_byte(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    pins.write(one, example({"a": {"x": 1, "y": 2}, "b": []}))
    pins.write(two, example({"b": [], "a": {"y": 2, "x": 1}}))
    assert one.read_bytes() == two.read_bytes()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=5))
def test_any_config_survives(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("pins") / pins.FILE_NAME
    pins.write(path, example(config))
    found = pins.read(path)
    assert found is not None
    assert found.model is not None
    assert json.dumps(found.model.config, sort_keys=True) == json.dumps(config, sort_keys=True)


def test_the_digest_is_of_what_is_pinned_and_not_of_who_wrote_it() -> None:
    assert example().sha256 == example().model_copy(update={"written_by": "another"}).sha256
    assert example().sha256 != example({}).sha256


GOOD = f"version: 1\nengine: {{name: vllm, version: '1', runtime: venv, requirements_sha256: {DIGEST}}}\n"
ENGINE = "version: 1\nengine:\n  name: vllm\n  version: '1'\n  runtime: container\n"
MODEL = "version: 1\nmodel:\n  id: a/b\n  kind: hub\n  location: a/b\n  revision: main\n  config: {}\n  files:\n"


def test_the_smallest_file_is_accepted(tmp_path: Path) -> None:
    (path := tmp_path / "lock").write_text(GOOD)
    found = pins.read(path)
    assert found is not None
    assert found.engine is not None
    assert found.model is None


@pytest.mark.parametrize(
    ("content", "place", "sentence"),
    [
        (b"", "1:1", "not a lock file of llmdeploy"),
        (b"- 1\n", "1:1", "not a lock file of llmdeploy"),
        (b'{"lockfileVersion": 3}', "1:1", "not a lock file of llmdeploy"),
        (b"# x\nversion: 2\n", "2:10", "has version 2; this llmdeploy reads version 1"),
        (b"version: 1\n<<<<<<< HEAD\nengine: x\n", "3:1", "not valid YAML"),
        (b"version: 1\nengine: [\n", "3:1", "not valid YAML"),
        (b"version: 1\n\tengine: 1\n", "2:1", "not valid YAML"),
        (b"version: 1\nversion: 1\n", "2:1", 'has the key "version" twice'),
        (b"version: 1\nwritten_by: &a x\nengine: *a\n", "2:13", "YAML alias"),
        (b"version: &v\n- *v\n", "1:10", "YAML alias"),
        (b"version: 1\nengine: \xff\n", "2:1", "not UTF-8"),
        (b"version: 1\nwritten_by: 2024-99-99\n", "1:1", "not valid YAML"),
        (b"version: 1\n" + b"[" * 100_000, "2:10", "not valid YAML"),  # where it gives up depends on the version of PyYAML
        (b"version: 1\nwho: me\n", "2:6", "who: Extra inputs are not permitted"),
        (
            b"version: 1\nengine:\n  name: vllm\n  version: 0.3\n  runtime: venv\n",
            "4:12",
            "engine.version: Input should be a valid string",
        ),
        (b"version: 1\nengine:\n  name: vllm\n", "3:3", "engine.version: Field required"),
        (ENGINE.encode() + b"  image: a/b:v1\n  image_digest: sha256:00\n", "7:17", "engine.image_digest: String should match"),
        (ENGINE.encode() + f"  image_digest: sha256:{DIGEST}\n".encode(), "3:3", "engine: has an image_digest, and no image"),
        (ENGINE.encode() + b"  image: ''\n", "6:10", "engine.image: String should have at least 1 character"),
        (MODEL.encode() + b"  - {path: ../x, size_bytes: 1, sha256: 00}\n", "9:12", "must be a plain relative path"),
        (MODEL.encode() + b"  - {path: x, size_bytes: 1, sha256: '00'}\n", "9:5", "a sha256 of 64 hex digits"),
        (MODEL.encode() + f"  - {{path: x, size_bytes: -1, sha256: {DIGEST}}}\n".encode(), "9:5", "a size of at least 0"),
    ],
)
def test_a_broken_file_is_told_with_its_place(tmp_path: Path, content: bytes, place: str, sentence: str) -> None:
    path = tmp_path / pins.FILE_NAME
    path.write_bytes(content)
    with pytest.raises(StackError) as caught:
        pins.read(path)
    assert f"{path}:{place}" in str(caught.value)
    assert ": error: " in str(caught.value)
    assert sentence in str(caught.value)
    assert "llmdeploy lock" in str(caught.value)
    assert caught.value.diagnostics


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / pins.FILE_NAME
    path.write_text("version: 1\nengine:\n  name: 1\n  version: 2\n  runtime: 3\n")
    with pytest.raises(StackError) as caught:
        pins.read(path)
    assert len(caught.value.diagnostics) == 3


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"cannot read .*: Is a directory"):
        pins.read(tmp_path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / pins.FILE_NAME
    with path.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(StackError, match="too large"):
        pins.read(path)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("pins") / pins.FILE_NAME
    path.write_bytes(content)
    with pytest.raises(StackError):
        pins.read(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(LlmdeployError, match="cannot write"):
        pins.write(tmp_path / "missing" / pins.FILE_NAME, example())
