"""`llmdeploy apply`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ..desired import Desired
from ..errors import LlmdeployError
from ..plan import Plan
from ..plan_file import SavedPlan, check_files, check_world, find_stack, is_plan_file, load
from ..resource import Tree
from ..sdk import Run
from ..state.model import State
from ..views.document import dumps
from ..views.events_json import JsonEvents
from ..views.human import output_lines, plan_lines, saved_line
from ..views.screen import BLANK, line
from ..workflow import Project, account_of, identity_of, preflight
from .carry import PARALLELISM, carry_out, event_view
from .options import (
    HERE,
    LockTimeoutOption,
    ParallelismOption,
    Progress,
    ProgressOption,
    ReplaceOption,
    TargetOption,
    VarFileOption,
    VarOption,
    YesOption,
    duration_s,
    screen,
    show,
    variables_of,
    verb,
)
from .session import Wish, confirmed, need_answer, open_session, planned

app = verb()


@app.command()
def apply(
    stack: Annotated[
        Path, typer.Argument(metavar="STACK|PLANFILE", help="Stack file or its folder, or a saved plan.", show_default=False)
    ] = HERE,
    yes: YesOption = False,
    parallelism: ParallelismOption = PARALLELISM,
    lock_timeout: LockTimeoutOption = "0s",
    target: TargetOption = None,
    replace: ReplaceOption = None,
    var: VarOption = None,
    var_file: VarFileOption = None,
    format: ProgressOption = Progress.HUMAN,
) -> None:
    """Make it so. A saved plan is carried out exactly as it was shown, without a question, or refused."""
    timeout_s = duration_s(lock_timeout)
    wish = Wish(replace=tuple(replace or ()), targets=tuple(target or ()))
    saved = is_plan_file(stack)
    if saved:
        _refuse_choices(stack, {"--target": target, "--replace": replace, "--var": var, "--var-file": var_file})
    json = JsonEvents(screen()) if format is Progress.JSONL else None
    try:
        if saved:
            _apply_saved(stack, parallelism, json, timeout_s)
            return
        session = open_session(stack, variables_of(var), var_file or ())
        session.need_builder()
        need_answer(yes, format_asks=format is Progress.HUMAN)
        desired = session.desire()
        with session.project.lock("apply", timeout_s):
            _Apply(session.project, parallelism, json).wish(desired, wish, yes)
    except LlmdeployError as error:
        if json is not None:
            json.error(error)
        raise


def _refuse_choices(file: Path, given: Mapping[str, object]) -> None:
    names = [name for name, value in given.items() if value]
    if names:
        raise LlmdeployError(
            f"{', '.join(names)} cannot change the saved plan {file}: it is applied as it is",
            hint="give the option to `llmdeploy plan --out`",
        )


def _apply_saved(file: Path, parallelism: int, json: JsonEvents | None, timeout_s: float) -> None:
    saved = load(file)
    stack = find_stack(saved, file)
    check_files(saved, file, stack)
    # The plan's own variables may say where the state lies.
    variables = {name: value if isinstance(value, str) else dumps(value) for name, value in saved.plan.variables.items()}
    project = open_session(stack, variables).project
    with project.lock("apply", timeout_s):
        _Apply(project, parallelism, json).saved(saved, file)


class _Apply:
    """One apply under its lock."""

    def __init__(self, project: Project, parallelism: int, json: JsonEvents | None) -> None:
        self._project = project
        self._parallelism = parallelism
        self._json = json

    def wish(self, desired: Desired, wish: Wish, yes: bool) -> None:
        """Plan now, ask, and carry it out."""
        state = self._project.state()
        with self._project.run(identity_of(state, desired)) as run:
            plan = planned(self._project, desired, run, state, wish)
            self._show(plan)
            if not plan.nothing_to_do:
                self._preflight(plan, state, run)
                if not yes and not confirmed(f'Apply this to the stack "{plan.stack}"?'):
                    raise LlmdeployError("not applied: nothing was touched")
            self._carry_out(plan, state, run)

    def saved(self, saved: SavedPlan, file: Path) -> None:
        """Carry out a plan as it was saved: no look at the world, no question; only what it is bound to is checked."""
        plan, state = saved.plan, self._project.state()
        with self._project.run(identity_of(state) if state else plan.identity) as run:
            for name in plan.provider_configs:
                self._project.registry.builder(name)
            check_world(saved, file, state, account_of(self._project, plan.provider_configs, run))
            if not self._json:
                show([saved_line(saved), BLANK])
            self._show(plan)
            if not plan.nothing_to_do:
                self._preflight(plan, state, run)
            self._carry_out(plan, state, run)

    def _show(self, plan: Plan) -> None:
        if self._json:
            self._json.plan(plan)
        else:
            show(plan_lines(plan))

    def _preflight(self, plan: Plan, state: State | None, run: Run) -> None:
        types = self._project.types(state, *{*plan.provider_configs, *(change.provider for change in plan.changes)})
        preflight(plan, types, run, state or State(lineage="", stack=plan.stack))
        if not self._json:
            show([BLANK, line("Preflight: nothing is missing.")])

    def _carry_out(self, plan: Plan, state: State | None, run: Run) -> None:
        outcome = carry_out(self._project, plan, state, run, self._json or event_view(), self._parallelism)
        self._end(plan, outcome.state.outputs)

    def _end(self, plan: Plan, outputs: Mapping[str, Tree]) -> None:
        message = done_line(plan)
        if self._json:
            self._json.done(plan.mode, plan.counts, message, outputs)
            return
        show([*([] if plan.nothing_to_do else [BLANK, line((message, "bold green"))]), *([BLANK] if outputs else [])])
        show(output_lines(outputs))


def done_line(plan: Plan) -> str:
    """Return the one line that says what was done."""
    n = Counter(plan.counts)
    adopted = f", {n['adopt']} adopted" if n["adopt"] else ""
    return f"Done: {n['create']} created, {n['update']} changed, {n['replace']} replaced, {n['delete']} removed{adopted}."
