"""What every verb that touches a stack begins with: its folder, its providers, its state, and the question before a change."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..backend import backend_of
from ..desired import Desired, Inputs, Network, desire, inputs_of, load
from ..diagnostics import nearest
from ..errors import LlmdeployError, StateError
from ..plan import Plan
from ..registry import Registry
from ..sdk import Run
from ..state.model import State
from ..workflow import Project, identity_of, make_plan
from .options import say


@dataclass(frozen=True)
class Session:
    """One command on one stack."""

    inputs: Inputs
    registry: Registry
    project: Project

    @property
    def has_state(self) -> bool:
        """Whether anything may ever have been applied, or is being applied for the first time."""
        return self.project.has_state

    def desire(self, network: Network = "on") -> Desired:
        """Return what the stack file asks for. network: how far a model's hub may be asked."""
        return desire(self.inputs, self.registry, network)

    def need_builder(self) -> None:
        """Refuse a stack file that is wrong, or whose provider only plans, before anything is asked. Raises LlmdeployError."""
        self.registry.builder(load(self.inputs, self.registry).stack.provider.name)

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
    """Return the session of the stack at `stack`. Reads nothing yet. Raises LlmdeployError when it is a saved plan."""
    if stack.is_file():
        from ..plan_file import is_plan_file

        if is_plan_file(stack):
            hint = f"llmdeploy show {stack}, or llmdeploy apply {stack}"
            raise LlmdeployError(f"{stack} is a saved plan, not a stack", hint=hint)
    inputs = inputs_of(stack, variables, var_files)
    registry = Registry()
    project = Project(inputs.folder, registry, inputs.environ, locate=lambda: backend_of(inputs, registry), warn=warn)
    return Session(inputs, registry, project)


def warn(sentence: str) -> None:
    """Tell the user on standard error."""
    print(f"Warning: {sentence}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Wish:
    """What a plan is asked for beyond the stack file.

    replace: addresses to make anew; targets: the only addresses to look at (empty: all); refresh_only: tell drift, plan nothing;
    offline: ask nobody what exists.
    """

    replace: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    refresh_only: bool = False
    offline: bool = False


NOTHING_MORE = Wish()


@contextmanager
def planning(
    session: Session, desired: Desired | None, wish: Wish = NOTHING_MORE, *, timeout_s: float = 0.0
) -> Generator[tuple[Plan, State | None]]:
    """Plan for looking at: under the lock when there is a state, so that no apply changes it meanwhile; touches nothing.

    timeout_s: how long to wait for somebody else's lock. An offline plan whose state cannot be read without a network shows
    everything as new, and says so.
    """
    if wish.offline and session.project.remote:
        warn(f"--offline: {session.project.where} was not read; everything is shown as if nothing existed")
        with session.project.run(identity_of(None, desired)) as run:
            yield planned(session.project, desired, run, None, wish), None
        return
    with session.project.lock("plan", timeout_s) if session.has_state else nullcontext():
        state = session.project.state()
        with session.project.run(identity_of(state, desired)) as run:
            yield planned(session.project, desired, run, state, wish), state


def planned(project: Project, desired: Desired | None, run: Run, state: State | None, wish: Wish) -> Plan:
    """Return the plan. Raises LlmdeployError when an address of the wish is not in it."""
    known = {*(state.entries if state else ()), *((one.address for one in desired.graph) if desired else ())}
    for option, addresses in (("--replace", wish.replace), ("--target", wish.targets)):
        for address in addresses:
            if address not in known:
                raise LlmdeployError(f"{option} {address}: there is no such resource", hint=nearest(address, known))
    return make_plan(
        project,
        desired,
        run,
        state,
        force_replace=wish.replace,
        targets=wish.targets,
        refresh_only=wish.refresh_only,
        offline=wish.offline,
    )


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
