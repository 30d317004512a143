"""Every control, by id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..model import Control
from . import audit_trail, duties, encryption, keys, logs, machine, network, residency, state, supply

_MODULES = (audit_trail, duties, encryption, keys, logs, machine, network, residency, state, supply)

CONTROLS: Final[Mapping[str, Control]] = {
    control.id: control for control in sorted((c for m in _MODULES for c in m.CONTROLS), key=lambda control: control.id)
}
"""Control id -> control, sorted."""
