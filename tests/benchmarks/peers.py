"""terraform and llmdeploy on the same graph: N trivial resources in layers, each referring to one of the layer below."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

LAYERS = 10
PLUGIN = Path(__file__).parent / "plugin"


@dataclass(frozen=True)
class Cost:
    """What one command took: CPU seconds (user and system, its children included) and peak resident memory."""

    cpu_s: float
    rss_mib: float


class Peer(Protocol):
    """One of the two programs, at work in a folder of its own."""

    @property
    def name(self) -> str:
        """Its name and version."""
        ...

    @property
    def folder(self) -> Path:
        """Where it works."""
        ...

    @property
    def environ(self) -> Mapping[str, str]:
        """Its environment."""
        ...

    @property
    def state(self) -> Path:
        """The file that holds its state."""
        ...

    @property
    def growing(self) -> Path:
        """The file that grows while an apply goes on."""
        ...

    def write(self, count: int, *, edited: bool = False, marks: Path | None = None) -> None:
        """Write the configuration.

        edited: the last resource differs. marks: each resource leaves an empty file of its number there, 0.4 s after its creation
        began.
        """
        ...

    def forget(self) -> None:
        """Remove state, journal, lock and backups."""
        ...

    def argv(self, verb: str, parallelism: int | None = None) -> list[str]:
        """Return the command line of `plan`, `apply`, `destroy` (which ask nothing) or `show` (which prints JSON)."""
        ...


class Terraform:
    """terraform with its built-in `terraform_data`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **os.environ,
            "TF_CLI_CONFIG_FILE": os.devnull,
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
        }
        self.state = self.growing = folder / "terraform.tfstate"
        told = subprocess.run(["terraform", "version", "-json"], env=self.environ, capture_output=True, text=True, check=True)
        self.name = f"terraform {json.loads(told.stdout)['terraform_version']}"
        folder.mkdir(parents=True)
        self.write(1)
        run(self, ["terraform", "init", "-no-color"])

    def write(self, count: int, *, edited: bool = False, marks: Path | None = None) -> None:
        """See `Peer`."""
        per_layer = max(1, -(-count // LAYERS))
        blocks: list[str] = []
        for index in range(count):
            parent = f"terraform_data.r{index - per_layer:05d}.output.name" if index >= per_layer else '"root"'
            revision = "edited" if edited and index == count - 1 else "v1"
            provisioner = ""
            if marks:
                provisioner = f'  provisioner "local-exec" {{\n    command = "sleep 0.4 && : > {marks}/{index}"\n  }}\n'
            blocks.append(
                f'resource "terraform_data" "r{index:05d}" {{\n  input = {{\n    name = "host-{index:05d}"\n'
                f'    revision = "{revision}"\n    size = {index % 7}\n    parent = {parent}\n  }}\n{provisioner}}}\n'
            )
        (self.folder / "main.tf").write_text("\n".join(blocks))

    def forget(self) -> None:
        """See `Peer`."""
        for path in (*self.folder.glob("terraform.tfstate*"), *self.folder.glob(".terraform.tfstate.lock.info")):
            path.unlink()

    def argv(self, verb: str, parallelism: int | None = None) -> list[str]:
        """See `Peer`."""
        if verb == "show":
            return ["terraform", "show", "-json"]
        consent = ["-auto-approve"] if verb in ("apply", "destroy") else []
        return ["terraform", verb, "-no-color", *consent, *([f"-parallelism={parallelism}"] if parallelism else [])]


class Llmdeploy:
    """This checkout's llmdeploy with a provider that makes nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environ = {**kept, "PYTHONPATH": str(PLUGIN)}
        self.state = folder / ".llmdeploy/state.json"
        self.growing = folder / ".llmdeploy/journal.jsonl"
        self.name = f"llmdeploy {version('llmdeploy')}"
        folder.mkdir(parents=True)
        self.write(1)
        for verb in ("plan", "apply", "destroy"):  # leaves a bytecode cache, as an installed program has one
            run(self, self.argv(verb))
        self.forget()

    def write(self, count: int, *, edited: bool = False, marks: Path | None = None) -> None:
        """See `Peer`."""
        config = {"count": count, "layers": LAYERS, "edited": edited, "marks": str(marks or "")}
        stack = {"version": 1, "name": "bench", "model": {"id": "tiny-random"}, "provider": {"null": config}}
        (self.folder / "stack.yaml").write_text(json.dumps(stack))

    def forget(self) -> None:
        """See `Peer`."""
        shutil.rmtree(self.folder / ".llmdeploy", ignore_errors=True)

    def argv(self, verb: str, parallelism: int | None = None) -> list[str]:
        """See `Peer`."""
        how = {"show": ["--format", "json"], "apply": ["--yes"], "destroy": ["--yes"]}.get(verb, [])
        return [sys.executable, "-m", "llmdeploy", verb, *how, *(["--parallelism", str(parallelism)] if parallelism else [])]


def terraform_or_none(folder: Path) -> Terraform | None:
    """Return terraform at work in `folder`, or None, said on standard error, when it is not installed."""
    if shutil.which("terraform") is None:
        print("terraform is not on PATH: llmdeploy is measured alone, without ratios", file=sys.stderr)
        return None
    return Terraform(folder)


def run(peer: Peer, argv: Sequence[str]) -> Cost:
    """Run a command that must succeed; its output goes to `output.log` in the peer's folder."""
    log = peer.folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, cwd=peer.folder, env=peer.environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(argv)}: exit status {process.returncode}\n{log.read_text()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own session, with all that it started, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def machine() -> str:
    """Describe this machine in one sentence."""
    words = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((word.partition(": ")[2] for word in words if word.startswith("model name")), platform.machine())
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, load {load}; Python {platform.python_version()}, pydantic {version('pydantic')}"
