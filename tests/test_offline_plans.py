"""Every example plans whole where there is no network at all and nobody's credentials, without trying to find either.

The plan runs in a network namespace without a route, with next to no environment and an empty home folder. A second Python, under
an audit hook, shows that it does not even try: no socket is made, no name is looked up, no other program is started.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.cli.session import open_session
from tests.support import ROOT, require_root, require_tool

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/**/stack.yaml"))
PEER = "import typer, yaml; from pydantic import BaseModel"
"""What every command of this kind must import; the least that a plan could take."""

MOST_TIMES_THE_PEER = 7
RUNS = 3
UNBILLED = ("laptop", "office")
CAUGHT = 97

GUARD = f"""
import atexit, json, os, sys

def watch(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "urllib.", "http.")):
        os.write(2, f"tried: {{event}} {{arguments!r}}\\n".encode())
        os._exit({CAUGHT})

def tell():
    with open(os.environ["MODULES"], "w") as file:
        json.dump(sorted(sys.modules), file)

sys.addaudithook(watch)
atexit.register(tell)
"""
REMOTE = frozenset({"boto3", "botocore", "paramiko", "fabric", "invoke", "requests", "httpx", "urllib3"})
TALKING = frozenset({"http.client", "urllib.request", "ssl", "asyncio"})


@dataclass(frozen=True)
class Done:
    """One finished process: exit code, what it printed, and its own seconds of CPU, user and system."""

    code: int
    out: str
    err: str
    cpu_s: float


class Nowhere:
    """A place without network, credentials or a home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.modules = folder / "modules.json"
        for name in ("home", "guard"):
            (folder / name).mkdir()
        (folder / "guard" / "sitecustomize.py").write_text(GUARD)

    def python(self, *arguments: str, guarded: bool = False) -> Done:
        """Run Python there, under the audit hook when `guarded`."""
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(self._folder / "home"), "LC_ALL": "C.UTF-8", "COLUMNS": "110"}
        environ |= {"PYTHONPATH": str(self._folder / "guard"), "MODULES": str(self.modules)} if guarded else {}
        with (self._folder / "out").open("w+") as out, (self._folder / "err").open("w+") as err:
            # unshare becomes the program, so that what wait4 counts is the program and hardly anything else.
            process = subprocess.Popen(
                ["unshare", "--net", sys.executable, *arguments], env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            return Done(process.returncode, out.read(), err.read(), usage.ru_utime + usage.ru_stime)


@pytest.fixture
def nowhere(tmp_path: Path) -> Nowhere:
    require_root()
    require_tool("unshare")
    place = tmp_path / "nowhere"
    place.mkdir()
    return Nowhere(place)


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an example as it is committed, before anything was applied."""
    folder: Path = request.param
    return Path(shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns(".llmdeploy")))


each_example = pytest.mark.parametrize("example", EXAMPLES, indirect=True, ids=[folder.name for folder in EXAMPLES])


def plan(folder: Path, *options: str) -> tuple[str, ...]:
    return ("-m", "llmdeploy", "plan", "--offline", "--detailed-exitcode", *options, str(folder))


def test_nowhere_has_no_way_out_and_the_hook_sees_who_tries(nowhere: Nowhere) -> None:
    attempt = "import socket; socket.create_connection(('192.0.2.1', 443), 5)"
    assert "Network is unreachable" in nowhere.python("-c", attempt).err
    assert nowhere.python("-c", attempt, guarded=True).code == CAUGHT
    caught = nowhere.python("-c", "import subprocess; subprocess.run(['true'])", guarded=True)
    assert (caught.code, caught.err.startswith("tried: subprocess.Popen")) == (CAUGHT, True)
    assert nowhere.python("-c", "import sys", guarded=True).code == 0


def unread(folder: Path) -> str:
    """Return what is said of a state in a bucket, which an offline plan does not read; nothing for one in files."""
    session = open_session(folder)
    if not session.project.remote:
        return ""
    return f"Warning: --offline: {session.project.where} was not read; everything is shown as if nothing existed\n"


@each_example
def test_a_plan_is_whole_without_network_and_credentials(nowhere: Nowhere, example: Path) -> None:
    shown = nowhere.python(*plan(example))
    assert (shown.code, shown.err) == (2, unread(example))
    printed = nowhere.python(*plan(example, "--format", "json"))
    assert (printed.code, printed.err) == (2, unread(example))
    document = json.loads(printed.out)
    graph = {one.address for one in open_session(example).desire("off").graph}
    assert {one["address"] for one in document["resource_changes"]} == graph
    assert sorted(address for address in graph if address not in shown.out) == []
    assert_sized(document["sizing"], shown.out)
    assert_priced(document["economics"], shown.out, example)


def assert_sized(sizing: Mapping[str, Any], shown: str) -> None:
    assert sizing["fits"]
    assert sizing["kv_cache"]["tokens"] > 0
    assert sizing["memory"]["weights_bytes"] > 0
    assert shown.startswith("Sizing ")
    verdict = words(shown.partition("Compliance")[0])
    assert f"fits: {sizing['model']['id']} as {sizing['quantization']['name']}" in verdict
    assert f"requests of {sizing['context']:,} tokens" in verdict
    assert "KV cache" in verdict


def assert_priced(economics: Mapping[str, Any] | None, shown: str, example: Path) -> None:
    """This machine has no bill. What is rented or bought has one, and each of its lines a price or the word that it has none."""
    if example.name in UNBILLED:
        assert economics is None
        return
    assert economics
    assert economics["lines"]
    assert "\nCost " in shown
    unpriced = {one["label"] for one in economics["lines"] if one["usd_per_unit"] is None and one["quantity"]}
    assert unpriced == set(economics["unpriced"])
    told = [f"{economics['usd_per_month']:,.2f} USD"] if economics["usd_per_month"] else sorted(unpriced)
    assert told
    assert [one for one in told if one not in words(shown)] == []


def words(text: str) -> str:
    """Return the text without its line breaks."""
    return " ".join(text.split())


@each_example
def test_a_plan_does_not_even_try(nowhere: Nowhere, example: Path) -> None:
    done = nowhere.python(*plan(example), guarded=True)
    assert (done.code, done.err) == (2, unread(example))
    modules = set(json.loads(nowhere.modules.read_text()))
    assert "llmdeploy.reconcile.diff" in modules, "nothing was planned"
    assert sorted(modules & (REMOTE | TALKING)) == []


@each_example
def test_a_plan_takes_few_times_what_its_imports_take(
    nowhere: Nowhere, example: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A ratio to a peer of the same minute, not a time: the machine may be busy. The seconds are told."""
    peer_s = min(nowhere.python("-c", PEER).cpu_s for _ in range(RUNS))
    plan_s = min(nowhere.python(*plan(example)).cpu_s for _ in range(RUNS))
    record_property("plan_cpu_s", round(plan_s, 3))
    with capsys.disabled():
        print(f"\n{example.name}: plan --offline takes {plan_s:.2f} CPU s, {plan_s / peer_s:.1f} times its imports")
    assert plan_s < MOST_TIMES_THE_PEER * peer_s
