"""`llmdeploy size`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ..catalog import Catalog
from ..desired import inputs_of, sizing_request
from ..diagnostics import nearest
from ..errors import LlmdeployError
from ..machine import Gpu, MachineType
from ..registry import Registry
from ..serving import engine as serving_engine
from ..sizing import SizingRequest, gpu_like, report
from ..views.document import dumps
from ..views.screen import line
from ..views.sizing_view import sizing_lines
from .options import HERE, Format, FormatOption, StackArgument, VarFileOption, VarOption, say, screen, show, variables_of, verb

app = verb()
_COUNTS = (1, 2, 4, 8)


@app.command()
def size(
    stack: StackArgument = HERE,
    format: FormatOption = Format.HUMAN,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="A model of the catalogue; no stack file.")] = None,
    context: Annotated[str, typer.Option("--context", metavar="TOKENS", help="With --model: of one request.")] = "8K",
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=100_000, help="With --model: requests at once.")] = 8,
    quant: Annotated[str, typer.Option("--quant", help="With --model: the number format.")] = "auto",
    gpu: Annotated[str, typer.Option("--gpu", help="With --model: the kind of GPU.")] = "auto",
    count: Annotated[int | None, typer.Option("--count", min=1, max=64, help="With --model: how many GPUs.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="With --model and --region: who rents machines out.")] = None,
    region: Annotated[str | None, typer.Option("--region", help="With --model and --provider: where.")] = None,
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """Tell whether the model fits, and on what. Also why not on anything else. Needs no network. Exit code 0: it fits; 1: not."""
    if model is None:
        if (context, concurrency, quant, gpu, count, provider, region) != ("8K", 8, "auto", "auto", None, None, None):
            raise LlmdeployError("the stack file says what is to be sized", hint="edit it, or name a model with --model")
        request, case = sizing_request(inputs_of(stack, variables_of(var), var_file or ()), Registry())
        engine, source = case.engine, case.loaded.source
    else:
        catalog, engine, source = Catalog.load(), serving_engine("vllm"), None
        machines = _rented(catalog, provider, region) if provider or region else _imagined(catalog.gpus, gpu, count)
        request = _request(catalog, model, context, concurrency=concurrency, quant=quant, gpu=gpu, count=count, machines=machines)
    found = report(request, engine)
    if format is Format.JSON:
        say(dumps(found))
    else:
        out = screen()
        out.write(sizing_lines(found, out.width))
        if source is not None and found.get("path"):
            show([line(f"{source.place(found['path'])}: {found['path']}")])
    if not found["fits"]:
        raise typer.Exit(1)


def _request(catalog: Catalog, model: str, context: str, **wish: Any) -> SizingRequest:
    from pydantic import TypeAdapter, ValidationError

    from ..stack.words import Tokens

    facts = catalog.facts(model)
    if facts is None:
        hint = nearest(model, catalog.model_names()) or "`llmdeploy catalog list models`; for any other model write a stack file"
        raise LlmdeployError(f'there is no model "{model}" in the catalogue', hint=hint)
    try:
        tokens = TypeAdapter[int](Tokens).validate_python(int(context) if context.isdigit() else context)
    except ValidationError:
        raise typer.BadParameter(f'"{context}" is no number of tokens; write 8192 or 32K (=32*1024)') from None
    return SizingRequest(facts, tokens, gpus=catalog.gpus, **wish)


def _rented(catalog: Catalog, provider: str | None, region: str | None) -> tuple[MachineType, ...]:
    if provider is None:
        raise LlmdeployError("--region goes with --provider", hint="leave both out to try any GPU of the catalogue")
    regions = catalog.regions(provider)
    if not regions:
        raise LlmdeployError(
            f'no machines of "{provider}" are known', hint="leave --provider out to try any GPU of the catalogue"
        )
    if region not in regions:
        said = f'"{region}" is no region of {provider}' if region else "--provider goes with --region"
        raise LlmdeployError(said, hint=nearest(region or "", regions) or f"such as {regions[0]}")
    return catalog.machines(provider, region)


def _imagined(gpus: Mapping[str, Gpu], name: str, count: int | None) -> tuple[MachineType, ...]:
    """Return machines that nobody offers: some GPUs of one kind each."""
    if name not in ("auto", "none", *gpus):
        raise LlmdeployError(f'there is no GPU "{name}" in the catalogue', hint=gpu_like(name, gpus))
    kinds = [gpu for gpu in gpus.values() if name in ("auto", gpu.name)]
    counts = _COUNTS if count is None else (count,)
    return tuple(MachineType(f"{n}x{gpu.name}", gpu, n, gpu.memory_bytes, available=1) for gpu in kinds for n in counts)
