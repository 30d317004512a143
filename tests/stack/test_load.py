from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from llmdeploy.diagnostics import Diagnostic, Place
from llmdeploy.errors import StackError
from llmdeploy.stack.load import load
from llmdeploy.stack.reading import MAX_BYTES

from ..support import ROOT
from .support import HEAD, PROVIDERS, Rack, load_text

GOLDEN = ROOT / "tests" / "golden" / "stack"

WHOLE = """\
version: 1
required_version: ">=0.1, <1"
name: support-chat
variables: {replicas: 2, bucket: weights}
model:
  id: llama-3.3-70b-instruct
  quant: fp8
  variant: s3://${var.bucket}/llama
  revision: null
  served_name: llama
  context: 32K
  concurrency: 32
engine: {name: vllm, version: "0.33.0", runtime: auto, args: {enable-prefix-caching: true, speculative-config: {method: ngram}}}
region: eu-central-1
compliance: {profiles: [hipaa, gdpr], residency: eu, attest: {baa: true, dpa: true}}
provider: {aws: {anything: [1, 2]}}
hardware: {gpu: l40s, count: 2, instance_type: g6e.12xlarge, market: spot}
replicas: ${var.replicas}
storage: {encryption: luks2, device: /dev/disk/by-id/nvme-1, unlock: tpm2, key: "file:key", erase: [S1], on_destroy: keep}
gateway:
  domain: llm.example.com
  port: 8443
  tls: {cert: "file:tls/chain.pem", key: "env:TLS_KEY"}
  sticky: x-session-id
  fallback: {base_url: "https://api.example.com/v1", model: big, api_key: "aws-secret:fallback"}
keys:
  - {name: support-backend, principal: "arn:aws:iam::111122223333:role/support-backend", recipient: null,
     requests_per_minute: 600, concurrency: 32, max_age_days: 90, allow_fallback: true}
logs: {retention_days: 30}
prices: {ec2.g6e.12xlarge.eu-central-1.hour: 1}
state: {s3: {bucket: states, region: eu-central-1, kms_key: alias/state}}
"""


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


def messages(error: StackError) -> list[str]:
    return [str(finding) for finding in error.diagnostics]


def test_the_smallest_stack_has_defaults_for_the_rest(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, HEAD)
    stack = loaded.stack
    assert (stack.name, stack.model.id, stack.model.name) == ("demo", "tiny-random", "tiny-random")
    assert (stack.engine.name, stack.replicas, stack.gateway.port, stack.logs.retention_days) == ("vllm", 1, 8443, 30)
    assert stack.provider.name == "local"
    assert stack.state.local is not None
    assert (loaded.path, loaded.folder, loaded.warnings) == (tmp_path / "stack.yaml", tmp_path, ())


def test_the_whole_contract_is_read(tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(WHOLE)
    loaded = load(file, providers={"aws": Anything}, variables={"replicas": "3"}, environ={}, version="0.1.0")
    stack = loaded.stack
    assert stack.model.context == 32 * 1024
    assert stack.model.variant == "s3://weights/llama"
    assert stack.replicas == 3
    assert stack.variables == {"replicas": 3, "bucket": "weights"}
    assert stack.compliance.profiles == ("hipaa", "gdpr")
    assert stack.provider.config.model_dump() == {"anything": [1, 2]}
    assert stack.keys[0].name == "support-backend"
    assert loaded.path == file
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("model_id", "source", "name"),
    [
        ("llama-3.1-8b-instruct", "catalogue", "llama-3.1-8b-instruct"),
        ("meta-llama/Llama-3.3-70B-Instruct", "hub", "Llama-3.3-70B-Instruct"),
        ("s3://bucket/models/llama/", "s3", "llama"),
        ("./models/mine", "folder", "mine"),
        ("/srv/mine/", "folder", "mine"),
        ("~/mine", "folder", "mine"),
    ],
)
def test_a_model_id_says_where_the_weights_come_from(tmp_path: Path, model_id: str, source: str, name: str) -> None:
    model = load_text(tmp_path, HEAD.replace("tiny-random", model_id)).stack.model
    assert (model.source, model.name) == (source, name)


def test_short_forms_mean_their_long_forms(tmp_path: Path) -> None:
    short = load_text(tmp_path, HEAD + "engine: vllm\ncompliance: [gdpr]\n").stack
    long = load_text(tmp_path, HEAD + "engine: {name: vllm}\ncompliance: {profiles: [gdpr]}\n").stack
    assert short == long


def test_dates_and_versions_stay_text(tmp_path: Path) -> None:
    text = HEAD.replace("tiny-random", "a/b, revision: 2026-01-02") + "engine: {version: 0.33.0}\n"
    stack = load_text(tmp_path, text).stack
    assert (stack.model.revision, stack.engine.version) == ("2026-01-02", "0.33.0")


