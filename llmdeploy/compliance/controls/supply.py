"""Controls on what a stack is made of."""

from __future__ import annotations

from typing import Final

from ..model import Control

CONTROLS: Final[tuple[Control, ...]] = ()
