"""Controls on where data lies and goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ...policy import Policy
from ...traits import DataFlow, Traits
from ..model import Breach, Control, Rule, Subject
from ..places import Places
from ..processes import reports
from .network import sends, to_servers

FALLBACK_STATED: Final = (
    "remove gateway.fallback, or state it: compliance: {..., endpoints: {..., HOST: {country: DE, agreement: true}}}"
)
"""The way out where prompts may go to a hosted fallback. In every way out `...` stands for what the stack file says already."""

_ADEQUATE: Final = "or compliance: {..., residency: adequate}, where that is enough"
_CONDITION_MET: Final = "compliance: {..., attest: {..., adequacy_conditions: [US]}}, where that is so"


def _of_ones_own(traits: Traits) -> bool:
    return not traits.processor and (traits.machine or traits.region is not None)


def _rented(traits: Traits) -> bool:
    """Tell whether a processor keeps it somewhere. What is global and stores nothing has no region; RES-04 tells of it."""
    return traits.processor != "" and (traits.region is not None or traits.machine or traits.at_rest != "none")


def _runs(traits: Traits) -> bool:
    return traits.process is not None


# --- where things are ---------------------------------------------------------------------------------------------------------


def _misplaced(traits: Traits, policy: Policy) -> str:
    if traits.region is None:
        return "has no region: nobody knows in which country it is"
    country = _country(traits)
    if country is None:
        return f'is in "{traits.region}", and nobody knows in which country that is'
    if _allowed(country, policy):
        return ""
    place = country if country == traits.region.upper() else f"{traits.region}, which is in {country},"
    return f"is in {place} outside of residency: {policy.residency}"


def _unconditioned(traits: Traits, policy: Policy) -> str:
    """Tell of a country that is allowed on a condition which nobody states to be met."""
    country = _country(traits)
    condition = _condition(country, policy) if country and _allowed(country, policy) else ""
    return f"is in {condition}" if condition else ""


def _copied(traits: Traits, _policy: Policy) -> str:
    return "may have copies in other regions" if traits.leaves_region else ""


def _state(subject: Subject) -> Iterator[Breach]:
    """Judge where the state lies: it names keys and principals."""
    bucket = subject.stack.state.s3
    if bucket is None:
        return
    homes = [Traits(region=bucket.region, processor=name) for name in Places.load().document["processors"]]
    found = [_misplaced(home, subject.policy) or _unconditioned(home, subject.policy) for home in homes]
    if all(found):
        yield Breach(f"the state {found[0]}", "state.s3.region", f"keep it in a region inside; {_ADEQUATE}")


def _country(traits: Traits) -> str | None:
    region = traits.region or ""
    return Places.load().country_of(region if traits.processor else region.upper(), traits.processor)


def _allowed(country: str, policy: Policy) -> bool:
    return policy.residency is None or Places.load().allows(policy.residency, country)


def _condition(country: str, policy: Policy) -> str:
    """Return a country with the condition of its adequacy decision, as words; "" where none is open."""
    if policy.residency != "adequate" or country in policy.conditions:
        return ""
    condition = Places.load().condition(country)
    return f"{country}, for which the adequacy decision holds only where {condition}: nobody states that" if condition else ""


# --- where data goes ----------------------------------------------------------------------------------------------------------


def _prompts_leave(traits: Traits, policy: Policy) -> str:
    found = (_misdirected(flow, policy) or _unagreed(flow, policy) for flow in to_servers(traits, "prompts"))
    return next(filter(None, found), "")


def _records_leave(traits: Traits, policy: Policy) -> str:
    return next(filter(None, (_misdirected(flow, policy) for flow in to_servers(traits, "records"))), "")


def _misdirected(flow: DataFlow, policy: Policy) -> str:
    """Return why data may not go where a server stands, "" when it may."""
    sent, country = f"sends {flow.what} to {flow.to}", _stands(flow.to, policy)
    if country is None:
        return f"{sent}, and nobody states where that stands"
    if country == "site":
        return ""
    if not _allowed(country, policy):
        return f"{sent} in {country}, outside of residency: {policy.residency}"
    condition = _condition(country, policy)
    return f"{sent} in {condition}" if condition else ""


def _stands(host: str, policy: Policy) -> str | None:
    """Return the country of a server, or `site`: as the operator states it, else as the table knows it.

    In which country a processor's region lies is no matter of opinion; that its name leads to a server inside may be so.
    """
    endpoint, places = policy.endpoints.get(host), Places.load()
    if endpoint is None or (endpoint.country != "site" and places.is_regional(host)):
        return places.server_country(host)
    return endpoint.country


def prompts_unagreed(traits: Traits, policy: Policy) -> str:
    """Return what is wrong where prompts go to a server and nobody states an agreement with whoever runs it."""
    return next(filter(None, (_unagreed(flow, policy) for flow in to_servers(traits, "prompts"))), "")


def _unagreed(flow: DataFlow, policy: Policy) -> str:
    """Return what is wrong where nobody states an agreement with whoever runs a server, "" for one of the operator's own."""
    endpoint = policy.endpoints.get(flow.to)
    if endpoint is not None and (endpoint.country == "site" or endpoint.agreement):
        return ""
    return f"sends {flow.what} to {flow.to}, and nobody states an agreement with whoever runs that"


def _reports(traits: Traits, _policy: Policy) -> str:
    return "; ".join(reports(traits.process)) if traits.process else ""


# --- what is told -------------------------------------------------------------------------------------------------------------


