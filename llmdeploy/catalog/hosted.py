"""What hosted models cost, from `hosted.json`: USD per million tokens of input, cached input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from ..prices import Confidence
from .shipped import as_of, table


class OwnHosted(TypedDict):
    """One hosted model, as users may add it. cached: None without a price of its own. ends: day when it is switched off."""

    provider: str
    input: float
    cached: NotRequired[float | None]
    output: float
    ends: NotRequired[str]


class HostedRow(OwnHosted):
    """One hosted model, what it is called in the source, and how well its prices are known."""

    source: str
    confidence: Confidence


@dataclass(frozen=True)
class HostedModel:
    """A model behind somebody's API: USD per million tokens; cached is None when there is no price of its own for it.

    ends: day on which it is or was switched off (YYYY-MM-DD), "" when none is known.
    """

    name: str
    provider: str
    input: float
    cached: float | None
    output: float
    source: str
    as_of: str
    confidence: Confidence
    ends: str = ""


def shipped() -> Mapping[str, HostedModel]:
    """Return every hosted model that is shipped, by name."""
    document = table("hosted")
    rows: Mapping[str, HostedRow] = document["hosted"]
    source = str(document["source"])
    return {
        name: hosted_of(name, row, f"{source}, {row['source']}", as_of("hosted"), row["confidence"]) for name, row in rows.items()
    }


def hosted_of(name: str, row: OwnHosted, source: str, date: str, confidence: Confidence) -> HostedModel:
    """Return the hosted model of a row."""
    return HostedModel(
        name=name,
        provider=row["provider"],
        input=row["input"],
        cached=row.get("cached"),
        output=row["output"],
        source=source,
        as_of=date,
        confidence=confidence,
        ends=row.get("ends", ""),
    )
