"""`llmdeploy plan`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..desired import Desired
from ..errors import LlmdeployError
from ..plan import Plan, PlanRefused
from ..state.model import State
from ..views.human import has_drift
from .options import (
    HERE,
    LockTimeoutOption,
    PlanFormat,
    PlanFormatOption,
    ReplaceOption,
    StackArgument,
    TargetOption,
    VarFileOption,
    VarOption,
    duration_s,
    say,
    variables_of,
    verb,
)
from .session import Session, Wish, open_session, planning
from .show_plan import show_plan

if TYPE_CHECKING:
    from ..plan_file import SavedPlan

app = verb()
_CHANGES = 2


@app.command()
def plan(
    stack: StackArgument = HERE,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Save the plan; `llmdeploy apply FILE` does exactly that.")
    ] = None,
    format: PlanFormatOption = PlanFormat.HUMAN,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 0 without changes, 2 with changes, 1 on an error.")
    ] = False,
    destroy: Annotated[bool, typer.Option("--destroy", help="Plan what destroy would do.")] = False,
    refresh_only: Annotated[
        bool, typer.Option("--refresh-only", help="Only tell what differs from what was made; changes nothing.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: neither what exists nor a model's hub. The state is believed.")
    ] = False,
    target: TargetOption = None,
    replace: ReplaceOption = None,
    lock_timeout: LockTimeoutOption = "0s",
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """Show what apply would do."""
    timeout_s = duration_s(lock_timeout)
    wish = Wish(replace=tuple(replace or ()), targets=tuple(target or ()), refresh_only=refresh_only, offline=offline)
    _refuse_pairs(wish, destroy, out)
    session = open_session(stack, variables_of(var), var_file or ())
    _refuse_promise(session, wish, destroy, out)
    desired = None if destroy else session.desire("off" if offline else "on")
    try:
        with planning(session, desired, wish, timeout_s=timeout_s) as (made, state):
            saved = _save(out, made, session, desired, state) if out else None
    except PlanRefused as error:
        show_plan(error.plan, format, refused=True)
        raise
    made = saved.plan if saved else made
    show_plan(made, format, saved)
    if saved:
        _tell_saved(saved, out, format)
    if detailed_exitcode and not (made.nothing_to_do and not (refresh_only and has_drift(made))):
        raise typer.Exit(_CHANGES)


def _refuse_pairs(wish: Wish, destroy: bool, out: Path | None) -> None:
    """Refuse options that contradict each other, and a place that nothing can be written to, before anything is planned."""
    if wish.refresh_only and (destroy or wish.replace or out):
        other = "--destroy" if destroy else "--replace" if wish.replace else "--out"
        raise LlmdeployError(
            f"--refresh-only only looks: it makes no sense with {other}", hint="leave one of them out; `llmdeploy plan` plans"
        )
    if wish.offline and wish.refresh_only:
        raise LlmdeployError("--refresh-only looks at what exists, and --offline asks nobody", hint="leave one of them out")
    if destroy and (wish.replace or wish.targets):
        raise LlmdeployError(f"--destroy removes everything: it makes no sense with --{'replace' if wish.replace else 'target'}")
    if out:
        from ..plan_file import check_target

        check_target(out)


def _refuse_promise(session: Session, wish: Wish, destroy: bool, out: Path | None) -> None:
    """Refuse to plan the end of, or to save a plan against, a state that nobody reads."""
    if wish.offline and (destroy or out) and session.project.remote:
        option = "--destroy" if destroy else "--out"
        raise LlmdeployError(
            f"{option} needs the state, and --offline does not read {session.project.where}", hint="leave --offline out"
        )


def _save(out: Path, made: Plan, session: Session, desired: Desired | None, state: State | None) -> SavedPlan:
    from ..plan_file import save

    if desired is None:
        return save(out, made, session.project.folder, "", state)
    return save(out, made, desired.loaded.path, desired.loaded.file_sha256, state)


def _tell_saved(saved: SavedPlan, out: Path | None, format: PlanFormat) -> None:
    """Say where the plan is; beside a document for a program on standard error."""
    text = f"Saved to {out} (id {saved.id}, until {saved.plan.expires_at}). Apply it with: llmdeploy apply {out}"
    if format is PlanFormat.HUMAN:
        say(f"\n{text}")
    else:
        print(text, file=sys.stderr)
