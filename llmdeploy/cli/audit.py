"""`llmdeploy audit`."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Annotated

import typer

from .. import chain, pins
from ..audit import audit as run_audit
from ..audit import known_heads
from ..compliance.report import Report
from ..desired import load, policy_of
from ..errors import LlmdeployError
from ..secret import write_private
from ..stack.load import FILE_NAME
from ..state.local import STATE_FOLDER
from ..views.audit_html import audit_html
from ..views.audit_junit import audit_junit
from ..views.audit_verify import Verdict, Vouched, verdict_document, verdict_lines
from ..views.audit_view import audit_document, audit_lines
from ..views.document import dumps
from ..views.screen import Screen, line
from ..workflow import identity_of
from .options import (
    HERE,
    LockTimeoutOption,
    StackArgument,
    VarFileOption,
    VarOption,
    duration_s,
    say,
    screen,
    show,
    variables_of,
    verb,
)
from .session import Session, open_session, warn

app = verb()


class AuditFormat(StrEnum):
    """How a report is written: junit for a pipeline, html for a reader who was not there."""

    HUMAN = "human"
    JSON = "json"
    JUNIT = "junit"
    HTML = "html"


@app.command()
def audit(
    stack: StackArgument = HERE,
    format: Annotated[AuditFormat, typer.Option("--format", help="How to answer.")] = AuditFormat.HUMAN,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the report there; the screen shows it for a person.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option("--verify", metavar="FILE", help="Audit nothing: check whether an evidence file is intact.")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="DIGEST", help="The head that the file must have, for --verify.")
    ] = None,
    lock_timeout: LockTimeoutOption = "0s",
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """Prove that what was applied keeps to its profiles. Exit code 0: nothing failed; 1: something did, or an error."""
    _refuse_pairs(verify, head, out, format)
    head = None if head is None else _digest(head)
    session = open_session(stack, variables_of(var), var_file or ())
    if verify is not None:
        _verify(session, verify, head, format)
        return
    if out is not None:
        _check_target(out, session)
    report = _audited(session, duration_s(lock_timeout))
    _tell(report, format, out)
    if report.failed:
        raise typer.Exit(1)


def _refuse_pairs(verify: Path | None, head: str | None, out: Path | None, format: AuditFormat) -> None:
    if verify is None and head is not None:
        raise LlmdeployError("--head is for --verify", hint="llmdeploy audit --verify FILE --head DIGEST")
    if verify is not None and (out is not None or format not in (AuditFormat.HUMAN, AuditFormat.JSON)):
        other = "--out" if out is not None else f"--format {format}"
        raise LlmdeployError("--verify answers on the screen, as human or json", hint=f"leave {other} out")


def _digest(head: str) -> str:
    """Return a head as evidence names it. Raises LlmdeployError for what can be none, such as an empty variable of a pipeline."""
    written = head.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", written):
        raise LlmdeployError("--head is no head: it has 64 digits and letters from a to f", hint="an audit prints its head")
    return written


def _check_target(out: Path, session: Session) -> None:
    """Refuse a place that no report can be written to, or that holds what the stack is made of, before anything is asked."""
    if not out.parent.is_dir():
        raise LlmdeployError(f"cannot write {out}: there is no folder {out.parent}", hint="make it first")
    if out.exists() and not out.is_file():
        raise LlmdeployError(f"cannot write {out}: it is no file", hint="name a file")
    folder, target = session.inputs.folder.resolve(), out.resolve()
    inputs = (session.inputs.path.resolve(), folder / FILE_NAME, folder / pins.FILE_NAME)
    if target in inputs or folder / STATE_FOLDER in target.parents:
        raise LlmdeployError(f"a report does not overwrite {out}", hint="name another file")


def _audited(session: Session, timeout_s: float) -> Report:
    loaded = load(session.inputs, session.registry)
    policy, project = policy_of(loaded), session.project
    with project.lock("audit", timeout_s):
        state = project.need_state()
        with project.run(identity_of(state)) as run:
            return run_audit(project, loaded, policy, state, run, _Progress(Screen(sys.stderr)))


class _Progress:
    """Tells what is being asked on standard error, where somebody watches it. Several threads may call it."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = Lock()

    def __call__(self, text: str) -> None:
        if not self._screen.interactive:
            return
        with self._lock:
            self._screen.write([line(f"asking {text}")])
            self._screen.flush()


# --- the report ---------------------------------------------------------------------------------------------------------------


def _tell(report: Report, format: AuditFormat, out: Path | None) -> None:
    target = screen()
    if out is None:
        say(_text(report, format, target.width))
        return
    try:
        write_private(out, _text(report, format, None).encode(errors="backslashreplace") + b"\n")
    except OSError as error:
        raise LlmdeployError(
            f"the audit was made, but its report cannot be written to {out}: {error.strerror}",
            hint=f"its evidence is {report.file}",
        ) from None
    target.write(audit_lines(report, target.width))
    say(f"\nThe report is in {out}")


def _text(report: Report, format: AuditFormat, width: int | None) -> str:
    """Return the report as one text."""
    match format:
        case AuditFormat.JSON:
            return dumps(audit_document(report))
        case AuditFormat.JUNIT:
            return audit_junit(report)
        case AuditFormat.HTML:
            return audit_html(report)
        case AuditFormat.HUMAN:
            stream = StringIO()
            Screen(stream, {}).write(audit_lines(report, width))
            return stream.getvalue().rstrip("\n")


# --- checking evidence --------------------------------------------------------------------------------------------------------


def _verify(session: Session, file: Path, head: str | None, format: AuditFormat) -> None:
    found = chain.verify(file, head)
    verdict = Verdict(str(file), found, "given" if head == found.head else _vouched(session, found, head))
    if format is AuditFormat.JSON:
        say(dumps(verdict_document(verdict)))
    else:
        show(verdict_lines(verdict))
    if not verdict.intact:
        raise typer.Exit(1)


def _vouched(session: Session, found: chain.Verification, head: str | None) -> Vouched:
    """Return who vouches for the head of a file. A given head counts alone; else the state's, where there is one."""
    if head is not None:
        return "no"
    try:
        state = session.project.store.read() if session.has_state else None
    except LlmdeployError as error:
        warn(f"the state cannot be read, so it cannot tell the head: {error.message}")
        return "unknown"
    if state is None or state.evidence is None:
        return "unknown"
    if state.evidence.head == found.head:
        return "newest"
    folder = session.project.folder / STATE_FOLDER / "evidence"
    return "older" if found.head in known_heads(folder, state.evidence.head) else "no"
