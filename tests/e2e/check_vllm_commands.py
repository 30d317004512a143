"""Builds the engine's own configuration from command lines; runs with the interpreter of an installed engine.

Reads `{name: arguments}` as JSON; prints `{commands: {name: what vLLM made of it}, unknown_environment: []}`. Commands for GPUs,
whose names begin with `cuda`, are parsed only: the whole configuration is made where the GPUs are.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
dump_vllm_flags: Any = importlib.import_module("dump_vllm_flags")


def parse(parser: Any, arguments: list[str]) -> dict[str, Any]:
    """Return what the parser made of the arguments, or the error with which it refused them."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed = parser.parse_args(arguments)
            dump_vllm_flags.parser_module().validate_parsed_serve_args(parsed)
    except SystemExit:
        return {"error": errors.getvalue()[-2000:]}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    found: dict[str, Any] = parsed.__dict__
    return {name: value for name, value in found.items() if isinstance(value, (str, int, float, list, type(None)))}


def build(parser: Any, arguments: list[str]) -> dict[str, Any]:
    """Return what the engine made of the arguments, or the error with which it refused them."""
    arg_utils: Any = importlib.import_module("vllm.engine.arg_utils")
    usage: Any = importlib.import_module("vllm.usage.usage_lib")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed = parser.parse_args(arguments)
            dump_vllm_flags.parser_module().validate_parsed_serve_args(parsed)
            engine_args = arg_utils.AsyncEngineArgs.from_cli_args(parsed)
            config = engine_args.create_engine_config(usage_context=usage.UsageContext.OPENAI_API_SERVER)
    except SystemExit:
        return {"error": errors.getvalue()[-2000:]}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "model": config.model_config.model,
        "served_model_name": config.model_config.served_model_name,
        "quantization": config.model_config.quantization,
        "dtype_bytes": config.model_config.dtype.itemsize,
        "trust_remote_code": config.model_config.trust_remote_code,
        "max_model_len": config.model_config.max_model_len,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "max_num_queued_reqs": config.scheduler_config.max_num_queued_reqs,
        "kv_cache_memory_bytes": config.cache_config.kv_cache_memory_bytes,
        "block_size": config.cache_config.block_size,
        "executor": config.parallel_config.distributed_executor_backend,
        "load_format": str(getattr(config.load_config.load_format, "value", config.load_config.load_format)),
        "uds": parsed.uds,
        "log_requests": parsed.enable_log_requests,
        "api_key": parsed.api_key,
    }


def main() -> None:
    """Check every command of standard input."""
    parser = dump_vllm_flags.make_parser()
    asked = json.load(sys.stdin).items()
    commands = {name: (parse if name.startswith("cuda") else build)(parser, arguments) for name, arguments in asked}
    known: Any = importlib.import_module("vllm.envs").environment_variables
    unknown = sorted(name for name in os.environ if name.startswith("VLLM_") and name not in known)
    print(json.dumps({"commands": commands, "unknown_environment": unknown}))


if __name__ == "__main__":
    main()
