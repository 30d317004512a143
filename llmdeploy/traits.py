"""What compliance judges of a resource: facts about data, never type names."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

AtRest = Literal["encrypted", "plain", "none"]
InTransit = Literal["encrypted", "local", "plain", "none"]
Exposure = Literal["none", "host", "private", "public"]
Custody = Literal["none", "operator-file", "reference", "kms"]


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFlow(_Noun):
    """Data that leaves for somewhere: what it is ("prompts", "weights", "telemetry"), to whom, into which region."""

    what: str
    to: str
    region: str | None = None


class Traits(_Noun):
    """Facts of one planned resource.

    region: where it lies (a cloud region, a country or a label), None when it lies nowhere of its own.
    at_rest: how the data it stores lies on disk; "none" when it stores nothing that matters.
    in_transit: how data moves to and through it; "local" never leaves the machine's kernel.
    exposure: who can open a connection to it.
    data_flows: what it sends elsewhere.
    retention_days: how long it keeps records, None when it keeps none.
    custody: where the secret lies that protects it.
    pinned: whether everything it installs is named by digest or exact version; None when it installs nothing.
    notes: sentences that the plan must say loudly.
    """

    region: str | None = None
    at_rest: AtRest = "none"
    in_transit: InTransit = "none"
    exposure: Exposure = "none"
    data_flows: tuple[DataFlow, ...] = ()
    retention_days: int | None = None
    custody: Custody = "none"
    pinned: bool | None = None
    notes: tuple[str, ...] = ()
