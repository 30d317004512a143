"""What a SIGKILL in the middle of an apply leaves behind: terraform and llmdeploy, killed by one harness, side by side.

usage: python tests/benchmarks/kill.py [--kills 12] [--resources 1500] [--slow-resources 200] [--seed 7]

First part: many trivial resources. The process group is killed at most half a second (drawn at random) after the file that grows
with the apply (terraform: its state, llmdeploy: its journal) passed 150 kB. Then each program is asked, with `show`, what it
knows: what it reported as complete and does not know is lost. Second part: resources whose creation takes 0.4 s and leaves a file
when it is whole. They are killed at random once some are whole. What the program calls healthy and has no file was recorded
half-created; one more apply shows whether that is ever mended. A kill that came when the apply was over does not count and is
repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from peers import Llmdeploy, Peer, kill_group, machine, run, terraform_or_none

GROWN_BYTES = 150_000
MANY_AT_ONCE = 50
FEW_AT_ONCE = 10
_COMPLETE = re.compile(r"^(?:terraform_data|null_thing)\.r(\d+): Creat(?:ion complete|ed)", re.MULTILINE)
_SUM = re.compile(r"(?:│ )?((?:Plan: \d+ to (?:add|create)|No changes|Error: ).*)")
T = TypeVar("T")


@dataclass(frozen=True)
class Remains:
    """What one kill left: the condition of the state file, resources reported complete, those unknown, the next plan's words."""

    state: str
    reported: int
    lost: int
    plan: str


@dataclass(frozen=True)
class HalfMade:
    """What one kill left of slow resources: whole ones, those called healthy that are not, and those still so after an apply."""

    whole: int
    half: int
    never_mended: int


def killed_apply(peer: Peer, parallelism: int, ripe: Callable[[], bool], delay_s: float) -> str | None:
    """Kill an apply `delay_s` after it is `ripe`; return what it had printed, or None when it was over before."""
    log = peer.folder / "killed.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            peer.argv("apply", parallelism),
            cwd=peer.folder,
            env=peer.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while process.poll() is None and not ripe():
            time.sleep(0.005)
        time.sleep(delay_s)
        over = process.poll() is not None
        kill_group(process)
    return None if over else log.read_text(errors="replace")


