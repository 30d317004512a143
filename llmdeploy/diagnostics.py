"""Findings about the user's input, collected and shown all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from .errors import StackError

Severity = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Place:
    """A position in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """One finding: what is wrong (`summary`), where (`place`, `path` such as "model.quant"), what to do next (`hint`)."""

    severity: Severity
    summary: str
    place: Place | None = None
    path: str = ""
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        name = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.severity}: {name}{self.summary}{hint}"


@dataclass
class Diagnostics:
    """A list of findings that ends in one `StackError` when it holds an error."""

    items: list[Diagnostic] = field(default_factory=list[Diagnostic])

    def error(self, summary: str, place: Place | None = None, *, path: str = "", hint: str = "") -> None:
        """Add an error."""
        self.items.append(Diagnostic("error", summary, place, path, hint))

    def warning(self, summary: str, place: Place | None = None, *, path: str = "", hint: str = "") -> None:
        """Add a warning."""
        self.items.append(Diagnostic("warning", summary, place, path, hint))

    @property
    def errors(self) -> list[Diagnostic]:
        """The errors, in order of their place."""
        found = [d for d in self.items if d.severity == "error"]
        return sorted(found, key=lambda d: (d.place is None, d.place or Place("", 0, 0)))

    def raise_if_errors(self) -> None:
        """Raise one `StackError` that carries every finding, or do nothing."""
        errors = self.errors
        if errors:
            count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
            raise StackError("\n".join([*(str(d) for d in errors), count]), diagnostics=errors)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.items)


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return `did you mean "x"?`, or the valid names when none is near, or nothing when there are too many."""
    names = sorted(valid)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"valid: {', '.join(names)}" if len(names) <= 12 else ""
