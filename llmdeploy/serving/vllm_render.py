"""vLLM's command line and environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..process import Health, ProcessSpec, Stop
from .model import RenderRequest, stack_error
from .vllm_args import argv_of
from .vllm_parallel import batched_tokens
from .vllm_privacy import LOGGING_NAME, MODULE, START_NAME

START_FILE: Final = f"{{home}}/{START_NAME}"

_START: Final = (
    'import ctypes, platform, runpy; platform.machine() == "x86_64" and ctypes.CDLL(None).syscall(158, 0x1023, 18); '
    f'__name__ == "__main__" and runpy.run_module("{MODULE}", run_name="__main__")'
)
"""Asks the kernel for the tiles of AMX (`arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`; refused where there are none),
then runs the module. Its attention uses them without asking, and dies of SIGILL when a short prompt comes first: oneDNN asks,
and only longer prompts get there (0.32.0). Processes that it spawns read this file too, hence the last condition.
"""

KV_METRIC: Final = "vllm:cache_config_info{kv_cache_size_tokens}"

QUEUED_PER_RUNNING: Final = 4
"""Waiting requests per running one before the engine answers 503; without a limit its queue grows until memory ends."""

CPU_OVERHEAD_BYTES: Final = 1536 * 2**20
"""Memory of the two processes beside weights and KV cache: 0.9 GiB measured, and room for a batch."""

_GPU_PROCESS_BYTES: Final = 4 * 2**30
"""Main memory of one process with a GPU beside the weights that pass through it. A planning value, not measured."""

_DRAIN_S: Final = 10
"""Seconds that running requests get at the end. Without a limit the engine hangs on them for ever (measured)."""

_TOY_BYTES: Final = 64 * 2**20

_LOAD_BYTES_PER_S: Final = 50 * 10**6
_START_S: Final = 600

_CUDA_LOAD_BYTES_PER_S: Final = 200 * 10**6
_CUDA_START_S: Final = 1200
"""Compiling and capturing graphs take minutes."""

_MASTER_PORT: Final = 29501
"""Where the machines of a replica meet; vLLM's own default."""

_DTYPES: Final[Mapping[str, str]] = {"bf16": "bfloat16", "fp16": "float16"}


def render(request: RenderRequest) -> ProcessSpec:
    """Return the process. Raises StackError when the engine would refuse to start with these options."""
    _check_steps(request)
    cuda = request.device == "cuda"
    rate, least = (_CUDA_LOAD_BYTES_PER_S, _CUDA_START_S) if cuda else (_LOAD_BYTES_PER_S, _START_S)
    start_timeout_s = least + request.weight_bytes // rate
    command = ("vllm", "serve", "{weights}") if cuda else ("python", "-I", "-u", START_FILE, "--model", "{weights}")
    device = _cuda(request) if cuda else _cpu()
    options = {**_first(request), **_fixed(request), **device, **_defaults(request), **request.extra_args}
    env = {**_ENV, **(_cuda_env(request) if cuda else {**_CPU_ENV, **_threads(request)})}
    return ProcessSpec(
        argv=(*command, *argv_of(options)),
        env={**env, "VLLM_ENGINE_READY_TIMEOUT_S": str(start_timeout_s)},
        files={_LOGGING_FILE: json.dumps(_LOGGING, sort_keys=True), **({} if cuda else {START_FILE: _START})},
        health=Health(
            path="/health",
            ready_path="/v1/completions",
            ready_body=json.dumps({"model": request.served_name, "prompt": "ready", "max_tokens": 1}),
            start_timeout_s=start_timeout_s,
        ),
        stop=Stop(signal="TERM", timeout_s=2 * _DRAIN_S),
        memory_bytes=_memory_bytes(request),
        kv_cache_tokens=request.kv_cache_tokens,
        kv_cache_metric=KV_METRIC,
    )


def _first(request: RenderRequest) -> dict[str, Any]:
    """The first machine of a replica answers on a socket; the others only compute."""
    return {"headless": True} if request.rank else {"uds": "{socket}"}


