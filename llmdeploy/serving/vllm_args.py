"""Which of vLLM's options a stack file may set under `engine.args`, and why not the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..diagnostics import Diagnostic, nearest

_TUNABLE = """
    chat-template-content-format custom-histogram-buckets default-chat-template-kwargs disable-cascade-attn
    enable-auto-tool-choice enable-chunked-prefill enable-prefix-caching enable-prompt-tokens-details
    exclude-tools-when-tool-choice-none generation-config h11-max-header-count h11-max-incomplete-event-size
    language-model-only limit-mm-per-prompt logprobs-mode long-prefill-token-threshold long-prefill-token-threshold-adaptive
    max-logprobs max-num-batched-tokens max-num-queued-reqs max-num-queued-tokens override-generation-config
    prefix-caching-hash-algo reasoning-parser response-role return-tokens-as-token-ids scheduler-reserve-full-isl
    scheduling-policy seed sse-keep-alive-interval stream-interval structured-outputs-config tool-call-parser tool-strict-level
    watermark
"""

TUNABLE: Final = frozenset(_TUNABLE.split())
"""Options that only shape answers and scheduling. Whatever is not in this list is refused, also in versions to come."""

_REASONS: Final[Mapping[str, str]] = {
    "llmdeploy sets it itself": """
        model uds served-model-name max-model-len max-num-seqs kv-cache-memory-bytes gpu-memory-utilization dtype quantization
        enforce-eager enable-force-include-usage disable-uvicorn-access-log disable-fastapi-docs distributed-executor-backend
        load-format tokenizer revision tokenizer-revision code-revision fingerprint-mode allowed-media-domains shutdown-timeout
        download-dir hf-config-path""",
    "API keys belong to the gateway; the engine listens on a private socket": "api-key",
    "it opens a port or a connection, and the engine is reachable through its private socket only": """
        host port grpc grpc-port headless api-server-count root-path ssl-keyfile ssl-certfile ssl-ca-certs ssl-cert-reqs
        ssl-ciphers enable-ssl-refresh allowed-origins allowed-methods allowed-headers allow-credentials tool-server
        otlp-traces-endpoint collect-detailed-traces kv-events-config kv-transfer-config ec-transfer-config weight-transfer-config
        data-parallel-address data-parallel-rpc-port data-parallel-supervisor-port master-addr master-port enable-scale-out""",
    "it writes prompts or answers into the log": """
        enable-log-requests enable-log-outputs enable-log-deltas max-log-len log-error-stack log-level logging-config
        log-config-file uvicorn-log-level disable-access-log-for-endpoints enable-logging-iteration-details""",
    "it loads code into the engine": """
        trust-remote-code middleware logits-processors worker-cls worker-extension-cls scheduler-cls tool-parser-plugin
        reasoning-parser-plugin io-processor-plugin model-class-overrides model-impl additional-config config""",
    "it reads files of the machine": "allowed-local-media-path lora-modules default-mm-loras mm-encoder-fp8-scale-path",
    "it names a file of the machine; put chat_template.jinja among the model's files": "chat-template",
    "it lets a request bring code or a template of its own": """
        trust-request-chat-template trust-request-mm-kwargs enable-prompt-embeds enable-mm-embeds""",
    "it opens routes that control the engine": "profiler-config enable-sleep-mode enable-tokenizer-info-endpoint",
    "it removes the engine's metrics": "disable-log-stats",
    "it takes memory that the sizing does not count": """
        block-size disable-sliding-window num-gpu-blocks-override kv-cache-dtype enable-lora max-loras max-lora-rank
        mamba-cache-dtype mamba-ssm-cache-dtype speculative-config spec-method spec-model
        spec-tokens kv-offloading-size cpu-offload-gb hf-overrides""",
    "the sizing decides how a model is spread": """
        tensor-parallel-size pipeline-parallel-size data-parallel-size nnodes node-rank enable-expert-parallel device-ids""",
    "secrets are never given as options, and weights are fetched by llmdeploy": "hf-token",
}

_REASON_OF: Final = {name: reason for reason, names in _REASONS.items() for name in names.split()}

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {"generation-config": ("auto", "vllm")}
"""Options whose other values are paths."""

_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "structured-outputs-config": frozenset({"backend", "disable_any_whitespace", "disable_additional_properties"}),
}
"""JSON options of which only some keys may be set; another one of them loads a Python file."""

_TOKENS: Final = ("{weights}", "{socket}", "{cache}", "{tmp}", "{home}")


def refused(name: str) -> str:
    """Return why a stack file may not set the option `name`."""
    return _REASON_OF.get(name, "llmdeploy does not pass it on")


def check_arg(flags: Mapping[str, Mapping[str, Any]], name: str, value: Any) -> Diagnostic | None:
    """Return what is wrong with one entry of `engine.args`, or None. `flags` is the real parser's list."""
    path = f"engine.args.{name}"
    if name not in flags:
        return Diagnostic("error", f'vLLM has no option "{name}"', None, path, _spelling(flags, name))
    if name not in TUNABLE:
        return Diagnostic("error", f"may not be set: {refused(name)}", None, path)
    sentence = _value_problem(name, flags[name], value)
    return Diagnostic("error", sentence, None, path) if sentence else None


def argv_of(options: Mapping[str, Any]) -> list[str]:
    """Return options as arguments. Switches become `--x` or `--no-x`; mappings become JSON."""
    argv: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            argv.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, Mapping):
            argv += [f"--{name}", json.dumps(value, sort_keys=True, separators=(",", ":"))]
        else:
            argv += [f"--{name}", str(value)]
    return argv


def _spelling(flags: Mapping[str, Mapping[str, Any]], name: str) -> str:
    plain = name.lstrip("-").replace("_", "-")
    if plain in flags:
        return f'write it as "{plain}"'
    positive = plain.removeprefix("no-")
    if positive in flags:
        return f"write {positive}: false"
    return nearest(plain, flags) or "options are written in full, as vLLM spells them, without dashes in front"


def _value_problem(name: str, flag: Mapping[str, Any], value: Any) -> str:
    kind = str(flag["type"])
    expected = _KIND_NAMES[kind]
    if not _fits(kind, value):
        return f"expected {expected}, found {json.dumps(value, default=str)}"
    choices = _CHOICES.get(name) or flag["choices"]
    if choices and value not in choices:
        return f'"{value}" is not one of: {", ".join(choices)}'
    extra = sorted(set(value) - _KEYS[name]) if name in _KEYS else []
    if extra:
        return f"the key {extra[0]} may not be set; allowed: {', '.join(sorted(_KEYS[name]))}"
    text = json.dumps(value)
    token = next((token for token in _TOKENS if token in text), "")
    return f"{token} has a meaning of its own here and cannot be part of a value" if token else ""


_KIND_NAMES: Final = {
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "json": "a mapping",
    "size": "an integer",
}


def _fits(kind: str, value: Any) -> bool:
    if isinstance(value, bool) or kind == "bool":
        return isinstance(value, bool) and kind == "bool"
    if kind == "str":
        # A value in the form of an option would be taken for one.
        return isinstance(value, str) and not value.startswith("-")
    types: Mapping[str, type | tuple[type, ...]] = {"int": int, "size": int, "float": (int, float), "json": Mapping}
    return isinstance(value, types[kind])
