"""The catalogue for a person and for a program: one table at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..catalog import Catalog, models, unit_prices
from ..catalog.instances import SPOT
from ..machine import MachineType, Quotes
from ..prices import Confidence, Price
from ..resource import Tree
from .document import FORMAT_VERSION
from .figures import exact_usd
from .screen import BLANK, Line, line
from .table import table

_MARKS: Mapping[Confidence, str] = {"seen": "", "derived": "~", "unverified": "?"}
_LEGEND = {"~": "derived from other figures", "?": "not verified", "-": "not known"}
_GATED, _FORBIDDEN = "*", "!"


@dataclass(frozen=True)
class Chosen:
    """What of the catalogue is asked for. providers: whose machines and prices; region: None for all."""

    catalog: Catalog
    providers: tuple[str, ...]
    region: str | None = None


@dataclass(frozen=True)
class _Table:
    """A table for a person. legend: marks that only it has; notes: sentences below it."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: Sequence[str] = ()


def catalog_lines(chosen: Chosen, what: str, width: int | None) -> Iterator[Line]:
    """Yield one table: `models`, `gpus`, `instances`, `prices` or `hosted`. width: columns of the screen."""
    found = _TABLES[what][0](chosen)
    yield line((found.title, "bold"))
    if not found.rows:
        return
    yield BLANK
    yield from table(found.headings, found.rows, width)
    cells = {cell for row in found.rows for cell in row}
    legend = {**found.legend, **_LEGEND}
    told = [f"{mark} {legend[mark]}" for mark in legend if any(mark in cell if mark != "-" else cell == "-" for cell in cells)]
    yield from (line(text, hang=2) for text in ["", *([f"{'; '.join(told)}."] if told else ()), *found.notes])


def catalog_document(chosen: Chosen, what: str) -> dict[str, Tree]:
    """Return one table with every figure, its source and how well it is known."""
    return {"format_version": FORMAT_VERSION, "table": what, "rows": _TABLES[what][1](chosen)}


def refreshed_lines(found: Sequence[Quotes], path: Path) -> Iterator[Line]:
    """Yield what a provider said about each region, and where it is kept."""
    for one in found:
        priced = sum(machine.price is not None for machine in one.machines)
        spot = sum(name.endswith(SPOT) for name in one.prices)
        yield line(
            (one.region, "bold"),
            f": {len(one.machines)} kinds of machines, {priced} with a price on demand, {spot} with a spot price; "
            f"{len(one.prices) - spot} other prices",
            hang=2,
        )
    yield line(f"Written to {path}. Plans take these instead of what is shipped.")


# --- models ------------------------------------------------------------------------------------------------------------------


def _models(chosen: Chosen) -> _Table:
    rows: list[Sequence[str]] = []
    for name in chosen.catalog.model_names():
        row = chosen.catalog.model(name)
        if row is None:
            continue
        marks = f"{_MARKS[row['confidence']['license']]}{_GATED if row['gated'] else ''}"
        licence = f"{row['license']}{marks}{_FORBIDDEN if row['commercial'] is False else ''}"
        count = f"{_count(row['parameters']['total'])}{_MARKS[row['confidence']['architecture']]}"
        formats = [{"bfloat16": "bf16"}.get(row["published_as"], row["published_as"]), *row.get("variants", {})]
        context = f"{row['architecture']['max_context_tokens'] // 1024}K"
        rows.append((name, count, context, licence, " ".join(formats)))
    headings = ("NAME", "PARAMETERS", "CONTEXT", "LICENCE", "NUMBER FORMATS")
    legend = {
        _GATED: "the licence must be accepted before a download",
        _FORBIDDEN: "the licence forbids commercial use",
    }
    return _Table(
        f"{len(rows)} models, as of {models.as_of()}. Others are named by their repository or folder.", headings, rows, legend
    )


def _model_rows(chosen: Chosen) -> list[Tree]:
    found: list[Tree] = []
    for name in chosen.catalog.model_names():
        row, facts = chosen.catalog.model(name), chosen.catalog.facts(name)
        if row is not None and facts is not None:
            found.append({"name": name, **_plain(row), "config": _plain(facts.config), "weight_bytes": facts.weight_bytes})
    return found


def _count(parameters: int) -> str:
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if parameters >= limit:
            return f"{parameters / limit:.1f}{unit}"
    return str(parameters)


# --- GPUs --------------------------------------------------------------------------------------------------------------------


def _gpus(chosen: Chosen) -> _Table:
    rows: list[Sequence[str]] = []
    for name, gpu in chosen.catalog.gpus.items():
        flops = [f"{gpu.flops[kind] / 1e12:.0f}" if kind in gpu.flops else "" for kind in ("bf16", "fp16", "fp8", "fp4")]
        capability = ".".join(str(part) for part in gpu.capability) if gpu.capability else ""
        memory = f"{gpu.memory_bytes / 2**30:.2f}{_MARKS[gpu.confidence]}"
        figures = (f"{gpu.bandwidth / 1e9:.0f}", *flops, f"{gpu.link / 1e9:.0f}" if gpu.link else "", str(gpu.watts or ""))
        rows.append((name, gpu.architecture, capability, memory, *figures))
    headings = ("NAME", "KIND", "CUDA", "GiB", "GB/s", "bf16", "fp16", "fp8", "fp4", "NVLINK GB/s", "W")
    return _Table(f"{len(rows)} GPUs: memory as CUDA reports it, dense TFLOPS by number format.", headings, rows)