def asked(peer: Peer, verb: str) -> subprocess.CompletedProcess[str]:
    """Ask the program something that may fail."""
    return subprocess.run(
        peer.argv(verb), cwd=peer.folder, env=peer.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def known(peer: Peer) -> dict[int, bool]:
    """Return the resources that the program tells of, by number, and whether it calls them healthy."""
    told = asked(peer, "show")
    if told.returncode:
        return {}
    found = json.loads(told.stdout).get("values", {}).get("root_module", {}).get("resources", [])
    return {int(one["name"][1:]): not one.get("tainted") and one.get("status", "ok") == "ok" for one in found}


def condition(peer: Peer) -> str:
    """Say what the state file is."""
    if not peer.state.exists():
        return "journal alone" if peer.growing.exists() else "missing"
    content = peer.state.read_bytes()
    if not content:
        return "empty"
    try:
        json.loads(content)
    except ValueError:
        return "truncated"
    return "whole"


def plan_words(peer: Peer) -> str:
    """Return the line in which the next plan sums up, or its error."""
    told = asked(peer, "plan")
    found = _SUM.search(told.stdout) or _SUM.search(told.stderr)
    return found[1].strip() if found else "nothing"


def kill_many(peer: Peer, chance: random.Random) -> Remains | None:
    """Kill one apply of many trivial resources."""
    peer.forget()
    printed = killed_apply(peer, MANY_AT_ONCE, lambda: _size_bytes(peer.growing) > GROWN_BYTES, chance.uniform(0, 0.5))
    if printed is None:
        return None
    reported = {int(number) for number in _COMPLETE.findall(printed)}
    return Remains(condition(peer), len(reported), len(reported - known(peer).keys()), plan_words(peer))


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill_slow(peer: Peer, count: int, marks: Path, chance: random.Random) -> HalfMade | None:
    """Kill one apply of slow resources, look, and apply once more."""
    peer.forget()
    shutil.rmtree(marks, ignore_errors=True)
    marks.mkdir()
    enough = chance.randint(FEW_AT_ONCE, count // 2)
    printed = killed_apply(peer, FEW_AT_ONCE, lambda: len(list(marks.iterdir())) >= enough, chance.uniform(0, 0.4))
    if printed is None:
        return None
    whole = {int(mark.name) for mark in marks.iterdir()}
    half = {number for number, healthy in known(peer).items() if healthy} - whole
    run(peer, peer.argv("apply", FEW_AT_ONCE))
    return HalfMade(len(whole), len(half), count - len(list(marks.iterdir())))


def repeated(peer: Peer, kills: int, attempt: Callable[[], T | None]) -> list[T]:
    """Return what `kills` kills that came in time left; tell each on standard error."""
    found: list[T] = []
    while len(found) < kills:
        remains = attempt()
        print(f"{peer.name}: {remains or 'over before the kill'}", file=sys.stderr, flush=True)
        if remains is not None:
            found.append(remains)
    return found


def first_part(peer: Peer, kills: int, count: int, seed: int) -> list[Remains]:
    """Kill applies of many trivial resources."""
    peer.write(count)
    chance = random.Random(seed)
    return repeated(peer, kills, lambda: kill_many(peer, chance))


def second_part(peer: Peer, kills: int, count: int, seed: int) -> list[HalfMade]:
    """Kill applies of slow resources."""
    marks = peer.folder / "marks"
    peer.write(count, marks=marks)
    chance = random.Random(seed)
    return repeated(peer, kills, lambda: kill_slow(peer, count, marks, chance))


def rows(many: Sequence[Remains], slow: Sequence[HalfMade]) -> dict[str, str]:
    """Return the rows of one peer."""
    states = Counter(one.state for one in many)
    return {
        "state file after the kill": ", ".join(f"{state}: {number}" for state, number in states.most_common()),
        "resources reported complete": _range(one.reported for one in many),
        "of them unknown afterwards, per kill": _range(one.lost for one in many),
        "kills that lost resources": f"{sum(1 for one in many if one.lost)} of {len(many)}",
        "the next plan, after a loss": _words([one.plan for one in many if one.lost]),
        "the next plan, without one": _words([one.plan for one in many if not one.lost]),
        "slow resources whole at the kill": _range(one.whole for one in slow),
        "half-created and recorded as healthy, per kill": _range(one.half for one in slow),
        "kills after which that happened": f"{sum(1 for one in slow if one.half)} of {len(slow)}",
        "still not whole after one more apply, per kill": _range(one.never_mended for one in slow),
    }


def _range(numbers: Iterable[int]) -> str:
    found = list(numbers)
    return f"{min(found)}..{max(found)}" if found and min(found) != max(found) else str(found[0]) if found else ""


def _words(plans: Sequence[str]) -> str:
    """Return each sentence once with how often it was said; the first number of alike sentences becomes a range."""
    alike: dict[str, list[int]] = {}
    for plan in plans:
        number = re.search(r"\d+", plan)
        alike.setdefault(re.sub(r"\d+", "{}", plan, count=1), []).append(int(number[0]) if number else 0)
    return "; ".join(f"{len(numbers)} x `{sentence.replace('{}', _range(numbers))}`" for sentence, numbers in alike.items())


def main() -> None:
    """Kill and print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--resources", type=int, default=1500)
    parser.add_argument("--slow-resources", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        peers: list[Peer] = [Llmdeploy(Path(folder) / "ours")]
        if terraform := terraform_or_none(Path(folder) / "terraform"):
            peers.insert(0, terraform)
        columns = [
            rows(
                first_part(peer, given.kills, given.resources, given.seed),
                second_part(peer, given.kills, given.slow_resources, given.seed),
            )
            for peer in peers
        ]
    print(
        f"| {given.kills} kills of {given.resources} trivial, {given.kills} of {given.slow_resources} slow resources | ", end=""
    )
    print(" | ".join(peer.name for peer in peers) + " |\n|---|" + "---|" * len(peers))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
