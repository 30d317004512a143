"""What every verb that touches a stack begins with: its folder, its providers, its state, and the question before a change."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..desired import Desired, Inputs, desire, inputs_of
from ..diagnostics import nearest
from ..errors import LlmdeployError, StateError
from ..plan import Plan
from ..registry import Registry
from ..sdk import Run
from ..state.model import State
from ..workflow import STATE_FOLDER, Project, identity_of, make_plan
from .options import say


@dataclass(frozen=True)
class Session:
    """One command on one stack."""

    inputs: Inputs
    registry: Registry
    project: Project

    @property
    def has_state(self) -> bool:
        """Whether anything was ever applied from this folder, or is being applied for the first time."""
        return (self.project.folder / STATE_FOLDER).is_dir()

    def desire(self) -> Desired:
        """Return what the stack file asks for."""
        return desire(self.inputs, self.registry)

    def stored(self) -> State:
        """Return the state as it was written: needs neither a provider's program nor any machine.

        Raises:
            StateError: nothing was applied yet.
        """
        state = self.project.store.read()
        if state is None:
            raise StateError(f"nothing was applied from {self.project.folder} yet", hint="llmdeploy apply")
        return state

    @contextmanager
    def looking(self) -> Generator[tuple[State, Run]]:
        """Give the state and a run to look at what exists; takes no lock.

        Raises:
            StateError: nothing was applied yet.
        """
        state = self.project.need_state()
        with self.project.run(identity_of(state)) as run:
            yield state, run


def open_session(stack: Path, variables: Mapping[str, str] | None = None, var_files: Sequence[Path] = ()) -> Session:
    """Return the session of the stack at `stack`. Reads nothing yet."""
    inputs = inputs_of(stack, variables, var_files)
    registry = Registry()
    return Session(inputs, registry, Project(inputs.folder, registry, inputs.environ))


@contextmanager
def planning(session: Session, desired: Desired | None, *, replace: Sequence[str] = ()) -> Generator[tuple[Plan, State | None]]:
    """Plan for looking at: under the lock when there is a state, so that no apply changes it meanwhile; touches nothing."""
    with session.project.lock("plan") if session.has_state else nullcontext():
        state = session.project.state()
        with session.project.run(identity_of(state, desired)) as run:
            yield planned(session.project, desired, run, state, replace), state


def planned(project: Project, desired: Desired | None, run: Run, state: State | None, replace: Sequence[str]) -> Plan:
    """Return the plan. Raises LlmdeployError when an address to replace is not in it."""
    plan = make_plan(project, desired, run, state, force_replace=replace)
    known = {change.address for change in plan.changes}
    for address in replace:
        if address not in known:
            raise LlmdeployError(f"--replace {address}: there is no such resource", hint=nearest(address, known))
    return plan


def has_person() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison] - None when it was closed


def need_answer(yes: bool, *, format_asks: bool = True) -> None:
    """Refuse, before anything is touched, to go on where nobody could say yes."""
    if yes or (format_asks and has_person()):
        return
    raise LlmdeployError("there is nobody to ask: nothing was touched", hint="run it in a terminal, or with --yes")


def confirmed(question: str) -> bool:
    """Ask; only `yes` is a yes."""
    say()
    try:
        return input(f'{question} Only "yes" is taken as a yes: ').strip() == "yes"
    except EOFError:
        say()
        return False
