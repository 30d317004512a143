"""The shared machine of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .guarded import Guarded
from .laptop import Laptop, start_laptop


@pytest.fixture
def laptop(shared_laptop: Laptop) -> Generator[Laptop]:
    """A fresh machine on which the README's first command ran; clients made in a test are closed after it."""
    yield shared_laptop
    while shared_laptop.clients:
        shared_laptop.clients.pop().close()


@pytest.fixture(scope="session")
def shared_laptop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Laptop]:
    """The one machine of the session."""
    started = start_laptop(tmp_path_factory.mktemp("machine"))
    yield started
    started.machine.stop()


@pytest.fixture(scope="session")
def guarded(shared_laptop: Laptop) -> Guarded:
    """A stack under a profile on that machine, applied by the command line."""
    stack = Guarded(shared_laptop)
    stack.write()
    stack.cli("apply --yes")
    return stack
