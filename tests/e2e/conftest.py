"""The shared machine of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .laptop import Laptop, start_laptop


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Laptop]:
    """A fresh machine on which the README's first command ran."""
    started = start_laptop(tmp_path_factory.mktemp("machine"))
    yield started
    started.machine.stop()
