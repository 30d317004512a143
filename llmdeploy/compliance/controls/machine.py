"""Controls on the machine itself."""

from __future__ import annotations

from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Control, Rule


def _passwords(traits: Traits, _policy: Policy) -> str:
    return "takes passwords over SSH" if traits.ssh_passwords else ""


def _not_pinned(traits: Traits, _policy: Policy) -> str:
    if traits.host_key_pinned is not False:
        return ""
    return "is reached over SSH without its host key being pinned: whoever answers at its address first is taken for it"


def _outdated(traits: Traits, _policy: Policy) -> str:
    count = traits.updates_pending or 0
    return f"lacks {count} security update{'s'[: count != 1]}" if count else ""


def _privileged(traits: Traits, _policy: Policy) -> str:
    return "runs with rights that it does not need" if traits.privileged else ""


CONTROLS: Final = (
    Control(
        id="HOST-01",
        title="SSH takes keys only, and nobody answers in a machine's place",
        demand="machines take no passwords over SSH, and their host keys are pinned",
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
            Rule(
                facts=("host_key_pinned",),
                judge=_not_pinned,
                expected="a pinned host key",
                concerns=lambda traits: traits.host_key_pinned is not None,
                path="provider",
                way_out="compare the key with the machine's own, and set it: host_key: ssh-ed25519 ...",
            ),
        ),
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
