"""The tables that llmdeploy ships: JSON beside this module, read once, when somebody asks for it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def table(name: str) -> dict[str, Any]:
    """Return the table `name`, decoded. A test holds every one to its types, strictly."""
    return json.loads(Path(__file__).with_name(f"{name}.json").read_bytes())


def as_of(name: str) -> str:
    """Return the date of the table `name`, as YYYY-MM-DD."""
    return str(table(name)["as_of"])
