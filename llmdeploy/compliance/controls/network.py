"""Controls on data in transit and who reaches what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ...policy import Policy
from ...traits import Carries, DataFlow, Traits
from ..model import Breach, Control, Rule, Subject

ANYWHERE: Final = "the internet"
"""What a data flow goes to that no list of servers bounds."""

_OLD_TLS: Final = frozenset({"none", "1.0", "1.1"})
_LISTENING: Final = frozenset({"private", "public"})


def sends(traits: Traits, carries: Carries | None = None) -> bool:
    """Return whether it may send such data to servers elsewhere: it is planned to, or it is a gateway, whoever set that up."""
    return bool(to_servers(traits, carries)) or traits.log_fields is not None


def to_servers(traits: Traits, carries: Carries | None = None) -> tuple[DataFlow, ...]:
    """Return the flows to servers. Files are also fetched from what a machine's administrator has set up: that has no host name,
    and is told in words."""
    return tuple(flow for flow in traits.data_flows if carries in (None, flow.carries) and not _in_words(flow))


def _in_words(flow: DataFlow) -> bool:
    return flow.carries == "requests" and " " in flow.to


def named(flows: Iterable[DataFlow]) -> str:
    """Return where flows go, as words."""
    return " and ".join(dict.fromkeys(flow.to for flow in flows))


def _runs(traits: Traits) -> bool:
    return traits.process is not None


def _answers(traits: Traits) -> bool:
    """Tell whether clients connect to it: engines are reached through a gateway."""
    return traits.exposure != "none" and not _runs(traits)


def _open(traits: Traits, _policy: Policy) -> str:
    if traits.exposure != "public" or (traits.authenticated is True and traits.in_transit != "plain"):
        return ""
    return "can be reached from the internet, and not over TLS and with a key only"


def _unguarded(traits: Traits, _policy: Policy) -> str:
    return "gives the machine's credentials to any program that asks" if traits.metadata_guarded is False else ""


def _open_egress(traits: Traits, _policy: Policy) -> str:
    return "can open connections to anywhere" if traits.egress == "open" else ""


def _sends_anywhere(traits: Traits) -> bool:
    return traits.log_fields is not None or any(flow.to == ANYWHERE for flow in traits.data_flows)


def _to_anywhere(traits: Traits, _policy: Policy) -> str:
    flows = [flow for flow in traits.data_flows if flow.to == ANYWHERE]
    return f"sends {flows[0].what} to {ANYWHERE}, not to listed servers" if flows else ""


def _off_site(traits: Traits, policy: Policy) -> str:
    # What the machine's administrator has set up (package servers) has no name here: SUP-03 has it stated as a whole.
    flows = [flow for flow in to_servers(traits) if not _on_site(flow, policy)]
    return f"sends {flows[0].what} to {named(flows)}, of which nobody states that it stands inside the site" if flows else ""


def _elsewhere(traits: Traits, _policy: Policy) -> str:
    return f"is a machine of {traits.processor}, which stands outside the site" if traits.processor else ""


def _state_elsewhere(subject: Subject) -> Iterator[Breach]:
    if subject.stack.state.s3 is not None:
        yield Breach("the state leaves the site: it lies in a bucket", "state", "state: {local: {}}")


def _on_site(flow: DataFlow, policy: Policy) -> bool:
    endpoint = policy.endpoints.get(flow.to)
    return endpoint is not None and endpoint.country == "site"


def _old(traits: Traits, _policy: Policy) -> str:
    if traits.tls_min not in _OLD_TLS:
        return ""
    return "takes plain text" if traits.tls_min == "none" else f"takes TLS {traits.tls_min}"


def _clear(traits: Traits, _policy: Policy) -> str:
    return "takes requests in clear" if traits.in_transit == "plain" and traits.exposure in _LISTENING else ""


def _clear_inside(traits: Traits, _policy: Policy) -> str:
    shared = traits.exposure != "none" or traits.processor != ""
    return "passes prompts and answers on in clear over a network" if traits.in_transit == "plain" and shared else ""


CONTROLS: Final = (
    Control(
        id="NET-01",
        title="Nothing but the endpoint can be reached from the internet",
        demand="only the endpoint, over TLS and with a key, can be reached from the internet",
        severity="high",
        rules=(
            Rule(
                facts=("exposure",),
                judge=_open,
                expected="not public",
                concerns=lambda traits: traits.authenticated is None and (traits.exposure != "none" or _runs(traits)),
                path="provider",
                way_out="let listed addresses in only, or nobody",
            ),
            Rule(
                facts=("exposure", "authenticated", "in_transit"),
                judge=_open,
                expected="not public, or with TLS and a key",
                concerns=lambda traits: traits.authenticated is not None,
                path="gateway",
                way_out="let listed addresses in only, or answer over TLS and with a key only",
            ),
        ),
    ),
    Control(
        id="NET-02",
        title="Instance metadata needs a token",
        demand="a machine's metadata service needs a token and answers one hop away only",
        severity="medium",
        rules=(
            Rule(
                facts=("metadata_guarded",),
                judge=_unguarded,
                expected="a token, and one hop",
                concerns=lambda traits: traits.metadata_guarded is not None,
                path="provider",
                way_out="ask for a token, and allow one hop",
            ),
        ),
    ),
    Control(
        id="NET-03",
        title="Machines reach listed servers only",
        demand="machines can open connections to listed servers only",
        severity="medium",
        rules=(
            Rule(
                facts=("egress",),
                judge=_open_egress,
                expected="nowhere, or listed servers",
                concerns=lambda traits: traits.egress is not None or _runs(traits),
                path="provider",
                way_out="let it reach nothing but listed servers",
            ),
            Rule(
                facts=("data_flows",),
                judge=_to_anywhere,
                expected="listed servers",
                concerns=_sends_anywhere,
                path="provider",
                way_out="let machines reach nothing but listed servers: leave egress to llmdeploy (auto)",
            ),
        ),
        forces="nothing but the provider's own services, where the provider builds the network",
        uncovered="what other programs of a machine of your own can reach",
    ),
    Control(
        id="NET-04",
        title="Nothing leaves the site",
        demand="nothing leaves the site at run time",
        severity="high",
        rules=(
            Rule(
                facts=("data_flows",),
                judge=_off_site,
                expected="nothing, or servers inside the site",
                concerns=sends,
                path="compliance.endpoints",
                way_out="use a server inside the site, and state it: compliance: {..., endpoints: {..., HOST: site}}",
            ),
            Rule(
                facts=("machine",),
                judge=_elsewhere,
                expected="a machine inside the site",
                concerns=lambda traits: traits.machine and traits.processor != "",
                path="provider",
                way_out="use machines of your own: provider: {local: {}} or {hosts: [...]}",
                stated=True,
            ),
        ),
        whole=_state_elsewhere,
        uncovered="routes and name resolution of the site's own network",
    ),
    Control(
        id="TLS-01",
        title="Clients speak TLS 1.2 or newer",
        demand="clients reach the model over TLS 1.2 or newer only",
        severity="high",
        rules=(
            Rule(
                facts=("tls_min",),
                judge=_old,
                expected="TLS 1.2 or newer",
                concerns=lambda traits: traits.tls_min is not None,
                path="gateway",
                way_out="take TLS 1.2 and newer only",
            ),
            Rule(
                facts=("in_transit", "exposure"),
                judge=_clear,
                expected="encrypted",
                concerns=_answers,
                path="gateway",
                way_out="take TLS only",
            ),
        ),
    ),
    Control(
        id="TLS-02",
        title="Nothing travels in clear inside the stack",
        demand="prompts and answers do not travel in clear between the parts of the stack",
        severity="high",
        rules=(
            Rule(
                facts=("in_transit", "exposure"),
                judge=_clear_inside,
                expected="encrypted, or never leaving the machine",
                concerns=lambda traits: _runs(traits) or (traits.exposure == "none" and traits.in_transit == "plain"),
                path="hardware",
                way_out="choose a machine that holds a whole replica: `llmdeploy size` shows them",
            ),
        ),
    ),
)
