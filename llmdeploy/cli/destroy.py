"""`llmdeploy destroy`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import LlmdeployError
from ..plan import Plan
from ..views.events_json import JsonEvents
from ..views.human import NOTHING_TO_DESTROY, plan_lines
from ..views.screen import BLANK, line
from ..workflow import identity_of, make_plan
from .carry import PARALLELISM, carry_out, event_view
from .options import (
    HERE,
    LockTimeoutOption,
    ParallelismOption,
    Progress,
    ProgressOption,
    StackArgument,
    YesOption,
    duration_s,
    screen,
    show,
    verb,
)
from .session import Session, confirmed, need_answer, open_session

app = verb()


@app.command()
def destroy(
    stack: StackArgument = HERE,
    yes: YesOption = False,
    keep_weights: Annotated[bool, typer.Option("--keep-weights", help="Keep downloaded weights and what they lie on.")] = False,
    parallelism: ParallelismOption = PARALLELISM,
    lock_timeout: LockTimeoutOption = "0s",
    format: ProgressOption = Progress.HUMAN,
) -> None:
    """Remove everything that apply made. Needs the state alone: the stack file may be gone or broken."""
    timeout_s = duration_s(lock_timeout)
    session = open_session(stack)
    json = JsonEvents(screen()) if format is Progress.JSONL else None
    try:
        _Destroy(session, keep_weights, parallelism, json).run(yes, timeout_s)
    except LlmdeployError as error:
        if json is not None:
            json.error(error)
        raise


class _Destroy:
    """One destroy."""

    def __init__(self, session: Session, keep_weights: bool, parallelism: int, json: JsonEvents | None) -> None:
        self._project = session.project
        self._keep_weights = keep_weights
        self._parallelism = parallelism
        self._json = json

    def run(self, yes: bool, timeout_s: float) -> None:
        """Take the lock, unless nothing exists."""
        state = self._project.store.read()
        if state is None or not state.entries:
            if self._json:
                self._json.done("destroy", {}, NOTHING_TO_DESTROY, {})
            else:
                show([line(NOTHING_TO_DESTROY)])
            return
        need_answer(yes, format_asks=self._json is None)
        with self._project.lock("destroy", timeout_s):
            self._carry_out(yes)

    def _carry_out(self, yes: bool) -> None:
        state = self._project.state()
        with self._project.run(identity_of(state)) as run:
            plan = make_plan(self._project, None, run, state, keep_data=self._keep_weights)
            if self._json:
                self._json.plan(plan)
            else:
                show(plan_lines(plan))
            if not plan.nothing_to_do:
                if not yes and not confirmed(f'Destroy the stack "{plan.stack}"? There is no way back.'):
                    raise LlmdeployError("not destroyed: nothing was touched")
                carry_out(self._project, plan, state, run, self._json or event_view(), self._parallelism)
        self._end(plan)

    def _end(self, plan: Plan) -> None:
        message = f"Destroyed: {len(plan.effective)} removed, {len(plan.kept)} kept."
        if self._json:
            self._json.done("destroy", plan.counts, message, {})
            return
        kept = [line(f"Kept: {', '.join(plan.kept)}", hang=2)] if plan.kept else []
        also = f"The stack file and its state ({self._project.where}) stay; `llmdeploy apply` makes everything anew."
        done = [] if plan.nothing_to_do else [BLANK, line((message, "bold green"))]
        show([*done, *kept, line(also, hang=2)])
