"""What an audit found: the results, and what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .live import RESULTS, AuditResult, Result

LIMITS = (
    "This is evidence about settings of the resources that are listed, at the time that is named, and nothing more: it is no"
    " statement that a law, a contract or a standard is kept, and no legal advice."
)
SHARED = (
    "What llmdeploy cannot see is yours: who is let in and why, contracts, training, physical access, the operating system"
    " beneath, what clients do with the answers, and a processor's part of its service.",
    "A result is true of the moment at which its probe ran. Run the audit again after every change, and on a schedule.",
    "Results that are stated were said by the operator in the stack file; nobody verified them. Results that are not checked"
    " say nothing about whether the setting is right.",
)


@dataclass(frozen=True)
class Report:
    """One audit.

    profiles: empty for the baseline alone. who: user@host; run_url: of a CI run, or "". started_at, finished_at: UTC, ISO 8601.
    stack_sha256 and lock_sha256: of the two files ("": there is none). resources: how many were looked at; observations: how many
    facts; hosts: that were asked. file: the evidence, head: its digest; previous: the head of the audit before.
    """

    stack: str
    lineage: str
    serial: int
    profiles: tuple[str, ...]
    who: str
    run_url: str
    started_at: str
    finished_at: str
    stack_sha256: str
    lock_sha256: str
    resources: int
    observations: int
    hosts: tuple[str, ...]
    results: tuple[Result, ...]
    file: str = ""
    head: str = ""
    previous: str = ""

    @property
    def counts(self) -> Mapping[AuditResult, int]:
        """How many results there are of each kind; the worst kind first."""
        return {kind: sum(one.result == kind for one in self.results) for kind in RESULTS}

    @property
    def failed(self) -> bool:
        """Whether a control failed."""
        return any(one.result == "fail" for one in self.results)
