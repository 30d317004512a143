"""Controls on data at rest and its keys."""

from __future__ import annotations

from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Control, Rule


def _plain(traits: Traits, _policy: Policy) -> str:
    return "stores data unencrypted" if traits.at_rest == "plain" else ""


def _beside(traits: Traits, _policy: Policy) -> str:
    if traits.custody != "operator-file":
        return ""
    return "keeps its generated key as a file on this machine, beside the data it protects"


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
                concerns=lambda traits: traits.at_rest != "none",
                path="storage.encryption",
                way_out="storage: {encryption: auto}",
            ),
        ),
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
                concerns=lambda traits: traits.at_rest == "encrypted",
                path="storage.key",
                way_out='storage: {key: "env:NAME"} or {key: "file:PATH"} with the key kept elsewhere',
            ),
        ),
    ),
)
