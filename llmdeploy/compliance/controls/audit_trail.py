"""Controls on the trail of what was done."""

from __future__ import annotations

from typing import Final

from ..model import Control

CONTROLS: Final[tuple[Control, ...]] = ()
