"""`catalog.yaml` beside the stack file: rows that users add."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypedDict

from .gpus import OwnGpu
from .hosted import OwnHosted
from .instances import OwnInstance
from .models import OwnModel

FILE_NAME = "catalog.yaml"
EVERYWHERE = "everywhere"
"""Stands for a region in `prices`: what holds in all of them."""


class Own(TypedDict):
    """What the file may hold. instances and prices: by provider; prices then by region, or `everywhere`, and by name in USD."""

    models: NotRequired[dict[str, OwnModel]]
    gpus: NotRequired[dict[str, OwnGpu]]
    instances: NotRequired[dict[str, dict[str, OwnInstance]]]
    prices: NotRequired[dict[str, dict[str, dict[str, float]]]]
    hosted: NotRequired[dict[str, OwnHosted]]


def read(folder: Path) -> Own:
    """Return the rows of the file in `folder`; empty when there is none.

    Raises:
        StackError: the file is wrong; carries every error with its file, line and column.
    """
    from .placed import read as read_placed  # a stack without such a file needs no YAML for it

    document = read_placed(folder / FILE_NAME)
    if document is None:
        return {}
    from .own_check import check

    return check(document)
