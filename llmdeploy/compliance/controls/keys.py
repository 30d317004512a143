"""Controls on API keys and other secrets."""

from __future__ import annotations

from typing import Final

from ..model import Control

CONTROLS: Final[tuple[Control, ...]] = ()
