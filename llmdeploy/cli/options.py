"""Options that several verbs share, and how their text is read."""

from __future__ import annotations

import os
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..views.screen import Lines, Screen

HERE = Path(".")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Format(StrEnum):
    """How a verb answers that reads."""

    HUMAN = "human"
    JSON = "json"


class PlanFormat(StrEnum):
    """How a plan is shown: markdown is a comment on a pull request, html a page to look at."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


class Progress(StrEnum):
    """How a verb answers that changes something."""

    HUMAN = "human"
    JSONL = "jsonl"


def duration_s(text: str) -> float:
    """Return the seconds of `90`, `30s`, `5m`, `24h` or `2d`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhd]?)", text.strip())
    if found is None:
        raise typer.BadParameter(f'"{text}" is no duration; write 30s, 5m, 24h or 2d')
    return float(found[1]) * _UNITS_S[found[2]]


def variables_of(given: list[str] | None) -> dict[str, str]:
    """Return `--var name=value` options as a mapping; the last one of a name counts."""
    pairs = [text.partition("=") for text in given or ()]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise typer.BadParameter("write --var name=value")
    return {name: value for name, _, value in pairs}


StackArgument = Annotated[Path, typer.Argument(metavar="STACK", help="Stack file or its folder.", show_default=False)]
StackOption = Annotated[Path, typer.Option("--stack", metavar="STACK", help="Stack file or its folder.", show_default=False)]
FormatOption = Annotated[Format, typer.Option("--format", help="How to answer.")]
PlanFormatOption = Annotated[PlanFormat, typer.Option("--format", help="How to answer.")]
ProgressOption = Annotated[Progress, typer.Option("--format", help="How to tell what happens.")]
VarOption = Annotated[list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="Set a variable of the stack file.")]
VarFileOption = Annotated[list[Path] | None, typer.Option("--var-file", metavar="FILE", help="Read variables from a YAML file.")]
ReplaceOption = Annotated[
    list[str] | None, typer.Option("--replace", metavar="ADDRESS", help="Remove this resource and make it anew.")
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="ADDRESS", help="Only this resource and what belongs to it; may be repeated."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", "--auto-approve", help="Do not ask.")]
LockTimeoutOption = Annotated[
    str, typer.Option("--lock-timeout", metavar="DURATION", help="How long to wait for somebody else's lock, such as 5m.")
]
ParallelismOption = Annotated[
    int, typer.Option("--parallelism", min=1, max=256, metavar="N", help="How many operations run at once.")
]


def verb() -> typer.Typer:
    """Return an empty app for one verb: plain help, no tracebacks of its own."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def screen() -> Screen:
    """Return standard output."""
    return Screen(sys.stdout, os.environ)


def say(text: str = "") -> None:
    """Print one text that must come out exactly so."""
    screen().text(text)


def show(lines: Lines) -> None:
    """Print lines of a view."""
    screen().write(lines)