def test_every_error_at_once_in_order(tmp_path: Path) -> None:
    with pytest.raises(StackError) as raised:
        load_text(tmp_path, (GOLDEN / "many_errors.yaml").read_bytes())
    text = str(raised.value).replace(f"{tmp_path}/", "") + "\n"
    golden = GOLDEN / "many_errors.txt"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        golden.write_text(text)
    assert text == golden.read_text()
    places = [finding.place for finding in raised.value.diagnostics if isinstance(finding, Diagnostic) and finding.place]
    assert places == sorted(places)
    assert "canary" not in text


def test_a_flood_of_errors_is_cut(tmp_path: Path) -> None:
    started = time.process_time()
    with pytest.raises(StackError) as raised:
        load_text(tmp_path, HEAD + "".join(f"key{number}: {number}\n" for number in range(24_000)))
    assert len(raised.value.diagnostics) == 101
    assert messages(raised.value)[-1] == "error: 23900 more errors are not shown"
    assert time.process_time() - started < 20


def test_places(tmp_path: Path) -> None:
    source = load_text(tmp_path, HEAD + "keys:\n  - name: a\n    principal: b\n").source
    file = str(tmp_path / "stack.yaml")
    assert source.place("name") == Place(file, 2, 7)
    assert source.place("model.id") == source.place(("model", "id")) == Place(file, 3, 13)
    assert source.place("model") == Place(file, 3, 1)
    assert source.key_place("model.id") == Place(file, 3, 9)
    assert source.place("keys[0].principal") == source.place("keys.0.principal") == Place(file, 7, 16)
    assert source.place("keys[0].recipient") == Place(file, 6, 5)
    assert source.place("keys[7].name") == Place(file, 5, 1)
    assert source.place("storage.encryption") == source.place("") == Place(file, 1, 1)


class TestVariables:
    def test_later_sources_win(self, tmp_path: Path) -> None:
        text = HEAD + "variables: {a: 1, b: 1, c: 1}\nreplicas: ${var.a}\n"
        text += "logs: {retention_days: '${var.b}'}\ngateway: {port: '${var.c}'}\n"
        file = tmp_path / "prod.yaml"
        file.write_text("b: 2\nc: 2\n")
        stack = load_text(tmp_path, text, var_files=[file], variables={"c": "3"}).stack
        assert (stack.replicas, stack.logs.retention_days, stack.gateway.port) == (1, 2, 3)

    def test_inside_a_longer_text_a_number_keeps_its_digits(self, tmp_path: Path) -> None:
        stack = load_text(tmp_path, HEAD + "variables: {v: 0.10}\nregion: v${var.v}-${env:ZONE}\n", environ={"ZONE": "b"}).stack
        assert stack.region == "v0.10-b"

    def test_two_dollars_escape(self, tmp_path: Path) -> None:
        stack = load_text(tmp_path, HEAD + "keys: [{name: a, principal: '$${var.x} costs $5'}]\n").stack
        assert stack.keys[0].principal == "${var.x} costs $5"

    def test_an_environment_variable_may_be_a_default(self, tmp_path: Path) -> None:
        stack = load_text(tmp_path, HEAD + "variables: {r: '${env:R}'}\nregion: ${var.r}\n", environ={"R": "here"}).stack
        assert stack.region == "here"

    def test_a_value_is_put_in_once(self, tmp_path: Path) -> None:
        text = HEAD + "variables: {a: b}\nkeys: [{name: a, principal: '${var.a}'}]\n"
        assert load_text(tmp_path, text, variables={"a": "${env:HOME}"}).stack.keys[0].principal == "${env:HOME}"

    def test_quotes_make_a_given_value_text(self, tmp_path: Path) -> None:
        text = HEAD + "variables: {a: b}\nregion: '${var.a}'\n"
        assert load_text(tmp_path, text, variables={"a": '"no"'}).stack.region == "no"
        with pytest.raises(StackError, match="must be text, not a number"):
            load_text(tmp_path, text, variables={"a": "12"})

    def test_unused_ones_are_warned_about(self, tmp_path: Path) -> None:
        loaded = load_text(tmp_path, HEAD + "variables:\n  a: b\nkeys: [{name: a, principal: b, allow_fallback: true}]\n")
        assert [finding.path for finding in loaded.warnings] == ["variables.a", "keys[0].allow_fallback"]
        assert loaded.warnings[0].place == Place(str(tmp_path / "stack.yaml"), 6, 3)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("replica: 3\n", 'prod.yaml:1:1: error: the stack file declares no variable "replica" (did you mean "replicas"?)'),
            ("replicas: [1]\n", "prod.yaml:1:1: error: replicas: a variable is one value"),
            ("replicas: yes\n", "prod.yaml:1:11: error: yes means true"),
            ("- 1\n", "prod.yaml:1:1: error: must be a mapping of names and values"),
            ("replicas: &a 1\n", "prod.yaml:1:11: error: anchors"),
            ("a: b: c\n", "prod.yaml:1:5: error: this is not YAML"),
            ("\ufeffa: b\n", "byte order mark"),
            ("", "the file is empty"),
        ],
    )
    def test_a_bad_file_is_told_with_its_own_place(self, tmp_path: Path, content: str, says: str) -> None:
        file = tmp_path / "prod.yaml"
        file.write_text(content)
        with pytest.raises(StackError) as raised:
            load_text(tmp_path, HEAD + "variables: {replicas: 1}\nreplicas: ${var.replicas}\n", var_files=[file])
        assert says in str(raised.value)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(StackError, match="cannot read the variables file"):
            load_text(tmp_path, HEAD, var_files=[tmp_path / "none.yaml"])

    def test_expansion_is_bounded(self, tmp_path: Path) -> None:
        text = HEAD + "variables: {a: b}\nkeys:\n" + "".join(f"- {{name: k{n}, principal: 'x${{var.a}}'}}\n" for n in range(3000))
        with pytest.raises(StackError) as raised:
            load_text(tmp_path, text, variables={"a": "x" * 60_000})
        assert "the values put into this file are too large (at most 1 MiB)" in str(raised.value)


