"""Every rendered command goes through the parser of the real vLLM, and through the making of its whole configuration."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.catalog import tiny_random
from llmdeploy.manifest import ModelFacts
from llmdeploy.serving import KvRequest
from llmdeploy.serving.vllm import VLLM
from tests.e2e.support import ask_engine, filled, write_tiny_model
from tests.serving.cases import CASES, CUDA_CASES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
OLD_FLOAT = {"dtype": "float32", "torch_dtype": "float32"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real engine made of every case, in one process."""
    folder = tmp_path_factory.mktemp("engine")
    models = {
        "": write_tiny_model(folder / "model", weights=False),
        "awq": write_tiny_model(folder / "awq", {"quantization_config": AWQ}, weights=False),
        "float32": write_tiny_model(folder / "float32", OLD_FLOAT, weights=False),
    }
    commands: dict[str, Any] = {}
    env: dict[str, str] = {}
    for name, case in CASES.items():
        commands[name], env = filled(VLLM.render(case), models[""], folder)
    for name, case in CUDA_CASES.items():
        process = VLLM.render(case)
        commands[name] = [part.replace("{weights}", str(models[""])) for part in process.argv[2:]]
        env |= {variable: value for variable, value in process.env.items() if variable.startswith("VLLM_") and "{" not in value}
    for name in ("awq", "float32"):
        commands[name], env = filled(VLLM.render(CASES["tiny"]), models[name], folder)
    commands["deprecated"] = [*commands["tiny"], "--swap-space", "4"]
    printed = ask_engine("check_vllm_commands.py", stdin=json.dumps(commands), env=env)
    found = json.loads(printed.splitlines()[-1])
    return {**found, "models": {name: str(path) for name, path in models.items()}}


@pytest.mark.parametrize("name", CASES)
def test_the_engine_takes_the_command_and_means_the_same(built: dict[str, Any], name: str) -> None:
    case, made = CASES[name], built["commands"][name]
    assert "error" not in made, made["error"]
    wanted = {
        "model": built["models"][""],
        "served_model_name": case.served_name,
        "quantization": None,
        "trust_remote_code": False,
        "max_model_len": case.context,
        "max_num_seqs": case.concurrency,
        "max_num_queued_reqs": case.extra_args.get("max-num-queued-reqs", 4 * case.concurrency),
        "kv_cache_memory_bytes": case.kv_cache_bytes,
        "executor": "uni",
        "load_format": "safetensors",
        "log_requests": False,
        "api_key": None,
    }
    assert {name: made[name] for name in wanted} == wanted
    assert Path(made["uds"]).name == "socket"


def test_the_sizing_counts_as_the_engine_does(built: dict[str, Any]) -> None:
    config = json.loads(tiny_random.files()["config.json"])
    settings = {"tiny": {}, "float32": OLD_FLOAT, "awq": {"quantization_config": AWQ}}
    for name, changed in settings.items():
        model, made = ModelFacts("tiny", {**config, **changed}), built["commands"][name]
        quantization = VLLM.quantize(model, "auto", None)
        assert made["dtype_bytes"] == quantization.kv_bytes
        assert made["block_size"] == VLLM.kv_layout(model, KvRequest(4096, 2048, quantization.kv_bytes)).block_tokens


@pytest.mark.parametrize("name", CUDA_CASES)
def test_commands_for_gpus_are_parsed_as_they_are_meant(built: dict[str, Any], name: str) -> None:
    case, made = CUDA_CASES[name], built["commands"][name]
    assert "error" not in made, made["error"]
    wanted = {
        "model_tag": built["models"][""],
        "served_model_name": [case.served_name],
        "max_model_len": case.context,
        "max_num_seqs": case.concurrency,
        "kv_cache_memory_bytes": case.kv_cache_bytes,
        "tensor_parallel_size": case.parallel.tensor,
        "pipeline_parallel_size": case.parallel.pipeline,
        "nnodes": case.parallel.machines,
        "node_rank": case.rank,
        "headless": case.rank > 0,
        "distributed_executor_backend": "uni" if case.parallel.gpus == 1 else "mp",
        "quantization": case.quantization.flag or None if case.quantization else None,
        "enforce_eager": False,
        "trust_remote_code": False,
        "enable_log_requests": False,
        "api_key": None,
    }
    assert {option: made[option] for option in wanted} == wanted


def test_a_quantized_checkpoint_is_recognized(built: dict[str, Any]) -> None:
    assert "awq" in built["commands"]["awq"]["quantization"]


def test_every_variable_is_known_to_the_engine(built: dict[str, Any]) -> None:
    assert built["unknown_environment"] == []


def test_the_check_can_fail(built: dict[str, Any]) -> None:
    assert "--swap-space" in built["commands"]["deprecated"]["error"]


def test_the_stored_list_of_options_is_that_of_the_engine() -> None:
    stored = (files("llmdeploy.serving") / "vllm_flags.json").read_text()
    assert ask_engine("dump_vllm_flags.py") == stored
