"""Controls on the trail of what was done."""

from __future__ import annotations

from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Control, Rule


def _drifts(traits: Traits, _policy: Policy) -> str:
    return "has a clock that no time service keeps" if traits.clock_synced is False else ""


CONTROLS: Final = (
    Control(
        id="AUD-01",
        title="What is done to the infrastructure is recorded",
        demand="reads of keys and changes of the infrastructure are recorded",
        severity="high",
        uncovered="the audit trail of a cloud account is its owner's: whether it is on, complete and protected is not looked at",
    ),
    Control(
        id="AUD-03",
        title="Records carry the right time and are not changed",
        demand="records carry a synchronised time and cannot be changed silently",
        severity="medium",
        rules=(
            Rule(
                facts=("clock_synced",),
                judge=_drifts,
                expected="synchronised",
                concerns=lambda traits: traits.machine or traits.clock_synced is not None,
                path="provider",
                way_out="on the machine: apt-get install systemd-timesyncd, or chrony",
            ),
        ),
        uncovered="that log lines were not changed: whoever is root on a machine can change them",
    ),
)
