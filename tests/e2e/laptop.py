"""The fresh machine on which the README's first command ran once, shared by every end-to-end test of the session."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.lab.machine import ROOT, Machine
from tests.support import require_root, require_tool

CHECKOUT = "/root/llmdeploy"
STACK = f"{CHECKOUT}/examples/laptop"
CLI = f"{CHECKOUT}/.venv/bin/llmdeploy"
CANARY_TOKEN = "hf_canaryTOKEN0123456789"
ENGINE_PACKAGES = ("haproxy", "gocryptfs", "s6")


def readme_command(marker: str) -> str:
    """Return the shell block that follows `<!-- marker -->` in the README."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert found, f"README.md has no block {marker}"
    return found[1]


@dataclass
class Laptop:
    """The machine, and what the README's first command printed on it."""

    machine: Machine
    printed: str
    files_before: frozenset[str]
    users_before: str
    packages_before: frozenset[str]

    def cli(self, arguments: str, *, status: int | None = 0, folder: str = STACK, timeout_s: float = 900) -> str:
        """Run llmdeploy in a folder of the machine, with a token in its environment that must never be seen again."""
        environ = {"HF_TOKEN": CANARY_TOKEN, "COLUMNS": "120"}
        return self.machine.run(f"{CLI} {arguments}", environ=environ, cwd=folder, status=status, timeout_s=timeout_s)

    def json(self, arguments: str, *, folder: str = STACK) -> Any:
        """Run a verb with `--format json`."""
        environ = {"HF_TOKEN": CANARY_TOKEN}
        return json.loads(self.machine.run(f"{CLI} {arguments} --format json 2>/dev/null", environ=environ, cwd=folder))

    def slug(self, folder: str = STACK) -> str:
        """Return the name under which the stack's things lie."""
        state = json.loads(self.machine.path(f"{folder}/.llmdeploy/state.json").read_text())
        return f"{state['stack']}-{state['lineage'][:8]}"

    def key(self, name: str = "me", folder: str = STACK) -> str:
        """Return an API key from the file that the outputs name."""
        outputs = self.json("output", folder=folder)
        return self.machine.path(outputs["keys"][name]["file"]).read_text().strip()

    def http(self, folder: str = STACK) -> httpx.Client:
        """Return a client that trusts the stack's own CA and nothing else."""
        outputs = self.json("output", folder=folder)
        context = ssl.create_default_context(cadata=self.machine.path(outputs["ca_file"]).read_text())
        return httpx.Client(base_url=outputs["endpoint"], verify=context, timeout=120, trust_env=False)

    def openai(self, api_key: str | None = None) -> openai.OpenAI:
        """Return the client that the README shows."""
        outputs = self.json("output")
        return openai.OpenAI(
            base_url=outputs["base_url"], api_key=api_key or self.key(), http_client=self.http(), max_retries=0
        )  # fmt: skip

    def gateway_log(self) -> list[dict[str, Any]]:
        """Return the gateway's log lines."""
        folder = self.machine.path(f"/var/log/llmdeploy/{self.slug()}")
        lines = [
            line for file in sorted(folder.rglob("*")) if file.is_file() for line in file.read_text(errors="replace").splitlines()
        ]
        return [json.loads(line[line.index("{") :]) for line in lines if '"request_id"' in line]


def files(machine: Machine) -> frozenset[str]:
    """Return what a leftover could be: every path outside caches, package lists and the users' own folders."""
    skipped = (
        "-path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/log/apt -o -path /root -o -name __pycache__"
    )
    return frozenset(
        machine.run(f"find /etc /usr /var /opt /srv /run /tmp /home -xdev \\( {skipped} \\) -prune -o -print").split("\n")
    )


def packages(machine: Machine) -> frozenset[str]:
    """Return the installed packages."""
    rows = machine.run("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n'").splitlines()
    return frozenset(row.split()[0] for row in rows if row.split()[1] == "ii")


def start_laptop(base: Path) -> Laptop:
    """Make a machine without any of what llmdeploy installs, and run the README's first command on it."""
    require_root()
    require_tool("unshare", "nsenter", "haproxy", "gocryptfs", "curl")
    if os.environ.get("LLMDEPLOY_REQUIRE_ALL") != "1":
        pytest.skip("installs vLLM on a throw-away machine, about 10 minutes: set LLMDEPLOY_REQUIRE_ALL=1")
    machine = Machine(base)
    machine.start()
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -y -qq"
    machine.run(f"{apt} purge --autoremove {' '.join(ENGINE_PACKAGES)} >/dev/null 2>&1")
    machine.run(f"{apt} install python3-venv >/dev/null 2>&1")
    machine.bring_checkout(CHECKOUT)
    users = machine.run("getent passwd; getent group")
    before = files(machine), packages(machine)
    printed = machine.run(
        readme_command("run"), environ={"HF_TOKEN": CANARY_TOKEN, "COLUMNS": "120"}, cwd=CHECKOUT, timeout_s=1500
    )  # fmt: skip
    return Laptop(machine, printed, before[0], users, before[1])


def remove_tree(folder: Path) -> None:
    """Remove a folder of the test itself."""
    shutil.rmtree(folder, ignore_errors=True)
