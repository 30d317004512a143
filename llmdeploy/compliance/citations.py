"""Where laws and standards say it: control -> profile -> passages, each with what was read of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .model import Citation

CITATIONS: Final[Mapping[str, Mapping[str, tuple[Citation, ...]]]] = {}
