"""Turns what a read-only script told about a machine into observations. What cannot be told has a reason, and never a value."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmdeploy.sdk import CommandFailed, Context, Interrupted, LlmdeployError, Observation

from ._connection import Connection
from ._scripts import render
from ._session import run_script

OUTPUT_LIMIT = 8000
"""Characters of output that an observation keeps: the first and the last half."""

_BEGIN = "::question "
_END = "::status "

Read = Callable[[str], Any]
"""Returns the value of a fact from its text. Raises ValueError for a text that means nothing."""


def flag(text: str) -> bool:
    """Read `yes` or `no`."""
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


def count(text: str) -> int:
    """Read a number of 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)


def word(*allowed: str) -> Read:
    """Return what reads one of `allowed`."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return read


def from_json(text: str) -> Any:
    """Read a value that is written as JSON."""
    return json.loads(text)


def words(text: str) -> tuple[str, ...]:
    """Read words between blanks, without doubles, sorted; an empty text is none of them."""
    return tuple(sorted(set(text.split())))


@dataclass(frozen=True)
class Question:
    """What is looked at with one fragment of POSIX sh.

    facts: name of a field of `Traits` -> how its text is read. command: what an auditor could run to see the same; no secrets.
    script: changes nothing that outlives it. It prints `fact<TAB>value`, or `fact?<TAB>reason` for a fact that it cannot tell,
    and beside these whatever shows why. It runs in a subshell of its own with empty standard input and without `set -e`; when
    its status is not 0, none of its facts is told.
    """

    command: str
    script: str
    facts: Mapping[str, Read] = field(default_factory=dict[str, Read])


def ask(ctx: Context, connection: Connection, questions: Sequence[Question]) -> tuple[Observation, ...]:
    """Ask a machine, with one connection. A machine that cannot be asked gives every fact a reason.

    Raises:
        Interrupted: the user stopped the run.
    """
    try:
        output = run_script(ctx, connection, script_of(questions))
    except Interrupted:
        raise
    except LlmdeployError as error:
        tail = f": {error.tail.splitlines()[-1]}" if isinstance(error, CommandFailed) and error.tail else ""
        reason = f"{connection.address} could not be asked: {error.message}{tail}"
        return tuple(one for q in questions for one in unanswered(q, connection.address, reason))
    return answers(questions, connection.address, output)


def script_of(questions: Sequence[Question]) -> str:
    """Return the one script that asks all questions."""
    return "\n".join(
        f"printf '\\n%s\\n' '{_BEGIN}{number}'\n(\n{question.script}\n) 2>&1 </dev/null\nprintf '\\n%s%s\\n' '{_END}' \"$?\""
        for number, question in enumerate(questions)
    )


def answers(questions: Sequence[Question], host: str, output: str) -> tuple[Observation, ...]:
    """Return what the output of `script_of` says. Pure."""
    sections = dict(_sections(output))
    return tuple(one for number, question in enumerate(questions) for one in _answered(question, host, sections.get(number)))


def unanswered(question: Question, host: str, reason: str, output: str = "") -> tuple[Observation, ...]:
    """Return every fact of a question as one that could not be told."""
    return tuple(
        Observation(fact=fact, host=host, command=question.command, output=bounded(output), reason=reason)
        for fact in question.facts
    )


def bounded(text: str) -> str:
    """Return a text without control characters, and without its middle when it is long."""
    text = "".join(char if char in "\n\t" or char.isprintable() else "?" for char in text.strip("\n"))
    half = OUTPUT_LIMIT // 2
    if len(text) <= OUTPUT_LIMIT:
        return text
    return f"{text[:half]}\n... {len(text) - OUTPUT_LIMIT} characters left out ...\n{text[-half:]}"


def private_question(folders: Sequence[str], owners: Sequence[str]) -> Question:
    """Return the question whether other users can read files below the folders (or the files themselves).

    owners: names of the users, besides root, who may. Every file is tried as another user, so that rights of parent folders,
    access lists and mount options count as they do.
    """
    named = " ".join(map(shlex.quote, folders))
    return Question(
        command=f"find {named} -type f -print0 | xargs -0 setpriv --reuid=65534 --regid=65534 --clear-groups "
        'sh -c \'for file; do [ ! -r "$file" ] || echo "$file"; done\' sh',
        script=render("evidence_private.sh.j2", folders=folders, owners=owners),
        facts={"private": flag},
    )


def private_file(path: Path) -> Observation:
    """Return whether nobody but its owner can read a file of the operator, on the machine where the command line runs."""
    command = f"stat -c '%a %u %n' {shlex.quote(str(path))}"
    try:
        found = path.stat()
    except FileNotFoundError:
        return Observation(fact="private", command=command, reason=f"{path} is not there")
    except OSError as error:
        return Observation(fact="private", command=command, reason=f"{path} cannot be looked at: {error.strerror}")
    output = f"{stat.S_IMODE(found.st_mode):o} {found.st_uid} {path}"
    return Observation(fact="private", value=not found.st_mode & 0o077, command=command, output=output)


def custody_of(path: Path, reference: str | None) -> Observation:
    """Return where a secret lies: in a file that llmdeploy made at `path`, or only where a reference leads.

    A file that was left behind counts, whatever the reference says.
    """
    command = f"ls -l {shlex.quote(str(path))}"
    if path.exists():
        return Observation(fact="custody", value="operator-file", command=command, output=f"{path} is there")
    if reference is None:
        return Observation(fact="custody", command=command, reason=f"{path} is not there, and nothing else names the secret")
    output = f"{path} is not there; the secret is read from {reference.partition(':')[0]}:"
    return Observation(fact="custody", value="reference", command=command, output=output)


def _sections(output: str) -> Iterator[tuple[int, tuple[int, list[str]]]]:
    number, lines = -1, list[str]()
    for line in output.splitlines():
        if line.startswith(_BEGIN) and line.removeprefix(_BEGIN).isdigit():
            number, lines = int(line.removeprefix(_BEGIN)), []
        elif line.startswith(_END) and line.removeprefix(_END).isdigit() and number >= 0:
            yield number, (int(line.removeprefix(_END)), lines)
            number = -1
        else:
            lines.append(line)


def _answered(question: Question, host: str, section: tuple[int, list[str]] | None) -> tuple[Observation, ...]:
    if section is None:
        return unanswered(question, host, "the probe was ended before it told anything")
    status, lines = section
    output = "\n".join(lines)
    if status != 0:
        return unanswered(question, host, f"the probe ended with status {status}", output)
    return tuple(_told(question, host, fact, read, lines, output) for fact, read in question.facts.items())


def _told(question: Question, host: str, fact: str, read: Read, lines: list[str], output: str) -> Observation:
    values = [line.removeprefix(f"{fact}\t") for line in lines if line.startswith(f"{fact}\t")]
    reasons = [line.removeprefix(f"{fact}?\t") for line in lines if line.startswith(f"{fact}?\t")]
    value, reason = None, ""
    if reasons:
        reason = reasons[0] or "the probe could not tell"
    elif len(values) != 1:
        reason = "the probe told it more than once" if values else "the probe did not tell it"
    else:
        try:
            value = read(values[0])
        except ValueError:
            reason = f"the probe told something that means nothing: {values[0]}"
    return Observation(
        fact=fact, value=value, host=host, command=question.command, output=bounded(output), reason=bounded(reason)
    )
