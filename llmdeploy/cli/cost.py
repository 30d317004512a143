"""`llmdeploy cost`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from ..cost import Assumptions, bill, reckon, with_prior
from ..prices import CostLine, Tariff
from ..state.local import LocalStore
from ..views.cost_view import cost_lines
from ..views.document import dumps
from .options import HERE, Format, FormatOption, StackArgument, VarFileOption, VarOption, say, screen, variables_of, verb
from .session import Session, open_session

app = verb()
_UNITS = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000}


@app.command()
def cost(
    stack: StackArgument = HERE,
    tokens_per_month: Annotated[
        str | None,
        typer.Option("--tokens-per-month", metavar="N", help="Input and output of the whole stack, such as 500M or 1.5B."),
    ] = None,
    input_share: Annotated[float, typer.Option("--input-share", min=0, max=1, help="Share of the tokens that is input.")] = 0.8,
    cached_share: Annotated[
        float, typer.Option("--cached-share", min=0, max=1, help="Share of the input that a hosted API has cached.")
    ] = 0.0,
    utilization: Annotated[
        float, typer.Option("--utilization", min=0.01, max=1, help="What is asked of a replica, as a share of what it can carry.")
    ] = 0.4,
    against: Annotated[
        str | None, typer.Option("--against", metavar="A,B,...", help="Hosted APIs to compare with, by their catalogue names.")
    ] = None,
    operations_usd_per_month: Annotated[
        float,
        typer.Option("--operations-usd-per-month", min=0, max=1e9, help="People and tools; the same for any number of machines."),
    ] = 0.0,
    format: FormatOption = Format.HUMAN,
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """Show what the stack costs. Per token too, and from which volume on it is cheaper than a hosted API. Touches nothing."""
    assumptions = Assumptions(
        utilization=utilization,
        input_share=input_share,
        cached_share=cached_share,
        operations_usd_per_month=operations_usd_per_month,
        tokens_per_month=None if tokens_per_month is None else _tokens(tokens_per_month),
    )
    names = None if against is None else [name.strip() for name in against.split(",") if name.strip()]
    session = open_session(stack, variables_of(var), var_file or ())
    desired = session.desire("sparing")
    found = reckon(desired.basis, assumptions, names)
    document = with_prior(found.economics, _existing(session, found.tariff))
    if format is Format.JSON:
        say(dumps(document))
        return
    out = screen()
    out.write(cost_lines(desired.loaded.stack.name, document, out.width))


def _tokens(text: str) -> float:
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([KMB]?)", text)
    tokens = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if tokens < 1:
        raise typer.BadParameter(f'"{text}" is no number of tokens; write 500M, 1.5B or 800K', param_hint="--tokens-per-month")
    return tokens


def _existing(session: Session, tariff: Tariff) -> tuple[CostLine, ...] | None:
    """Return the bill of what exists; None when nothing does. A state in a bucket is left alone: this asks nobody."""
    project = session.project
    state = project.state() if isinstance(project.store, LocalStore) and project.has_state else None
    if state is None or not state.entries:
        return None
    return bill(((one.type, one.spec) for one in state.entries.values()), project.types(state), tariff)
