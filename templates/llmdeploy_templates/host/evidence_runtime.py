"""Prints what differs between the installed packages and the pins, and the version of the engine.

Arguments: the runtime's folder, the engine's module, and one NAME==VERSION for every pin.
"""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

folder, engine, *pins = sys.argv[1:]


def normal(name: str) -> str:
    """The name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


wanted = {normal(name): version for name, _, version in (pin.partition("==") for pin in pins)}
paths = [str(path) for path in sorted(Path(folder, "venv").glob("lib*/python3*/site-packages"))]
installed: "dict[str, set[str]]" = {}
engines: "set[tuple[str, str]]" = set()
owned = {"__pycache__"}
for distribution in metadata.distributions(path=paths):
    name = normal(distribution.metadata["Name"] or "?")
    installed.setdefault(name, set()).add(distribution.version)
    record = distribution.read_text("RECORD") or ""
    owned.update(re.split("[/,]", line)[0] for line in record.splitlines())
    # The module of an engine may come in a package of another name, such as a build for CPUs.
    if re.search(rf"^{re.escape(engine)}(/__init__)?\.py,", record, re.MULTILINE):
        engines.add((name, distribution.version))
# Python runs some of these at every start, whatever is imported.
strays = {entry.name for path in paths for entry in Path(path).iterdir()} - owned
# What a new virtual environment brings by itself.
brought = {"pip", "setuptools", "wheel"} - set(wanted)
wrong = [
    *(f"of no package {name}" for name in strays),
    *(f"missing {name}=={version}" for name, version in wanted.items() if name not in installed),
    *(f"not pinned {name} {' '.join(sorted(seen))}" for name, seen in installed.items() if name not in {*wanted, *brought}),
    *(
        f"installed {name} {' and '.join(sorted(seen))}, pinned {wanted[name]}"
        for name, seen in installed.items()
        if name in wanted and seen != {wanted[name]}
    ),
]
print(f"{len(installed)} packages are installed, {len(wanted)} are pinned")
print("\n".join(sorted(wrong)[:50]))
print(f"pinned\t{'no' if wrong else 'yes'}")
found = " and ".join(f"{name} {version}" for name, version in sorted(engines))
print(f"the module {engine} is of {found or 'no package'}")
if len(engines) == 1:
    ((_name, version),) = engines
    # A local build tag such as +cpu says how it was built, not what it is.
    print(f"software\t{json.dumps([{'name': engine, 'version': version.partition('+')[0]}])}")
else:
    print(f"software?\tthe module {engine} is of {found or 'no package'}")
