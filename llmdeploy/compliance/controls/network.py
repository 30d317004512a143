"""Controls on data in transit and who reaches what."""

from __future__ import annotations

from typing import Final

from ..model import Control

CONTROLS: Final[tuple[Control, ...]] = ()
