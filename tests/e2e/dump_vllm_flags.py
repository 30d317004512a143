"""Prints vLLM's real command line as JSON; runs with the interpreter of an installed engine.

usage: PYTHON tests/e2e/dump_vllm_flags.py > llmdeploy/serving/vllm_flags.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from importlib.metadata import packages_distributions, version
from typing import Any

# vLLM moves this module between releases; the first one that exists is the parser of the installed release.
PARSER_MODULES = ("vllm.entrypoints.common.cli_args", "vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")

_KINDS = {"int": "int", "float": "float", "str": "str", "human_readable_int": "size", "human_readable_int_or_auto": "size"}
_JSON_PARSERS = ("loads", "union_dict_and_str", "parse_dataclass", "_parse_type")


def parser_module() -> Any:
    """Return the module that holds `make_arg_parser`."""
    for name in PARSER_MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        if hasattr(module, "make_arg_parser"):
            return module
    raise SystemExit(f"no make_arg_parser in any of {', '.join(PARSER_MODULES)}")


def make_parser() -> Any:
    """Return the parser of the server, as the engine builds it."""
    utils = importlib.import_module("vllm.utils.argparse_utils")
    return parser_module().make_arg_parser(utils.FlexibleArgumentParser(prog="vllm"))


def _registered() -> dict[str, list[str]]:
    """Names that the parser takes unseen and the engine refuses later, some of them only at the first request."""
    tools = importlib.import_module("vllm.tool_parsers").ToolParserManager
    reasoning = importlib.import_module("vllm.reasoning").ReasoningParserManager
    return {"tool-call-parser": sorted(tools.list_registered()), "reasoning-parser": sorted(reasoning.list_registered())}


def _kind(parse: Any) -> str:
    name = getattr(parse, "__name__", "")
    if name == "_optional_type":
        return _kind(next(cell.cell_contents for cell in parse.__closure__ if callable(cell.cell_contents)))
    return "json" if name in _JSON_PARSERS else _KINDS.get(name, "str")


def _plain(value: Any) -> Any:
    """JSON values stay; what is no JSON value (an enumeration, a dataclass, SUPPRESS) is left to the engine."""
    if value == argparse.SUPPRESS:
        return None
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return None


def _flag(action: Any) -> dict[str, Any]:
    switch = action.nargs == 0
    return {
        "takes": "switch" if switch else "list" if action.nargs == "+" else "value",
        "type": "bool" if switch else _kind(action.type),
        "choices": None if action.choices is None else [str(choice) for choice in action.choices],
        "default": _plain(action.default),
        "aliases": sorted(option for option in action.option_strings[1:]),
    }


def dump() -> dict[str, Any]:
    """Return `{version, flags}`; a flag is named by its first long form without dashes."""
    distribution = packages_distributions()["vllm"][0]
    actions = [action for action in make_parser()._actions if action.option_strings and action.dest != "help"]
    flags = {action.option_strings[0].removeprefix("--"): _flag(action) for action in actions}
    for name, choices in _registered().items():
        flags[name]["choices"] = choices
    return {"version": version(distribution), "flags": dict(sorted(flags.items()))}


if __name__ == "__main__":
    found = dump()
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(flag, sort_keys=True)}" for name, flag in found["flags"].items())
    sys.stdout.write(f'{{\n "version": {json.dumps(found["version"])},\n "flags": {{\n{rows}\n }}\n}}\n')
