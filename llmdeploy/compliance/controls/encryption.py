"""Controls on data at rest and its keys."""

from __future__ import annotations

from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Control, Rule

_LONGEST_KEY_DAYS: Final = 365


def _stores(traits: Traits) -> bool:
    return traits.at_rest != "none"


def _encrypted(traits: Traits) -> bool:
    return traits.at_rest == "encrypted"


def _at_a_processor(traits: Traits) -> bool:
    return traits.processor != "" and traits.at_rest != "none"


def _reached_over_a_network(traits: Traits) -> bool:
    """Tell whether data comes to it over a network: a machine's disks hang on the machine."""
    return _at_a_processor(traits) and not traits.machine


def _plain(traits: Traits, _policy: Policy) -> str:
    return "stores data unencrypted" if traits.at_rest == "plain" else ""


def _not_rotated(traits: Traits, _policy: Policy) -> str:
    days = traits.key_rotation_days or 0
    if days < 1:
        return "is a key that is never replaced"
    return f"is a key that is replaced after {days} days only" if days > _LONGEST_KEY_DAYS else ""


def _beside(traits: Traits, _policy: Policy) -> str:
    if traits.custody != "operator-file":
        return ""
    return "keeps its generated key as a file on this machine, beside the data it protects"


def _the_processors(traits: Traits, _policy: Policy) -> str:
    return f"is encrypted with a key of {traits.processor} itself, not the stack's" if traits.custody == "none" else ""


def _nobodys(traits: Traits, _policy: Policy) -> str:
    return "is encrypted with a key that nobody outside the machine holds" if traits.custody == "none" else ""


def _public_store(traits: Traits, _policy: Policy) -> str:
    return "stores data and can be reached from the internet" if traits.exposure == "public" else ""


def _plain_transfer(traits: Traits, _policy: Policy) -> str:
    return "" if traits.in_transit == "encrypted" else "takes and gives data without TLS"


def _left_behind(traits: Traits, _policy: Policy) -> str:
    return "stays readable after it was destroyed" if traits.erased is False else ""


CONTROLS: Final = (
    Control(
        id="ENC-01",
        title="Weights lie on encrypted storage",
        demand="weights lie on encrypted storage",
        severity="high",
        rules=(
            Rule(
                facts=("at_rest",),
                judge=_plain,
                expected="encrypted",
                concerns=_stores,
                path="storage.encryption",
                way_out="storage: {encryption: auto}",
            ),
        ),
    ),
    Control(
        id="ENC-02",
        title="The encryption key is the stack's own, and is rotated",
        demand="the key of a key service is replaced within a year",
        severity="high",
        rules=(
            Rule(
                facts=("key_rotation_days",),
                judge=_not_rotated,
                expected=f"replaced within {_LONGEST_KEY_DAYS} days",
                concerns=lambda traits: traits.key_rotation_days is not None,
                path="provider",
                way_out="leave the key to llmdeploy, which has it replaced every year",
            ),
            Rule(
                facts=("custody",),
                judge=_the_processors,
                expected="a key of the stack's own",
                concerns=lambda traits: _encrypted(traits) and traits.processor != "",
                path="provider",
                way_out="encrypt it with the stack's own key",
            ),
        ),
        forces="a key of the stack's own with yearly rotation, where the provider has a key service",
        uncovered="a key that was there before the stack: whether its owner replaces it; references to keys kept elsewhere",
    ),
    Control(
        id="ENC-03",
        title="The storage key does not lie beside the data",
        demand="the storage key does not lie in clear beside the data",
        severity="high",
        rules=(
            Rule(
                facts=("custody",),
                judge=_beside,
                expected="a reference, or a key service",
                concerns=_encrypted,
                path="storage.key",
                way_out='storage: {key: "env:NAME"} or {key: "file:PATH"} with the key kept elsewhere',
            ),
        ),
        uncovered="where the key lies that a reference names: `file:PATH` may name a file beside the data",
    ),
    Control(
        id="ENC-04",
        title="Somebody outside the machine holds a key to the data",
        demand="the operator holds the storage key, or has a key service that does",
        severity="medium",
        rules=(
            Rule(
                facts=("custody",),
                judge=_nobodys,
                expected="a reference, or a key service",
                concerns=lambda traits: _encrypted(traits) and not traits.processor,
                path="storage.key",
                way_out='storage: {key: "env:NAME"}',
            ),
        ),
        uncovered="a second key slot for emergencies, and that the operator can really reach the key",
    ),
    Control(
        id="ENC-05",
        title="Stores at a processor are private and take TLS only",
        demand="what a processor stores for the stack is not public and is reached over TLS only",
        severity="high",
        rules=(
            Rule(
                facts=("exposure",),
                judge=_public_store,
                expected="not public",
                concerns=_at_a_processor,
                path="provider",
                way_out="keep it private: the stack needs no public store",
            ),
            Rule(
                facts=("in_transit",),
                judge=_plain_transfer,
                expected="TLS only",
                concerns=_reached_over_a_network,
                path="provider",
                way_out="refuse what does not come over TLS",
            ),
        ),
    ),
    Control(
        id="ENC-06",
        title="What is destroyed cannot be read again",
        demand="destroying the stack makes its data unreadable",
        severity="medium",
        rules=(
            Rule(
                facts=("erased",),
                judge=_left_behind,
                expected="unreadable after destroy",
                concerns=lambda traits: traits.erased is not None,
                path="storage.on_destroy",
                way_out="storage: {on_destroy: erase}",
                advice=True,
            ),
        ),
    ),
)
