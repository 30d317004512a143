"""Makes visible in text what is not to be seen, or turns text around: a reviewer must see what is there."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNSEEN = re.compile("[\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    """Return the text with direction marks, blanks of no width and lone surrogates written as `\\u202e`."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable(text: str) -> str:
    """Return the text with control characters but tab and newline written as `\\x1b`."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
