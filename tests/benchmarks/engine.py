"""What a plan, an apply and a destroy of N trivial resources cost, as ratios of CPU seconds against terraform.

usage: python tests/benchmarks/engine.py --resources 1000 [--runs 3] [--apply-runs 1] [--growth 10000]

Both work on the same graph: N resources in ten layers, each referring to one of the layer below. terraform has its built-in
`terraform_data`; llmdeploy has a provider that makes nothing, found as an entry point and run through its whole contract. Each
round runs every operation of both, in turn. terraform's apply and destroy are quadratic and take minutes: they run in the first
`--apply-runs` rounds alone, and not at all beyond 2,000 resources. `--growth` measures llmdeploy again with more resources.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from peers import Cost, Llmdeploy, Peer, Terraform, machine, run, terraform_or_none

OPERATIONS = ("plan, nothing exists", "apply", "plan, no changes", "plan, one change", "destroy")
LARGEST_APPLY_OF_TERRAFORM = 2000
Costs = dict[str, list[Cost]]


def goals(count: int) -> dict[str, float]:
    """Return the highest ratio for each operation."""
    if count >= 1000:
        return {"plan": 0.2, "apply": 0.05, "destroy": 0.05}
    return {"plan": 4.0} if count <= 10 else {}


def full_round(peer: Peer, count: int, costs: Costs) -> None:
    """Run every operation once, from nothing to nothing."""
    peer.forget()
    peer.write(count)
    steps: dict[str, Callable[[], Cost]] = {
        "plan, nothing exists": lambda: run(peer, peer.argv("plan")),
        "apply": lambda: run(peer, peer.argv("apply")),
        **_plans_of_what_exists(peer, count),
        "destroy": lambda: run(peer, peer.argv("destroy")),
    }
    for operation in OPERATIONS:
        costs[operation].append(steps[operation]())


def plans_round(peer: Terraform, count: int, applied: Path, costs: Costs) -> None:
    """Run the plans alone, those of what exists on the state that an apply left in an earlier round."""
    peer.forget()
    peer.write(count)
    costs["plan, nothing exists"].append(run(peer, peer.argv("plan")))
    if applied.exists():
        shutil.copy(applied, peer.state)
        for operation, step in _plans_of_what_exists(peer, count).items():
            costs[operation].append(step())


def _plans_of_what_exists(peer: Peer, count: int) -> dict[str, Callable[[], Cost]]:
    def edited() -> Cost:
        peer.write(count, edited=True)
        cost = run(peer, peer.argv("plan"))
        peer.write(count)
        return cost

    return {"plan, no changes": lambda: run(peer, peer.argv("plan")), "plan, one change": edited}


def measure(ours: Llmdeploy, peer: Terraform | None, count: int, runs: int, apply_runs: int) -> tuple[Costs, Costs]:
    """Return the costs of llmdeploy and of terraform."""
    mine: Costs = {operation: [] for operation in OPERATIONS}
    theirs: Costs = {operation: [] for operation in OPERATIONS}
    if count > LARGEST_APPLY_OF_TERRAFORM:
        apply_runs = 0
    for number in range(runs):
        full_round(ours, count, mine)
        if peer is None:
            continue
        applied = peer.folder / "applied"
        if number < apply_runs:
            full_round(peer, count, theirs)
            shutil.copy(peer.folder / "terraform.tfstate.backup", applied)  # destroy leaves what it found
        else:
            plans_round(peer, count, applied, theirs)
    return mine, theirs


def table(count: int, mine: Costs, theirs: Costs) -> str:
    """Return medians, spreads and ratios as Markdown."""
    lines = [
        f"| {count} resources | llmdeploy CPU s | min..max | MiB | terraform CPU s | min..max | MiB | ratio | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for operation in OPERATIONS:
        goal = goals(count).get(operation.split(",")[0])
        told = f"<= {goal:g}" if goal else ""
        ratio = f"{_cpu_s(mine[operation]) / _cpu_s(theirs[operation]):.3g}" if theirs[operation] else "not measured"
        lines.append(f"| {operation} | {_cells(mine[operation])} | {_cells(theirs[operation])} | {ratio} | {told} |")
    return "\n".join(lines)


def _cpu_s(costs: list[Cost]) -> float:
    return statistics.median(cost.cpu_s for cost in costs)


def _cells(costs: list[Cost]) -> str:
    if not costs:
        return "| | "
    low, high = min(cost.cpu_s for cost in costs), max(cost.cpu_s for cost in costs)
    spread = f"{_shown(low)}..{_shown(high)} ({len(costs)})"
    return f"{_shown(_cpu_s(costs))} | {spread} | {statistics.median(cost.rss_mib for cost in costs):.0f}"


def _shown(cpu_s: float) -> str:
    return f"{cpu_s:.3f}" if cpu_s < 1 else f"{cpu_s:.1f}"


def growth_table(count: int, larger: int, small: Costs, large: Costs) -> str:
    """Return how much more the larger graph costs."""
    lines = [f"| llmdeploy | CPU s at {count} | CPU s at {larger} | MiB | growth | goal |", "|---|---|---|---|---|---|"]
    goal = f"<= {12 * larger / count / 10:g}"
    for operation in OPERATIONS:
        few, many = _cpu_s(small[operation]), _cpu_s(large[operation])
        rss_mib = statistics.median(cost.rss_mib for cost in large[operation])
        lines.append(f"| {operation} | {_shown(few)} | {_shown(many)} | {rss_mib:.0f} | {many / few:.1f} | {goal} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--resources", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--apply-runs", type=int, default=1, help="rounds in which terraform applies and destroys")
    parser.add_argument("--growth", type=int, help="measure llmdeploy with this many resources too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Llmdeploy(Path(folder) / "ours"), terraform_or_none(Path(folder) / "terraform")
        mine, theirs = measure(ours, peer, arguments.resources, arguments.runs, arguments.apply_runs)
        print(table(arguments.resources, mine, theirs))
        if arguments.growth:
            large, _ = measure(ours, None, arguments.growth, arguments.runs, 0)
            print("\n" + growth_table(arguments.resources, arguments.growth, mine, large))
        print(f"\n{ours.name}{f' and {peer.name}' if peer else ''}; {machine()}")


if __name__ == "__main__":
    main()
