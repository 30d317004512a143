"""What an unquoted YAML scalar means, and the scalars that mean different things to different programs."""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_OTHER_BOOLEANS = re.compile(r"(yes|Yes|YES|on|On|ON)|(no|No|NO|off|Off|OFF)")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?([0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})")
_DIGITS = "[0-9][0-9_]*"
_TRAPS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[-+]?0[0-9_]+"), "a number with a leading 0 is octal in YAML: write it without the 0, or in quotes"),
    (re.compile(r"[-+]?0(x[0-9a-fA-F_]+|b[01_]+|o[0-7_]+)"), "write this number in decimal, or in quotes if it is text"),
    (
        re.compile(rf"[-+]?{_DIGITS}(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "digits with colons are a number of base 60 in YAML: put it in quotes",
    ),
    (
        re.compile(rf"[-+]?({_DIGITS}(\.[0-9_]*)?|\.[0-9_]+)[eE][-+]?[0-9]+"),
        "digits with an e are a number to some programs and text to others: write it out (1000, not 1e3), or put it in quotes",
    ),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), "infinity and NaN are not allowed"),
    (
        re.compile(rf"[-+]?({_DIGITS}(\.[0-9_]*)?|\.[0-9_]+)"),
        "write this number without _ and with at most 18 digits, or in quotes",
    ),
)


def resolve(text: str) -> tuple[Scalar, str]:
    """Return the value of an unquoted scalar, and a complaint (never repeating a value that may be secret) or "".

    Dates stay text.
    """
    if text in _NULLS:
        return None, ""
    if text in _BOOLEANS:
        return _BOOLEANS[text], ""
    if word := _OTHER_BOOLEANS.fullmatch(text):
        meaning = "true" if word[1] else "false"
        return text, f'{text} means {meaning} in YAML: write {meaning}, or "{text}" in quotes if it is a name'
    if _INTEGER.fullmatch(text):
        return int(text), ""
    if _FLOAT.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text):
        return float(text), ""
    return text, next((complaint for pattern, complaint in _TRAPS if pattern.fullmatch(text)), "")
