"""A serving process, as an inference engine describes it and a host runs it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .secret import SecretRef


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Health(_Noun):
    """When the process is ready: `path` answers 200, and `ready_body` (JSON) posted to `ready_path` answers 200."""

    path: str
    ready_path: str
    ready_body: str
    start_timeout_s: int = 900


class Stop(_Noun):
    """How the process ends: `signal` first, SIGKILL after `timeout_s`."""

    signal: Literal["TERM", "INT"] = "TERM"
    timeout_s: int = 30


class ProcessSpec(_Noun):
    """What to run.

    argv and env may hold the tokens `{weights}` (folder of the model), `{socket}` (unix socket to listen on), `{cache}`,
    `{tmp}` and `{home}` (private writable folders), and `{head}` (private address of the replica's first machine); whoever runs
    the process replaces them. Nothing secret is in them: `secret_env` maps a variable to a reference. kv_cache_tokens: what the
    engine is expected to report as the size of its KV cache, 0 when nobody predicted it; kv_cache_metric:
    where it reports that. files: small ones that the process reads, path (with tokens) to content; they are written anew before
    each start, in one line each.
    """

    argv: tuple[str, ...] = Field(min_length=1)
    env: dict[str, str] = Field(default_factory=dict[str, str])
    secret_env: dict[str, SecretRef] = Field(default_factory=dict[str, SecretRef])
    files: dict[str, str] = Field(default_factory=dict[str, str])
    health: Health
    stop: Stop = Stop()
    memory_bytes: int = Field(ge=0, description="memory the process needs: weights, KV cache and its own overhead")
    kv_cache_tokens: int = Field(default=0, ge=0, description="tokens of KV cache that were predicted; 0: not predicted")
    kv_cache_metric: str = Field(default="", description="metric and label that tell the engine's own figure: name{label}")
