"""What every model of the catalogue holds on every GPU in every number format; `LLMDEPLOY_UPDATE_GOLDEN=1` writes it anew."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from llmdeploy.errors import StackError
from llmdeploy.machine import Gpu
from llmdeploy.manifest import ModelFacts
from llmdeploy.serving.vllm_quant import FORMATS
from llmdeploy.sizing import Candidate, explore
from llmdeploy.sizing.evaluate import hint_of
from llmdeploy.sizing.search import wanted
from tests.sizing.world import VLLM, catalog, facts, machine, request
from tests.support import ROOT

FOLDER = ROOT / "tests" / "golden" / "sizing"
COUNTS = (1, 2, 4, 8)
CONTEXT = 8192
HEAD = """\
Tokens of KV cache of one replica on machines with 1, 2, 4 and 8 GPUs that hold one request of {context:,} tokens; no: does not
fit. tp, pp: tensor and pipeline parallelism, where it is not all GPUs as tensor parallelism. Number formats without a row are
refused on that GPU, with the reason and what would do.
"""


def cell(one: Candidate) -> str:
    """Return how many tokens fit, and how the model is split where that is not plain."""
    if not one.fits:
        return "no"
    parallel = one.parallel
    split = "" if parallel.tensor == one.machine.gpus else f" tp{parallel.tensor}"
    split += f" pp{parallel.pipeline}" if parallel.pipeline > 1 else ""
    return f"{one.kv_tokens:,}{split}"


def rows(model: ModelFacts, card: Gpu, context: int) -> Iterator[str]:
    """Yield one row for each number format that this GPU can load the model in."""
    taken = VLLM.quantizations(model, card)
    for quant in set(FORMATS) - set(taken):
        with pytest.raises(StackError) as refused:
            VLLM.quantize(model, quant, card)
        assert hint_of(refused.value), quant
    for quant in taken:
        cells: list[str] = []
        for count in COUNTS:
            own = machine(card.name, count, available=1)
            wish = request(model, own, quant=quant, context=context, concurrency=1, count=count)
            found = explore(wish, VLLM)
            assert len(found) == len(wanted(wish)) == 1
            cells.append(cell(found[0]))
        yield f"{card.name:<13} {quant:<15} " + " ".join(f"{text:>14}" for text in cells).rstrip()


@pytest.mark.parametrize("name", [name for name in catalog().model_names() if name != "tiny-random"])
def test_every_gpu_and_number_format(name: str) -> None:
    model = facts(name)
    context = min(CONTEXT, model.config.get("text_config", model.config)["max_position_embeddings"])
    cards = [card for card in catalog().gpus.values() if card.capability is not None]
    lines = [row for card in cards for row in rows(model, card, context)]
    content = HEAD.format(context=context) + "\n" + "\n".join(lines) + "\n"
    path = FOLDER / f"{name}.txt"
    if os.environ.get("LLMDEPLOY_UPDATE_GOLDEN") == "1":
        path.write_text(content)
    assert path.read_text() == content, f"{path}: run with LLMDEPLOY_UPDATE_GOLDEN=1 and look at the difference"
