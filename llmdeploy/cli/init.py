"""`llmdeploy init`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from .. import __version__
from ..backend import Backend, check, migrate
from ..desired import inputs_of
from ..diagnostics import Diagnostic
from ..errors import LlmdeployError, StackError
from ..registry import Registry
from ..stack.load import FILE_NAME, load
from ..stack.starter import starter
from ..state.local import STATE_FOLDER
from .options import HERE, say, verb
from .session import has_person, warn

app = verb()
_IGNORED = f"{STATE_FOLDER}/"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write it.", show_default=False)] = HERE,
    name: Annotated[str | None, typer.Option(help="Name of the stack.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="Catalogue name, hub repository, or path.", show_default=False)] = None,
    provider: Annotated[str | None, typer.Option(help="Where it runs.", show_default=False)] = None,
    compliance: Annotated[
        list[str] | None, typer.Option(metavar="PROFILE", help="Rules to keep, such as gdpr; may be repeated.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Where that is, for rules about residency.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a stack file that is there.")] = False,
    migrate_state: Annotated[bool, typer.Option("--migrate-state", help="Move the state to where the stack file says.")] = False,
) -> None:
    """Write a starter stack file. With comments and a .gitignore; asks on a terminal for what no option says.

    Where a stack file is and keeps its state elsewhere, check that place instead.
    """
    file = folder / FILE_NAME
    registry = Registry()
    if migrate_state:
        source, target, state = migrate(inputs_of(folder), registry, warn)
        count = len(state.entries)
        say(f"The state (serial {state.serial}, {count} resource{'s'[: count != 1]}) was in {source} and lies in {target} now.")
        return
    if file.exists() and not force:
        _check_backend(folder, file, registry)
        return
    profiles = [profile for text in compliance or () for profile in re.split(r"[,\s]+", text) if profile]
    text = starter(
        name=name or _ask("Name of the stack", _default_name(folder)),
        model=model or _ask("Model (catalogue name, Hugging Face repository, path)", "tiny-random"),
        provider=provider or _ask(f"Provider ({', '.join(registry.names())})", "local"),
        compliance=profiles or _ask("Compliance profiles, with commas (empty: none)", "").replace(",", " ").split(),
        region=region or _ask("Region, country or label (empty: none)", "") or None,
    )
    _check(text, registry)
    _write(folder, text)
    say(f"Wrote {file}. Next: llmdeploy plan" + ("" if folder == HERE else f" {folder}"))


def _check_backend(folder: Path, file: Path, registry: Registry) -> None:
    """Try whether the place of the state that the stack file names can hold it."""
    backend, findings = check(inputs_of(folder), registry)
    if backend == Backend():
        raise LlmdeployError(f"{file} is there already", hint="--force overwrites it")
    for sentence in findings:
        warn(sentence)
    say(f"{backend} can hold the state. Next: llmdeploy plan" + ("" if folder == HERE else f" {folder}"))


def _ask(question: str, default: str) -> str:
    """Ask on a terminal; elsewhere take the default."""
    if not has_person():
        return default
    return input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default


def _default_name(folder: Path) -> str:
    """Return the folder's name as a name for a stack."""
    return re.sub(r"[^a-z0-9]+", "-", folder.absolute().resolve().name.lower()).strip("-")[:32].strip("-") or "stack"


def _check(text: str, registry: Registry) -> None:
    """Refuse answers that make no valid stack file, before anything is written."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / FILE_NAME
        path.write_text(text, encoding="utf-8")
        try:
            load(path, providers=registry.configs(), variables={}, environ=os.environ, version=__version__)
        except StackError as error:
            found = [item for item in error.diagnostics if isinstance(item, Diagnostic)]
            told = [f"{item.path}: {item.summary}" + (f" ({item.hint})" if item.hint else "") for item in found]
            raise LlmdeployError("\n".join(["these answers make no valid stack file:", *told])) from None


def _write(folder: Path, text: str) -> None:
    ignore = folder / ".gitignore"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        present = ignore.read_text(encoding="utf-8", errors="surrogateescape") if ignore.exists() else ""
        if _IGNORED not in present.splitlines():
            gap = "" if not present or present.endswith("\n") else "\n"
            with ignore.open("a", encoding="utf-8") as file:
                file.write(f"{gap}{_IGNORED}\n")
    except OSError as error:
        raise LlmdeployError(f"cannot write into {folder}: {error.strerror}") from None
