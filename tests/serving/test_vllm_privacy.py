"""What vLLM would write down, send away and keep: nothing of what is rendered does, and every fixed setting counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.serving.vllm import VLLM
from llmdeploy.serving.vllm_privacy import MODULE
from tests.serving.cases import CASES, CUDA_CASES

ALL_CASES = {**CASES, **CUDA_CASES}
TINY = VLLM.render(CASES["tiny"])


def leaks(*more: str, argv: Sequence[str] = TINY.argv, env: Mapping[str, str] = TINY.env) -> tuple[str, ...]:
    return VLLM.leaks((*argv, *more), env)


def in_env(**changed: str) -> dict[str, str]:
    return {**TINY.env, **changed}


def everything(argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    return (*VLLM.leaks(argv, env), *VLLM.reports(argv, env), *VLLM.keeps_content(argv, env))


@pytest.mark.parametrize("name", ALL_CASES)
def test_what_is_rendered_writes_sends_and_keeps_nothing(name: str) -> None:
    process = VLLM.render(ALL_CASES[name])
    assert everything(process.argv, process.env) == ()


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--enable-log-requests", "parameters of every request"),
        ("--enable_log_requests", "parameters of every request"),
        ("--enable-log-req", "parameters of every request"),
        ("--enable-log-outputs", "every answer"),
        ("--log-error-stack", "together with each error"),
        ("--no-disable-uvicorn-access-log", "query string"),
        ("--log-level=DEBUG", "logs prompts (--log-level DEBUG)"),
        ("--log-level=NOTSET", "logs prompts"),
        ("--uvicorn-log-level=trace", "requests in detail"),
        ("--log-config-file=/etc/x.json", "settings that are not on its command line"),
        ("--logging-config.log_level=DEBUG", "settings that are not on its command line"),
        ("--config=/etc/x.yaml", "options from a file"),
        ('--profiler-config={"profiler":"torch"}', "traces of its work to disk"),
        ("--middleware=a.b", "loads code"),
        ("--trust-remote-code", "beside the model"),
        ("--worker-cls=a.b", "loads code"),
        ("--enable-new-thing", "--enable-new-thing, of which this version of llmdeploy does not know"),
        ("--enable-log", "--enable-log, of which"),
    ],
)
def test_options_that_write_content_down(flag: str, words: str) -> None:
    (sentence,) = leaks(flag)
    assert words in sentence
    assert leaks() == ()


def test_a_value_may_follow_as_a_word_of_its_own() -> None:
    assert leaks("--log-level", "debug") == ("logs prompts (--log-level debug)",)
    assert leaks("--log-level", "error") == ()


def test_what_was_said_last_counts() -> None:
    assert leaks("--enable-log-requests", "--no-enable-log-requests") == ()
    assert leaks("--enable-log-requests", "--disable-log-requests") == (), "the other negative of newer versions"
    assert len(leaks("--no-enable-log-requests", "--enable-log-requests")) == 1
    assert leaks("--log-level", "DEBUG", "--log-level=INFO") == ()


def test_the_level_of_the_command_line_is_stronger_than_the_environments() -> None:
    assert leaks("--log-level=INFO", env=in_env(VLLM_LOGGING_LEVEL="DEBUG")) == ()
    assert leaks(env=in_env(VLLM_LOGGING_LEVEL="debug")) == ("logs prompts (VLLM_LOGGING_LEVEL debug)",)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("VLLM_DEBUG_LOG_API_SERVER_RESPONSE", "True", "every answer"),
        ("VLLM_TRACE_FUNCTION", "1", "function call"),
        ("VLLM_SERVER_DEV_MODE", "1", "together with each error"),
        ("VLLM_USE_RUST_FRONTEND", "1", "another server program"),
        ("VLLM_PLUGINS", "own", "loads plugins"),
        ("LD_PRELOAD", "/x.so", "loads code"),
        ("PYTHONPATH", "/x", "loads code"),
    ],
)
def test_variables_that_write_content_down(name: str, value: str, words: str) -> None:
    (sentence,) = leaks(env=in_env(**{name: value}))
    assert words in sentence
    assert name in sentence
    assert leaks(env=in_env(**{name: "" if name == "VLLM_PLUGINS" else "0"})) == ()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "when it crashes"),
        ("/etc/x.json", "settings that are not"),
        ("/home/llmdeploy-logging.json (its content was changed)", "settings that are not"),
    ],
)
def test_other_settings_of_the_log_are_seen(path: str, words: str) -> None:
    (sentence,) = leaks(env=in_env(VLLM_LOGGING_CONFIG_PATH=path))
    assert words in sentence


def test_the_engine_says_nothing_of_requests_when_it_crashes() -> None:
    loggers = json.loads(TINY.files[TINY.env["VLLM_LOGGING_CONFIG_PATH"]])["loggers"]
    for name in ("vllm.logging_utils.dump_input", "vllm.entrypoints", "vllm.renderers", "vllm.v1.structured_output", "asyncio"):
        assert loggers[name] == {"level": "CRITICAL"}
    assert loggers["vllm"]["level"] == "INFO"


@pytest.mark.parametrize(
    "program",
    [
        ("python", "-I", "-u", "/home/llmdeploy-start.py (its content was changed)"),
        ("python", "-m", "somebody.elses.server"),
        ("python", "-c", "print(1)"),
        ("vllm", "bench"),
    ],
)
def test_another_program_than_the_server_is_seen(program: tuple[str, ...]) -> None:
    options = tuple(TINY.argv[TINY.argv.index("--model") :])
    (sentence,) = VLLM.leaks((*program, *options), TINY.env)
    assert "another program" in sentence
    started = ("python3", "-I", "-u", "/home/llmdeploy-start.py")
    for known in (started, ("/bin/python", "-m", MODULE), ("vllm", "serve", "/w")):
        assert VLLM.leaks((*known, *options), TINY.env) == ()


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--otlp-traces-endpoint=grpc://collector:4317", "traces of every request"),
        ('--kv-events-config={"enable_kv_cache_events":true}', "tokens of prompts"),
        ("--kv-events-config.endpoint=tcp://*:5557", "tokens of prompts"),
        ('--kv-transfer-config={"kv_connector":"NixlConnector","kv_role":"kv_both"}', "KV cache"),
        ("--tool-server=tools:80", "tool server"),
        ("--allowed-media-domains=example.org", "fetches addresses at example.org"),
        ("--distributed-executor-backend=ray", "Ray"),
    ],
)
def test_options_that_send_something(flag: str, words: str) -> None:
    (sentence,) = VLLM.reports((*TINY.argv, flag), TINY.env)
    assert words in sentence


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"VLLM_NO_USAGE_STATS": "0", "DO_NOT_TRACK": "0"}, "https://stats.vllm.ai"),
        ({"VLLM_NO_USAGE_STATS": "true", "DO_NOT_TRACK": "true"}, "usage statistics"),
        ({"VLLM_NO_USAGE_STATS": "0", "VLLM_DO_NOT_TRACK": "0"}, "usage statistics"),
        ({"HF_HUB_OFFLINE": "0"}, "may ask the model hub"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": ""}, "may ask the model hub"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, "traces"),
        ({"VLLM_USE_MODELSCOPE": "True"}, "another hub"),
    ],
)
def test_variables_that_send_something(changed: dict[str, str], words: str) -> None:
    (sentence,) = VLLM.reports(TINY.argv, in_env(**changed))
    assert words in sentence


def test_one_of_the_switches_against_statistics_is_enough() -> None:
    for name in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert VLLM.reports(TINY.argv, {key: value for key, value in TINY.env.items() if key != name}) == ()


def test_telemetry_matters_only_where_the_hub_is_asked() -> None:
    silent = {"HF_HUB_DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": "0"}
    assert VLLM.reports(TINY.argv, in_env(**silent)) == ()
    found = VLLM.reports(TINY.argv, in_env(**silent, HF_HUB_OFFLINE="0"))
    assert [("tells the model hub" in one) for one in found] == [False, True]


@pytest.mark.parametrize(
    ("flags", "env", "words"),
    [
        (["--kv-offloading-size=4", "--kv-offloading-backend=lmcache"], {}, "outside its own memory"),
        (["--kv-transfer-config", '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}'], {}, "a disk, a store or another"),
        ([], {"VLLM_ENABLE_RESPONSES_API_STORE": "1"}, "/v1/responses"),
        ([], {"VLLM_MEDIA_CACHE": "/cache"}, "media of prompts"),
        ([], {"VLLM_LOGGING_LEVEL": "DEBUG"}, "logs prompts"),
        (["--enable-log-outputs"], {}, "every answer"),
    ],
)
def test_places_that_keep_content(flags: list[str], env: dict[str, str], words: str) -> None:
    (sentence,) = VLLM.keeps_content((*TINY.argv, *flags), in_env(**env))
    assert words in sentence


@given(st.lists(st.text(max_size=12) | st.sampled_from(["--enable-log-requests", "--log-level", "--", "--=", "--.", "--a.b=c"])))
def test_any_command_line_can_be_judged(words: list[str]) -> None:
    assert isinstance(everything(words, {}), tuple)


# --- every fixed setting counts ---------------------------------------------------------------------------------------------

HARMLESS: Mapping[str, str] = {
    "--model": "names what is served; the digests of its files are watched by host_weights",
    "--served-model-name": "a name for clients",
    "--dtype": "a number format",
    "--max-model-len": "a size",
    "--max-num-seqs": "a size",
    "--kv-cache-memory-bytes": "a size",
    "--max-num-batched-tokens": "a size",
    "--max-num-queued-reqs": "a size: without it the queue grows",
    "--seed": "a number",
    "--enable-force-include-usage": "what clients are told of their own request",
    "--enable-log-requests": "off is the engine's default; that it is switched on is found",
    "--trust-remote-code": "off is the engine's default; that it is switched on is found",
    "--load-format": "which files are read: host_weights watches their formats",
    "--disable-fastapi-docs": "opens a page that describes the interface, on a private socket",
    "--fingerprint-mode": "tells clients the engine's version",
    "--shutdown-timeout": "how it ends",
    "--generation-config": "defaults of answers, from the model's own files",
    "--distributed-executor-backend": "how it computes; that it is Ray is found",
    "--enforce-eager": "how it computes",
    "--mamba-ssm-cache-dtype": "a number format",
    "--uds": "where it listens: what it is exposed to is observed, not read off its options",
    "HOME": "a folder of its own; what is written anywhere is searched for planted content",
    "TMPDIR": "as HOME",
    "XDG_CACHE_HOME": "as HOME",
    "XDG_CONFIG_HOME": "as HOME",
    "VLLM_CACHE_ROOT": "as HOME",
    "VLLM_CONFIG_ROOT": "as HOME",
    "VLLM_RPC_BASE_PATH": "as HOME",
    "HF_HOME": "as HOME",
    "VLLM_HOST_IP": "where it listens: as --uds",
    "VLLM_NO_USAGE_STATS": "DO_NOT_TRACK says the same; both dropped are found",
    "DO_NOT_TRACK": "VLLM_NO_USAGE_STATS says the same; both dropped are found",
    "HF_HUB_OFFLINE": "TRANSFORMERS_OFFLINE says the same; switched off, or both dropped, is found",
    "HF_HUB_DISABLE_TELEMETRY": "nothing is told while the hub is not asked",
    "TRANSFORMERS_OFFLINE": "HF_HUB_OFFLINE says the same and is stronger",
    "TOKENIZERS_PARALLELISM": "threads",
    "VLLM_LOGGING_LEVEL": "INFO is the engine's default; DEBUG is found",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "no address is called while --allowed-media-domains names one that cannot exist",
    "VLLM_MAX_N_SEQUENCES": "a size",
    "VLLM_CPU_OMP_THREADS_BIND": "threads",
    "OMP_WAIT_POLICY": "threads",
    "OMP_NUM_THREADS": "threads",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "processes",
    "TORCHDYNAMO_DISABLE": "how it computes",
    "VLLM_ENGINE_READY_TIMEOUT_S": "how long a start may take",
}
"""Settings that may be dropped without anything being written, sent or kept, and why."""


def without(argv: Sequence[str], option: str) -> list[str]:
    """Return the command line without an option and its value."""
    at = next(index for index, word in enumerate(argv) if word in (option, option.replace("--", "--no-", 1)))
    end = next((index for index in range(at + 1, len(argv)) if argv[index].startswith("--")), len(argv))
    return [*argv[:at], *argv[end:]]


def options() -> list[str]:
    return [word.replace("--no-", "--", 1) for word in TINY.argv if word.startswith("--")]


@pytest.mark.parametrize("option", options())
def test_a_dropped_option_is_found_or_harmless(option: str) -> None:
    found = everything(without(TINY.argv, option), TINY.env)
    assert bool(found) is (option not in HARMLESS), found


@pytest.mark.parametrize("name", TINY.env)
def test_a_dropped_variable_is_found_or_harmless(name: str) -> None:
    found = everything(TINY.argv, {key: value for key, value in TINY.env.items() if key != name})
    assert bool(found) is (name not in HARMLESS), found


def test_nothing_harmless_is_named_that_is_not_set() -> None:
    assert set(HARMLESS) <= {*options(), *TINY.env}


FLIPPED: Mapping[str, Any] = {
    "--no-enable-log-requests": "--enable-log-requests",
    "--no-trust-remote-code": "--trust-remote-code",
    "--disable-uvicorn-access-log": "--no-disable-uvicorn-access-log",
}


@pytest.mark.parametrize("word", FLIPPED)
def test_a_flipped_switch_is_found(word: str) -> None:
    argv = [FLIPPED[word] if one == word else one for one in TINY.argv]
    assert argv != list(TINY.argv)
    assert everything(argv, TINY.env)


@pytest.mark.parametrize(
    ("name", "value"),
    [("HF_HUB_OFFLINE", "0"), ("VLLM_LOGGING_LEVEL", "DEBUG"), ("VLLM_PLUGINS", "x"), ("--allowed-media-domains", "example.org")],
)
def test_a_changed_value_is_found(name: str, value: str) -> None:
    argv = [*without(TINY.argv, name), name, value] if name.startswith("--") else TINY.argv
    assert everything(argv, TINY.env if name.startswith("--") else in_env(**{name: value}))
