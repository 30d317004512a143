"""Where laws and standards say it: control -> profile -> passages, each with what was read of it.

A passage is what a control serves; it seldom names the control's means. The texts themselves are not here, only their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .model import Citation

_READ: Final = "read on 2026-11-30"
_CFR: Final = (
    f"45 CFR 164.306 to 164.312 of ecfr.gov as of 2026-10-07, in a public copy; 164.312 also on govinfo.gov (2019); {_READ}"
)
_CONTRACTS: Final = f"45 CFR 164.314(a) on businessassociateagreements.com, 164.504(e) as of January 2013 on bricker.com; {_READ}"
_MINIMUM: Final = f"other pages that quote 45 CFR 164.502(b); {_READ}"
_CSA: Final = "a copy in github.com/CloudSecurityAlliance-DataSets/dataset-public-laws-regulations-standards"
_GDPR: Final = f"Regulation (EU) 2016/679 of eur-lex.europa.eu, {_CSA}; {_READ}"
_AI_ACT: Final = (
    f"Regulation (EU) 2024/1689 of eur-lex.europa.eu as published in 2024, {_CSA}; {_READ};"
    " the amending act of 2026 could not be read"
)
_OMNIBUS: Final = f"dlapiper.com of 2 July 2026 on the amending act that the Council approved on 29 June 2026; {_READ}"
_PCI: Final = f"PCI DSS v4.0.1 (June 2024), {_CSA}, and another in github.com/juancarlosmunera/pci-dss-tool; {_READ}"
_TSC: Final = f"2017 Trust Services Criteria with revised points of focus 2022 (AICPA), {_CSA}; {_READ}"
_SCHREMS: Final = f"wilmerhale.com and kslaw.com on the judgment; {_READ}"

Citations = tuple[Citation, ...]


def _primary(source: str, *refs: str) -> Citations:
    return tuple(Citation(ref, "primary", source) for ref in refs)


def _secondary(source: str, *refs: str) -> Citations:
    return tuple(Citation(ref, "secondary", source) for ref in refs)


def _hipaa(*refs: str) -> Citations:
    return _primary(_CFR, *(f"45 CFR {ref}" for ref in refs))


def _contracts(*refs: str) -> Citations:
    return _primary(_CONTRACTS, *(f"45 CFR {ref}" for ref in refs))


def _gdpr(*refs: str) -> Citations:
    return _primary(_GDPR, *(f"Art. {ref}" for ref in refs))


def _pci(*refs: str) -> Citations:
    return _primary(_PCI, *refs)


def _soc2(*refs: str) -> Citations:
    return _primary(_TSC, *refs)


def _ai_act(*refs: str) -> Citations:
    return _primary(_AI_ACT, *(f"Art. {ref}" for ref in refs))


_MINIMUM_NECESSARY: Final = _secondary(_MINIMUM, "45 CFR 164.502(b)")
_NO_CONTENT: Final = {
    "gdpr": _gdpr("5(1)(c)", "25(2)"),
    "hipaa": _MINIMUM_NECESSARY,
    "pci-dss": _pci("3.2.1"),
    "soc2": _soc2("C1.1"),
}
_AT_REST: Final = "164.312(a)(2)(iv) (addressable)"
_IN_TRANSIT: Final = "164.312(e)(2)(ii) (addressable)"

CITATIONS: Final[Mapping[str, Mapping[str, Citations]]] = {
    "AIA-01": {"eu-ai-act": _ai_act("12(1)", "12(2)")},
    "AIA-02": {"eu-ai-act": _ai_act("19(1)", "26(6)")},
    "AIA-03": {
        "eu-ai-act": (
            *_ai_act("6(2)"),
            *_secondary(_OMNIBUS, "Art. 113 as amended in 2026 (Annex III from 2 December 2027, Annex I from 2 August 2028)"),
        )
    },
    "AIA-04": {"eu-ai-act": _ai_act("14(4)(e)")},
    "AUD-01": {
        "gdpr": _gdpr("5(2)"),
        "hipaa": _hipaa("164.312(b)"),
        "pci-dss": _pci("10.2.1", "10.2.1.2", "10.3.2"),
        "soc2": _soc2("CC7.2"),
    },
    "AUD-02": {
        "eu-ai-act": _ai_act("12(1)", "12(2)"),
        "hipaa": _hipaa("164.312(b)"),
        "pci-dss": _pci("10.2.1.1", "10.2.2"),
        "soc2": _soc2("CC7.2"),
    },
    "AUD-03": {"hipaa": _hipaa("164.312(b)"), "pci-dss": _pci("10.3.2", "10.3.4", "10.6.1")},
    "BAA-01": {"hipaa": _hipaa("164.308(b)(1)") + _contracts("164.504(e)(1)")},
    "CHG-01": {"soc2": _soc2("CC8.1")},
    "DPA-01": {"gdpr": _gdpr("28(3)", "30(1)", "35(1)")},
    "ENC-01": {
        "gdpr": _gdpr("32(1)(a)"),
        "hipaa": _hipaa(_AT_REST),
        "pci-dss": _pci("3.5.1.2 (for card numbers on fixed disks, disk encryption alone is not enough)"),
        "soc2": _soc2("CC6.1"),
    },
    "ENC-02": {
        "gdpr": _gdpr("32(1)(a)"),
        "hipaa": _hipaa(_AT_REST),
        "pci-dss": _pci("3.6.1", "3.7.4"),
        "soc2": _soc2("CC6.1"),
    },
    "ENC-03": {
        "gdpr": _gdpr("32(1)(a)"),
        "hipaa": _hipaa(_AT_REST),
        "pci-dss": _pci("3.6.1", "3.6.1.2"),
        "soc2": _soc2("CC6.1"),
    },
    "ENC-04": {"hipaa": _hipaa("164.312(a)(2)(ii)"), "pci-dss": _pci("3.6.1")},
    "ENC-05": {"gdpr": _gdpr("32(1)(a)", "32(1)(b)"), "hipaa": _hipaa(_AT_REST, "164.312(e)(1)")},
    "ENC-06": {
        "gdpr": _gdpr("5(1)(e)", "17(1)"),
        "hipaa": _hipaa("164.310(d)(2)(i)"),
        "soc2": _soc2("C1.2", "CC6.5"),
    },
    "ENG-01": {"hipaa": _hipaa("164.308(a)(1)(ii)(B)"), "pci-dss": _pci("6.3.3"), "soc2": _soc2("CC7.1")},
    "HA-01": {"hipaa": _hipaa("164.308(a)(7)(i)"), "soc2": _soc2("A1.2")},
    "HOST-01": {"hipaa": _hipaa("164.312(d)"), "pci-dss": _pci("2.2.1", "2.2.6"), "soc2": _soc2("CC6.1")},
    "HOST-02": {"hipaa": _hipaa("164.308(a)(1)(ii)(B)"), "pci-dss": _pci("6.3.3")},
    "HOST-03": {"hipaa": _hipaa("164.312(a)(1)"), "pci-dss": _pci("2.2.4", "7.2.5"), "soc2": _soc2("CC6.3")},
    "IAM-01": {
        "gdpr": _gdpr("32(1)(b)"),
        "hipaa": _hipaa("164.308(a)(4)(ii)(B) (addressable)"),
        "pci-dss": _pci("7.2.5"),
        "soc2": _soc2("CC6.3"),
    },
    "KEY-01": {"hipaa": _hipaa("164.308(a)(5)(ii)(D) (addressable)"), "pci-dss": _pci("8.3.2"), "soc2": _soc2("CC6.1")},
    "KEY-02": {
        "hipaa": _hipaa("164.312(a)(2)(i)", "164.312(d)"),
        "pci-dss": _pci("8.2.1", "8.2.2"),
        "soc2": _soc2("CC6.1", "CC6.2"),
    },
    "KEY-03": {
        "gdpr": _gdpr("32(1)(b)"),
        "hipaa": _hipaa("164.312(a)(1)"),
        "pci-dss": _pci("7.2.2"),
        "soc2": _soc2("CC6.3"),
    },
    "KEY-04": {
        "hipaa": _hipaa("164.308(a)(3)(ii)(C) (addressable)"),
        "pci-dss": _pci("8.6.3"),
        "soc2": _soc2("CC6.2", "CC6.3"),
    },
    "KEY-05": {"hipaa": _hipaa("164.308(a)(5)(ii)(D) (addressable)"), "pci-dss": _pci("8.6.2"), "soc2": _soc2("CC6.1")},
    "KEY-06": {"gdpr": _gdpr("32(1)(b)"), "hipaa": _hipaa("164.312(e)(1)"), "soc2": _soc2("CC6.1")},
    "LOG-01": _NO_CONTENT,
    "LOG-02": _NO_CONTENT,
    "LOG-03": {
        "gdpr": _gdpr("25(1)", "32(1)(d)"),
        "hipaa": _hipaa("164.308(a)(8)"),
        "pci-dss": _pci("3.2.1"),
        "soc2": _soc2("CC4.1"),
    },
    "LOG-04": {"gdpr": _gdpr("5(1)(e)"), "pci-dss": _pci("3.2.1")},
    "LOG-05": {"gdpr": _gdpr("32(1)(a)", "32(1)(b)"), "hipaa": _hipaa(_AT_REST)},
    "NET-01": {
        "gdpr": _gdpr("32(1)(b)"),
        "hipaa": _hipaa("164.312(a)(1)"),
        "pci-dss": _pci("1.3.1", "1.4.2"),
        "soc2": _soc2("CC6.6"),
    },
    "NET-02": {"pci-dss": _pci("2.2.6"), "soc2": _soc2("CC6.1")},
    "NET-03": {"pci-dss": _pci("1.3.2")},
    "PAN-01": {"pci-dss": _pci("3.2.1", "3.5.1", "3.5.1.2", "12.8.2")},
    "RES-01": {"gdpr": _gdpr("44", "45(1)")},
    "RES-02": {"gdpr": _gdpr("28(3)", "44")},
    "RES-03": {"gdpr": _gdpr("5(1)(c)", "44")},
    "RES-04": {"gdpr": (*_gdpr("48"), *_secondary(_SCHREMS, "CJEU C-311/18 (Schrems II)"))},
    "RET-01": {"eu-ai-act": _ai_act("19(1)", "26(6)"), "gdpr": _gdpr("5(1)(e)")},
    "RET-02": {"pci-dss": _pci("10.5.1")},
    "STATE-01": {"hipaa": _hipaa("164.312(a)(1)"), "pci-dss": _pci("7.2.2"), "soc2": _soc2("CC6.1")},
    "STATE-02": {"gdpr": _gdpr("32(1)(a)"), "soc2": _soc2("CC6.1")},
    "SUP-01": {
        "eu-ai-act": _ai_act("12(2)"),
        "hipaa": _hipaa("164.308(a)(5)(ii)(B) (addressable)"),
        "soc2": _soc2("CC6.8", "CC8.1"),
    },
    "SVC-01": {"hipaa": _hipaa("164.308(b)(1)") + _contracts("164.314(a)(1)")},
    "TLS-01": {
        "gdpr": _gdpr("32(1)(a)"),
        "hipaa": _hipaa("164.312(e)(1)", _IN_TRANSIT),
        "pci-dss": _pci("4.2.1"),
        "soc2": _soc2("CC6.7"),
    },
    "TLS-02": {
        "gdpr": _gdpr("32(1)(a)"),
        "hipaa": _hipaa("164.312(e)(2)(i) (addressable)", _IN_TRANSIT),
        "pci-dss": _pci("4.2.1 (its words are on open, public networks)"),
        "soc2": _soc2("CC6.7"),
    },
    "VUL-01": {"pci-dss": _pci("6.3.1", "11.3.1"), "soc2": _soc2("CC7.1")},
}
"""Control -> profile -> passages. Where a profile demands a control and no passage is here, see `UNCITED`."""

UNCITED: Final[Mapping[str, tuple[str, ...]]] = {
    "airgapped": (),
    "eu-ai-act": (
        "ENG-01", "HOST-01", "HOST-03", "KEY-01", "KEY-02", "KEY-05", "LOG-01", "LOG-02", "LOG-03", "NET-01", "NET-02",
        "STATE-01", "TLS-01",
    ),
    "gdpr": ("ENG-01", "HOST-01", "HOST-03", "KEY-01", "KEY-02", "KEY-05", "NET-02", "STATE-01", "SUP-01"),
    "hipaa": ("LOG-04", "NET-02", "STATE-02"),
    "pci-dss": ("KEY-06", "STATE-02", "SUP-01"),
    "soc2": (),
}  # fmt: skip
"""Profile -> controls that it demands though no passage of it says so: a rule of the house. `airgapped` is no law at all, so
every control of it is one."""
