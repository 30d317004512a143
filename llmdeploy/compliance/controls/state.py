"""Controls on the state: what llmdeploy keeps to know what it made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Breach, Control, Rule, Subject

STATE: Final = "state"
"""The service by which rules know the state; an audit adds it to what is judged."""


def is_state(traits: Traits) -> bool:
    """Return whether these are the facts of the state, and of no resource."""
    return traits.service == STATE and not traits.processor


def _readable(traits: Traits, _policy: Policy) -> str:
    return "can be read by other users of the machine" if traits.private is False else ""


def _plain(traits: Traits, _policy: Policy) -> str:
    return "lies on disk in clear" if traits.at_rest == "plain" else ""


def _unencrypted(subject: Subject) -> Iterator[Breach]:
    state = subject.stack.state
    if state.encryption is not None or (state.s3 is not None and state.s3.kms_key is not None):
        return
    where, body = ("in a bucket without a KMS key", "s3: {..., kms_key: KEY}") if state.s3 else ("in files in clear", "")
    sealed = 'state: {local: {}, encryption: {passphrase: "env:STATE_PASSPHRASE"}}'
    yield Breach(f"the state lies {where}", "state", f"state: {{{body}}}" if body else sealed)


CONTROLS: Final = (
    Control(
        id="STATE-01",
        title="Nobody else reads the state",
        demand="only the operator can read the state",
        severity="medium",
        rules=(
            Rule(
                facts=("private",),
                judge=_readable,
                expected="nobody else can read it",
                concerns=is_state,
                path="state",
                way_out="chmod 0700 on its folder, and 0600 on its files",
                live=True,
            ),
        ),
        uncovered="who may read a bucket that holds the state",
    ),
    Control(
        id="STATE-02",
        title="The state is encrypted",
        demand="the state is encrypted where it lies",
        severity="medium",
        rules=(
            Rule(
                facts=("at_rest",),
                judge=_plain,
                expected="encrypted",
                concerns=is_state,
                path="state",
                way_out='state: {local: {}, encryption: {passphrase: "env:STATE_PASSPHRASE"}}',
                live=True,
            ),
        ),
        whole=_unencrypted,
    ),
)
