from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from urllib.request import Request

import pytest

from llmdeploy.errors import LlmdeployError
from llmdeploy.manifest import WeightFile
from llmdeploy.sources import hub, web
from llmdeploy.sources.hub import Hub

from .hub_server import COMMIT, HubServer, Repository

CANARY = "hf_CANARYcanaryCANARYcanary"
CONFIG = json.dumps({"model_type": "llama", "hidden_size": 64}).encode()
FILES = {
    "README.md": b"# hello",
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(range(256)) * 400,
    "original/model.safetensors": b"x",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(web, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    repositories = {
        "org/open": Repository(FILES),
        "org/gated": Repository(FILES, gated="manual", license="llama3.3"),
        "org/private": Repository(FILES, private=True),
    }
    with HubServer(repositories, token=CANARY) as running:
        yield running


def read(
    server: HubServer, name: str, revision: str | None = None, *, token: str = "", safetensors_only: bool = True
) -> hub.HubModel:
    environ = {"HF_ENDPOINT": server.endpoint} | ({"HF_TOKEN": token} if token else {})
    return Hub(environ).read(name, revision, safetensors_only=safetensors_only)


def failure(server: HubServer, name: str, revision: str | None = None, *, token: str = "") -> LlmdeployError:
    with pytest.raises(LlmdeployError) as caught:
        read(server, name, revision, token=token)
    assert CANARY not in f"{caught.value} {caught.value.hint}"
    return caught.value


def test_a_manifest_holds_what_serving_needs(server: HubServer) -> None:
    found = read(server, "org/open")
    wanted = {path: FILES[path] for path in ("config.json", "model.safetensors", "tokenizer.json")}
    assert found.manifest.kind == "hub"
    assert found.manifest.location == "org/open"
    assert found.manifest.revision == COMMIT
    assert found.manifest.files == tuple(
        WeightFile(
            path=path,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            url=f"{server.endpoint}/org/open/resolve/{COMMIT}/{path}",
        )
        for path, content in wanted.items()
    )
    assert found.config == {"model_type": "llama", "hidden_size": 64}
    assert found.license == "apache-2.0"
    assert not found.gated


def test_no_weights_are_downloaded(server: HubServer) -> None:
    read(server, "org/open")
    assert {seen.path.rpartition("/")[2].partition("?")[0] for seen in server.seen} == {"main", "config.json", "tokenizer.json"}
    assert server.bytes_sent("cdn") == 0


def test_a_small_file_in_lfs_comes_from_the_cdn_without_the_token(server: HubServer) -> None:
    server.repositories["org/open"] = Repository({**FILES, "tokenizer.model": b"pieces"})
    found = read(server, "org/open", token=CANARY)
    assert "tokenizer.model" in {file.path for file in found.manifest.files}
    assert [seen.authorization for seen in server.seen if seen.server == "cdn"] == [None]
    assert {seen.authorization for seen in server.seen if seen.server == "hub"} == {f"Bearer {CANARY}"}


def test_the_token_follows_a_renamed_repository(server: HubServer) -> None:
    server.renamed["org/before"] = "org/private"
    found = read(server, "org/before", token=CANARY)
    assert found.manifest.files[0].path == "config.json"


def test_a_revision_with_a_slash(server: HubServer) -> None:
    assert read(server, "org/open", "refs/pr/1").manifest.revision == COMMIT
    assert "/revision/refs%2Fpr%2F1?" in server.seen[0].path


def test_a_repository_outside_lfs_is_hashed_here(server: HubServer) -> None:
    server.repositories["org/open"] = Repository(FILES, without_lfs=True)
    found = read(server, "org/open")
    assert found.manifest.files[1].sha256 == hashlib.sha256(FILES["model.safetensors"]).hexdigest()


def test_weights_without_a_digest_are_refused(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_MAX_SMALL_BYTES", 1000)
    server.repositories["org/open"] = Repository(FILES, without_lfs=True)
    assert "names no SHA-256 of model.safetensors" in str(failure(server, "org/open"))


def test_a_huge_configuration_is_refused(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_MAX_SMALL_BYTES", 2**20)
    server.repositories["org/open"] = Repository({**FILES, "tokenizer.json": b" " * (2**20 + 1)})
    assert "more than 1 MiB" in str(failure(server, "org/open"))


def test_a_gated_repository_without_a_token(server: HubServer) -> None:
    error = failure(server, "org/gated")
    assert str(error) == "org/gated is gated, and HF_TOKEN is not set"
    assert f"{server.endpoint}/org/gated" in error.hint
    assert "HF_TOKEN" in error.hint


def test_a_gated_repository_that_was_not_granted(server: HubServer) -> None:
    server.members = False
    assert "the account of HF_TOKEN has not been let in" in str(failure(server, "org/gated", token=CANARY))


def test_a_gated_repository_that_was_granted(server: HubServer) -> None:
    found = read(server, "org/gated", token=CANARY)
    assert found.gated
    assert found.license == "llama3.3"


@pytest.mark.parametrize("name", ["org/nothing", "org/private"])
def test_an_unknown_or_private_repository(server: HubServer, name: str) -> None:
    error = failure(server, name)
    assert f"has no public model repository {name}" in str(error)
    assert "HF_TOKEN" in error.hint


def test_an_unknown_repository_with_a_token(server: HubServer) -> None:
    assert str(failure(server, "org/nothing", token=CANARY)) == f"{server.endpoint} has no model repository org/nothing"


def test_a_wrong_token_is_refused(server: HubServer) -> None:
    assert "refused HF_TOKEN for org/open (status 401)" in str(failure(server, "org/open", token="hf_wrong"))


def test_an_unknown_revision(server: HubServer) -> None:
    assert str(failure(server, "org/open", "v9")) == 'org/open has no revision "v9"'


def test_pickles_only(server: HubServer) -> None:
    server.repositories["org/open"] = Repository({"config.json": CONFIG, "pytorch_model.bin": b"pickle"})
    assert "Python pickles" in str(failure(server, "org/open"))
    found = read(server, "org/open", safetensors_only=False)
    assert [file.path for file in found.manifest.files] == ["config.json", "pytorch_model.bin"]


def test_no_config(server: HubServer) -> None:
    server.repositories["org/open"] = Repository({"model.safetensors": b"x"})
    assert "org/open holds no config.json" in str(failure(server, "org/open"))


def test_an_unusual_file_name(server: HubServer) -> None:
    server.repositories["org/open"] = Repository({"config.json": CONFIG, "model v2.safetensors": b"x"})
    assert "unusual name: 'model v2.safetensors'" in str(failure(server, "org/open"))


def test_passing_faults_are_tried_again(server: HubServer) -> None:
    server.faults.status["api"] = [503, 429]
    server.faults.cut["config.json"] = [10]
    assert read(server, "org/open").config["hidden_size"] == 64


@pytest.mark.parametrize(("status", "hint"), [(500, "try again later"), (429, "slow down")])
def test_a_fault_that_stays_is_told(server: HubServer, status: int, hint: str) -> None:
    server.faults.status["api"] = [status] * 3
    error = failure(server, "org/open")
    assert f"answered with status {status} about org/open" in str(error)
    assert hint in error.hint


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>Welcome to the hotel</html>",
        b"[]",
        b"{}",
        b'{"sha": "main", "siblings": []}',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "a.safetensors", "lfs": {"sha256": "x", "size": 1}}]}).encode(),
    ],
)
def test_an_answer_that_is_not_the_hubs(server: HubServer, answer: bytes) -> None:
    server.faults.api_answer = answer
    error = failure(server, "org/open")
    assert "gave an answer about org/open that is not the Hub's" in str(error)
    assert "HF_ENDPOINT" in error.hint


