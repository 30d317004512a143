"""The profiles: sets of controls. Every profile includes the baseline, `none`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Profile:
    """A set of controls. log_days: the least number of days that it keeps log lines, None where it names none."""

    title: str
    controls: tuple[str, ...]
    log_days: int | None = None


def _ids(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_BASELINE: Final = """
    NET-01 NET-02 TLS-01 KEY-01 KEY-02 KEY-05 HOST-01 HOST-03 SUP-01 LOG-01 LOG-02 STATE-01 ENG-01
"""

PROFILES: Final[Mapping[str, Profile]] = {
    "none": Profile("Baseline, without a regulatory profile", _ids(_BASELINE)),
    "airgapped": Profile("No way off the site at run time", _ids("NET-03 NET-04 SUP-02 SUP-03 LOG-05 ENC-01 ENC-03 KEY-06")),
    "hipaa": Profile(
        "HIPAA Security Rule, technical safeguards (45 CFR 164 Subpart C)",
        _ids(
            """
            ENC-01 ENC-02 ENC-03 ENC-04 ENC-05 ENC-06 TLS-02 KEY-03 KEY-04 KEY-06 IAM-01 AUD-01 AUD-02 AUD-03 LOG-03
            LOG-04 LOG-05 HOST-02 SVC-01 BAA-01 HA-01 STATE-02
            """
        ),
    ),
    "gdpr": Profile(
        "GDPR, with residency in the EU",
        _ids(
            """
            RES-01 RES-02 RES-03 RES-04 ENC-01 ENC-02 ENC-03 ENC-05 ENC-06 TLS-02 KEY-03 KEY-06 LOG-03 LOG-04 LOG-05
            IAM-01 AUD-01 RET-01 DPA-01 STATE-02
            """
        ),
    ),
    "pci-dss": Profile(
        "PCI DSS v4.0.1",
        _ids(
            """
            PAN-01 ENC-01 ENC-02 ENC-03 ENC-04 TLS-02 KEY-03 KEY-04 KEY-06 IAM-01 AUD-01 AUD-02 AUD-03 LOG-03 LOG-04
            HOST-02 NET-03 VUL-01 RET-02 STATE-02
            """
        ),
        log_days=365,
    ),
    "soc2": Profile(
        "SOC 2 Trust Services Criteria: security, availability, confidentiality",
        _ids(
            """
            ENC-01 ENC-02 ENC-03 ENC-06 TLS-02 KEY-03 KEY-04 KEY-06 IAM-01 AUD-01 AUD-02 LOG-03 HA-01 CHG-01 VUL-01
            STATE-02
            """
        ),
    ),
    "eu-ai-act": Profile(
        "EU AI Act (2024/1689), logging support for high-risk systems",
        _ids("AIA-01 AIA-02 AIA-03 AIA-04 AUD-02 LOG-03 RET-01"),
        log_days=183,
    ),
}

RESIDENCY: Final = ("RES-01", "RES-02", "RES-03", "RES-04")
"""Controls that a stack file asks for with `compliance.residency`, whatever its profiles."""


def demanded_by(profiles: Iterable[str], *, residency: bool = False) -> dict[str, tuple[str, ...]]:
    """Return control -> the named profiles that demand it, sorted; the baseline is demanded by each of them, and by nobody
    where there is none."""
    named = sorted(set(profiles) - {"none"})
    found: dict[str, tuple[str, ...]] = dict.fromkeys(PROFILES["none"].controls, tuple(named))
    found |= dict.fromkeys(RESIDENCY, ()) if residency else {}
    for name in named:
        found |= {control: (*found.get(control, ()), name) for control in PROFILES[name].controls}
    return dict(sorted(found.items()))
