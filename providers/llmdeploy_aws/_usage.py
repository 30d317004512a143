"""What the lines of a bill assume about a request: none of it is known before a stack is used."""

from __future__ import annotations

from typing import Final

from llmdeploy.sdk import Usage

GB: Final = 2**30
"""Bytes of a GB on AWS's bills."""

_PROMPT_TOKEN_BYTES = 5
_ANSWER_TOKEN_BYTES = 250
_LOG_LINE_BYTES = 600

TRAFFIC: Final = f"assumed: {_ANSWER_TOKEN_BYTES} bytes for each token of an answer, {_PROMPT_TOKEN_BYTES} for each of a prompt"
"""The bytes of an answer are those of a stream: one JSON event for each token."""

LOG_LINES: Final = f"assumed: one line of {_LOG_LINE_BYTES} bytes for each request"
"""A line holds metadata only."""


def traffic_gb(usage: Usage) -> float:
    """Return the GB of a month between clients and gateways, both ways."""
    return usage.tokens_in * _PROMPT_TOKEN_BYTES / GB + answers_gb(usage)


def answers_gb(usage: Usage) -> float:
    """Return the GB of a month that go to clients."""
    return usage.tokens_out * _ANSWER_TOKEN_BYTES / GB


def log_gb(usage: Usage) -> float:
    """Return the GB of a month that the gateways log."""
    return usage.requests * _LOG_LINE_BYTES / GB


def weights_gb(usage: Usage) -> float:
    """Return the GB of one copy of the model's files."""
    return usage.weights_bytes / GB
