from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdeploy import pins
from llmdeploy.catalog import Catalog, tiny_random
from llmdeploy.errors import LlmdeployError, NotBuilt, StackError
from llmdeploy.pins import PinnedModel
from llmdeploy.sources import ResolvedModel, generated_files, resolve_model

from .hub_server import COMMIT, HubServer, Repository

FILES = {"config.json": json.dumps({"model_type": "phi3"}).encode(), "model.safetensors": b"weights"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HubServer({"microsoft/phi-4": Repository(FILES, license="mit"), "org/phi-4-fp8": Repository(FILES)}) as running:
        yield running


def resolve(
    folder: Path,
    model_id: str,
    *,
    server: HubServer | None = None,
    revision: str | None = None,
    variant: str | None = None,
    pinned: PinnedModel | None = None,
    safetensors_only: bool = True,
) -> ResolvedModel:
    environ = {"HF_ENDPOINT": server.endpoint} if server else {"HF_ENDPOINT": "http://127.0.0.1:1"}
    return resolve_model(
        model_id,
        catalog=Catalog.load(None),
        revision=revision,
        variant=variant,
        environ=environ,
        folder=folder,
        safetensors_only=safetensors_only,
        pinned=pinned,
    )


def local_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path, content in FILES.items():
        (folder / path).write_bytes(content)
    return folder


def test_tiny_random_is_known_without_making_it(tmp_path: Path) -> None:
    found = resolve(tmp_path, "tiny-random")
    assert (found.manifest.kind, found.manifest.location) == ("generated", "tiny-random")
    assert found.config["vocab_size"] == tiny_random.VOCAB
    assert found.served_name == "tiny-random"
    assert any("noise" in note for note in found.notes)
    assert found.token is None
    made = generated_files(found.manifest.location)
    assert {file.path: file.sha256 for file in found.manifest.files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in made.items()
    }


def test_only_known_models_are_written(tmp_path: Path) -> None:
    with pytest.raises(LlmdeployError, match='cannot write a model "other"'):
        generated_files("other")


def test_a_catalogue_name_is_a_repository(tmp_path: Path, server: HubServer) -> None:
    found = resolve(tmp_path, "phi-4", server=server)
    assert (found.manifest.kind, found.manifest.location, found.manifest.revision) == ("hub", "microsoft/phi-4", COMMIT)
    assert found.served_name == "phi-4"
    assert found.license == "mit"
    assert found.token == "env:HF_TOKEN"
    assert found.notes == ("phi-4: 10 KV heads: its layers can be split over 1, 2, 5 or 10 GPUs only",)


def test_a_repository_is_served_under_its_last_part(tmp_path: Path, server: HubServer) -> None:
    assert resolve(tmp_path, "org/phi-4-fp8", server=server).served_name == "phi-4-fp8"


def test_a_variant_holds_the_weights_and_the_name_stays(tmp_path: Path, server: HubServer) -> None:
    found = resolve(tmp_path, "phi-4", variant="org/phi-4-fp8", server=server)
    assert found.manifest.location == "org/phi-4-fp8"
    assert found.served_name == "phi-4"
    assert found.pin.variant == "org/phi-4-fp8"


@pytest.mark.parametrize("name", ["./models/mine", "models/mine", "../{here}/models/mine", "{root}/models/mine"])
def test_a_folder_by_each_of_its_names(tmp_path: Path, name: str) -> None:
    target = local_model(tmp_path / "models" / "mine")
    found = resolve(tmp_path, name.format(here=tmp_path.name, root=tmp_path))
    assert (found.manifest.kind, found.manifest.location) == ("folder", str(target))
    assert found.served_name == "mine"
    assert found.token is None


def test_a_folder_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    local_model(tmp_path / "mine")
    assert resolve(tmp_path / "stack", "~/mine").manifest.location == str(tmp_path / "mine")


def test_a_bare_folder_beside_the_stack_file(tmp_path: Path) -> None:
    local_model(tmp_path / "mine")
    assert resolve(tmp_path, "mine").manifest.kind == "folder"


@pytest.mark.parametrize("name", ["./gone", "/gone/away", "~nobody-here/x", "./" + "x" * 5000, "./a\x00b"])
def test_a_folder_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(StackError, match="there is no folder"):
        resolve(tmp_path, name)


def test_the_nearest_name_is_offered(tmp_path: Path) -> None:
    with pytest.raises(StackError, match='no model "tiny-randon" in the catalogue') as caught:
        resolve(tmp_path, "tiny-randon")
    assert caught.value.hint == 'did you mean "tiny-random"?'


@pytest.mark.parametrize("name", ["", "gpt", "a/b/c", "x" * 5000, "a\x00b", "models/"])
def test_an_unknown_name_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(LlmdeployError) as caught:
        resolve(tmp_path, name)
    assert caught.value.hint or "is no repository" in str(caught.value)


def test_s3_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match="models in S3 cannot be read by this version: s3://bucket/model"):
        resolve(tmp_path, "s3://bucket/model")


