"""Where regions and public servers lie, whose law rules there, and what of a processor is global: `places.json`, dated.

A name tells nothing: `eu-west-2` is in the United Kingdom and `eu-central-2` in Switzerland. What the table does not name is
not known, and is never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict

from ..policy import Residency
from .model import CitationStatus

SHELF_LIFE = timedelta(days=180)
"""How long a part of the table is taken as it is; then somebody must look again."""


class Dated(TypedDict):
    """When a part of the table was true (YYYY-MM-DD), how near to the origin it was read, and where; "" for unverified."""

    as_of: str
    status: CitationStatus
    source: str


class States(Dated):
    """States, by ISO 3166-1 code."""

    title: str
    countries: list[str]


class Adequacy(Dated):
    """A decision of the European Commission under Art. 45 GDPR.

    condition: what must be true of the recipient, left out where the decision covers everybody. until: its last day.
    """

    decision: str
    condition: NotRequired[str]
    until: NotRequired[str]


class Parent(Dated):
    """The country whose law rules a processor's group."""

    country: str


class Regions(Dated):
    """Region -> country. unknown: regions whose country nobody publishes."""

    countries: dict[str, str]
    unknown: list[str]


class GlobalServices(Dated):
    """Services whose control plane lies in one region for all: service -> that region. apart: regions that have their own."""

    services: dict[str, str]
    apart: list[str]


class Eligible(Dated):
    """Services that a processor's agreement covers. What is not named is not known to be covered."""

    services: list[str]


class Processor(TypedDict):
    """One processor. domains: its regional servers are `SERVICE.REGION.DOMAIN`. eligible: by profile."""

    title: str
    parent: Parent
    domains: list[str]
    regions: Regions
    global_services: GlobalServices
    eligible: dict[str, Eligible]


class Operator(Dated):
    """Who runs public servers, the country whose law rules it, and its domains.

    Only operators outside the EEA are named: that a server lies inside, the operator of the stack must state.
    """

    operator: str
    country: str
    domains: list[str]


class Document(TypedDict):
    """The whole table. countries: every code of ISO 3166-1."""

    version: int
    as_of: str
    countries: list[str]
    unions: dict[str, States]
    adequacy: dict[str, Adequacy]
    processors: dict[str, Processor]
    servers: list[Operator]


@dataclass(frozen=True)
class Part:
    """One dated part: which of the tables it is in, what it is about, and its date, status and source."""

    table: str
    about: str
    dated: Dated


@cache
def _shipped() -> Document:
    return json.loads(Path(__file__).with_suffix(".json").read_bytes())


@dataclass(frozen=True, eq=False)
class Places:
    """What the table says."""

    document: Document

    @classmethod
    def load(cls) -> Places:
        """Return the table that is shipped; it is read once, when somebody asks."""
        return cls(_shipped())

    @property
    def as_of(self) -> date:
        """The day of the table as a whole."""
        return date.fromisoformat(self.document["as_of"])

    def country_of(self, region: str, processor: str) -> str | None:
        """Return the country in which a region lies, None when it is not known.

        processor: whose region; "" for a machine of one's own, whose region is a country itself or a label that says nothing.
        """
        if not processor:
            return region if region in self.document["countries"] else None
        known = self.document["processors"].get(processor)
        return known["regions"]["countries"].get(region) if known else None

    def allows(self, residency: Residency, country: str, today: date | None = None) -> bool:
        """Return whether data may lie in and go to a country.

        today: an adequacy decision that ended before it counts no more; None: the day of the table. A decision may have a
        `condition`, which this does not look at.
        """
        unions = self.document["unions"]
        if country in unions["eu"]["countries"] or residency == "eu":
            return country in unions["eu"]["countries"]
        if country in unions["eea"]["countries"] or residency == "eea":
            return country in unions["eea"]["countries"]
        decision = self.document["adequacy"].get(country)
        return decision is not None and not _ended(decision, today or self.as_of)

    def condition(self, country: str) -> str:
        """Return what must be true of the recipient for the country's adequacy decision to cover it, "" for nothing."""
        decision = self.document["adequacy"].get(country)
        return decision.get("condition", "") if decision else ""

    def server_country(self, host: str) -> str | None:
        """Return the country whose law rules a public server, by its host name; None when it is not known.

        A regional server of a processor lies in its region. Others are those of an operator outside the EEA.
        """
        if told := next(self._regional(host), None):
            return told[1]
        name = _host(host)
        found = [one for one in self.document["servers"] if any(_below(name, domain) for domain in one["domains"])]
        return found[0]["country"] if found else None

    def is_regional(self, host: str) -> bool:
        """Return whether a host name says in which known region of a processor the server lies."""
        return any(country for _, country in self._regional(host))

    def _regional(self, host: str) -> Iterator[tuple[str, str | None]]:
        """Yield the label before a processor's domain, and the country of the region that it names."""
        name = _host(host)
        for processor in self.document["processors"].values():
            for domain in processor["domains"]:
                if name.endswith(f".{domain}"):
                    before = name.removesuffix(f".{domain}").rpartition(".")[2]
                    yield before, processor["regions"]["countries"].get(before)

    def global_services(self, processor: str, region: str = "") -> Mapping[str, str]:
        """Return the services of a processor whose control plane lies in one region for all: service -> that region.

        region: where the stack is; a region that has control planes of its own has none elsewhere.
        """
        known = self.document["processors"].get(processor)
        if known is None or region in known["global_services"]["apart"]:
            return {}
        return known["global_services"]["services"]

    def parent(self, processor: str) -> str | None:
        """Return the country whose law rules the group that a processor belongs to, None when it is not known."""
        known = self.document["processors"].get(processor)
        return known["parent"]["country"] if known else None

    def eligible(self, profile: str, processor: str, service: str) -> bool | None:
        """Return whether the list of services that a processor's agreement covers names a service.

        None: there is no list for this profile and processor.
        """
        known = self.document["processors"].get(processor)
        listed = known["eligible"].get(profile) if known else None
        return service in listed["services"] if listed else None

    def parts(self) -> Iterator[Part]:
        """Yield everything in the table that has a date."""
        document = self.document
        for union in document["unions"].values():
            yield Part("countries", union["title"], union)
        for country, decision in document["adequacy"].items():
            yield Part("adequacy decisions", f"{country}: {decision['decision']}", decision)
        for processor in document["processors"].values():
            title = processor["title"]
            yield Part("processors' law", title, processor["parent"])
            yield Part("processors' regions", title, processor["regions"])
            yield Part("processors' global services", title, processor["global_services"])
            for profile, listed in processor["eligible"].items():
                yield Part("services under an agreement", f"{title}, {profile}", listed)
        for one in document["servers"]:
            yield Part("public servers' law", one["operator"], one)

    def stale(self, today: date) -> tuple[str, ...]:
        """Return, as sentences, which parts are older than `SHELF_LIFE`, and which decisions have ended."""
        old = (
            f"{part.table}: {part.about}: as of {part.dated['as_of']}, older than {SHELF_LIFE.days} days"
            for part in self.parts()
            if today - date.fromisoformat(part.dated["as_of"]) > SHELF_LIFE
        )
        ended = (
            f"adequacy decisions: {country}: {one['decision']} ended on {one.get('until')}"
            for country, one in self.document["adequacy"].items()
            if _ended(one, today)
        )
        return (*old, *ended)


def _ended(decision: Adequacy, today: date) -> bool:
    until = decision.get("until")
    return until is not None and today > date.fromisoformat(until)


def _host(name: str) -> str:
    return name.lower().rstrip(".")


def _below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")
