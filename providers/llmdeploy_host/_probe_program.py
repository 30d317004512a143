"""Programs in Python that look at a machine from there: parts of the package `host` of the templates, sent as one text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

_BOOT = """\
import json, signal, sys, types
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: sys.exit(128 + number))
for name, source in json.loads({sources!r}):
    module = types.ModuleType(name)
    sys.modules[name] = module
    module.__package__ = name if source is None else name.rpartition(".")[0]
    if source is None:
        module.__path__ = []
    else:
        exec(compile(source, name, "exec"), module.__dict__)
sys.modules[{last!r}].main(*sys.argv[1:])
"""
"""Makes the packages and modules, and calls `main` of the last one. What a probe planted is removed also when it is stopped."""


@cache
def program(modules: Sequence[str]) -> str:
    """Return the program of some modules below `host`, as Python reads it from standard input; none imports a later one.

    Its arguments are those of `main` of the last module.
    """
    # Imported here: every command line reads the types, few look at a machine.
    from importlib import resources

    folder = resources.files("llmdeploy_templates") / "host"
    packages = dict.fromkeys(f"host.{name}".rpartition(".")[0] for name in modules)
    sources: list[tuple[str, str | None]] = [(name, None) for name in ("host", *packages)]
    for name in modules:
        sources.append((f"host.{name}", folder.joinpath(f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")))
    return _BOOT.format(sources=json.dumps(sources), last=f"host.{modules[-1]}")
