"""The words that a stack file may use: names of engines, profiles and providers, and the shapes of its texts."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from ..secret import SecretRef
from .terms import LINE, Text, problem, refuse, shown

EngineName = Literal["vllm", "sglang", "llama.cpp"]
Profile = Literal["none", "airgapped", "hipaa", "gdpr", "pci-dss", "soc2", "eu-ai-act"]
Encryption = Literal["auto", "luks2", "gocryptfs", "none"]
Unlock = Literal["auto", "tpm2", "operator", "kms"]
Residency = Literal["eu", "eea", "adequate"]
Quant = Literal[
    "auto", "bf16", "fp16", "fp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel",
    "int8", "int4", "awq", "gptq", "mxfp4", "nvfp4", "gguf",
]  # fmt: skip
Source = Literal["catalogue", "hub", "s3", "folder"]

KNOWN_PROVIDERS: tuple[str, ...] = ("local", "hosts", "aws")
"""Every provider of the stack file's contract, installed or not."""
OWNED_PROVIDERS = frozenset({"local", "hosts"})
PROFILES: tuple[str, ...] = get_args(Profile)
ENGINES: tuple[str, ...] = get_args(EngineName)

INSTEAD = {
    "model": "model.id",
    "served-model-name": "model.served_name",
    "revision": "model.revision",
    "quantization": "model.quant",
    "max-model-len": "model.context",
    "max-num-seqs": "model.concurrency",
    "tensor-parallel-size": "hardware.count",
    "host": "gateway",
    "port": "gateway.port",
    "uds": "gateway",
    "ssl-keyfile": "gateway.tls.key",
    "ssl-certfile": "gateway.tls.cert",
    "api-key": "keys",
}
RENDERED_ARGS: frozenset[str] = frozenset(INSTEAD)
"""Engine flags that llmdeploy renders itself; `engine.args` may not name them."""

_CATALOGUE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_S3_ID = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=/-]*)?")
SERVED_NAME = r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"

Label = Annotated[
    str,
    Text(
        r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?",
        "must be a short name: at most 40 small letters, digits and dashes, a letter first, no dash last",
    ),
]
Line = Annotated[str, LINE]
Country = Annotated[str, Text(r"[A-Z]{2}|site", 'must be a country of two capital letters, such as DE, or site (quote "NO")')]
Reference = Annotated[SecretRef, Field(json_schema_extra={"pattern": "^(?:env:|file:|aws-secret:)"})]
HostName = Annotated[
    str,
    Text(
        r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
        "must be a host name in small letters, such as llm.example.com",
    ),
]
VariableName = Annotated[
    str, Text(r"[A-Za-z_][A-Za-z0-9_]{0,63}", "must be the name of a variable: letters, digits and _, no digit first")
]
Word = Annotated[
    str,
    Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "must be one word of letters, digits, dots and dashes, at most 64 characters"),
]


def _tokens(value: object) -> object:
    if not isinstance(value, str):
        return value
    if match := re.fullmatch(r"([1-9][0-9]{0,5})K", value):
        return int(match[1]) * 1024
    match = re.fullmatch(r"([1-9][0-9]{0,5})\s*[kK]i?", value)
    hint = f"write {match[1]}K (={match[1]}*1024)" if match else "for example 8192 or 32K (=32*1024)"
    refuse(problem("must be a whole number of tokens, or a number with a capital K", hint=hint))


Tokens = Annotated[
    int,
    Field(ge=1, le=2**24),
    BeforeValidator(_tokens),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[1-9][0-9]*K$"}]}),
]


def source_of(value: str) -> Source | None:
    """Return the kind of place that a model id names, or None when it is no id."""
    if value.startswith(("/", "./", "../", "~/")):
        return "folder"
    kinds: tuple[tuple[re.Pattern[str], Source], ...] = ((_S3_ID, "s3"), (_HUB_ID, "hub"), (_CATALOGUE_ID, "catalogue"))
    return next((kind for pattern, kind in kinds if pattern.fullmatch(value)), None)


def _model_id(value: str) -> str:
    LINE.check(value)
    if source_of(value) is None:
        hub = re.fullmatch(r"https?://(?:www\.)?huggingface\.co/([^/]+/[^/?#]+).*", value)
        hint = f"write {shown(hub[1])}" if hub else "a local path starts with /, ./, ../ or ~/"
        refuse(problem("must be a catalogue name, a repository (owner/name), s3://bucket/prefix or a local path", hint=hint))
    return value


ModelId = Annotated[str, AfterValidator(_model_id)]
