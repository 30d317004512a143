"""The resource types of this package, whichever provider brings the machines."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from llmdeploy.sdk import ResourceType


@cache
def host_types() -> Mapping[str, ResourceType[Any, Any]]:
    """Return the `RESOURCE` of every public module of this package, by type name."""
    names = (module.name for module in iter_modules([str(Path(__file__).parent)]) if not module.name.startswith("_"))
    resources: list[ResourceType[Any, Any]] = [import_module(f"{__package__}.{name}").RESOURCE for name in names]
    return {resource.name: resource for resource in resources}
