"""Controls on what an operator states and what a service owes: agreements, risk class, redundancy, change."""

from __future__ import annotations

from typing import Final

from ..model import Control

CONTROLS: Final[tuple[Control, ...]] = ()
