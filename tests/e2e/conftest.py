"""The shared machine of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from .guarded import Guarded
from .laptop import Laptop, start_laptop

HERE = Path(__file__).resolve().parent
ORDER = ("test_privacy_canary", "test_audit", "test_main_job")
"""Modules that share a machine: the last one takes everything away."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of these modules into this order, one after the other, and leave all others where they are."""
    places = [place for place, item in enumerate(items) if item.path.stem in ORDER and item.path.parent == HERE]
    chosen = sorted((items[place] for place in places), key=lambda item: ORDER.index(item.path.stem))
    others = [item for place, item in enumerate(items) if place not in set(places)]
    first = min(places, default=0)
    items[:] = [*others[:first], *chosen, *others[first:]]


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
    shared_laptop.beside.callback(stack.destroy)
    stack.write()
    stack.cli("apply --yes")
    return stack
