"""Controls on the machine itself."""

from __future__ import annotations

from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Control, Rule


def _passwords(traits: Traits, _policy: Policy) -> str:
    return "takes passwords over SSH" if traits.ssh_passwords else ""


def _outdated(traits: Traits, _policy: Policy) -> str:
    count = traits.updates_pending or 0
    return f"lacks {count} security update{'s'[: count != 1]}" if count else ""


def _privileged(traits: Traits, _policy: Policy) -> str:
    return "runs with rights that it does not need" if traits.privileged else ""


CONTROLS: Final = (
    Control(
        id="HOST-01",
        title="SSH takes keys only",
        demand="machines take no passwords over SSH",
        severity="medium",
        rules=(
            Rule(
                facts=("ssh_passwords",),
                judge=_passwords,
                expected="no passwords",
                concerns=lambda traits: traits.machine or traits.ssh_passwords is not None,
                path="provider",
                way_out="on the machine: PasswordAuthentication no in /etc/ssh/sshd_config",
            ),
        ),
        uncovered="whether the host key of a machine is pinned: the plan says it loudly where it is not",
    ),
    Control(
        id="HOST-02",
        title="Security updates are installed",
        demand="no security update of a machine is waiting",
        severity="medium",
        rules=(
            Rule(
                facts=("updates_pending",),
                judge=_outdated,
                expected="none",
                concerns=lambda traits: traits.machine or traits.updates_pending is not None,
                path="provider",
                way_out="on the machine: apt-get update && apt-get upgrade",
            ),
        ),
        uncovered="whether a machine was restarted since, and what its package lists do not know yet",
    ),
    Control(
        id="HOST-03",
        title="Programs have no more rights than they need",
        demand="programs run without rights that they do not need",
        severity="medium",
        rules=(
            Rule(
                facts=("privileged",),
                judge=_privileged,
                expected="no more rights than needed",
                concerns=lambda traits: traits.privileged is not None,
                path="engine",
                way_out="run it as a user of its own, without capabilities",
            ),
        ),
    ),
)
