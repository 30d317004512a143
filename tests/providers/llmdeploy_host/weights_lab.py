"""What the tests of `host_weights` share: a run on this machine with a plain folder as the volume and a user of its own."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from llmdeploy.sdk import Context, Identity, Manifest, Prior, ReadRequest, ReadResult, Run, WeightFile
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._host_type import refresh_hosts
from llmdeploy_host.host_weights import RESOURCE, WeightsOutputs, WeightsSpec


def content(size: int, seed: int = 0) -> bytes:
    """Return random bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def manifest(kind: str, location: str, files: Mapping[str, bytes], url: Callable[[str], str] | None = None) -> Manifest:
    """Return the manifest of `files`."""
    return Manifest.model_validate(
        {
            "kind": kind,
            "location": location,
            "revision": "1",
            "files": [
                WeightFile(
                    path=path,
                    size_bytes=len(body),
                    sha256=hashlib.sha256(body).hexdigest(),
                    url=url(path) if url else None,
                ).model_dump()
                for path, body in sorted(files.items())
            ],
        }
    )


@dataclass
class Lab:
    """A stack with nothing but weights."""

    run: Run
    volume: Path
    user: str
    address: str = "host_weights.local"
    told: list[str] = field(default_factory=list[str])

    @property
    def weights(self) -> Path:
        """Where the files are to be."""
        return self.volume / "weights"

    def spec(self, wanted: Manifest, *, token: str | None = None) -> WeightsSpec:
        """Return the spec of these weights."""
        return WeightsSpec(host=Connection(), volume=str(self.volume), user=self.user, manifest=wanted.model_dump(), token=token)

    def context(self, done: tuple[str, ...] = ()) -> Context:
        """Return the context of one operation; progress goes to `told`."""
        return Context(self.run, self.address, timeout_s=60, done_steps=done, on_progress=self.told.append)

    def create(self, wanted: Manifest, *, token: str | None = None) -> WeightsOutputs:
        """Create the weights."""
        return RESOURCE.create(self.context(), self.spec(wanted, token=token))

    def prior(self, wanted: Manifest, outputs: WeightsOutputs) -> Prior:
        """Return what state holds after an apply."""
        return Prior(self.address, f"{self.volume}/weights", self.spec(wanted).tree(), outputs.tree())

    def look(self, prior: Prior) -> ReadResult:
        """Refresh."""
        (found,) = refresh_hosts({"host_weights": RESOURCE}, self.run, [ReadRequest("host_weights", prior)])
        return found

    def files(self) -> dict[str, bytes]:
        """Return every file that is in place, by path."""
        return {
            str(path.relative_to(self.weights)): path.read_bytes()
            for path in sorted(self.weights.rglob("*"))
            if not path.is_dir()
        }


@contextmanager
def lab(
    folder: Path, environ: Mapping[str, str] | None = None, generate: Callable[[str], Mapping[str, bytes]] | None = None
) -> Generator[Lab]:
    """Make a user and a volume for one test, and remove what the test leaves."""
    identity = Identity("weights-test", uuid.uuid4().hex)
    paths = Paths(identity.slug or "")
    subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", paths.user], check=True)
    volume = folder / "volume"
    volume.mkdir()
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    run = Run(identity, folder, path | dict(environ or {}), *([generate] if generate else []))
    try:
        yield Lab(run, volume, paths.user)
    finally:
        run.close()
        shutil.rmtree(paths.locks, ignore_errors=True)
        subprocess.run(["userdel", paths.user], check=True)
