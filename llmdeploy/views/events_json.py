"""An apply as JSON lines in Terraform's shape: `@level @message @timestamp type`, and the fields of each type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from types import TracebackType
from typing import Self

from .. import __version__
from ..change import Action, Change
from ..errors import CommandFailed, LlmdeployError
from ..event import Done, Event, Failed, Note, Progress, Skipped, Started
from ..plan import Plan
from ..resource import Tree
from .document import FORMAT_VERSION, dumps
from .events import DOING, DONE, going_on
from .human import counts, warnings
from .json_view import actions, outputs_document
from .screen import Screen

_WORDS: Mapping[Action, str] = {"adopt": "import", "no-op": "noop"}
"""Where Terraform has another word for an action."""


class JsonEvents:
    """Writes every event, and what comes before and after, as one line each."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = Lock()
        self._providers: dict[str, str] = {}
        self._write("version", f"llmdeploy {__version__}", llmdeploy=__version__, ui=FORMAT_VERSION)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def plan(self, plan: Plan) -> None:
        """Tell each planned change, each drift and the counts."""
        self._providers = {change.address: change.provider for change in plan.changes}
        for change in plan.changes:
            for drift in change.drift:
                self._write(
                    "resource_drift", f"{change.address}: {drift.sentence}", resource=_resource(change), field=drift.field
                )
        for change in plan.effective:
            self._planned(change)
        for warning in warnings(plan):
            self._diagnostic("warning", warning, "")
        self._summary("plan", plan.counts, counts(plan))

    def _planned(self, change: Change) -> None:
        body: dict[str, Tree] = {"resource": _resource(change), "action": _WORDS.get(change.action, change.action)}
        body |= {"reason": change.reason, "in_doubt": change.in_doubt}
        if change.action == "adopt":
            body["importing"] = {"id": change.found}
        if change.action != "no-op":
            self._write("planned_change", f"{change.address}: Plan to {change.action}", change=body)
        for generation in change.deposed:
            gone: dict[str, Tree] = {"resource": _resource(change), "action": "delete", "deposed": f"{generation:08x}"}
            self._write("planned_change", f"{change.address}: Plan to delete a replaced object", change=gone)

    def done(self, operation: str, counted: Mapping[str, int], message: str, outputs: Mapping[str, Tree]) -> None:
        """Tell what was done, and the stack's outputs."""
        self._summary(operation, counted, message)
        self._write("outputs", f"Outputs: {len(outputs)}", outputs=outputs_document(outputs))

    def error(self, error: LlmdeployError) -> None:
        """Tell an error that ends the run."""
        self._diagnostic("error", error.message, error.hint, tail=error.tail if isinstance(error, CommandFailed) else "")

    def finish(self) -> None:
        """Every failure was told when it came."""

    def __call__(self, event: Event) -> None:
        """Write one event."""
        match event:
            case Started(address, action, at):
                self._write("apply_start", f"{address}: {DOING[action]}...", at=at, hook=self._hook(address, action=action))
            case Progress(address, message, elapsed_s, at):
                hook = self._hook(address, elapsed_seconds=round(elapsed_s, 3), message=message)
                self._write("apply_progress", f"{address}: {message or 'Still working...'}", at=at, hook=hook)
            case Done(address, action, elapsed_s, at):
                hook = self._hook(address, action=action, elapsed_seconds=round(elapsed_s, 3))
                self._write("apply_complete", f"{address}: {DONE[action]}", at=at, hook=hook)
            case Failed(address, action, message, hint, tail, elapsed_s, at):
                hook = self._hook(address, action=action, elapsed_seconds=round(elapsed_s, 3))
                self._write("apply_errored", f"{address}: Failed", level="error", at=at, hook=hook)
                self._diagnostic("error", message, hint, address=address, tail=tail)
            case Skipped(address, action, because, at):
                message = f"{address}: Skipped because {because} failed" if because else f"{address}: Not started"
                self._write(
                    "apply_skipped", message, level="warn", at=at, hook=self._hook(address, action=action, because=because)
                )
            case Note(message, at):
                self._write("log", message, at=at)

    def _hook(self, address: str, **fields: Tree) -> dict[str, Tree]:
        return {"resource": _named(address, self._providers.get(address, "")), **fields}

    def _summary(self, operation: str, counted: Mapping[str, int], message: str) -> None:
        names = {"add": "create", "change": "update", "replace": "replace", "remove": "delete", "import": "adopt"}
        self._write(
            "change_summary", message, changes={**{k: counted.get(v, 0) for k, v in names.items()}, "operation": operation}
        )

    def _diagnostic(self, severity: str, summary: str, detail: str, **more: str) -> None:
        body = {"severity": severity, "summary": summary, "detail": detail, **{name: text for name, text in more.items() if text}}
        level, word = ("error", "Error") if severity == "error" else ("warn", "Warning")
        self._write("diagnostic", f"{word}: {summary}", level=level, diagnostic=body)

    def _write(self, type: str, message: str, *, level: str = "info", at: str = "", **fields: Tree) -> None:
        stamp = at or datetime.now(UTC).isoformat(timespec="milliseconds")
        head: dict[str, Tree] = {
            "@level": level,
            "@message": message,
            "@module": "llmdeploy.ui",
            "@timestamp": stamp,
            "type": type,
        }
        with self._lock, going_on(self._screen):
            self._screen.text(dumps({**head, **fields}, lines=True))
            self._screen.flush()


def _resource(change: Change) -> dict[str, Tree]:
    return {**_named(change.address, change.provider), "actions": actions(change)}


def _named(address: str, provider: str) -> dict[str, Tree]:
    """Return a resource under Terraform's names."""
    kind, _, name = address.partition(".")
    return {
        "addr": address,
        "module": "",
        "resource": address,
        "implied_provider": provider,
        "resource_type": kind,
        "resource_name": name,
        "resource_key": None,
    }
