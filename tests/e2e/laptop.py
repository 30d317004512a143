"""The fresh machine on which the README's first command ran once, shared by every end-to-end test of the session."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

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


@dataclass(frozen=True)
class Answer:
    """Status and body of one reply."""

    status_code: int
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class Http:
    """The plainest client there is: one connection per request, paths sent as they are."""

    def __init__(self, endpoint: str, tls: ssl.SSLContext) -> None:
        self._place = urlsplit(endpoint)
        self._tls = tls

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def request(self, method: str, path: str, *, headers: dict[str, str] | None = None, body: Any = None) -> Answer:
        """Send one request; `body` becomes JSON."""
        host, port = self._place.hostname or "localhost", self._place.port or 443
        connection = http.client.HTTPSConnection(host, port, context=self._tls, timeout=120)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"content-type": "application/json", **(headers or {})})
            reply = connection.getresponse()
            return Answer(reply.status, reply.read())
        finally:
            connection.close()

    def get(self, path: str, *, headers: dict[str, str] | None = None) -> Answer:
        """GET."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, *, body: Any, headers: dict[str, str] | None = None) -> Answer:
        """POST."""
        return self.request("POST", path, headers=headers, body=body)


@dataclass
class Laptop:
    """The machine, and what the README's first command printed on it. beside: takes away what else was put on it."""

    machine: Machine
    printed: str
    files_before: frozenset[str]
    users_before: str
    packages_before: frozenset[str]
    clients: list[openai.OpenAI] = field(default_factory=list[openai.OpenAI])
    answers: list[str] = field(default_factory=list[str])
    beside: ExitStack = field(default_factory=ExitStack)

    def cli(
        self,
        arguments: str,
        *,
        status: int | Sequence[int] = 0,
        folder: str = STACK,
        environ: Mapping[str, str] | None = None,
    ) -> str:
        """Run llmdeploy in a folder of the machine, with a token in its environment that must never be seen again."""
        given = {"HF_TOKEN": CANARY_TOKEN, "COLUMNS": "120", **(environ or {})}
        return self.machine.run(f"{CLI} {arguments}", environ=given, cwd=folder, status=status, timeout_s=900)

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

    def tls(self, folder: str = STACK) -> ssl.SSLContext:
        """Return a context that trusts the stack's own CA and nothing else."""
        return ssl.create_default_context(cadata=self.machine.path(self.json("output", folder=folder)["ca_file"]).read_text())

    def http(self, folder: str = STACK) -> Http:
        """Return a client of the endpoint."""
        return Http(self.json("output", folder=folder)["endpoint"], self.tls(folder))

    def openai(self, api_key: str | None = None) -> openai.OpenAI:
        """Return the client that the README shows."""
        transport = openai.DefaultHttpxClient(verify=self.tls(), trust_env=False)
        base_url = self.json("output")["base_url"]
        client = openai.OpenAI(base_url=base_url, api_key=api_key or self.key(), http_client=transport, max_retries=0)
        self.clients.append(client)
        return client

    def gateway_log(self) -> list[dict[str, Any]]:
        """Return the gateway's log lines."""
        folder = self.machine.path(f"/var/log/llmdeploy/{self.slug()}")
        texts = [file.read_text(errors="replace") for file in sorted(folder.rglob("*")) if file.is_file()]
        lines = [line for text in texts for line in text.splitlines()]
        return [json.loads(line[line.index("{") :]) for line in lines if '"request_id"' in line]


def files(machine: Machine) -> frozenset[str]:
    """Return what a leftover could be: every path outside caches, package lists and the users' own folders."""
    # /run/mount and /run/adduser are the bookkeeping of mount(8) and adduser(8).
    caches = ("/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log/apt", "/root", "/run/mount", "/run/adduser")
    skipped = " -o ".join([*(f"-path {folder}" for folder in caches), "-name __pycache__"])
    listing = machine.run(f"find /etc /usr /var /opt /srv /run /tmp /home -xdev \\( {skipped} \\) -prune -o -print")
    return frozenset(listing.split("\n"))


def packages(machine: Machine) -> frozenset[str]:
    """Return the installed packages."""
    rows = machine.run("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n'").splitlines()
    return frozenset(row.split()[0] for row in rows if row.split()[1] == "ii")


def start_laptop(base: Path) -> Laptop:
    """Make a machine without any of what llmdeploy installs, and run the README's first command on it."""
    require_root()
    require_tool("unshare", "nsenter", "apt-get")
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
