"""What an operation of a resource type receives, and what it gives back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel

from .change import Action, Drift, FieldChange
from .errors import Interrupted, LlmdeployError
from .identity import Identity
from .resource import Tree
from .secret import Custody, Secret, resolve

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


def _no_generator(location: str) -> Mapping[str, bytes]:
    raise LlmdeployError(f"this run cannot write the model {location} itself", hint="pass `generate` to Run")


class Run:
    """One run of the command line: what every operation of every resource shares.

    identity: name and lineage of the stack. folder: where the stack file lies; `file:` references start there. custody: the
    operator's own secret files. environ: the environment that `env:` references read. abort: set when the user wants to stop
    now; long operations end themselves with `Interrupted` when they see it. generate: the files, by path, of a model that
    llmdeploy writes itself, from the `location` of its manifest.
    """

    def __init__(
        self,
        identity: Identity,
        folder: Path,
        environ: Mapping[str, str],
        generate: Callable[[str], Mapping[str, bytes]] = _no_generator,
    ) -> None:
        self.identity = identity
        self.folder = folder
        self.environ = environ
        self.generate = generate
        self.custody = Custody(folder / ".llmdeploy" / "secrets")
        self.abort = threading.Event()
        self._shared: dict[str, object] = {}
        self._lock = threading.RLock()

    @property
    def slug(self) -> str:
        """`name-lineage8`. Only valid once the lineage is known, that is in every operation that changes something."""
        if self.identity.slug is None:
            raise LlmdeployError("this stack has no lineage yet: nothing was applied")
        return self.identity.slug

    def secret(self, ref: str) -> Secret:
        """Return the secret behind a reference. Raises SecretError."""
        return resolve(ref, folder=self.folder, environ=self.environ)

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """Return the object made once per run under `key`, such as a connection. It is closed with the run if it has `close`."""
        with self._lock:
            if key not in self._shared:
                self._shared[key] = make()
            return cast("T", self._shared[key])

    def close(self) -> None:
        """Close every shared object."""
        with self._lock:
            for item in self._shared.values():
                close = getattr(item, "close", None)
                if callable(close):
                    close()
            self._shared.clear()


def ownership_tags(identity: Identity, address: str, generation: int) -> dict[str, str]:
    """Return the tags that say whose an object is; `Sweeper.sweep` finds it by them."""
    return {
        "llmdeploy:lineage": identity.lineage or "",
        "llmdeploy:stack": identity.name,
        "llmdeploy:address": address,
        "llmdeploy:generation": str(generation),
    }


class Context:
    """One operation on one resource.

    token: the same for every try at this address and generation, for APIs that know idempotency tokens (64 hex digits).
    object_id: the id that an interrupted try acknowledged, else "". deadline: the monotonic time at which the operation should
    have given up. `done_steps`: names of the steps that an interrupted try already finished.
    """

    def __init__(
        self,
        run: Run,
        address: str,
        *,
        generation: int = 1,
        token: str = "",
        object_id: str = "",
        timeout_s: float = 3600.0,
        done_steps: Iterable[str] = (),
        on_acked: Callable[[str], None] = lambda _id: None,
        on_step: Callable[[str], None] = lambda _name: None,
        on_progress: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self.run = run
        self.address = address
        self.generation = generation
        self.token = token
        self.object_id = object_id
        self.deadline = time.monotonic() + timeout_s
        self.done_steps = set(done_steps)
        self._on_acked = on_acked
        self._on_step = on_step
        self._on_progress = on_progress

    @property
    def tags(self) -> Mapping[str, str]:
        """Ownership tags; they belong into the very call that creates, so that no object is ever without."""
        identity = self.run.identity
        return ownership_tags(identity, self.address, self.generation)

    def acked(self, object_id: str) -> None:
        """Make durable that the object exists under `object_id`. Call it at once, before any waiting or configuring."""
        self.object_id = object_id
        self._on_acked(object_id)

    def step(self, name: str, action: Callable[[], None]) -> None:
        """Run `action` unless an interrupted try already finished the step `name`; make durable that it is done.

        Put into the name what the step depends on (a digest), so that a changed wish runs it again.
        """
        if self.run.abort.is_set():
            raise Interrupted(f"{self.address}: stopped before {name}")
        if name in self.done_steps:
            return
        action()
        self.done_steps.add(name)
        self._on_step(name)

    def progress(self, message: str) -> None:
        """Tell the user what happens now, in a few words."""
        self._on_progress(message)


@dataclass(frozen=True)
class Prior:
    """A resource as state and refresh know it.

    spec and outputs are trees as stored; status is "ok", "tainted" (failed half-way), "creating" or "updating" (interrupted);
    exists is False when refresh found it gone; drift holds what was found different.
    """

    address: str
    id: str
    spec: Mapping[str, Tree]
    outputs: Mapping[str, Tree]
    status: str = "ok"
    generation: int = 1
    exists: bool = True
    drift: tuple[Drift, ...] = ()

    def spec_as(self, model: type[M]) -> M:
        """Return the stored spec as `model`."""
        return model.model_validate(self.spec)


@dataclass(frozen=True)
class PlannedChange:
    """What a type would do: the action, its one-line reason, the differing fields, and sentences for the inside of a machine.

    outputs: those known before apply; every other output is `UNKNOWN` after a create, and stays as it was after an update.
    """

    action: Action
    reason: str = ""
    fields: tuple[FieldChange, ...] = ()
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Something that preflight found missing before the first effect: what, and what to do about it."""

    sentence: str
    hint: str = ""


@dataclass(frozen=True)
class OperationResult:
    """What an operation of a type gives back: `data` for the caller, and new `outputs` to store (None: unchanged)."""

    data: Tree = None
    outputs: Mapping[str, Tree] | None = None


Operation = Callable[[Context, Prior, Mapping[str, Tree]], OperationResult]
"""What verbs and rollouts call by name: inspect, logs, probe, drain, undrain, rotate, revoke."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds after which an operation should have given up."""

    create_s: float = 600
    update_s: float = 600
    delete_s: float = 600
