"""Controls on what an operator states and what a service owes: agreements, risk class, redundancy, change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Breach, Control, Rule, Subject
from ..places import Places
from .network import sends, to_servers
from .residency import FALLBACK_STATED, prompts_unagreed

_ATTEST: Final = "compliance.attest"
_TWO: Final = "replicas: 2, with a provider of several machines"
_AGREEMENT: Final = "a business associate agreement covers the account"


def _handles_data(traits: Traits) -> bool:
    """Tell whether data of requests can pass through or lie at a processor's service."""
    return traits.processor != "" and (traits.machine or traits.at_rest != "none" or traits.in_transit != "none")


def _ineligible(traits: Traits, _policy: Policy) -> str:
    eligible = Places.load().eligible("hipaa", traits.processor, traits.service)
    service = f"{traits.service or 'a service'} of {traits.processor}"
    if eligible is None:
        return f"uses {service}, for which there is no list of services that an agreement covers"
    return "" if eligible else f"uses {service}, which is not on the list of services that an agreement covers"


def _dated(subject: Subject) -> Iterator[Breach]:
    """Tell of which day the lists are that SVC-01 looks at."""
    processors = Places.load().document["processors"]
    for name in sorted({traits.processor for traits in subject.traits.values()} & processors.keys()):
        if listed := processors[name]["eligible"].get("hipaa"):
            sentence = f"the list of services that an agreement with {name} covers is of {listed['as_of']}"
            yield Breach(sentence, "provider", "compare it with the list of today", advice=True)


def _processors(traits: Mapping[str, Traits]) -> str:
    return " and ".join(sorted({one.processor for one in traits.values()} - {""}))


def _no_associate(subject: Subject) -> Iterator[Breach]:
    processors = _processors(subject.traits)
    if processors and not subject.stack.compliance.attest.baa:
        sentence = f"nobody states that a business associate agreement with {processors} covers this account"
        yield Breach(sentence, _ATTEST, "compliance: {..., attest: {..., baa: true}}", statement=True)


def _papers(subject: Subject) -> Iterator[Breach]:
    attest = subject.stack.compliance.attest
    processors = _processors(subject.traits)
    prompts = any(to_servers(traits, "prompts") for traits in subject.traits.values())
    missing = {
        "dpa": "that processor agreements exist" if (processors or prompts) and not attest.dpa else "",
        "ropa": "" if attest.ropa else "that the record of processing activities holds this system",
        "dpia": "" if attest.dpia else "that an impact assessment was made, or is not needed",
    }
    for name, what in missing.items():
        if what:
            yield Breach(f"nobody states {what}", _ATTEST, f"compliance: {{..., attest: {{..., {name}: true}}}}", statement=True)


def _said_of_associate(subject: Subject) -> str:
    return _AGREEMENT if subject.stack.compliance.attest.baa else ""


def _said_of_papers(subject: Subject) -> str:
    attest = subject.stack.compliance.attest
    said = {
        "processor agreements exist": attest.dpa,
        "the record of processing activities holds this system": attest.ropa,
        "an impact assessment was made, or is not needed": attest.dpia,
    }
    return "; ".join(what for what, stated in said.items() if stated)


def _said_of_the_act(subject: Subject) -> str:
    declared = subject.stack.compliance.attest.ai_act
    if declared is None:
        return ""
    risk = "high-risk" if declared.high_risk else "not high-risk"
    return f"role {declared.role}, {risk}, purpose: {declared.intended_purpose}"


def _alone(subject: Subject) -> Iterator[Breach]:
    if subject.stack.replicas == 1:
        yield Breach("there is one replica: when its machine fails, nobody answers", "replicas", _TWO, advice=True)


def _undeclared(subject: Subject) -> Iterator[Breach]:
    if subject.stack.compliance.attest.ai_act is None:
        yield Breach(
            "nobody declares role, risk class and purpose under the EU AI Act",
            _ATTEST,
            "compliance: {..., attest: {..., ai_act: {role: deployer, high_risk: false, intended_purpose: WHAT IT IS FOR}}}",
            statement=True,
        )


_OF_PROCESSORS: Final = (
    Control(
        id="SVC-01",
        title="Data lies at services that an agreement can cover",
        demand="data passes only through services that a business associate agreement covers",
        severity="medium",
        rules=(
            Rule(
                facts=("service",),
                judge=_ineligible,
                expected="on the list",
                concerns=_handles_data,
                path="provider",
                way_out="use a service of the list",
            ),
        ),
        whole=_dated,
        uncovered="changes of the processor's list since the date of ours",
    ),
    Control(
        id="BAA-01",
        title="A business associate agreement is stated",
        demand="a business associate agreement covers every processor of the data",
        severity="high",
        rules=(
            Rule(
                facts=("data_flows",),
                judge=prompts_unagreed,
                expected="nowhere, or under an agreement",
                concerns=lambda traits: sends(traits, "prompts"),
                path="gateway.fallback",
                way_out=FALLBACK_STATED,
            ),
        ),
        whole=_no_associate,
        stated=_AGREEMENT,
        said=_said_of_associate,
    ),
    Control(
        id="DPA-01",
        title="Agreements, record and impact assessment are stated",
        demand="processor agreements, the record of processing and the impact assessment exist",
        severity="medium",
        whole=_papers,
        stated="processor agreements, the record of processing and the impact assessment exist",
        said=_said_of_papers,
    ),
)

_OF_THE_SERVICE: Final = (
    Control(
        id="HA-01",
        title="The loss of a machine is survived, or told",
        demand="the loss of one machine keeps the service up, or the plan says that it does not",
        severity="low",
        whole=_alone,
        uncovered="that a recovery was ever tried",
    ),
    Control(
        id="CHG-01",
        title="Changes are reviewed",
        demand="each apply carries out a plan that somebody reviewed",
        severity="medium",
        uncovered="who reviewed a plan: `apply` of a saved plan does what was reviewed, and nothing proves that somebody did",
    ),
    Control(
        id="AIA-03",
        title="Role, risk class and purpose are declared",
        demand="role, risk class and purpose under the EU AI Act are declared",
        severity="medium",
        whole=_undeclared,
        stated="role, risk class and purpose under the EU AI Act",
        said=_said_of_the_act,
    ),
    Control(
        id="AIA-04",
        title="A person can stop the system",
        demand="an operator can stop the system quickly",
        severity="low",
        uncovered="how long that takes: `llmdeploy keys revoke` stops a caller, `llmdeploy destroy` everything",
    ),
)

CONTROLS: Final = (*_OF_PROCESSORS, *_OF_THE_SERVICE)
