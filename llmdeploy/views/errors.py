"""An error as lines: what happened, where, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..diagnostics import Diagnostic
from ..errors import CommandFailed, LlmdeployError, StackError
from ..resource import Tree
from .document import FORMAT_VERSION
from .screen import Line, line


def error_lines(error: LlmdeployError) -> Iterator[Line]:
    """Yield the lines of an error. Findings in a file come as `file:line:column: error: ...`, as editors read them."""
    if isinstance(error, StackError) and error.diagnostics:
        yield from (line(text, hang=2) for text in error.message.splitlines())
    else:
        yield from sentence_lines(error.message)
    if isinstance(error, CommandFailed):
        yield from tail_lines(error.tail)
    if error.hint:
        yield from hint_lines(error.hint)


def sentence_lines(message: str) -> Iterator[Line]:
    """Yield `Error: ` and the sentences; those after the first are indented."""
    first, *rest = message.splitlines() or [""]
    yield line(("Error: ", "bold red"), first, hang=2)
    yield from (line(f"  {text}", hang=4) for text in rest)


def hint_lines(hint: str) -> Iterator[Line]:
    """Yield what to do next."""
    yield line(("  Hint: ", "bold"), " ".join(hint.split()), hang=8)


def tail_lines(tail: str) -> Iterator[Line]:
    """Yield the last lines of what ran, set apart."""
    yield from (line(("  | ", "dim"), text, hang=4) for text in tail.splitlines())


def diagnostics_document(error: LlmdeployError | None, warnings: Iterable[str] = ()) -> dict[str, Tree]:
    """Return what `validate` found as JSON in Terraform's shape."""
    errors = (
        [] if error is None else [_diagnostic(item) for item in getattr(error, "diagnostics", ()) if isinstance(item, Diagnostic)]
    )
    if error is not None and not errors:
        errors = [{"severity": "error", "summary": error.message, "detail": error.hint}]
    found = [*errors, *({"severity": "warning", "summary": text, "detail": ""} for text in warnings)]
    return {
        "format_version": FORMAT_VERSION,
        "valid": not errors,
        "error_count": len(errors),
        "warning_count": len(found) - len(errors),
        "diagnostics": found,
    }


def _diagnostic(found: Diagnostic) -> dict[str, Tree]:
    document: dict[str, Tree] = {"severity": found.severity, "summary": found.summary, "detail": found.hint, "path": found.path}
    if found.place is not None:
        start = {"line": found.place.line, "column": found.place.column}
        document["range"] = {"filename": found.place.file, "start": start}
    return document
