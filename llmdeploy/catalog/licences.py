"""What the name of a licence tells about commercial use. Not legal advice: the licence's own text decides."""

from __future__ import annotations

import re
from typing import Final

_FORBIDS: Final = re.compile(
    r"cc-by-nc(-.*)?|.*non-?commercial.*|.*research(-only)?(-license)?|mrl(-.*)?|mnpl(-.*)?", re.IGNORECASE
)
_ALLOWS: Final = re.compile(r"apache-2\.0|mit|bsd(-.*)?|cc0-1\.0|cc-by(-sa)?-[0-9.]+|isc|unlicense", re.IGNORECASE)


def commercial(name: str | None) -> bool | None:
    """Return whether a licence of this name (as model cards have it) allows commercial use; None when the name does not tell."""
    if name is None:
        return None
    if _FORBIDS.fullmatch(name):
        return False
    return True if _ALLOWS.fullmatch(name) else None
