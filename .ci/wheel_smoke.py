"""Builds sdist and wheel, installs the wheel alone, and uses it from another folder."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*argv: str, cwd: Path) -> str:
    """Run a command and return its output; its failure ends this program."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Build, install, use."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT), cwd=folder)
        wheel = next(folder.glob("*.whl"))
        tops = {path.split("/")[0] for path in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in path}
        assert tops == {"llmdeploy", "llmdeploy_aws", "llmdeploy_host", "llmdeploy_templates"}, tops
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv/bin/python"
        run(str(python), "-m", "pip", "install", "-q", str(wheel), cwd=folder)
        program = str(folder / "venv/bin/llmdeploy")
        stack = folder / "stack"
        stack.mkdir()
        run(program, "init", "--name", "smoke", "--model", "tiny-random", "--provider", "local", cwd=stack)
        run(program, "validate", cwd=stack)
        plan = run(program, "plan", cwd=stack)
        assert "host_engine" in plan, plan
        rented = folder / "rented"
        rented.mkdir()
        (rented / "stack.yaml").write_text((ROOT / "examples/aws/dev-single-gpu/stack.yaml").read_text())
        page = run(program, "plan", "--offline", "--format", "html", cwd=rented)
        assert page.startswith("<!DOCTYPE html>"), page[:500]
        assert "aws_instance" in page, page[:500]
        print(run(program, "--version", cwd=stack).strip(), "installed from the wheel validates and plans")


if __name__ == "__main__":
    main()
