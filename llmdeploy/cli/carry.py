"""Carries out a plan in front of a person or a log: progress, Ctrl-C, and an honest end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from ..errors import ApplyFailed, Interrupted
from ..plan import Plan
from ..reconcile.apply import Outcome
from ..sdk import Run
from ..state.model import State
from ..views.events import EventView, PlainEvents
from ..views.screen import Screen
from ..workflow import Project, apply_plan
from .options import screen
from .stopping import stopping

PARALLELISM = 10


def event_view() -> EventView:
    """Return the view that fits standard output: redrawn on a terminal, else plain lines."""
    out, errors = screen(), Screen(sys.stderr, os.environ)
    if not out.interactive:
        return PlainEvents(out, errors)
    from ..views.events_live import LiveEvents

    return LiveEvents(out, errors)


def carry_out(
    project: Project, plan: Plan, state: State | None, run: Run, view: EventView, parallelism: int = PARALLELISM
) -> Outcome:
    """Apply the plan and return its outcome when all of it is done.

    Raises:
        ApplyFailed: something failed; each failure was told by the view.
        Interrupted: the user stopped it.
    """
    with stopping(run, view) as stop, view:
        outcome = apply_plan(project, plan, state, run, view, parallelism=parallelism, stop=stop.flag)
    view.finish()
    whole = not (outcome.failed or outcome.skipped or outcome.stopped or outcome.in_doubt)
    if whole:
        return outcome
    done = _done(plan, outcome)
    if stop.asked:
        raise Interrupted(
            "\n".join(
                [f"stopped as you asked: {done}", *_list("in doubt", outcome.in_doubt), *_list("not started", outcome.stopped)]
            ),
            hint=f"what is done is kept; `llmdeploy {plan.mode}` goes on from here",
        )
    skipped = f", {len(outcome.skipped)} skipped because of it" if outcome.skipped else ""
    raise ApplyFailed(
        f"{len(outcome.failed)} failed{skipped}; {done}",
        failed=outcome.failed,
        skipped=outcome.skipped,
        hint=f"fix it and run `llmdeploy {plan.mode}` again: finished work is kept",
    )


def _done(plan: Plan, outcome: Outcome) -> str:
    """Tell how much of the plan is done, and what exists now."""
    left = {*outcome.failed, *outcome.skipped, *outcome.stopped}
    done = sum(change.address not in left for change in plan.effective)
    exist = len(outcome.state.entries)
    return f"{done} of {len(plan.effective)} changes are done, {exist} resource{'s'[: exist != 1]} exist{'s'[: exist == 1]} now"


def _list(heading: str, addresses: Iterable[str]) -> list[str]:
    text = ", ".join(addresses)
    return [f"{heading}: {text}"] if text else []