def _fixed(request: RenderRequest) -> dict[str, Any]:
    """What a stack file cannot change: the name, the sizes, the socket, and that no content is logged or fetched."""
    name = request.quantization.name if request.quantization else request.quant
    return {
        "served-model-name": request.served_name,
        "dtype": _DTYPES.get(name, "auto"),
        "max-model-len": request.context,
        "max-num-seqs": request.concurrency,
        "kv-cache-memory-bytes": request.kv_cache_bytes,
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


def _cpu() -> dict[str, Any]:
    return {
        "distributed-executor-backend": "uni",
        "enforce-eager": True,
        # Otherwise the size of a recurrent state depends on the processor.
        "mamba-ssm-cache-dtype": "float32",
    }


def _cuda(request: RenderRequest) -> dict[str, Any]:
    parallel, quantization = request.parallel, request.quantization
    options: dict[str, Any] = {"distributed-executor-backend": "uni" if parallel.gpus == 1 else "mp"}
    if quantization and quantization.flag:
        options["quantization"] = quantization.flag
    if parallel.tensor > 1:
        options["tensor-parallel-size"] = parallel.tensor
    if parallel.pipeline > 1:
        options["pipeline-parallel-size"] = parallel.pipeline
    if parallel.machines > 1:
        options |= {"nnodes": parallel.machines, "node-rank": request.rank}
        options |= {"master-addr": "{head}", "master-port": _MASTER_PORT}
    return options


def _step(request: RenderRequest) -> int:
    return batched_tokens(request.concurrency, request.gpu, request.extra_args)


def _defaults(request: RenderRequest) -> dict[str, Any]:
    return {
        "max-num-batched-tokens": _step(request),
        "max-num-queued-reqs": QUEUED_PER_RUNNING * request.concurrency,
        "generation-config": "auto",
        "seed": request.seed,
    }


_LOGGING_FILE: Final = f"{{home}}/{LOGGING_NAME}"

_TOUCH_REQUESTS: Final = """
    entrypoints renderers inputs multimodal tokenizers parser tool_parsers reasoning v1.structured_output
    v1.engine.async_llm v1.engine.detokenizer v1.engine.input_processor logging_utils.dump_input
"""
"""Parts of vLLM that handle what clients send. Their warnings and errors repeat it: the name of a model that is not there, a role
that a chat template does not know, a regular expression that does not compile, the parameters of requests that ran at a crash."""

_LOGGING: Final[Mapping[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "vllm": {
            "class": "vllm.logging_utils.NewLineFormatter",
            "format": "(%(vllm_process_name)s pid=%(process)d) %(levelname)s %(asctime)s [%(fileinfo)s:%(lineno)d] %(message)s",
            "datefmt": "%m-%d %H:%M:%S",
        }
    },
    "handlers": {
        "vllm": {"class": "logging.StreamHandler", "formatter": "vllm", "level": "INFO", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        # Prompts are logged at DEBUG only.
        "vllm": {"handlers": ["vllm"], "level": "INFO", "propagate": False},
        **{f"vllm.{name}": {"level": "CRITICAL"} for name in _TOUCH_REQUESTS.split()},
        "uvicorn": {"handlers": ["vllm"], "level": "INFO", "propagate": False},
        # What an exception says may be what a client said.
        "uvicorn.error": {"level": "CRITICAL"},
        "asyncio": {"level": "CRITICAL"},
        # Each request, with its query string.
        "uvicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
    },
}
"""What the engine logs: its own settings, but for what handles requests."""

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
    "VLLM_LOGGING_LEVEL": "INFO",
    "VLLM_LOGGING_CONFIG_PATH": _LOGGING_FILE,
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

_CUDA_ENV: Final[Mapping[str, str]] = {
    # Compiled kernels outlive a container only in the cache.
    "TRITON_CACHE_DIR": "{cache}/triton",
    "TORCHINDUCTOR_CACHE_DIR": "{cache}/inductor",
    "CUDA_CACHE_PATH": "{cache}/cuda",
}


def _cuda_env(request: RenderRequest) -> dict[str, str]:
    """Machines of one replica meet at the first one's private address; each of the others finds its own."""
    if request.parallel.machines == 1:
        return dict(_CUDA_ENV)
    return {**_CUDA_ENV, "VLLM_HOST_IP": "{head}" if request.rank == 0 else ""}


def _threads(request: RenderRequest) -> dict[str, str]:
    """One thread for a toy: on two shared cores its requests took 5 s with one and 100 s with two (measured)."""
    return {"OMP_NUM_THREADS": "1"} if request.weight_bytes < _TOY_BYTES else {}


def _memory_bytes(request: RenderRequest) -> int:
    """Main memory: of one process with everything in it, or of one for each GPU of this machine that loads its part."""
    if request.device == "cpu":
        return request.weight_bytes + request.kv_cache_bytes + CPU_OVERHEAD_BYTES
    return request.parallel.gpus // request.parallel.machines * _GPU_PROCESS_BYTES


def _check_steps(request: RenderRequest) -> None:
    """Hold the options to vLLM's own rules (`SchedulerConfig.verify_max_model_len`)."""
    step, context, prefix = _step(request), request.context, "engine.args."
    if step < request.concurrency:
        raise stack_error(
            f"{prefix}max-num-batched-tokens",
            f"{step} is less than model.concurrency = {request.concurrency}: every running request needs one token per step",
        )
    if request.extra_args.get("enable-chunked-prefill") is False and step < context:
        raise stack_error(
            f"{prefix}enable-chunked-prefill",
            f"without it a step must hold a whole prompt, and {step} tokens are less than model.context = {context}",
            hint=f"max-num-batched-tokens: {context}",
        )
    threshold = request.extra_args.get("long-prefill-token-threshold", 0)
    if threshold > context:
        raise stack_error(f"{prefix}long-prefill-token-threshold", f"{threshold} is more than model.context = {context}")
