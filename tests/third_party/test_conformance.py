"""Somebody else's provider passes the conformance suite, as its author would run it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llmdeploy.registry import Registry
from llmdeploy.sdk import Identity, Provider, Run
from llmdeploy.testing.conformance import Conformance, Sample, World

SITE = Path(__file__).with_name("site")


def acme(monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setattr("sys.path", [str(SITE), *sys.path])
    return Registry().provider("acme")


class TestAcme(Conformance):
    samples = (
        Sample(
            "acme_object.a",
            {"cloud": "acme-cloud", "name": "a", "content": "one"},
            {"cloud": "acme-cloud", "name": "a", "content": "two"},
            {"cloud": "acme-cloud", "name": "b", "content": "one"},
        ),
    )

    @pytest.fixture
    def world(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
        monkeypatch.chdir(tmp_path)
        cloud = tmp_path / "acme-cloud"
        cloud.mkdir()
        return World(
            acme(monkeypatch),
            lambda: Run(Identity("demo", "0" * 32), tmp_path, {}),
            live=lambda: len(list(cloud.iterdir())),
        )
