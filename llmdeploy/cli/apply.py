"""`llmdeploy apply`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..errors import LlmdeployError
from ..plan import Plan
from ..resource import Tree
from ..sdk import Run
from ..state.model import State
from ..views.events_json import JsonEvents
from ..views.human import output_lines, plan_lines
from ..views.screen import BLANK, line
from ..workflow import Desired, Project, identity_of, preflight
from .carry import PARALLELISM, carry_out, event_view
from .options import (
    HERE,
    LockTimeoutOption,
    ParallelismOption,
    Progress,
    ProgressOption,
    ReplaceOption,
    StackArgument,
    VarFileOption,
    VarOption,
    YesOption,
    duration_s,
    screen,
    show,
    variables_of,
    verb,
)
from .session import Session, confirmed, need_answer, open_session, planned

app = verb()


@app.command()
def apply(
    stack: StackArgument = HERE,
    yes: YesOption = False,
    parallelism: ParallelismOption = PARALLELISM,
    lock_timeout: LockTimeoutOption = "0s",
    replace: ReplaceOption = None,
    var: VarOption = None,
    var_file: VarFileOption = None,
    format: ProgressOption = Progress.HUMAN,
) -> None:
    """Make it so."""
    need_answer(yes, format_asks=format is Progress.HUMAN)
    timeout_s = duration_s(lock_timeout)
    session = open_session(stack, variables_of(var), var_file or ())
    json = JsonEvents(screen()) if format is Progress.JSONL else None
    try:
        desired = session.desire()
        with session.project.lock("apply", timeout_s):
            _Apply(session, desired, yes, parallelism, json).run(replace or ())
    except LlmdeployError as error:
        if json is not None:
            json.error(error)
        raise


class _Apply:
    """One apply under its lock."""

    def __init__(self, session: Session, desired: Desired, yes: bool, parallelism: int, json: JsonEvents | None) -> None:
        self._project: Project = session.project
        self._desired = desired
        self._yes = yes
        self._parallelism = parallelism
        self._json = json

    def run(self, replace: list[str] | tuple[()]) -> None:
        state = self._project.state()
        with self._project.run(identity_of(state, self._desired)) as run:
            plan = planned(self._project, self._desired, run, state, replace)
            self._show(plan, state)
            if not plan.nothing_to_do:
                self._check(plan, state, run)
            view = self._json or event_view()
            outcome = carry_out(self._project, plan, state, run, view, self._parallelism)
        self._end(plan, outcome.state.outputs)

    def _show(self, plan: Plan, state: State | None) -> None:
        if self._json:
            self._json.plan(plan)
        else:
            show(plan_lines(plan, state.outputs if state else {}))

    def _check(self, plan: Plan, state: State | None, run: Run) -> None:
        """Preflight, then the question."""
        types = self._project.types(state, self._desired.provider.name)
        preflight(plan, types, run, state or State(lineage="", stack=plan.stack))
        if not self._json:
            show([BLANK, line("Preflight: nothing is missing.")])
        if not self._yes and not confirmed(f'Apply this to the stack "{plan.stack}"?'):
            raise LlmdeployError("not applied: nothing was touched")

    def _end(self, plan: Plan, outputs: Mapping[str, Tree]) -> None:
        message = done_line(plan)
        if self._json:
            self._json.done("apply", plan.counts, message, outputs)
            return
        show([*([] if plan.nothing_to_do else [BLANK, line((message, "bold green"))]), *([BLANK] if outputs else [])])
        show(output_lines(outputs))


def done_line(plan: Plan) -> str:
    """Return the one line that says what was done."""
    n = Counter(plan.counts)
    return f"Done: {n['create']} created, {n['update']} changed, {n['replace']} replaced, {n['delete']} removed."
