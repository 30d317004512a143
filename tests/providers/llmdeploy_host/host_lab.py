"""What the tests of host types share: a stack of its own on this machine, and probing as refresh does it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmdeploy.sdk import Context, Identity, Outputs, Prior, ReadRequest, ReadResult, Run, Spec, Tree
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._host_type import HostType, refresh_hosts

HOST = Connection()


@dataclass
class Stack:
    """One stack on this machine with a random lineage."""

    folder: Path
    name: str = "lab"
    lineage: str = field(default_factory=lambda: secrets.token_hex(16))
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})

    def __post_init__(self) -> None:
        self.run = Run(Identity(self.name, self.lineage), self.folder, self.environ)
        self.paths = Paths(self.run.slug)
        self.progress: list[str] = []

    def context(self, kind: HostType[Any, Any], on_step: Callable[[str], None] = lambda _name: None) -> Context:
        return Context(self.run, f"{kind.name}.local", timeout_s=100, on_step=on_step, on_progress=self.progress.append)

    def create(self, kind: HostType[Any, Any], spec: Spec) -> Prior:
        """Create, and check that what was predicted came true."""
        outputs: Outputs = kind.create(self.context(kind), spec)
        prior = prior_of(kind, spec, outputs.tree())
        for name, value in kind.predict(spec.tree(), self.run.identity).items():
            assert prior.outputs[name] == value
        return prior

    def update(self, kind: HostType[Any, Any], prior: Prior, spec: Spec | None = None) -> Prior:
        wanted = spec or prior.spec_as(kind.spec)
        outputs: Outputs = kind.update(self.context(kind), prior, wanted)
        return prior_of(kind, wanted, outputs.tree())

    def delete(self, kind: HostType[Any, Any], prior: Prior) -> None:
        kind.delete(self.context(kind), prior)

    def read(self, kind: HostType[Any, Any], prior: Prior) -> ReadResult:
        (result,) = refresh_hosts({kind.name: kind}, self.run, [ReadRequest(kind.name, prior)])
        assert not result.error
        return result

    def drift(self, kind: HostType[Any, Any], prior: Prior) -> list[str]:
        return [drift.sentence for drift in self.read(kind, prior).drift]


def prior_of(kind: HostType[Any, Any], spec: Spec, outputs: Mapping[str, Tree]) -> Prior:
    return Prior(f"{kind.name}.local", "id", spec.model_dump(mode="json"), outputs)