def _gpu_rows(chosen: Chosen) -> list[Tree]:
    return [_plain(asdict(gpu)) for gpu in chosen.catalog.gpus.values()]


# --- machines ----------------------------------------------------------------------------------------------------------------


def _instances(chosen: Chosen) -> _Table:
    rows: list[Sequence[str]] = []
    for provider in chosen.providers:
        kinds: dict[str, list[MachineType]] = {}
        for one in chosen.catalog.machines(provider, chosen.region):
            kinds.setdefault(one.name, []).append(one)
        rows += [_instance(found) for found in kinds.values()]
    where = f"in {chosen.region}" if chosen.region else "with the lowest price of all regions"
    left_out: dict[str, list[str]] = {}
    for provider in chosen.providers:
        for name, why in chosen.catalog.left_out(provider).items():
            left_out.setdefault(why, []).append(name)
    notes = [f"Left out: {', '.join(names)}: {why}." for why, names in left_out.items()]
    last = "ZONES" if chosen.region else "REGIONS"
    headings = ("NAME", "GPUS", "GPU", "GiB EACH", "VCPUS", "GiB", "DISK GB", "USD/HOUR", last)
    return _Table(f"{len(rows)} kinds of machines {where}, on demand.", headings, rows, notes=notes)


def _instance(found: Sequence[MachineType]) -> Sequence[str]:
    priced = [one for one in found if one.price]
    one = min(priced, key=lambda machine: machine.price.usd if machine.price else 0.0) if priced else found[0]
    places = len(found) if len({machine.region for machine in found}) > 1 else len(one.zones)
    return (
        one.name,
        str(one.gpus),
        one.gpu.name if one.gpu else "",
        f"{one.gpu_memory_bytes / 2**30:.2f}",
        str(one.vcpus),
        f"{one.memory_bytes / 2**30:.0f}",
        f"{one.local_disk_bytes / 1e9:.0f}" if one.local_disk_bytes else "",
        _usd(one.price),
        str(places),
    )


def _instance_rows(chosen: Chosen) -> list[Tree]:
    found: list[Tree] = []
    for provider in chosen.providers:
        spot = {(one.name, one.region): one.price for one in chosen.catalog.machines(provider, chosen.region, "spot")}
        for one in chosen.catalog.machines(provider, chosen.region):
            row = _plain(asdict(one))
            row["gpu"], row["provider"] = one.gpu.name if one.gpu else None, provider
            cheap = spot.get((one.name, one.region))
            row["spot_price"] = _plain(asdict(cheap)) if cheap else None
            found.append({name: row[name] for name in row if name not in ("members", "available")})
    return found


# --- prices ------------------------------------------------------------------------------------------------------------------


def _prices(chosen: Chosen) -> _Table:
    rows: list[Sequence[str]] = []
    for provider, region, prices in _by_region(chosen):
        units = unit_prices.units(provider)
        found = ((name, price) for name, price in sorted(prices.items()) if name in units)
        rows += [(name, region, _usd(price), price.unit, price.as_of or "-") for name, price in found]
    headings = ("NAME", "REGION", "USD", "PER", "AS OF")
    title = f"{len(rows)} prices beside those of machines, which `catalog list instances` has."
    return _Table(title, headings, rows)


def _price_rows(chosen: Chosen) -> list[Tree]:
    return [
        {"provider": provider, "region": region, "name": name, **_plain(asdict(price))}
        for provider, region, prices in _by_region(chosen)
        for name, price in sorted(prices.items())
    ]


def _by_region(chosen: Chosen) -> Iterator[tuple[str, str, Mapping[str, Price]]]:
    for provider in chosen.providers:
        for region in [chosen.region] if chosen.region else chosen.catalog.priced_regions(provider):
            yield provider, region, chosen.catalog.prices(provider, region)


# --- hosted models -----------------------------------------------------------------------------------------------------------


def _hosted(chosen: Chosen) -> _Table:
    rows: list[Sequence[str]] = []
    for name, one in chosen.catalog.hosted.items():
        cached = "-" if one.cached is None else f"{one.cached:g}"
        figures = (f"{one.input:g}{_MARKS[one.confidence]}", cached, f"{one.output:g}")
        rows.append((name, one.provider, *figures, one.as_of or "-", one.ends))
    headings = ("NAME", "PROVIDER", "INPUT", "CACHED", "OUTPUT", "AS OF", "ENDS")
    return _Table(f"{len(rows)} hosted models: USD per million tokens.", headings, rows)


def _hosted_rows(chosen: Chosen) -> list[Tree]:
    return [_plain(asdict(one)) for one in chosen.catalog.hosted.values()]


_TABLES: Mapping[str, tuple[Callable[[Chosen], _Table], Callable[[Chosen], list[Tree]]]] = {
    "models": (_models, _model_rows),
    "gpus": (_gpus, _gpu_rows),
    "instances": (_instances, _instance_rows),
    "prices": (_prices, _price_rows),
    "hosted": (_hosted, _hosted_rows),
}
TABLES = tuple(_TABLES)
"""Names of the tables."""


def _usd(price: Price | None) -> str:
    return f"{exact_usd(price.usd)}{_MARKS[price.confidence]}" if price else "-"


def _plain(value: Any) -> Any:
    """Return a value as a JSON tree."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownVariableType]
