"""Which digest a tag has, asked of a double of a registry (`registry_server`): a real one cannot be reached by tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from llmdeploy.errors import LlmdeployError
from llmdeploy.sources import image_digest, images, web
from llmdeploy.sources.images import ImageName

from .registry_server import DOCKER_MANIFEST, Manifest, RegistryServer, index

CANARY = "eyJCANARYcanaryCANARY.canary.CANARY"
NAME = "vllm/vllm-openai:v1"
IMAGE = index("linux/amd64", "linux/arm64")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with RegistryServer({NAME: IMAGE}, token=CANARY) as running:
        yield running


def asked(server: RegistryServer, name: str = NAME) -> str:
    return image_digest(f"{server.host}/{name}")


def failure(server: RegistryServer, name: str = NAME) -> LlmdeployError:
    with pytest.raises(LlmdeployError) as caught:
        asked(server, name)
    assert CANARY not in f"{caught.value} {caught.value.hint}"
    assert "nothing is written" in caught.value.hint
    return caught.value


def test_one_request_without_a_body_tells_the_digest_of_the_index(server: RegistryServer) -> None:
    server.token = ""
    assert asked(server) == IMAGE.digest
    assert [(seen.method, seen.path, seen.authorization) for seen in server.seen] == [
        ("HEAD", "/v2/vllm/vllm-openai/manifests/v1", None)
    ]
    assert all(kind in server.seen[0].accept for kind in images._TYPES)  # pyright: ignore[reportPrivateUsage] - what a pull takes


def test_the_image_of_one_platform_is_pinned_by_its_manifest(server: RegistryServer) -> None:
    server.manifests["one:v1"] = Manifest(b'{"schemaVersion": 2}', DOCKER_MANIFEST)
    assert asked(server, "one:v1") == server.manifests["one:v1"].digest


@pytest.mark.parametrize("field_name", ["token", "access_token"])
def test_the_token_for_everybody_is_fetched_where_the_registry_says(server: RegistryServer, field_name: str) -> None:
    server.field_name = field_name
    assert asked(server) == IMAGE.digest
    assert server.asked_tokens == [{"service": ["double.example.com"], "scope": ["repository:vllm/vllm-openai:pull"]}]
    assert [(seen.method, seen.authorization) for seen in server.seen] == [("HEAD", None), ("HEAD", f"Bearer {CANARY}")]


@pytest.mark.parametrize(
    ("challenge", "query"),
    [
        ('Bearer realm="{realm}"', {"scope": ["repository:vllm/vllm-openai:pull"]}),
        ('bearer Realm = "{realm}" , SCOPE="a:b:pull c:d:pull"', {"scope": ["a:b:pull", "c:d:pull"]}),
        (
            'Basic realm="no", Bearer realm="{realm}",service=plain',
            {"service": ["plain"], "scope": ["repository:vllm/vllm-openai:pull"]},
        ),
        (
            'Bearer realm="{realm}?account=no",service="s"',
            {"account": ["no"], "service": ["s"], "scope": ["repository:vllm/vllm-openai:pull"]},
        ),
    ],
)
def test_the_ways_to_ask_for_a_token(server: RegistryServer, challenge: str, query: dict[str, list[str]]) -> None:
    server.faults.challenge = challenge.format(realm=server.realm)
    assert asked(server) == IMAGE.digest
    assert server.asked_tokens == [query]


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_a_registry_without_head_is_asked_for_the_manifest_itself(server: RegistryServer, status: int) -> None:
    server.faults.no_head = status
    assert asked(server) == IMAGE.digest
    assert [seen.method for seen in server.seen if seen.authorization] == ["GET"]


def test_a_digest_that_is_not_told_is_made_from_the_manifest(server: RegistryServer) -> None:
    server.faults.hide_digest = True
    assert asked(server) == IMAGE.digest
    assert [seen.method for seen in server.seen] == ["HEAD", "HEAD", "GET"]
    assert len(server.asked_tokens) == 1, "one token serves both requests"


@pytest.mark.parametrize("told", [f"sha512:{'ab' * 64}", "latest", ""])
def test_another_kind_of_digest_is_refused(server: RegistryServer, told: str) -> None:
    server.faults.digest = told
    assert "has no SHA-256 as the digest" in str(failure(server))


def test_a_manifest_with_another_digest_than_is_told_is_refused(server: RegistryServer) -> None:
    server.faults.no_head, server.faults.digest = 405, f"sha256:{'0' * 64}"
    error = failure(server)
    assert str(error) == (
        f"the manifest of {server.host}/{NAME} came with other content than the digest that {server.host} tells"
    )


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html>Welcome to the hotel</html>", "text/html"),
        (b"<html>Welcome to the hotel</html>", None),
        (IMAGE.content, "text/html"),
        (IMAGE.content, DOCKER_MANIFEST),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_what_is_no_manifest_is_refused(server: RegistryServer, content: bytes, kind: str | None) -> None:
    server.manifests[NAME] = Manifest(content)
    server.faults.kind, server.faults.hide_digest = kind, True
    assert str(failure(server)).endswith("with something that is no manifest of an image")


def test_a_manifest_without_end_is_refused(server: RegistryServer) -> None:
    server.faults.no_head = 405
    server.manifests[NAME] = Manifest(b" " * (4 * 2**20 + 1))
    with pytest.raises(LlmdeployError, match="gives more than 4 MiB"):
        asked(server)


@pytest.mark.parametrize("name", ["vllm/vllm-openai:v2", "vllm/other:v1"])
def test_an_image_that_is_not_there(server: RegistryServer, name: str) -> None:
    error = failure(server, name)
    assert str(error) == f"{server.host} has no image {server.host}/{name}"
    assert "engine.version" in error.hint


@pytest.mark.parametrize("status", [401, 403])
def test_an_image_that_not_everybody_may_pull(server: RegistryServer, status: int) -> None:
    server.token = ""
    server.faults.status = [status, status]
    server.faults.challenge = ""
    error = failure(server)
    assert "may pull" in error.hint


def test_a_token_that_opens_nothing(server: RegistryServer) -> None:
    server.faults.token_answer = b'{"token": "another"}'
    error = failure(server)
    assert str(error) == f"{server.host} has no image {server.host}/{NAME} for everybody (status 401)"
    assert len(server.asked_tokens) == 1


@pytest.mark.parametrize("challenge", ['Basic realm="x"', "Negotiate", ""])
def test_a_registry_that_wants_a_password(server: RegistryServer, challenge: str) -> None:
    server.faults.challenge = challenge
    assert str(failure(server)) == f"{server.host} wants a password for {server.host}/{NAME}"


@pytest.mark.parametrize(
    "realm",
    [
        "http://tokens.example.com/",
        "ftp://x/",
        "//x/token",
        "",
        "http://[",
        "https://a b/",
        f"https://me:{CANARY}@x/",
        "https://x:0/",
    ],
)
def test_a_token_is_not_fetched_over_a_weaker_way(server: RegistryServer, realm: str) -> None:
    server.faults.challenge = f'Bearer realm="{realm}",service="s"'
    assert "sends us for a token to something that is no https address" in str(failure(server))


def test_a_registry_elsewhere_does_not_send_to_this_machine() -> None:
    challenge = images._Challenge("http://127.0.0.1:1/token", None, ())  # pyright: ignore[reportPrivateUsage] - needs no server
    assert challenge.server(near=True) == "127.0.0.1:1"
    assert challenge.server(near=False) is None


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"token": ""}', b'{"token": 5}', b'{"token": "a\\r\\nX-Evil: 1"}', b"[]"])
def test_an_answer_that_holds_no_token(server: RegistryServer, answer: bytes) -> None:
    server.faults.token_answer = answer
    assert "gave no token to ask for" in str(failure(server))
    assert [seen.authorization for seen in server.seen] == [None]


def test_passing_faults_are_tried_again(server: RegistryServer) -> None:
    server.faults.status = [503, 429]
    server.faults.token_status = [500, 429]
    assert asked(server) == IMAGE.digest


@pytest.mark.parametrize(("status", "hint"), [(500, "try later"), (429, "slow down")])
def test_a_fault_that_stays_is_told(server: RegistryServer, status: int, hint: str) -> None:
    server.faults.status = [status] * 3
    error = failure(server)
    assert str(error) == f"{server.host} answered with status {status} about {server.host}/{NAME}"
    assert hint in error.hint
    assert len(server.seen) == 3


@pytest.mark.parametrize(("status", "tries"), [(500, 3), (429, 3), (401, 1)])
def test_a_fault_of_the_server_of_tokens_is_told(server: RegistryServer, status: int, tries: int) -> None:
    server.faults.token_status = [status] * 3
    assert f"answered with status {status} about a token" in str(failure(server))
    assert len(server.asked_tokens) == tries


def test_the_token_stays_with_its_registry(server: RegistryServer) -> None:
    with RegistryServer({NAME: IMAGE}) as other:
        server.faults.redirect_to = f"http://{other.host}"
        assert asked(server) == IMAGE.digest
        assert [(seen.method, seen.authorization) for seen in other.seen] == [("HEAD", None)]


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(LlmdeployError) as caught:
            image_digest(f"{host}/{NAME}")
    assert str(caught.value) == f"cannot reach {host} for the digest of {host}/{NAME}: Connection refused"
    assert caught.value.hint == f"nothing is written: run `llmdeploy lock` again where {host} can be reached"


def test_docker_hub_is_asked_through_the_proxy_of_the_usual_variables(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://{server.host}")
    with pytest.raises(
        LlmdeployError, match=r"cannot reach registry-1\.docker\.io for the digest of vllm/vllm-openai:v1: Tunnel"
    ):
        image_digest(NAME)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("vllm/vllm-openai:v0.32.0", "https://registry-1.docker.io/v2/vllm/vllm-openai/manifests/v0.32.0"),
        ("docker.io/vllm/vllm-openai:v1", "https://registry-1.docker.io/v2/vllm/vllm-openai/manifests/v1"),
        ("index.docker.io/debian:12", "https://registry-1.docker.io/v2/library/debian/manifests/12"),
        ("debian:12", "https://registry-1.docker.io/v2/library/debian/manifests/12"),
        ("ghcr.io/a/b/c:latest", "https://ghcr.io/v2/a/b/c/manifests/latest"),
        ("registry.example.com:5000/a:1", "https://registry.example.com:5000/v2/a/manifests/1"),
        ("10.0.0.1:5000/a:1", "https://10.0.0.1:5000/v2/a/manifests/1"),
        ("localhost/a:1", "http://localhost/v2/a/manifests/1"),
        ("localhost:5000/a:1", "http://localhost:5000/v2/a/manifests/1"),
        ("127.0.0.1:5000/a:1", "http://127.0.0.1:5000/v2/a/manifests/1"),
        ("[::1]:5000/a:1", "http://[::1]:5000/v2/a/manifests/1"),
    ],
)
def test_where_an_image_is(text: str, url: str) -> None:
    assert ImageName.parse(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a/b",
        ":1",
        "A/b:1",
        "a/b:",
        "a/b:x y",
        "a//b:1",
        "../x:1",
        "a/b:1@sha256:00",
        "h.x:1:2/a:1",
        "x@h.x/a:1",
        "a/b:1\n",
        "h.x/a?b:1",
    ],
)
def test_what_names_no_image_is_told(text: str) -> None:
    with pytest.raises(LlmdeployError, match="is no name of an image"):
        image_digest(text)