def test_a_listing_that_names_another_size(server: HubServer) -> None:
    siblings = [{"rfilename": "config.json", "size": 3}]
    server.faults.api_answer = json.dumps({"sha": COMMIT, "siblings": siblings}).encode()
    assert f"came with {len(CONFIG)} bytes instead of 3" in str(failure(server, "org/open"))


def test_other_content_than_its_digest_is_refused(server: HubServer) -> None:
    server.repositories["org/open"] = Repository({**FILES, "tokenizer.model": b"pieces"})
    server.faults.corrupt.add("tokenizer.model")
    assert "tokenizer.model of org/open came with other content" in str(failure(server, "org/open"))


def test_nobody_listens(server: HubServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(LlmdeployError) as caught:
            Hub({"HF_ENDPOINT": endpoint}).read("org/open", None, safetensors_only=True)
    assert str(caught.value) == f"cannot reach {endpoint}: Connection refused"
    assert "llmdeploy lock" in caught.value.hint
    assert "folder" in caught.value.hint


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, server: HubServer) -> None:
    monkeypatch.setattr(web, "_TIMEOUT_S", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(LlmdeployError, match="no answer in time"):
            Hub({"HF_ENDPOINT": endpoint}).read("org/open", None, safetensors_only=True)


def test_the_proxy_of_the_usual_variables_is_used(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.endpoint)
    monkeypatch.setenv("no_proxy", "")
    found = Hub({"HF_ENDPOINT": "http://hub.invalid"}).read("org/open", None, safetensors_only=True)
    assert found.manifest.files[0].url == f"http://hub.invalid/org/open/resolve/{COMMIT}/config.json"
    assert server.seen[0].path.startswith("http://hub.invalid/api/models/org/open/")


@pytest.mark.parametrize(
    "endpoint",
    ["huggingface.co", "ftp://x", "http://", "https://[", "https://a b", "https://x/?q=1", "https://x:99999", "file:///etc"],
)
def test_a_bad_endpoint_is_told(endpoint: str) -> None:
    with pytest.raises(LlmdeployError, match="HF_ENDPOINT is not a web address"):
        Hub({"HF_ENDPOINT": endpoint})


def test_an_endpoint_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(LlmdeployError, match="must not hold a user or password") as caught:
        Hub({"HF_ENDPOINT": f"https://me:{CANARY}@hub.example.com"})
    assert CANARY not in str(caught.value)


def test_a_token_with_a_line_break_is_refused_and_not_repeated() -> None:
    with pytest.raises(LlmdeployError, match="HF_TOKEN holds characters") as caught:
        Hub({"HF_TOKEN": f"{CANARY}\r\nX-Evil: 1"})
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", ["open", "a/b/c", "../etc/passwd", "a/b?x=1", "a b/c", "-a/b"])
def test_a_bad_repository_name_is_told(name: str) -> None:
    with pytest.raises(LlmdeployError, match="is no repository of the Hub"):
        Hub({}).read(name, None, safetensors_only=True)


@pytest.mark.parametrize(
    ("environ", "sends"),
    [
        ({"HF_ENDPOINT": "https://hub.example.com"}, True),
        ({}, True),
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"HF_ENDPOINT": "http://[::1]:1"}, True),
        ({"HF_ENDPOINT": "http://localhost:1"}, True),
        ({"HF_ENDPOINT": "http://hub.example.com"}, False),
        ({"HF_ENDPOINT": "http://10.0.0.1"}, False),
    ],
)
def test_the_token_is_never_sent_unencrypted_over_a_network(environ: Mapping[str, str], sends: bool) -> None:
    assert web.may_carry_token(Hub(environ).endpoint) is sends


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_a_redirect_away_from_https_is_refused(scheme: str) -> None:
    request = Request("https://hub.example.com/x", headers={"Authorization": "Bearer x"})
    handler = web.Redirects()  # no server here speaks https with a trusted name
    with pytest.raises(OSError, match=f"from https to {scheme}"):
        handler.redirect_request(request, None, 302, "", {}, f"{scheme}://hub.example.com/x")  # pyright: ignore[reportArgumentType]
