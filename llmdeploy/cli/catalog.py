"""`llmdeploy catalog`: show what llmdeploy knows, and ask a provider what it offers today."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..catalog import Catalog, refreshed
from ..desired import inputs_of, load
from ..diagnostics import nearest
from ..errors import LlmdeployError, NotBuilt
from ..registry import Registry
from ..sdk import HasQuotes
from ..stack.load import FILE_NAME
from ..views.catalog_view import TABLES, Chosen, catalog_document, catalog_lines, refreshed_lines
from ..views.document import dumps
from .options import HERE, Format, FormatOption, StackOption, say, screen, verb
from .options import show as show_lines

app = verb()
ProviderOption = Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Whose.", show_default=False)]


@app.callback()
def catalog() -> None:
    """Show what is known of models, machines and prices. `refresh` asks a provider what it offers today."""


@app.command("list")
def list_table(
    table: Annotated[str, typer.Argument(metavar="TABLE", help=f"One of {', '.join(TABLES)}.")],
    region: Annotated[
        str | None, typer.Option("--region", help="Machines and prices of this region.", show_default=False)
    ] = None,
    provider: ProviderOption = None,
    stack: StackOption = HERE,
    format: FormatOption = Format.HUMAN,
) -> None:
    """List one table, with your own rows from catalog.yaml beside the stack file. Needs no network."""
    if table not in TABLES:
        raise LlmdeployError(f'there is no table "{table}"', hint=nearest(table, TABLES))
    chosen = _chosen(Catalog.load(_folder(stack)), provider, region)
    if format is Format.JSON:
        say(dumps(catalog_document(chosen, table)))
        return
    out = screen()
    out.write(catalog_lines(chosen, table, out.width))


def _chosen(known: Catalog, provider: str | None, region: str | None) -> Chosen:
    if provider is not None and provider not in known.providers():
        hint = nearest(provider, known.providers())
        raise LlmdeployError(f'the catalogue has no machines or prices of a provider "{provider}"', hint=hint)
    chosen = (provider,) if provider else known.providers()
    regions = {name for one in chosen for name in (*known.regions(one), *known.priced_regions(one))}
    if region is not None and region not in regions:
        hint = nearest(region, regions) or "`llmdeploy catalog list prices` names regions"
        raise LlmdeployError(f'the catalogue knows no region "{region}"', hint=hint)
    return Chosen(known, chosen, region)


@app.command()
def refresh(
    region: Annotated[
        list[str] | None, typer.Option("--region", help="May be repeated; default: the stack's.", show_default=False)
    ] = None,
    provider: ProviderOption = None,
    stack: StackOption = HERE,
) -> None:
    """Ask the stack's provider for its machines and prices, and keep them in catalog.refreshed.json beside the stack file."""
    folder, registry = _folder(stack), Registry()
    name, regions = _whom(stack, registry, provider, region or ())
    asked = registry.provider(name)
    if not isinstance(asked, HasQuotes):
        raise NotBuilt(
            f"the provider {name} cannot be asked for prices: write them into catalog.yaml, or prices: in the stack file"
        )
    known = Catalog.load(folder)
    found = list(asked.quotes(dict(os.environ), regions, known.gpus))
    path = refreshed.write(folder, refreshed.merged(known.fresh, name, found, datetime.now(UTC).date()))
    show_lines(refreshed_lines(found, path))


def _whom(stack: Path, registry: Registry, provider: str | None, regions: Sequence[str]) -> tuple[str, list[str]]:
    """Return the provider and the regions to ask about; the stack file is read for what is not given."""
    if provider is None or not regions:
        loaded = load(inputs_of(stack), registry).stack
        provider, regions = provider or loaded.provider.name, regions or [loaded.region or ""]
    if not all(regions):
        raise LlmdeployError("the stack file names no region", hint="llmdeploy catalog refresh --region REGION")
    return provider, list(dict.fromkeys(regions))


def _folder(stack: Path) -> Path:
    """Return the folder of a stack: of the file that is named, or the folder itself."""
    if stack.is_dir():
        return stack
    if not stack.exists():
        raise LlmdeployError(f"there is no {stack}", hint=f"--stack names a folder, or a {FILE_NAME}")
    return stack.parent
