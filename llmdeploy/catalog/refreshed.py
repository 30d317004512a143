"""`catalog.refreshed.json` beside the stack file: what a provider said about its machines and prices, and when.

`llmdeploy catalog refresh` writes it. A region that is in it replaces that region of the tables that are shipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, TypedDict, cast

from ..errors import LlmdeployError
from ..machine import MachineType, Quotes
from .instances import Hardware

FILE_NAME = "catalog.refreshed.json"
_HINT = "remove it, or run `llmdeploy catalog refresh`"


class RefreshedMachine(Hardware):
    """One kind of machine in one region. usd_per_hour: on demand, None when it is not sold so."""

    usd_per_hour: float | None


class RefreshedPrice(TypedDict):
    """USD of one unit, and the unit in words."""

    usd: float
    unit: str


class Region(TypedDict):
    """What a provider said about one region on the day `as_of` (YYYY-MM-DD)."""

    as_of: str
    source: str
    machines: dict[str, RefreshedMachine]
    prices: dict[str, RefreshedPrice]


class Refreshed(TypedDict):
    """The whole file: provider -> region -> what was said."""

    version: int
    providers: dict[str, dict[str, Region]]


def read(folder: Path) -> Refreshed:
    """Return the file in `folder`; empty when there is none.

    Raises:
        LlmdeployError: it cannot be read, or llmdeploy did not write it.
    """
    path = folder / FILE_NAME
    try:
        document: Any = json.loads(path.read_bytes(), parse_constant=_refuse)
    except FileNotFoundError:
        return {"version": 1, "providers": {}}
    except OSError as error:
        raise LlmdeployError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise LlmdeployError(f"{path} is not JSON", hint=_HINT) from None
    from . import strict  # only for those who have such a file

    for wrong in strict.check(document, Refreshed):
        raise LlmdeployError(f"{path}: {'.'.join(str(part) for part in wrong.path)}: {wrong.summary}", hint=_HINT)
    found = cast("Refreshed", document)
    if found["version"] != 1:
        raise LlmdeployError(f"{path} was written by another version of llmdeploy", hint=_HINT)
    for where in _impossible(found):
        raise LlmdeployError(f"{path}: {where}", hint=_HINT)
    return found


def _impossible(document: Refreshed) -> Iterator[str]:
    """Yield what cannot be although every value has the right type: somebody else has written in the file."""
    for provider, regions in document["providers"].items():
        for name, region in regions.items():
            try:
                date.fromisoformat(region["as_of"])
            except ValueError:
                yield f'{provider}.{name}.as_of: "{region["as_of"]}" is no date'
            for kind, machine in region["machines"].items():
                if name not in machine["zones"] or min(machine["gpus"], machine["vcpus"], machine["memory_gib"]) < 1:
                    yield f"{provider}.{name}.machines.{kind}: this is no machine of that region"


def _refuse(word: str) -> float:
    raise ValueError(word)  # NaN and Infinity are no JSON, and no price


def merged(before: Refreshed, provider: str, found: Iterable[Quotes], today: date) -> Refreshed:
    """Return the file with what a provider said today about some regions; the others stay as they were."""
    regions = {**before["providers"].get(provider, {}), **{one.region: _region(one, today) for one in found}}
    return {"version": 1, "providers": {**before["providers"], provider: regions}}


def _region(quotes: Quotes, today: date) -> Region:
    return {
        "as_of": today.isoformat(),
        "source": quotes.source,
        "machines": {one.name: _machine(one) for one in quotes.machines},
        "prices": {name: {"usd": price.usd, "unit": price.unit} for name, price in quotes.prices.items()},
    }


def _machine(one: MachineType) -> RefreshedMachine:
    return {
        "gpu": one.gpu.name if one.gpu else "",
        "gpus": one.gpus,
        "gpu_memory_mib": one.gpu_memory_bytes // 2**20,
        "vcpus": one.vcpus,
        "memory_gib": one.memory_bytes // 2**30,
        "local_disks": [{"count": 1, "gb": one.local_disk_bytes // 10**9}] if one.local_disk_bytes else [],
        "network": one.network,
        "fabric_interfaces": one.fabric_interfaces,
        "zones": {one.region: list(one.zones)},
        "usd_per_hour": one.price.usd if one.price else None,
    }


def write(folder: Path, document: Refreshed) -> Path:
    """Write the file: the same content gives the same bytes, and after a crash it is the old or the new one.

    Raises:
        LlmdeployError: it cannot be written.
    """
    path = folder / FILE_NAME
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(document, indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise LlmdeployError(f"cannot write {path}: {error.strerror}") from None
    return path
