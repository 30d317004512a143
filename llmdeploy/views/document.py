"""What all JSON answers share: the version of their form, and how they are written."""

from __future__ import annotations

import json

from ..resource import Tree

FORMAT_VERSION = "1.0"
"""Version of the JSON form; the minor part grows when something is added."""


def dumps(document: Tree, *, lines: bool = False) -> str:
    """Return a document as text; lines: on one line."""
    return json.dumps(document, separators=(",", ":")) if lines else json.dumps(document, indent=2)
