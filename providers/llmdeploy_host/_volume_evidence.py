"""What a machine is asked about the volume of a stack: is it really encrypted, and who else can read it."""

from __future__ import annotations

from dataclasses import replace
from shlex import quote

from ._evidence import Question, private_question, word
from ._scripts import render


def volume_questions(backing: str, mount: str, user: str, encrypted: bool) -> tuple[Question, ...]:
    """Return what is asked of a volume.

    backing: the folder of what is encrypted. mount: where it is mounted. user: who may read there. encrypted: it was asked for.
    """
    return (_at_rest(backing, mount) if encrypted else _plain(mount), _private(backing, mount, user, encrypted))


def _at_rest(backing: str, mount: str) -> Question:
    return Question(
        command=f"findmnt -M {quote(mount)}; echo MARKER >{quote(mount)}/MARKER; grep -rlaF MARKER {quote(backing)}; "
        f"find {quote(backing)} -name MARKER; cat {quote(backing)}/fs/gocryptfs.conf",
        script=render("evidence_volume.sh.j2", mount=mount, backing=backing),
        facts={"at_rest": word("encrypted", "plain")},
    )


def _plain(mount: str) -> Question:
    return Question(
        command=f"findmnt -T {quote(mount)}",
        script=render("evidence_volume_plain.sh.j2", mount=mount),
        facts={"at_rest": word("plain")},
    )


def _private(backing: str, mount: str, user: str, encrypted: bool) -> Question:
    """Ask who can read the files; a FUSE mount for all users must also have its rights checked, be there files or not."""
    question = private_question((mount, backing) if encrypted else (mount,), (user,))
    return replace(question, script=f"{render('evidence_volume_shared.sh.j2', mount=mount)}\n{question.script}")
