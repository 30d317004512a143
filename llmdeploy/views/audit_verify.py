"""What was found out about an evidence file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from ..chain import Verification
from ..resource import Tree
from .audit_view import one_line
from .document import FORMAT_VERSION
from .screen import Line, line

Vouched = Literal["given", "newest", "older", "no", "unknown"]
"""Who vouches for a head: the user gave it; the state names it; a later audit of the state names it; nobody, though one is known;
or no head is known at all."""

_SHOWN = 20
_SHOWN_CHARACTERS = 200
_INTACT = {
    True: "Intact: every record is as it was written, and none is missing.",
    False: "Intact in itself: its records fit each other, and none is missing between them.",
}
_VOUCHED: dict[Vouched, str] = {
    "given": "It is the head that --head gives.",
    "newest": "It is the head that the state names.",
    "older": "It is the head of an older audit; the later ones lead from it to the head in the state.",
    "no": "It is not the head that it should be: the file was made anew as a whole, is another one, or is of an audit that ended"
    " before its head was kept.",
    "unknown": "Which head it must have is not known here, so a file that was made anew as a whole would not be found:"
    " give --head, or name the stack.",
}


@dataclass(frozen=True)
class Verdict:
    """A file, what was found out about it, and who vouches for its head."""

    file: str
    found: Verification
    vouched: Vouched

    @property
    def intact(self) -> bool:
        """Whether nothing was changed, as far as can be told."""
        return self.found.intact and self.vouched != "no"


def verdict_lines(verdict: Verdict) -> Iterator[Line]:
    """Yield what is wrong, line by line, or what is well."""
    found, begin = verdict.found, verdict.found.begin
    for problem in found.problems[:_SHOWN]:
        yield line((f"{verdict.file}:{problem.line}: ", "bold"), one_line(problem.sentence), hang=2)
    if len(found.problems) > _SHOWN:
        yield line(f"and {len(found.problems) - _SHOWN} more")
    if begin.get("kind") == "audit":
        stack, serial, started_at, who = (_told(begin.get(name)) for name in ("stack", "serial", "started_at", "who"))
        about = f"{stack}, serial {serial}, begun {started_at} by {who}"
        yield line(f"Evidence of an audit of {about}, {len(found.records)} records", hang=2)
    yield line(f"Head: {_told(found.head) or 'none'}", hang=2)
    if found.intact or verdict.vouched in ("no", "unknown"):
        yield line((_VOUCHED[verdict.vouched], "" if verdict.intact else "bold red"), hang=2)
    if verdict.intact:
        yield line((_INTACT[verdict.vouched != "unknown"], "bold green"), hang=2)
    else:
        yield line(("Broken: this file is no evidence.", "bold red"), hang=2)


def _told(value: object) -> str:
    """Return what a file says that anybody may have written, fit for one line."""
    return one_line(str(value)[:_SHOWN_CHARACTERS])


def verdict_document(verdict: Verdict) -> dict[str, Tree]:
    """Return the same as JSON."""
    return {
        "format_version": FORMAT_VERSION,
        "file": verdict.file,
        "head": verdict.found.head,
        "records": len(verdict.found.records),
        "intact": verdict.intact,
        "vouched": verdict.vouched,
        "problems": [asdict(one) for one in verdict.found.problems[:_SHOWN]],
        "problem_count": len(verdict.found.problems),
    }