def _disclosed(subject: Subject) -> Iterator[Breach]:
    for processor in sorted({traits.processor for traits in subject.traits.values()} - {""}):
        yield from _of_processor(processor, subject.traits)
    yield from _fetches(subject)
    yield from _disputed(subject)


def _disputed(subject: Subject) -> Iterator[Breach]:
    """Tell of statements that the table knows otherwise: who runs a server answers to a law, wherever the server stands."""
    places = Places.load()
    for host, endpoint in sorted(subject.policy.endpoints.items()):
        law = places.server_country(host)
        if law and law != endpoint.country:
            stands = "inside the site" if endpoint.country == "site" else f"in {endpoint.country}"
            sentence = f"the stack file states that {host} stands {stands}; who runs it is known to be under the law of {law}"
            yield Breach(sentence, f"compliance.endpoints.{host}", "be sure of it, or name another server", advice=True)


def _of_processor(processor: str, found: Mapping[str, Traits]) -> Iterator[Breach]:
    places, mine = Places.load(), [traits for traits in found.values() if traits.processor == processor]
    law, way_out = places.parent(processor), "decide whether that may be: nothing in the stack file changes it"
    whose = f"the law of {law}" if law else "a law that the table does not know"
    sentence = f"{processor} is ruled by {whose}, wherever its machines stand"
    yield Breach(sentence, "provider", way_out, advice=True)
    region = next((traits.region for traits in mine if traits.region), "")
    elsewhere, used = places.global_services(processor, region), {traits.service for traits in mine}
    told = sorted(f"{service} ({place})" for service, place in elsewhere.items() if service in used)
    if told:
        sentence = f"services of {processor} keep what they are told outside {region}: {', '.join(told)}"
        yield Breach(sentence, "provider", way_out, advice=True)


def _fetches(subject: Subject) -> Iterator[Breach]:
    """Tell whom machines ask for files: no content, but who asks for what."""
    flows = [flow for traits in subject.traits.values() for flow in to_servers(traits, "requests")]
    asked: dict[str, list[str]] = {}
    for host in sorted({flow.to for flow in flows}):
        country = _stands(host, subject.policy)
        if country is None or (country != "site" and not _allowed(country, subject.policy)):
            asked.setdefault(country or "", []).append(host)
    for country, hosts in sorted(asked.items()):
        whose = f"under the law of {country}" if country else "nobody states where"
        yield Breach(
            f"machines ask {' and '.join(hosts)} ({whose}) for files: it is seen there who asks for what",
            "compliance.endpoints",
            "fetch from a server of your own, and state it: compliance: {..., endpoints: {..., HOST: site}}",
            advice=True,
        )


_PLACED: Final = (
    Rule(
        facts=("region",),
        judge=_misplaced,
        expected="a country that residency allows",
        concerns=_of_ones_own,
        path="region",
        way_out=f"region: DE; the country where the machine stands; {_ADEQUATE}",
        stated=True,
    ),
    Rule(
        facts=("region",),
        judge=_misplaced,
        expected="a region in a country that residency allows",
        concerns=_rented,
        path="region",
        way_out=f"choose a region inside; {_ADEQUATE}",
    ),
    Rule(
        facts=("region",),
        judge=_unconditioned,
        expected="a country without an open condition",
        concerns=lambda traits: _of_ones_own(traits) or _rented(traits),
        path="compliance.attest",
        way_out=_CONDITION_MET,
        stated=True,
    ),
    Rule(
        facts=("leaves_region",),
        judge=_copied,
        expected="one region",
        concerns=lambda traits: traits.leaves_region is not None,
        path="provider",
        way_out="keep it in one region: no replication, no keys of several regions",
    ),
)

CONTROLS: Final = (
    Control(
        id="RES-01",
        title="Machines, data, keys and logs are in allowed countries",
        demand="machines, data, keys and logs are in countries that residency allows",
        severity="high",
        rules=_PLACED,
        whole=_state,
        uncovered="where a machine of your own really stands; snapshots and copies that somebody makes by hand; where a key"
        " service lies that encrypts the state",
    ),
    Control(
        id="RES-02",
        title="Prompts go to allowed countries only",
        demand="prompts go only to servers in allowed countries, under an agreement",
        severity="high",
        rules=(
            Rule(
                facts=("data_flows",),
                judge=_prompts_leave,
                expected="nowhere, or to stated servers under an agreement",
                concerns=lambda traits: sends(traits, "prompts"),
                path="gateway.fallback",
                way_out=FALLBACK_STATED,
            ),
        ),
        uncovered="where a stated server really stands",
    ),
    Control(
        id="RES-03",
        title="Telemetry and records stay in allowed countries",
        demand="telemetry and records go only to servers in allowed countries, and the engine reports to nobody",
        severity="medium",
        rules=(
            Rule(
                facts=("data_flows",),
                judge=_records_leave,
                expected="nowhere, or to stated servers",
                concerns=lambda traits: sends(traits, "records"),
                path="compliance.endpoints",
                way_out="send them to a server inside, and state where it stands: compliance: {..., endpoints: {..., HOST: DE}}",
            ),
            Rule(
                facts=("process",),
                judge=_reports,
                expected="no telemetry",
                concerns=_runs,
                path="engine.args",
                way_out="remove it from engine.args",
            ),
        ),
        forces="the engine's usage statistics and the telemetry of its libraries off",
    ),
    Control(
        id="RES-04",
        title="Whose law rules, and what is global, is told",
        demand="the plan tells whose law rules a processor, and which of its services lie elsewhere",
        severity="info",
        whole=_disclosed,
    ),
)