def test_the_digest_binds_bytes_variables_and_environment(tmp_path: Path) -> None:
    text = HEAD + "variables: {r: a}\nregion: '${var.r}${env:R}'\n"

    def digest(suffix: str = "", r: str = "a", environ: str = "b") -> str:
        return load_text(tmp_path, text + suffix, variables={"r": r}, environ={"R": environ, "UNUSED": suffix}).sha256

    assert digest() == digest()
    assert len({digest(), digest("# more\n"), digest(r="c"), digest(environ="c")}) == 4


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf"]), max_size=30))
def test_any_text_survives_interpolation(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("stack")
    stack_text = HEAD + "keys: [{name: a, principal: 'x${env:T}${env:T}x'}]\n"
    stack = load_text(folder, stack_text, environ={"T": text}).stack
    assert stack.keys[0].principal == f"x{text}{text}x"


class TestUnreadable:
    def refused(self, path: Path) -> StackError:
        with pytest.raises(StackError) as raised:
            load(path, providers=PROVIDERS, variables={}, environ={}, version="0.1.0")
        return raised.value

    def test_nothing_there(self, tmp_path: Path) -> None:
        error = self.refused(tmp_path)
        assert str(error) == f"cannot read the stack file {tmp_path}/stack.yaml: No such file or directory"
        assert error.hint == "`llmdeploy init` writes one"

    def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "stack.yaml").mkdir()
        assert "it is a folder" in str(self.refused(tmp_path))

    def test_a_fifo_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "stack.yaml")
        assert "not a regular file" in str(self.refused(tmp_path))

    def test_a_device_without_end(self) -> None:
        assert "not a regular file" in str(self.refused(Path("/dev/zero")))

    def test_a_file_that_cannot_be_read(self) -> None:
        assert "cannot read the stack file /proc/self/mem" in str(self.refused(Path("/proc/self/mem")))

    def test_a_path_through_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        assert "Not a directory" in str(self.refused(tmp_path / "a" / "stack.yaml"))

    def test_a_path_that_is_none(self) -> None:
        assert "not a usable path" in str(self.refused(Path("a\0b")))

    def test_ten_megabytes_are_not_parsed(self, tmp_path: Path) -> None:
        (tmp_path / "stack.yaml").write_bytes(b"a: b\n" * 2_000_000)
        started = time.process_time()
        assert "larger than 1 MiB" in str(self.refused(tmp_path))
        assert time.process_time() - started < 0.5

    def test_the_largest_file_is_read(self, tmp_path: Path) -> None:
        loaded = load_text(tmp_path, HEAD + "#" * (MAX_BYTES - len(HEAD) - 1) + "\n")
        assert loaded.stack.name == "demo"


def test_a_providers_own_part_is_validated_by_its_model(tmp_path: Path) -> None:
    text = HEAD.replace("{local: {}}", "{rack: {machines: [{address: a, password: 'env:P'}]}}")
    config = load_text(tmp_path, text).stack.provider.config
    assert isinstance(config, Rack)
    assert config.machines[0].port == 22
