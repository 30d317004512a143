"""What the engine says of its own KV cache: asked over its socket, read from its metrics page, judged against the plan."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest

from llmdeploy_host import _kv_cache
from llmdeploy_host._host_type import parse_facts
from tests.support import require_tool

METRIC = "vllm:cache_config_info{kv_cache_size_tokens}"
PAGE = (Path(__file__).parent / "fixtures" / "metrics_page.txt").read_text()
"""A part of what the real vLLM 0.32.0 on CPU tells."""

SAMPLE = next(line for line in PAGE.splitlines() if line.startswith("vllm:cache_config_info{"))


class Handler(BaseHTTPRequestHandler):
    """Answers as the engine does, on a unix socket."""

    def do_GET(self) -> None:
        """Send the metrics page."""
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def address_string(self) -> str:
        """Return a name: whoever calls a unix socket has no address."""
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "e.sock")
    with UnixStreamServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def asked(socket: str, metric: str) -> str:
    script = "set -eu\n" + _kv_cache.metric_script(socket, metric)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return parse_facts(f"::resource engine\n{done.stdout}")["engine"].get(_kv_cache.FACT, "")


@pytest.mark.integration
def test_the_figure_is_read_over_the_socket(socket: str) -> None:
    require_tool("curl")
    assert _kv_cache.reported_tokens(asked(socket, METRIC), METRIC) == 16384
    assert asked(socket, "vllm:nothing{x}") == ""


@pytest.mark.integration
def test_an_engine_that_does_not_answer_tells_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    require_tool("curl")
    assert asked(str(tmp_path / "nobody.sock"), METRIC) == ""


def test_without_a_metric_nothing_is_asked() -> None:
    assert _kv_cache.metric_script("/x", "") == ""


@pytest.mark.parametrize(
    ("sample", "tokens"),
    [
        (SAMPLE, 16384),
        ('vllm:cache_config_info{a="}\\",kv_cache_size_tokens=\\"7\\"",kv_cache_size_tokens="5"} 1.0', 5),
        ('vllm:cache_config_info{kv_cache_size_tokens="None"} 1.0', None),
        ('vllm:cache_config_info{other="5"} 1.0', None),
        ('vllm:cache_config_info{xkv_cache_size_tokens="5"} 1.0', None),
        ('vllm:cache_config_info_more{kv_cache_size_tokens="5"} 1.0', None),
        ("vllm:cache_config_info 5", None),
        ("", None),
    ],
)
def test_the_label_of_the_sample_holds_the_figure(sample: str, tokens: int | None) -> None:
    assert _kv_cache.reported_tokens(sample, METRIC) == tokens


@pytest.mark.parametrize(
    ("reported", "well", "sentence"),
    [
        (100_000, True, ""),
        (95_100, True, ""),
        (95_000, True, ""),
        (104_900, True, ""),
        (94_900, False, "the engine reports 94,900 tokens of KV cache, the plan predicted 100,000 (5.1 % less): fewer requests"),
        (50_000, False, "the engine reports 50,000 tokens of KV cache, the plan predicted 100,000 (50.0 % less): fewer requests"),
        (0, False, "the engine reports 0 tokens of KV cache, the plan predicted 100,000 (100.0 % less): fewer requests"),
        (105_100, True, "the engine reports 105,100 tokens of KV cache, the plan predicted 100,000 (5.1 % more): more requests"),
        (None, True, "the engine does not tell the size of its KV cache: the 100,000 tokens of the plan are not confirmed"),
    ],
)
def test_a_miss_of_more_than_five_percent_is_said_and_a_shortfall_is_not_well(
    reported: int | None, well: bool, sentence: str
) -> None:
    found, told = _kv_cache.judge(100_000, reported)
    assert found is well
    assert told.startswith(sentence)
    assert bool(told) is bool(sentence)
    assert ("lower model.context or model.concurrency" in told) is not well


def test_what_nobody_predicted_cannot_be_missed() -> None:
    assert _kv_cache.judge(0, 5) == (True, "")
    assert _kv_cache.judge(0, None) == (True, "")
