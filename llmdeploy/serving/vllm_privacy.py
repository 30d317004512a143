"""What a vLLM process with given options and environment writes down, sends away and keeps: read in the source of 0.32.0.

Everything here is judged from the command line alone, planned or found running. Where a value cannot be told (a file of
settings, code that is loaded, an option that this version does not know), that itself is the finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any, Final

Options = Mapping[str, str | bool]
"""Options by name without dashes: text, or whether a switch is on. What was said last wins."""

_QUIET_LEVELS: Final = frozenset({"CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "INFO"})
"""Prompts are logged at DEBUG only."""

_QUIET_UVICORN: Final = frozenset({"critical", "error", "warning", "info"})
"""At `trace` uvicorn prints each request's query string."""

_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})
"""As huggingface_hub reads its switches."""

START_NAME: Final = "llmdeploy-start.py"
"""File name of the program with which llmdeploy starts the server on the CPU."""

LOGGING_NAME: Final = "llmdeploy-logging.json"
"""File name of llmdeploy's own settings of the log. Whoever reports a live process says when its content is another one."""

MODULE: Final = "vllm.entrypoints.launchers.api_server.entry"
"""vLLM's server on the CPU: the `vllm` command of that package does not start (its distribution has another name)."""

_UNKNOWN: Final = "unknown"

_LOGS: Final[Mapping[str, str]] = {
    "enable-log-requests": "logs the parameters of every request, and its prompt at DEBUG",
    "enable-log-outputs": "logs every answer",
    "log-error-stack": "logs what a client sent together with each error",
}
"""Switches that are off unless asked for. Deltas of answers are logged with the answers only."""

_SETS_LOGGING: Final = "takes what it logs from settings that are not on its command line"

_OPAQUE: Final[Mapping[str, str]] = {
    "config": "takes further options from a file",
    "logging-config": _SETS_LOGGING,
    "log-config-file": _SETS_LOGGING,
    "profiler-config": "lets whoever reaches it write traces of its work to disk",
    **dict.fromkeys(
        (
            *("middleware", "logits-processors", "worker-cls", "worker-extension-cls", "scheduler-cls", "tool-parser-plugin"),
            *("reasoning-parser-plugin", "io-processor-plugin", "model-class-overrides", "additional-config"),
        ),
        "loads code that sees prompts and answers",
    ),
    "trust-remote-code": "runs code that lies beside the model, and that sees prompts and answers",
}

_ENV_LEAKS: Final[Mapping[str, str]] = {
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "logs every answer",
    "VLLM_TRACE_FUNCTION": "writes every function call into a file",
    "VLLM_SERVER_DEV_MODE": "logs what a client sent together with each error, and opens routes that control it",
    "VLLM_USE_RUST_FRONTEND": "answers with another server program, whose log is not known",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "runs code that it receives",
    "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY": "hands its environment on",
    "VLLM_MODEL_REDIRECT_PATH": "takes the model from elsewhere than its options say",
    **dict.fromkeys(("LD_PRELOAD", "LD_AUDIT", "PYTHONPATH", "PYTHONHOME"), "loads code that sees prompts and answers"),
    "PYTHONASYNCIODEBUG": "prints what its tasks work on",
    "PYTHONDEVMODE": "prints what its tasks work on",
}
"""Variables that switch something on; off where they are not set."""

_STORES: Final[Mapping[str, str]] = {
    "kv-transfer-config": "hands its KV cache, which prompts can be read from, to a disk, a store or another machine",
    "ec-transfer-config": "hands the encoded media of prompts to a disk, a store or another machine",
    "kv-offloading-size": "keeps KV cache, which prompts can be read from, outside its own memory",
    "kv-events-config": "keeps the tokens of prompts for whoever asks for its KV events again",
}

_ENV_STORES: Final[Mapping[str, str]] = {
    "VLLM_ENABLE_RESPONSES_API_STORE": "keeps every prompt and answer of /v1/responses until it ends",
    "VLLM_MEDIA_CACHE": "keeps media of prompts in a folder",
}

