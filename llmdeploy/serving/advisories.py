"""Published weaknesses of inference engines that let someone around their protection, and the versions without them.

A dated table, not a scanner: what was published after `AS_OF` is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

AS_OF: Final = "2026-11-30"


@dataclass(frozen=True)
class Advisory:
    """One weakness.

    id: of the advisory. what: what it lets someone do. first: the first version that has it, "" where that is not known and
    every older version is taken to have it. fixed: the first version without it. status: `primary` when the advisory or the
    repair itself was read, `secondary` when only other texts about it were, `unverified` otherwise; source: what was read.
    """

    id: str
    what: str
    fixed: str
    first: str = ""
    status: Literal["primary", "secondary", "unverified"] = "unverified"
    source: str = ""


_CVE: Final = "github.com/CVEProject/cvelistV5"
_PYPA: Final = "github.com/pypa/advisory-database"

_FORBIDDEN_CODE: Final = "code beside a model runs although that is forbidden"

VLLM: Final = (
    Advisory("CVE-2026-48746", "clients get around its API key", "0.22.0", "0.3.0", "secondary", f"{_CVE}: without the versions"),
    Advisory("CVE-2026-22778", "a request with a video can run code in it", "0.14.1", "0.8.3", "secondary", "nuclei-templates"),
    Advisory("CVE-2026-22807", _FORBIDDEN_CODE, "0.14.0", "0.10.1", "secondary", f"{_CVE}: without the versions"),
    Advisory("CVE-2026-27893", _FORBIDDEN_CODE, "0.18.0", "0.10.1", "primary", _PYPA),
    Advisory("CVE-2026-41523", f"in optimized Python {_FORBIDDEN_CODE}", "0.22.0", "", "primary", _PYPA),
    Advisory("CVE-2026-47155", "parts of a model come from another revision than the pinned one", "0.22.0", "", "primary", _PYPA),
    Advisory("CVE-2026-25960", "clients get around the list of servers that media may come from", "0.17.0"),
    Advisory("CVE-2026-105754", "a client can read or change another's cached media", "0.30.0", "", "primary", "osv.dev"),
    Advisory("CVE-2026-114049", "a request constrains the answers of other clients", "0.31.0", "", "primary", _CVE),
    Advisory(
        "GHSA-v97p-wpxp-px84", "tokens of a request get into another's", "0.21.0", "0.16.0", "secondary", "ai-stack-advisories"
    ),
)
"""Those that let a client reach what is another's, or code run that is forbidden. Crashes and exhaustion are not among them.

Nor is GHSA-5r3c-5x4v-8gjh, which is said to be fixed in 0.33.0: its text could not be read.
"""


def bypasses(table: Iterable[Advisory], version: str) -> tuple[str, ...]:
    """Return one sentence for each advisory that concerns `version`; for a version that cannot be read, for each one."""
    return tuple(f"{one.what} ({one.id}, fixed in {one.fixed})" for one in table if _concerns(one, version))


def _concerns(advisory: Advisory, version: str) -> bool:
    asked = ordered(version)
    if asked is None:
        return True
    first, fixed = ordered(advisory.first or "0"), ordered(advisory.fixed)
    return first is not None and fixed is not None and first <= asked < fixed


def ordered(version: str) -> tuple[tuple[int, ...], int, int] | None:
    """Return what a version is compared by, None when it is none: its numbers, and how far it is from the release.

    A pre-release comes before its release. Builds (`+cpu`) and repackagings (`.post1`) contain what their release does.
    """
    found = re.fullmatch(r"v?(\d+(?:\.\d+)*)(?:[._-]?(dev|a|alpha|b|beta|c|rc)[._-]?(\d*))?(?:\.post\d+)?(?:\+\S+)?", version)
    if not found:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    stage = {"dev": 0, "a": 1, "alpha": 1, "b": 2, "beta": 2, "c": 3, "rc": 3}.get(found[2] or "", 4)
    return tuple(numbers), stage, int(found[3] or 0)
