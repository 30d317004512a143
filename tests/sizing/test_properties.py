"""A larger wish never fits where a smaller one did not, never needs less, and is never cheaper."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmdeploy.errors import StackError
from llmdeploy.sizing import Sizing, SizingRequest, choose, explore
from tests.sizing.world import VLLM, facts, machine, request

MODELS = (
    "llama-3.1-8b-instruct",
    "qwen2.5-7b-instruct",
    "gemma-3-27b-it",
    "gpt-oss-20b",
    "phi-3.5-mini-instruct",
    "mixtral-8x7b-instruct-v0.1",
    "deepseek-v3",
)
CARDS = ("t4", "l4", "l40s", "a100_80", "h200")
MACHINES = tuple(machine(card, gpus, (1 + place) * gpus * 0.9) for place, card in enumerate(CARDS) for gpus in (1, 2, 8))


def sized(wish: SizingRequest) -> Sizing | None:
    try:
        return choose(wish, VLLM)
    except StackError:
        return None


@st.composite
def pairs(draw: st.DrawFn) -> tuple[SizingRequest, SizingRequest]:
    """Return two wishes for one model; the second is for as much or more."""
    model = facts(draw(st.sampled_from(MODELS)))
    limit = 8192 if model.id.startswith("gemma-2") else 32768
    contexts = sorted(draw(st.lists(st.integers(1, limit), min_size=2, max_size=2)))
    counts = sorted(draw(st.lists(st.integers(1, 400), min_size=2, max_size=2)))
    quant = draw(st.sampled_from(["auto", "fp8_per_tensor"] if model.id != "deepseek-v3" else ["auto"]))
    small, large = (
        request(model, *MACHINES, context=context, concurrency=count, quant=quant)
        for context, count in zip(contexts, counts, strict=True)
    )
    return small, large


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_more_is_never_easier(pair: tuple[SizingRequest, SizingRequest]) -> None:
    small, large = (explore(wish, VLLM) for wish in pair)
    fits = {one.machine.name: one for one in small if one.fits}
    for one in large:
        # Several machines for one replica are only looked at where no single one holds it.
        if not one.fits or one.per_replica > 1:
            continue
        before = fits[one.machine.name]
        assert before.loaded is not None
        assert one.loaded is not None
        if (before.quant, before.parallel) == (one.quant, one.parallel):
            assert before.loaded.memory.needed <= one.loaded.memory.needed
            assert before.loaded.memory.headroom >= one.loaded.memory.headroom


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_what_fits_more_fits_less_and_costs_no_more(pair: tuple[SizingRequest, SizingRequest]) -> None:
    small, large = (sized(wish) for wish in pair)
    if large is not None:
        assert small is not None
    assume(small is not None and large is not None and small.quantization == large.quantization)
    assert small is not None
    assert large is not None
    before, after = small.candidates[0].usd_per_hour, large.candidates[0].usd_per_hour
    assert before is not None
    assert after is not None
    assert before <= after


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_the_engine_is_never_given_more_than_fits_nor_less_than_it_needs(pair: tuple[SizingRequest, SizingRequest]) -> None:
    found = sized(pair[1])
    assume(found is not None)
    assert found is not None
    memory = found.memory
    assert memory.needed <= memory.cache
    assert memory.weights + memory.overhead + memory.cache <= memory.usable < memory.total
    assert found.layout.requests(memory.cache) >= found.max_num_seqs
    assert found.kv_cache_tokens >= found.max_model_len
    assert memory.cache % found.layout.block_bytes == 0
    slots = [(slot.machine, gpu) for slot in found.placement.slots for gpu in slot.gpus]
    assert len(slots) == len(set(slots)) == found.parallel.gpus
