"""Whether the rows that a user wrote make sense: as strict as with those that are shipped, every error at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from difflib import get_close_matches

from ..diagnostics import Diagnostics, nearest
from . import gpus, instances, strict, unit_prices
from .gpus import OwnGpu
from .instances import OwnInstance
from .models import OwnModel
from .own import Own
from .placed import Placed


def check(document: Placed) -> Own:
    """Return the rows.

    Raises:
        StackError: they are wrong; carries every error with its file, line and column.
    """
    rows: Own = document.data
    wrong = list(strict.check(rows, Own)) or list(_meaning(rows))
    found = Diagnostics()
    for one in wrong:
        path = one.path[:-1] if one.at_key else one.path
        place = document.place(one.path, at_key=one.at_key)
        found.error(one.summary, place, path=".".join(str(part) for part in path), hint=one.hint)
    found.raise_if_errors()
    return rows


def _meaning(rows: Own) -> Iterator[strict.Wrong]:
    """Yield what is wrong although every value has the right type."""
    for name, model in rows.get("models", {}).items():
        yield from _model(model, ("models", name))
    yield from _gpus(rows.get("gpus", {}))
    for section in ("instances", "prices"):
        for provider in rows.get(section, {}):
            yield from _provider(provider, section)
    known = {*gpus.rows(), *rows.get("gpus", {})}
    for provider, kinds in rows.get("instances", {}).items():
        for name, row in kinds.items():
            yield from _instance(row, ("instances", provider, name), known)
    for provider, regions in rows.get("prices", {}).items():
        names = unit_prices.names(provider, rows.get("instances", {}).get(provider, {}))
        for region, prices in regions.items():
            yield from _prices(prices, ("prices", provider, region), names, provider)
    for name, row in rows.get("hosted", {}).items():
        figures = {"input": row["input"], "cached": row.get("cached") or 0.0, "output": row["output"]}
        yield from _not_negative(figures, ("hosted", name))


def _model(row: OwnModel, path: strict.Path) -> Iterator[strict.Wrong]:
    if row["hf_id"] is None or row["hf_id"].count("/") != 1:
        yield strict.Wrong((*path, "hf_id"), "must name a repository", "for example organisation/name")
    facts = row["architecture"]
    for name, value in facts.items():
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            yield strict.Wrong((*path, "architecture", name), "must be at least 1")
    window = facts.get("sliding_window")
    counts = (window["sliding_layers"], window["full_layers"]) if window else (facts["layers"],)
    if sum(counts) != facts["layers"] or min(counts) < 0:
        yield strict.Wrong((*path, "architecture", "sliding_window"), "its layers do not add up to those of the model")


def _gpus(rows: Mapping[str, OwnGpu]) -> Iterator[strict.Wrong]:
    for name, row in rows.items():
        if row["capability"] is not None and len(row["capability"]) != 2:
            yield strict.Wrong(("gpus", name, "capability"), "must be two numbers, major and minor", "for example [9, 0]")
        if row["memory_gib"] <= 0 or row["bandwidth_gb_per_s"] <= 0:
            yield strict.Wrong(("gpus", name), "memory_gib and bandwidth_gb_per_s must be more than 0")


def _provider(provider: str, section: str) -> Iterator[strict.Wrong]:
    """Tell a provider that is nearly one of the catalogue's; one from elsewhere is nobody's business here."""
    known = set(instances.providers())
    if provider not in known and (close := get_close_matches(provider, known, n=1, cutoff=0.6)):
        yield strict.Wrong((section, provider), f'unknown provider "{provider}"', f'did you mean "{close[0]}"?', at_key=True)


def _instance(row: OwnInstance, path: strict.Path, known: Set[str]) -> Iterator[strict.Wrong]:
    if row["gpu"] not in known:
        yield strict.Wrong((*path, "gpu"), f'unknown GPU "{row["gpu"]}"', nearest(row["gpu"], known))
    if row["gpus"] < 1 or row["vcpus"] < 1 or row["memory_gib"] < 1:
        yield strict.Wrong(path, "gpus, vcpus and memory_gib must be at least 1")
    for paid, key in ((row.get("usd_per_hour", {}), "usd_per_hour"), (row.get("spot_usd_per_hour", {}), "spot_usd_per_hour")):
        for region in paid:
            if region not in row["zones"]:
                hint = nearest(region, row["zones"])
                yield strict.Wrong((*path, key, region), f'"{region}" is not among the zones', hint, at_key=True)
        yield from _not_negative(paid, (*path, key))


def _prices(prices: Mapping[str, float], path: strict.Path, names: Set[str], provider: str) -> Iterator[strict.Wrong]:
    for name in prices:
        if provider in unit_prices.providers() and name not in names:
            yield strict.Wrong((*path, name), f'unknown price "{name}"', nearest(name, names), at_key=True)
    yield from _not_negative(prices, path)


def _not_negative(prices: Mapping[str, float], path: strict.Path) -> Iterator[strict.Wrong]:
    for name, usd in prices.items():
        if usd < 0:
            yield strict.Wrong((*path, name), f"a price of {usd:g} is less than nothing")
