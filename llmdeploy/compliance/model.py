"""What a control is: one definition that judges what will be built, and proves what was built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..policy import Policy
from ..stack.model import Stack
from ..traits import Traits

Severity = Literal["high", "medium", "low", "info"]
CitationStatus = Literal["primary", "secondary", "unverified"]


@dataclass(frozen=True)
class Citation:
    """Where a law or a standard says it.

    status: `primary` when its own text was read and says so, `secondary` when only other texts about it were read, `unverified`
    otherwise. source: what was read, and when (YYYY-MM-DD); "" for unverified.
    """

    ref: str
    status: CitationStatus
    source: str = ""


def _everything(_traits: Traits) -> bool:
    return True


@dataclass(frozen=True)
class Rule:
    """A judgement on the facts of one resource; the same for what is planned and for what a probe saw.

    facts: names of the fields of `Traits` that `judge` reads; live, a resource is judged only when all of them were seen. judge:
    returns what is wrong, as the end of a sentence that begins with the address ("stores data unencrypted"), or "". expected:
    what should be seen, in a few words. concerns: which resources it is about, by their planned traits. path and way_out: where
    in the stack file it is put right, and how. advice: it is only told, also where a profile demands it. locked: `llmdeploy lock`
    settles it: a plan that asked nobody cannot know, and only tells. live: facts exist only once the resource does. stated: the
    operator states the facts: where no probe can see them the result is `manual`.
    """

    facts: tuple[str, ...]
    judge: Callable[[Traits, Policy], str]
    expected: str
    concerns: Callable[[Traits], bool] = _everything
    path: str = ""
    way_out: str = ""
    advice: bool = False
    locked: bool = False
    live: bool = False
    stated: bool = False


@dataclass(frozen=True)
class Subject:
    """What is judged as a whole: the stack file, its policy, and the traits of every resource by address."""

    stack: Stack
    policy: Policy
    traits: Mapping[str, Traits] = field(default_factory=dict[str, Traits])


@dataclass(frozen=True)
class Breach:
    """What the stack as a whole does not keep: the whole sentence, where it is put right, and how.

    statement: a person must state something in the stack file. advice: it is only told.
    """

    sentence: str
    path: str
    way_out: str
    statement: bool = False
    advice: bool = False


def _nothing(_subject: Subject) -> str:
    return ""


@dataclass(frozen=True)
class Control:
    """One control.

    demand: what must be so, in one sentence. forces: what is set where the stack file leaves it open, "" for nothing. rules: on
    single resources; whole: on the stack. stated: what the operator can state and no program checks, "" for nothing; said: what
    of that the stack file does state, "" for nothing: its result is `manual`. uncovered: what of the demand nothing here judges
    or proves, "" for nothing.
    """

    id: str
    title: str
    demand: str
    severity: Severity
    rules: tuple[Rule, ...] = ()
    whole: Callable[[Subject], Iterable[Breach]] | None = None
    forces: str = ""
    stated: str = ""
    said: Callable[[Subject], str] = _nothing
    uncovered: str = ""
