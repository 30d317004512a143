"""How long the command line takes to start, as a ratio of CPU seconds against `terraform plan` of an empty folder.

usage: python tests/benchmarks/start.py [--runs 15]

Each round runs every command once, in turn, so that a drift of the machine meets all of them. Without terraform on PATH the
figures are printed without a ratio, and the peer is reported as absent.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOALS = {"llmdeploy --help": 2.0, "llmdeploy validate": 4.0}
LIBRARIES = """
import atexit, gc, os
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
gc.set_threshold(200_000)
atexit.register(gc.freeze)
import typer.main, yaml
from pydantic import BaseModel
class Smallest(BaseModel):
    number: int
"""
"""The least that a command line on these libraries can cost: what of `validate` is not llmdeploy's own."""


def cpu_s(argv: list[str], folder: str, environ: dict[str, str]) -> float:
    """Return user and system seconds of one run."""
    process = subprocess.Popen(argv, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(argv)}: exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    program = str(Path(sys.executable).with_name("llmdeploy"))
    commands = {
        "llmdeploy --help": [program, "--help"],
        "llmdeploy validate": [program, "validate", str(ROOT / "examples/laptop")],
        "its libraries alone": [sys.executable, "-c", LIBRARIES],
    }
    peer = "terraform plan (empty folder)"
    if terraform := shutil.which("terraform"):
        commands[peer] = [terraform, "plan", "-no-color"]
    environ = {**os.environ, "TF_CLI_CONFIG_FILE": "/dev/null", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.tf").write_text("")
        rounds = [{name: cpu_s(argv, folder, environ) for name, argv in commands.items()} for _ in range(runs + 1)][1:]
    print(f"| command | CPU s, median of {runs} | min..max | ratio to terraform | goal |\n|---|---|---|---|---|")
    for name in commands:
        figures = [one[name] for one in rounds]
        ratio = f"{statistics.median(one[name] / one[peer] for one in rounds):.2f}" if peer in commands else "terraform is absent"
        goal = f"<= {GOALS[name]:g}" if name in GOALS else ""
        spread = f"{min(figures):.3f}..{max(figures):.3f}"
        print(f"| {name} | {statistics.median(figures):.3f} | {spread} | {ratio} | {goal} |")


if __name__ == "__main__":
    main()
