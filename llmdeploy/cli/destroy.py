"""`llmdeploy destroy`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import LlmdeployError
from ..plan import Plan
from ..views.human import NOTHING_TO_DESTROY, plan_lines
from ..views.screen import BLANK, line
from ..workflow import STATE_FOLDER, identity_of, make_plan
from .carry import carry_out, event_view
from .options import HERE, LockTimeoutOption, StackArgument, YesOption, duration_s, show, verb
from .session import Session, confirmed, need_answer, open_session

app = verb()


@app.command()
def destroy(
    stack: StackArgument = HERE,
    yes: YesOption = False,
    keep_weights: Annotated[bool, typer.Option("--keep-weights", help="Keep downloaded weights and what they lie on.")] = False,
    lock_timeout: LockTimeoutOption = "0s",
) -> None:
    """Remove everything that apply made. Needs the state alone: the stack file may be gone or broken."""
    timeout_s = duration_s(lock_timeout)
    session = open_session(stack)
    state = session.project.store.read()
    if state is None or not state.entries:
        show([line(NOTHING_TO_DESTROY)])
        return
    need_answer(yes)
    with session.project.lock("destroy", timeout_s):
        _destroy(session, yes, keep_weights)


def _destroy(session: Session, yes: bool, keep_weights: bool) -> None:
    project = session.project
    state = project.state()
    with project.run(identity_of(state)) as run:
        plan = make_plan(project, None, run, state, keep_data=keep_weights)
        show(plan_lines(plan))
        if plan.nothing_to_do:
            _end(plan, session)
            return
        if not yes and not confirmed(f'Destroy the stack "{plan.stack}"? There is no way back.'):
            raise LlmdeployError("not destroyed: nothing was touched")
        carry_out(project, plan, state, run, event_view())
    show([BLANK, line((f"Destroyed: {len(plan.effective)} removed, {len(plan.kept)} kept.", "bold green"))])
    _end(plan, session)


def _end(plan: Plan, session: Session) -> None:
    kept = [line(f"Kept: {', '.join(plan.kept)}", hang=2)] if plan.kept else []
    where = session.project.folder / STATE_FOLDER
    also = f"The stack file and its state ({where}) stay; `llmdeploy apply` makes everything anew."
    show([*kept, line(also, hang=2)])
