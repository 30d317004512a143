"""Controls on what a stack is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...policy import Policy
from ...serving import engine, engine_names
from ...traits import Traits
from ..model import Breach, Control, Rule, Subject

_SAFE: Final = frozenset({"safetensors", "gguf"})
"""Formats of weights that hold numbers and nothing that can run."""
_MIRRORED: Final = "packages, images and model files come from servers inside the site, and were checked there"


def _movable(traits: Traits, _policy: Policy) -> str:
    return "is not pinned to exact files: what it installs can change" if traits.pinned is False else ""


def _altered(traits: Traits, _policy: Policy) -> str:
    return "has files other than those that were pinned" if traits.intact is False else ""


def _unsafe(traits: Traits, _policy: Policy) -> str:
    others = [name for name in traits.formats or () if name not in _SAFE]
    if not others:
        return ""
    if others == ["pickle"]:
        return "has weights that are Python pickles, which can run code when they are loaded"
    return f"has weights in other formats than safetensors and GGUF: {', '.join(others)}"


def _unmirrored(subject: Subject) -> Iterator[Breach]:
    if not subject.stack.compliance.attest.mirrors:
        yield Breach(
            f"nobody states that {_MIRRORED}",
            "compliance.attest",
            "compliance: {..., attest: {..., mirrors: true}}",
            statement=True,
        )


def _said_of_mirrors(subject: Subject) -> str:
    return _MIRRORED if subject.stack.compliance.attest.mirrors else ""


def _known_bypasses(traits: Traits, _policy: Policy) -> str:
    known = engine_names()
    found = [
        f"{one.name} {one.version}: {sentence}"
        for one in traits.software or ()
        if one.name in known
        for sentence in engine(one.name).bypasses(one.version)
    ]
    return f"has ways around its protection: {'; '.join(found)}" if found else ""


CONTROLS: Final = (
    Control(
        id="SUP-01",
        title="What is installed is pinned",
        demand="model, engine and images are named by digest or exact version",
        severity="high",
        rules=(
            Rule(
                facts=("pinned",),
                judge=_movable,
                expected="pinned",
                concerns=lambda traits: traits.pinned is not None,
                path="model",
                way_out="run `llmdeploy lock` and commit stack.lock.yaml; a machine image is pinned in the provider's settings",
                locked=True,
            ),
            Rule(
                facts=("intact",),
                judge=_altered,
                expected="the files that were pinned",
                concerns=lambda traits: traits.intact is not None,
                path="model",
                way_out="`llmdeploy apply --replace ADDRESS` fetches them again",
                live=True,
            ),
        ),
    ),
    Control(
        id="SUP-02",
        title="Weights cannot run code",
        demand="weights are in a format that cannot run code",
        severity="medium",
        rules=(
            Rule(
                facts=("formats",),
                judge=_unsafe,
                expected="safetensors or GGUF",
                # Of files that no manifest names the formats are not known before they are there.
                concerns=lambda traits: traits.formats is not None or traits.intact is not None,
                path="model.id",
                way_out="choose a repository with safetensors, or convert them",
            ),
        ),
        forces="weights in safetensors or GGUF only",
    ),
    Control(
        id="SUP-03",
        title="Everything comes from inside the site",
        demand=_MIRRORED,
        severity="high",
        whole=_unmirrored,
        stated=_MIRRORED,
        said=_said_of_mirrors,
    ),
    Control(
        id="ENG-01",
        title="The engine has no known bypass",
        demand="no engine runs in a version with a known way around its protection",
        severity="high",
        rules=(
            Rule(
                facts=("software",),
                judge=_known_bypasses,
                expected="no known bypass",
                concerns=lambda traits: bool(traits.software),
                path="engine.version",
                way_out="remove engine.version, or name a version that has it fixed",
            ),
        ),
        uncovered="advisories that are newer than the list",
    ),
    Control(
        id="VUL-01",
        title="Images and machines are scanned",
        demand="a dated scan for vulnerabilities of what runs exists",
        severity="medium",
        uncovered="llmdeploy scans nothing: bring a scan of your own",
    ),
)