_SENDS: Final[Mapping[str, str]] = {
    "otlp-traces-endpoint": "sends traces of every request",
    "kv-events-config": "sends the tokens of prompts to whoever subscribes to its KV events",
    "kv-transfer-config": "sends its KV cache, which prompts can be read from, to a connector",
    "ec-transfer-config": "sends the encoded media of prompts to a connector",
    "tool-server": "sends what the model asks of a tool to a tool server",
}

_ENV_SENDS: Final[Mapping[str, str]] = {
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "sends traces of every request",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "sends traces of every request",
    "VLLM_USE_MODELSCOPE": "asks another hub for models",
    "VLLM_LORA_RESOLVER_HF_REPO_LIST": "asks the model hub for adapters that requests name",
}


def leaks(options: Options, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return how prompts, answers or query strings get into a log or a file, as ends of sentences with what causes it."""
    return tuple(_leaks(options, env))


def reports(options: Options, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is sent to others, or asked of them, without a client's wish."""
    return tuple(_reports(options, env))


def keeps_content(options: Options, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return where prompts and answers stay longer than their request takes."""
    stores = (*_present(options, _STORES), *_switched(env, _ENV_STORES))
    return (*stores, *_logged(options, env))


def _leaks(options: Options, env: Mapping[str, str]) -> Iterator[str]:
    yield from _logged(options, env)
    if options.get("disable-uvicorn-access-log") is not True:
        yield "logs the query string of every request (without --disable-uvicorn-access-log)"
    level = options.get("uvicorn-log-level", "info")
    if level not in _QUIET_UVICORN:
        yield f"logs requests in detail (--uvicorn-log-level {level})"
    yield from _present(options, _OPAQUE)
    yield from _switched(env, {name: told for name, told in _ENV_LEAKS.items() if name != "VLLM_DEBUG_LOG_API_SERVER_RESPONSE"})
    if not (settings := env.get("VLLM_LOGGING_CONFIG_PATH", "")):
        yield "logs the parameters of running requests when it crashes (VLLM_LOGGING_CONFIG_PATH is not set)"
    elif settings.rpartition("/")[2] != LOGGING_NAME:
        yield f"{_SETS_LOGGING} (VLLM_LOGGING_CONFIG_PATH)"
    if env.get("VLLM_PLUGINS") != "":
        named = env.get("VLLM_PLUGINS")
        cause = f"VLLM_PLUGINS={named}" if named else "VLLM_PLUGINS is not set"
        yield f"loads plugins, which see prompts and answers ({cause})"
    for name in str(options.get(_UNKNOWN, "")).split():
        yield f"has the option {name}, of which this version of llmdeploy does not know what it writes down"


def _logged(options: Options, env: Mapping[str, str]) -> Iterator[str]:
    """Yield what writes content into the log by itself."""
    yield from _present(options, _LOGS)
    flag = options.get("log-level")
    level, cause = (flag, "--log-level") if flag is not None else (env.get("VLLM_LOGGING_LEVEL", "INFO"), "VLLM_LOGGING_LEVEL")
    if str(level).upper() not in _QUIET_LEVELS:
        yield f"logs prompts ({cause} {level})"
    yield from _switched(env, {"VLLM_DEBUG_LOG_API_SERVER_RESPONSE": _ENV_LEAKS["VLLM_DEBUG_LOG_API_SERVER_RESPONSE"]})


def _reports(options: Options, env: Mapping[str, str]) -> Iterator[str]:
    silenced = (env.get("VLLM_DO_NOT_TRACK") or env.get("DO_NOT_TRACK")) == "1" or env.get("VLLM_NO_USAGE_STATS") == "1"
    if not silenced:
        to = env.get("VLLM_USAGE_STATS_SERVER", "https://stats.vllm.ai")
        yield f"sends usage statistics to {to} (without VLLM_NO_USAGE_STATS=1 or DO_NOT_TRACK=1)"
    yield from _present(options, _SENDS)
    yield from _switched(env, _ENV_SENDS)
    if not _true(env.get("HF_HUB_OFFLINE") or env.get("TRANSFORMERS_OFFLINE")):
        yield "may ask the model hub for files (without HF_HUB_OFFLINE=1)"
        if not any(_true(env.get(name)) for name in ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK")):
            yield "tells the model hub what it runs on (without HF_HUB_DISABLE_TELEMETRY=1)"
    if sentence := _fetches(options, env):
        yield sentence
    if "ray" in (options.get("distributed-executor-backend"), options.get("data-parallel-backend")):
        yield "runs on Ray, which has a log, a dashboard and statistics of its own"


def _fetches(options: Options, env: Mapping[str, str]) -> str:
    """Tell of addresses in prompts that the engine calls."""
    allowed = str(options.get("allowed-media-domains", ""))
    closed = bool(allowed) and all(domain.endswith(".invalid") for domain in allowed.split())
    if closed:
        return ""
    redirected = "" if env.get("VLLM_MEDIA_URL_ALLOW_REDIRECTS") == "0" else ", and follows where they lead"
    whose = f"at {allowed}" if allowed else "anywhere"
    return f"fetches addresses {whose} that prompts name{redirected} (--allowed-media-domains)"


def _present(options: Options, sentences: Mapping[str, str]) -> Iterator[str]:
    for name, sentence in sentences.items():
        if options.get(name, False) is not False:
            yield f"{sentence} (--{name})"


def _switched(env: Mapping[str, str], sentences: Mapping[str, str]) -> Iterator[str]:
    for name, sentence in sentences.items():
        if env.get(name, "").lower() not in ("", "0", "false"):
            yield f"{sentence} ({name})"


def _true(value: str | None) -> bool:
    return (value or "").upper() in _TRUE


def runs_something_else(argv: Sequence[str]) -> tuple[str, ...]:
    """Return that a command line runs another program than vLLM's server, as the end of a sentence."""
    program = list(takewhile(lambda word: not word.startswith("--"), argv))
    names = [word.rpartition("/")[2] for word in program]
    started = START_NAME in names or any(pair in (("vllm", "serve"), ("-m", MODULE)) for pair in pairwise(names))
    return () if started else ("runs another program than vLLM's server, and nothing is known of what that writes down",)


# --- the command line -------------------------------------------------------------------------------------------------------


def options_of(flags: Mapping[str, Mapping[str, Any]], argv: Sequence[str]) -> Options:
    """Return the options of a command line as vLLM's own parser takes them. `flags` is that parser's list.

    `--a_b=c`, `--no-a`, `--disable-a` for `--enable-a`, unambiguous beginnings, and `--a.key c`. Options that the list does not
    have are under `unknown`, as they are written.
    """
    found: dict[str, str | bool] = {}
    unknown: list[str] = []
    for position, word in enumerate(argv):
        if not word.startswith("--") or word == "--":
            continue
        written, given, value = word.partition("=")
        name, _, key = written[2:].partition(".")
        meant, on = _meant(flags, name.replace("_", "-"))
        if not meant:
            unknown.append(written)
        elif flags[meant]["type"] == "bool":
            found[meant] = on
        else:
            text = value if given else " ".join(_values(argv[position + 1 :]))
            found[meant] = f"{key}={text}" if key else text
    return {**found, **({_UNKNOWN: " ".join(unknown)} if unknown else {})}


def _values(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("--"):
            return
        yield word


def _meant(flags: Mapping[str, Mapping[str, Any]], name: str) -> tuple[str, bool]:
    """Return the option that `name` stands for, and whether it switches it on. ("", False): none, or several."""
    spelled = {option: (option, True) for option in flags}
    spelled |= {f"no-{option}": (option, False) for option, flag in flags.items() if flag["type"] == "bool"}
    for option, flag in flags.items():
        if option.startswith("enable-") and flag["type"] == "bool":
            spelled.setdefault(f"disable-{option.removeprefix('enable-')}", (option, False))
    if name in spelled:
        return spelled[name]
    near = [meant for spelling, meant in spelled.items() if spelling.startswith(name)]
    return near[0] if len(near) == 1 else ("", False)
