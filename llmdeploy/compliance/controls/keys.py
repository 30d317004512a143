"""Controls on API keys and other secrets, and on who may read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Breach, Control, Rule, Subject
from .state import is_state

KEY_DAYS: Final = 90
"""Days after which an API key must be rotated where a profile wants rotation and the stack file names no number."""

_LISTENING: Final = frozenset({"private", "public"})
_GENERATED: Final = {"ca-key": "the key of the stack's certificate authority", "tls-key": "the endpoint's private key"}
_BIND: Final = "keys: [{name: NAME, principal: WHO}], one for each principal"


def _api_key(traits: Traits) -> bool:
    return traits.secret == "api-key"  # noqa: S105 - the kind of a secret, not one


def _in_clear(traits: Traits, _policy: Policy) -> str:
    return "keeps API keys in clear" if traits.stored_keys == "clear" else ""


def _keyless(traits: Traits, _policy: Policy) -> str:
    return "answers without a key" if traits.authenticated is not True and traits.exposure in _LISTENING else ""


def _nobodys(traits: Traits, _policy: Policy) -> str:
    return "" if traits.principal else "is bound to nobody"


def _shared(subject: Subject) -> Iterator[Breach]:
    owners: dict[str, str] = {}
    for index, key in enumerate(subject.stack.keys):
        first = owners.setdefault(key.principal, key.name)
        if first != key.name:
            sentence = f"the keys {first} and {key.name} share the principal {key.principal}: records cannot tell them apart"
            yield Breach(sentence, f"keys[{index}].principal", _BIND)


def _readable(traits: Traits, _policy: Policy) -> str:
    return "can be read by others than its principal" if traits.readers == "others" else ""


def _in_a_file(traits: Traits, _policy: Policy) -> str:
    if traits.custody != "operator-file":
        return ""
    return "lies in a file of the operator's: that only its principal gets it is up to you"


def _old(traits: Traits, _policy: Policy) -> str:
    days = traits.max_age_days
    if days is None:
        return "never has to be rotated"
    return f"is valid for {days} days, longer than {KEY_DAYS}" if days > KEY_DAYS else ""


def _not_private(traits: Traits, _policy: Policy) -> str:
    return "has files that other users of the machine can read" if traits.private is False else ""


def _generated(traits: Traits, _policy: Policy) -> str:
    if traits.custody != "operator-file":
        return ""
    return f"keeps {_GENERATED[traits.secret]} as a file of the operator's, in clear"


def _wide(traits: Traits, _policy: Policy) -> str:
    return f"gives more rights than needed: {'; '.join(traits.wide_grants)}" if traits.wide_grants else ""


_OF_KEYS: Final = (
    Control(
        id="KEY-01",
        title="Gateways keep hashes of API keys only",
        demand="gateways keep hashes of API keys only",
        severity="high",
        rules=(
            Rule(
                facts=("stored_keys",),
                judge=_in_clear,
                expected="hashes",
                concerns=lambda traits: traits.stored_keys is not None and not is_state(traits),
                path="keys",
                way_out="keep hashes only",
            ),
        ),
    ),
    Control(
        id="KEY-02",
        title="One key, one principal",
        demand="every request carries a key, and every key is bound to one principal",
        severity="high",
        rules=(
            Rule(
                facts=("authenticated", "exposure"),
                judge=_keyless,
                expected="a key is asked for",
                concerns=lambda traits: traits.authenticated is not None or traits.log_fields is not None,
                path="gateway",
                way_out="answer only who shows a key",
            ),
            Rule(
                facts=("principal",),
                judge=_nobodys,
                expected="a principal",
                concerns=_api_key,
                path="keys",
                way_out=_BIND,
                stated=True,
            ),
        ),
        whole=_shared,
        uncovered="whether a principal passes its key on",
    ),
    Control(
        id="KEY-03",
        title="Only its principal can read an API key",
        demand="only its principal can read an API key",
        severity="high",
        rules=(
            Rule(
                facts=("readers",),
                judge=_readable,
                expected="its principal only",
                concerns=lambda traits: traits.readers is not None,
                path="keys",
                way_out="let its principal read it, and nobody else",
            ),
            Rule(
                facts=("custody",),
                judge=_in_a_file,
                expected="handed to its principal",
                concerns=_api_key,
                path="keys",
                way_out="hand it over, and remove the file",
                advice=True,
            ),
        ),
        uncovered="how a key in a file of the operator's gets to its principal",
    ),
    Control(
        id="KEY-04",
        title="API keys are rotated",
        demand=f"API keys are rotated within {KEY_DAYS} days",
        severity="medium",
        rules=(
            Rule(
                facts=("max_age_days",),
                judge=_old,
                expected=f"at most {KEY_DAYS} days",
                concerns=_api_key,
                path="keys",
                way_out=f"keys: [{{..., max_age_days: {KEY_DAYS}}}]",
                advice=True,
            ),
        ),
        forces=f"{KEY_DAYS} days for keys without max_age_days",
        uncovered="how long a revoked key still works",
    ),
)

_OF_OTHERS: Final = (
    Control(
        id="KEY-05",
        title="No secret lies where others can read it",
        demand="no secret is in the state, a plan or a log, or in a file that others can read",
        severity="high",
        rules=(
            Rule(
                facts=("private",),
                judge=_not_private,
                expected="nobody else can read it",
                concerns=lambda traits: traits.private is not None and not is_state(traits),
                path="provider",
                way_out="take the rights of others away: chmod -R go=",
            ),
            Rule(
                facts=("stored_keys",),
                judge=_in_clear,
                expected="no key in clear",
                concerns=is_state,
                path="state",
                way_out="find out how it got there, revoke it with `llmdeploy keys revoke`, and remove it",
                live=True,
            ),
        ),
        uncovered="copies of logs and plans that were taken elsewhere",
    ),
    Control(
        id="KEY-06",
        title="Private keys are references, or a key service's",
        demand="the private keys of the endpoint and its authority are references, or a key service's",
        severity="high",
        rules=(
            Rule(
                facts=("custody",),
                judge=_generated,
                expected="a reference, or a key service",
                concerns=lambda traits: traits.secret in _GENERATED,
                path="gateway.tls",
                way_out='gateway: {tls: {cert: "file:tls/chain.pem", key: "file:tls/key.pem"}}',
            ),
        ),
    ),
    Control(
        id="IAM-01",
        title="Machines have no more rights than they need",
        demand="roles and policies give no more rights than the stack needs",
        severity="high",
        rules=(
            Rule(
                facts=("wide_grants",),
                judge=_wide,
                expected="nothing wider than needed",
                concerns=lambda traits: traits.wide_grants is not None,
                path="provider",
                way_out="name actions and resources one by one",
            ),
        ),
    ),
)

CONTROLS: Final = (*_OF_KEYS, *_OF_OTHERS)