def test_an_address_is_no_name(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="a model is named, not addressed"):
        resolve(tmp_path, "https://huggingface.co/org/name")


@pytest.mark.parametrize("name", ["tiny-random", "./mine"])
def test_only_the_hub_has_revisions(tmp_path: Path, name: str) -> None:
    local_model(tmp_path / "mine")
    with pytest.raises(StackError, match="no revisions"):
        resolve(tmp_path, name, revision="main")


def test_a_pinned_repository_needs_no_network(tmp_path: Path, server: HubServer) -> None:
    first = resolve(tmp_path, "phi-4", revision="main", server=server)
    path = tmp_path / pins.FILE_NAME
    pins.write(path, pins.Pins(model=first.pin))
    asked = len(server.seen)
    read_back = pins.read(path)
    assert read_back is not None
    again = resolve(tmp_path, "phi-4", revision="main", server=server, pinned=read_back.model)
    assert again == first
    assert len(server.seen) == asked


def test_a_pin_follows_the_endpoint(tmp_path: Path, server: HubServer) -> None:
    first = resolve(tmp_path, "phi-4", server=server)
    elsewhere = resolve(tmp_path, "phi-4", pinned=first.pin)
    assert elsewhere.manifest.files[0].url == f"http://127.0.0.1:1/microsoft/phi-4/resolve/{COMMIT}/config.json"
    assert elsewhere.manifest.digest == first.manifest.digest


@pytest.mark.parametrize(
    ("model_id", "revision", "variant"),
    [("org/phi-4-fp8", None, None), ("phi-4", "main", None), ("phi-4", None, "org/phi-4-fp8")],
)
def test_a_pin_of_something_else_is_refused(
    tmp_path: Path, server: HubServer, model_id: str, revision: str | None, variant: str | None
) -> None:
    pin = resolve(tmp_path, "phi-4", server=server).pin
    with pytest.raises(StackError, match=r"stack\.lock\.yaml is of phi-4; the stack file asks for") as caught:
        resolve(tmp_path, model_id, revision=revision, variant=variant, server=server, pinned=pin)
    assert "llmdeploy lock" in caught.value.hint


def test_a_pinned_folder_must_hold_what_was_pinned(tmp_path: Path) -> None:
    mine = local_model(tmp_path / "mine")
    pin = resolve(tmp_path, "./mine").pin
    assert pin.location == "./mine"
    assert resolve(tmp_path, "./mine", pinned=pin).pin == pin
    (mine / "model.safetensors").write_bytes(b"WEIGHTS")
    with pytest.raises(StackError, match=r"has other content for model\.safetensors than is there now"):
        resolve(tmp_path, "./mine", pinned=pin)


def test_a_pinned_folder_that_became_a_repository(tmp_path: Path, server: HubServer) -> None:
    local_model(tmp_path / "org" / "phi-4-fp8")
    pin = resolve(tmp_path, "org/phi-4-fp8").pin
    with pytest.raises(StackError, match="takes it from org/phi-4-fp8"):
        resolve(tmp_path / "elsewhere", "org/phi-4-fp8", server=server, pinned=pin)


def test_pinned_tiny_random(tmp_path: Path) -> None:
    pin = resolve(tmp_path, "tiny-random").pin
    assert resolve(tmp_path, "tiny-random", pinned=pin).pin == pin
    other = pin.model_copy(update={"files": pin.files[1:]})
    with pytest.raises(StackError, match=r"other content for .*; the stack file asks for tiny-random"):
        resolve(tmp_path, "tiny-random", pinned=other)


def test_pinned_pickles_are_judged_again(tmp_path: Path, server: HubServer) -> None:
    server.repositories["org/old"] = Repository({"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    pin = resolve(tmp_path, "org/old", server=server, safetensors_only=False).pin
    with pytest.raises(LlmdeployError, match="Python pickles"):
        resolve(tmp_path, "org/old", server=server, pinned=pin)


def test_the_hub_is_imported_only_when_it_is_asked() -> None:
    code = "import sys, llmdeploy.sources; sys.exit('urllib.request' in sys.modules or 'yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
