"""What llmdeploy knows without asking anybody: models, GPUs, machines that can be rented, prices.

Tables that are shipped, then what a provider said when it was asked (`catalog refresh`), then the rows of a user: each is dated,
names its source, and wins over the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path

from ..machine import Gpu, MachineType
from ..manifest import ModelFacts
from ..prices import Price
from . import gpus, hosted, instances, models, refreshed, shipped, unit_prices
from .hosted import HostedModel
from .instances import SPOT
from .models import CatalogModel
from .own import EVERYWHERE, FILE_NAME, Own
from .own import read as read_own
from .refreshed import Refreshed

__all__ = ["Catalog", "CatalogModel", "HostedModel"]

STALE_DAYS = 90
"""Days after which a table is old: prices change, and models come."""

_STACK_FILE = "prices in the stack file"
_TABLES: Mapping[str, str] = {
    "models": "models",
    "gpus": "GPUs",
    "instances": "machines and their prices",
    "unit_prices": "other prices",
    "hosted": "hosted APIs",
}

_OF_RENTED = (_TABLES["instances"], _TABLES["unit_prices"])


@dataclass(frozen=True)
class Catalog:
    """Everything in one place. Each table is read when somebody asks for it. own, fresh: what lies beside the stack file."""

    own: Own
    fresh: Refreshed

    @classmethod
    def load(cls, folder: Path | None = None) -> Catalog:
        """Return the catalogue with what lies in `folder`: rows of the user, and what `catalog refresh` wrote.

        Raises:
            StackError: the rows of the user are wrong; carries every error with its place.
            LlmdeployError: a file cannot be read.
        """
        if folder is None:
            return cls({}, {"version": 1, "providers": {}})
        return cls(read_own(folder), refreshed.read(folder))

    # --- models --------------------------------------------------------------------------------------------------------------

    def model_names(self) -> tuple[str, ...]:
        """Return the names of all models, sorted."""
        return tuple(sorted({*models.rows(), *self.own.get("models", {})}))

    def model(self, name: str) -> CatalogModel | None:
        """Return the row of a model by its name, or by the repository that publishes it; or None."""
        rows = self.own.get("models", {})
        own = rows.get(name) or next((row for row in rows.values() if row["hf_id"] == name), None)
        if own is None:
            return models.model(name)
        return {**own, "source": FILE_NAME, "confidence": {"architecture": "seen", "license": "seen"}}

    def facts(self, name: str) -> ModelFacts | None:
        """Return what is known of a model, with a config.json made from its row, or None."""
        row = self.model(name)
        return None if row is None else models.facts_of(name, row)

    # --- machines ------------------------------------------------------------------------------------------------------------

    @cached_property
    def gpus(self) -> Mapping[str, Gpu]:
        """Every GPU, by name."""
        known = {name: gpus.gpu_of(name, row, shipped.as_of("gpus")) for name, row in gpus.rows().items()}
        for name, row in self.own.get("gpus", {}).items():
            certain = gpus.GpuCertainty(memory="seen", bandwidth="seen", tflops="seen")
            known[name] = gpus.gpu_of(name, {**row, "source": FILE_NAME, "confidence": certain}, "")
        return known

    def regions(self, provider: str) -> tuple[str, ...]:
        """Return the regions in which a provider has machines, sorted."""
        table = instances.providers().get(provider)
        found = {region for row in table["types"].values() for region in row["zones"]} if table else set[str]()
        found |= {region for row in self.own.get("instances", {}).get(provider, {}).values() for region in row["zones"]}
        return tuple(sorted(found | set(self.fresh["providers"].get(provider, {}))))

    def elsewhere(self, provider: str, region: str | None) -> dict[str, tuple[str, ...]]:
        """Return where a provider has a kind of machine, or a GPU, other than in `region`: name -> regions, sorted."""
        table, found = instances.providers().get(provider), dict[str, set[str]]()
        for name, row in table["types"].items() if table else ():
            for word in () if "left_out" in row else (name, row["gpu"]):
                found.setdefault(word, set()).update(row["zones"])
        return {name: tuple(sorted(regions - {region})) for name, regions in found.items()}

    def machines(
        self, provider: str, region: str | None, market: str = "on-demand", own: Mapping[str, float] | None = None
    ) -> tuple[MachineType, ...]:
        """Return the machines that a provider rents out in a region (None: in all), each with its price in the market.

        market: `on-demand` or `spot`. own: prices of the stack file. A machine whose price nobody knows has None.
        """
        if region is None:
            return tuple(one for name in self.regions(provider) for one in self.machines(provider, name, market, own))
        prices, end = self.prices(provider, region, own or {}), SPOT if market == "spot" else ""
        found = sorted(self._machines(provider, region).items(), key=lambda item: _size(item[1]))
        return tuple(replace(one, price=prices.get(f"{self._prefix(provider)}{name}{end}")) for name, one in found)

    def left_out(self, provider: str) -> Mapping[str, str]:
        """Return the kinds of machines that are known and never offered, and why."""
        table = instances.providers().get(provider)
        return {name: row["left_out"] for name, row in table["types"].items() if "left_out" in row} if table else {}

    def _machines(self, provider: str, region: str) -> dict[str, MachineType]:
        """Return the machines in a region, by name, with their price on demand as their row has it."""
        table, fresh = instances.providers().get(provider), self.fresh["providers"].get(provider, {}).get(region)
        found = {} if table is None or fresh else instances.shipped(table, region, self.gpus)
        for name, row in fresh["machines"].items() if fresh else ():
            if fresh and row["gpu"] in self.gpus:
                paid = _price(row["usd_per_hour"], fresh["source"], fresh["as_of"])
                found[name] = instances.machine_of(name, row, region, self.gpus, paid)
        for name, row in self.own.get("instances", {}).get(provider, {}).items():
            if region in row["zones"]:
                paid = _price(row.get("usd_per_hour", {}).get(region), FILE_NAME)
                found[name] = instances.machine_of(name, row, region, self.gpus, paid)
        return found

    def _prefix(self, provider: str) -> str:
        table = instances.providers().get(provider)
        return table["price_prefix"] if table else ""

    # --- prices --------------------------------------------------------------------------------------------------------------

    def prices(self, provider: str, region: str | None, own: Mapping[str, float] | None = None) -> dict[str, Price]:
        """Return every price in a region, by name; what nobody knows is missing. own: prices of the stack file, which win."""
        found = dict(unit_prices.shipped(provider, region))
        if region is not None:
            prefix = self._prefix(provider)
            found |= {f"{prefix}{name}": one.price for name, one in self._machines(provider, region).items() if one.price}
            if fresh := self.fresh["providers"].get(provider, {}).get(region):
                said = (fresh["source"], fresh["as_of"])
                found |= {name: Price(row["usd"], row["unit"], *said, "seen") for name, row in fresh["prices"].items()}
            for name, row in self.own.get("instances", {}).get(provider, {}).items():
                if spot := _price(row.get("spot_usd_per_hour", {}).get(region), FILE_NAME):
                    found[f"{prefix}{name}{SPOT}"] = spot
        rows, units = self.own.get("prices", {}).get(provider, {}), unit_prices.units(provider)
        mine = {**rows.get(EVERYWHERE, {}), **rows.get(region or "", {})}
        for source, prices in ((FILE_NAME, mine), (_STACK_FILE, own or {})):
            found |= {name: Price(usd, units.get(name, instances.UNIT), source, "", "seen") for name, usd in prices.items()}
        return found

    def price_names(self, provider: str) -> frozenset[str]:
        """Return the names that a price of this provider may have."""
        return frozenset(unit_prices.names(provider, self.own.get("instances", {}).get(provider, {})))

    def priced_regions(self, provider: str) -> tuple[str, ...]:
        """Return the regions for which prices beside those of machines are known, sorted."""
        table = unit_prices.providers().get(provider)
        own = {region for region in self.own.get("prices", {}).get(provider, {}) if region != EVERYWHERE}
        return tuple(sorted({*(table["regions"] if table else ()), *self.fresh["providers"].get(provider, {}), *own}))

    def providers(self) -> tuple[str, ...]:
        """Return the providers whose machines or prices are known, sorted."""
        own = {*self.own.get("instances", {}), *self.own.get("prices", {}), *self.fresh["providers"]}
        return tuple(sorted({*instances.providers(), *unit_prices.providers(), *own}))

    @cached_property
    def hosted(self) -> Mapping[str, HostedModel]:
        """Every hosted model, by name."""
        own = self.own.get("hosted", {})
        return {**hosted.shipped(), **{name: hosted.hosted_of(name, row, FILE_NAME, "", "seen") for name, row in own.items()}}

    # --- age -----------------------------------------------------------------------------------------------------------------

    def stale(self, today: date, provider: str = "", region: str | None = None) -> tuple[str, ...]:
        """Return a sentence for each table that is older than 90 days.

        provider, region: of the stack; what was refreshed for them is as old as its refresh.
        """
        dates = {what: shipped.as_of(table) for table, what in _TABLES.items()}
        fresh = self.fresh["providers"].get(provider, {}).get(region or "")
        if fresh:
            dates |= {_TABLES[table]: fresh["as_of"] for table in ("instances", "unit_prices")}
        if provider and provider not in instances.providers():
            dates = {what: day for what, day in dates.items() if what not in _OF_RENTED}
        old = ((what, day, (today - date.fromisoformat(day)).days) for what, day in dates.items())
        return tuple(
            f"the catalogue's figures of {what} are of {day}, {days} days old" for what, day, days in old if days > STALE_DAYS
        )


def _price(usd: float | None, source: str, as_of: str = "") -> Price | None:
    return None if usd is None else Price(usd, instances.UNIT, source, as_of, "seen")


def _size(machine: MachineType) -> tuple[str, int, int, str]:
    """Order machines by GPU, then by size."""
    return machine.gpu.name if machine.gpu else "", machine.gpus, machine.vcpus, machine.name
