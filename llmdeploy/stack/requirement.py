"""`required_version`: a comma list of `>=`, `<=`, `==`, `<`, `>` with numeric versions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from itertools import zip_longest

_PART = re.compile(r"\s*(>=|<=|==|<|>)\s*([0-9]{1,9}(?:\.[0-9]{1,9}){0,5})\s*")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


def parse(requirement: str) -> tuple[tuple[str, str], ...] | None:
    """Return the parts as (operator, version), or None when the text is not a requirement."""
    matches = [_PART.fullmatch(part) for part in requirement.split(",")]
    parts = tuple((match[1], match[2]) for match in matches if match)
    return parts if len(parts) == len(matches) else None


def satisfied(parts: tuple[tuple[str, str], ...], version: str) -> bool:
    """Say whether `version` fulfils every part; what follows the numbers of a version (rc1, .dev0) does not count."""
    return all(_COMPARE[sign](_order(version, bound), 0) for sign, bound in parts)


def _order(left: str, right: str) -> int:
    """Return -1, 0 or 1 as `left` is older than, the same as, or newer than `right`."""
    pairs = zip_longest(_numbers(left), _numbers(right), fillvalue=0)
    return next(((a > b) - (a < b) for a, b in pairs if a != b), 0)


def _numbers(version: str) -> list[int]:
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return [int(number) for number in release[0].split(".")] if release else []
