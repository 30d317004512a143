"""vLLM's KV cache: pages of layers, groups of pages, blocks.

vLLM gives each layer a page for a block of tokens, puts layers into groups, and lets all groups draw blocks from one pool; a
block is as large as the largest group of one GPU. A request takes blocks of every group. The rules are those of 0.32
(`v1/core/kv_cache_utils.py`, `v1/kv_cache_interface.py`, `platforms/interface.py`); what the CPU build reports was compared with
them, model by model, in the end-to-end tests. On GPUs they are read from the source and unverified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from .attention import Architecture, Cache, Latent, State
from .model import KvLayout, KvRequest, Parallel, stack_error

CPU_BLOCK_TOKENS: Final = 128
CPU_LATENT_BLOCK_TOKENS: Final = 16
CUDA_BLOCK_TOKENS: Final = 16

_LATENT_STATE_BLOCK_TOKENS: Final = 128
"""Kernels for latent attention next to recurrent layers want whole blocks of so many tokens."""

_NULL_BLOCKS: Final = 1
"""A block that stands for tokens outside of a window; no request gets it."""

_AMX_SPARE_BLOCKS: Final = 15
"""A processor with AMX takes latent blocks of 128 tokens instead of 16: room to round one request and the null block up."""

_STATE_BYTES: Final = 2
"""Of one number of a state as a 16-bit model is served, unless something says otherwise."""

_CPU_RECURRENCE_BYTES: Final = 4
"""Rendered for the CPU, where vLLM would otherwise decide by the processor."""

_Kind = Literal["full", "latent", "sliding", "chunked", "state"]


@dataclass(frozen=True)
class _Page:
    """One layer's part of a block: `tokens` tokens in `size` bytes. shape: heads and widths. resident: states of one request."""

    kind: _Kind
    tokens: int
    size: int
    shape: tuple[int, ...] = ()
    window: int = 0
    resident: int = 0


_Placed = tuple[int, _Page]
"""A page and the number of its decoder layer."""


def kv_layout(model: Architecture, request: KvRequest) -> KvLayout:
    """Return how vLLM divides memory for this model.

    Raises:
        StackError: the model keeps nothing for tokens, or its layers cannot share a pool.
    """
    tokens = _block_tokens(model, request)
    placed = [(i, _page(cache, model, request, tokens)) for i, layer in enumerate(model.layers) for cache in layer]
    if not any(page.kind != "state" for _, page in placed):
        reason = "no layer of the model has attention: how vLLM divides memory for such models is not known here"
        raise stack_error("model.id", reason, hint="a model with attention in some of its layers")
    groups = _groups(placed)
    stages = request.parallel.stages(len(model.layers))
    block_bytes = max(_stage_bytes(groups, stage) for stage in stages)
    request_blocks = sum(max(_blocks(page, request) for _, page in group) for group in groups)
    spare = _NULL_BLOCKS + (_AMX_SPARE_BLOCKS if request.device == "cpu" and _latent(model) else 0)
    token_bytes = model.token_numbers() * request.kv_bytes
    return KvLayout(
        context=request.context,
        block_tokens=tokens,
        block_bytes=block_bytes,
        request_blocks=request_blocks,
        spare_blocks=spare,
        token_bytes=token_bytes,
        read_bytes=max(sum(_read_bytes(page, request) for i, page in placed if i in stage) for stage in stages),
        arithmetic=_arithmetic(groups, request, block_bytes, request_blocks),
    )


# --- pages ---------------------------------------------------------------------------------------------------------------------


def _block_tokens(model: Architecture, request: KvRequest) -> int:
    """The tokens of a block: the backend's own number, made so large that a page of attention holds a recurrent state."""
    cpu = request.device == "cpu"
    latent = _latent(model)
    if cpu:
        tokens = CPU_LATENT_BLOCK_TOKENS if latent else CPU_BLOCK_TOKENS
    else:
        # FlashInfer, which serves latent attention on Blackwell data centre GPUs, starts at 32; all others take 16.
        blackwell = request.gpu is not None and request.gpu.capability is not None and request.gpu.capability[0] == 10
        tokens = 32 if latent and blackwell else CUDA_BLOCK_TOKENS
    states = [cache for cache in model.caches if isinstance(cache, State)]
    if not states:
        return tokens
    step = max(tokens, _LATENT_STATE_BLOCK_TOKENS) if latent else tokens
    token_bytes = _token_bytes(model, request)
    largest = max(_state_bytes(state, request) for state in states)
    return max(tokens, step * -(-largest // (step * token_bytes)))


def _token_bytes(model: Architecture, request: KvRequest) -> int:
    """Bytes of one token in one layer of attention on one GPU."""
    if _latent(model):
        return model.head_dim * request.kv_bytes
    return _share(model.kv_heads, request.parallel) * 2 * model.head_dim * request.kv_bytes


def _page(cache: Cache, model: Architecture, request: KvRequest, tokens: int) -> _Page:
    if isinstance(cache, State):
        # Padded to the page of attention, which was made to hold it.
        kept = (3 if cache.selective else 2) if _caches_prefixes(request) else 1
        return _Page("state", tokens, tokens * _token_bytes(model, request), resident=kept)
    if isinstance(cache, Latent):
        return _Page("latent", tokens, tokens * cache.width * request.kv_bytes, (cache.width,))
    heads = _share(cache.kv_heads, request.parallel)
    size = tokens * heads * (cache.key_dim + cache.value_dim) * request.kv_bytes
    kind: _Kind = "full" if not cache.window else "chunked" if cache.chunked else "sliding"
    return _Page(kind, tokens, size, (heads, cache.key_dim, cache.value_dim), cache.window)


def _share(kv_heads: int, parallel: Parallel) -> int:
    """Heads on one GPU: each has at least one, so that few heads on many GPUs are there several times."""
    return max(1, kv_heads // parallel.tensor)


def _state_bytes(state: State, request: KvRequest) -> int:
    parts = request.parallel.tensor
    # Groups that cannot be divided are repeated until every GPU has its own.
    groups = state.groups if state.groups % parts == 0 else parts
    convolution = state.rows * (state.channels + groups * state.group_channels) // parts
    number = _CPU_RECURRENCE_BYTES if request.device == "cpu" else state.number_bytes or _STATE_BYTES
    return convolution * _STATE_BYTES + state.numbers // parts * number


def _latent(model: Architecture) -> bool:
    return any(isinstance(cache, Latent) for cache in model.caches)


def _caches_prefixes(request: KvRequest) -> bool:
    return request.args.get("enable-prefix-caching", True) is not False


# --- groups --------------------------------------------------------------------------------------------------------------------


def _groups(placed: list[_Placed]) -> list[list[_Placed]]:
    """Put layers into groups that share block tables."""
    if _one_group({page for _, page in placed}):
        return [placed]
    kinds = {page.kind for _, page in placed}
    if "latent" in kinds and not _pages_fit(placed):
        if "sliding" in kinds and _one_group({page for _, page in _promoted(placed)}):
            return [_promoted(placed)]
        reason = "vLLM cannot give the layers of the model pages of one size"
        raise stack_error("model.id", reason, hint="a model of another architecture")
    return _buckets(_same_size(placed))


def _promoted(placed: list[_Placed]) -> list[_Placed]:
    """Windows are held like all tokens, if there is a layer that holds all tokens."""
    if not any(page.kind in ("full", "latent") for _, page in placed):
        return placed
    return [(i, replace(page, kind="full", window=0) if page.window else page) for i, page in placed]


def _one_group(pages: set[_Page]) -> bool:
    """Whether all layers need the same number of blocks, be they of different size."""
    kinds = {page.kind for page in pages}
    windows = {(page.tokens, page.window, page.resident) for page in pages}
    sizes = {page.size for page in pages}
    return len(windows) == 1 and (kinds <= {"full", "latent"} or (len(kinds) == 1 and (kinds != {"state"} or len(sizes) == 1)))


def _pages_fit(placed: list[_Placed]) -> bool:
    largest = max(page.size for _, page in placed)
    return all(page.kind != "latent" or largest % page.size == 0 for _, page in placed)


def _same_size(placed: list[_Placed]) -> list[_Placed]:
    """Small pages hold more tokens where that divides evenly, and are padded where it does not."""
    largest = max(page.size for _, page in placed)

    def grown(page: _Page) -> _Page:
        times = largest // page.size if page.kind != "state" and largest % page.size == 0 else 1
        return replace(page, tokens=page.tokens * times, size=largest)

    return [(i, grown(page)) for i, page in placed]


def _buckets(placed: list[_Placed]) -> list[list[_Placed]]:
    """Groups of one kind of page each, all with about as many layers."""
    kinds: dict[_Page, list[_Placed]] = {}
    for layer in placed:
        kinds.setdefault(layer[1], []).append(layer)
    fewest, most = min(map(len, kinds.values())), max(map(len, kinds.values()))
    size = most if most < fewest * 1.5 else fewest
    groups: list[list[_Placed]] = []
    for layers in kinds.values():
        count = -(-len(layers) // size)
        groups += [layers[i::count] for i in range(count)]
    return groups


def _stage_bytes(groups: Iterable[Sequence[_Placed]], stage: range) -> int:
    return max(sum(page.size for i, page in group if i in stage) for group in groups)


# --- one request ---------------------------------------------------------------------------------------------------------------


def _blocks(page: _Page, request: KvRequest) -> int:
    """Blocks that one request takes at its peak."""
    if page.kind == "state":
        return page.resident
    if page.kind == "sliding":
        # One more, because a window need not start where a block does.
        return -(-min(page.window - 1 + _in_flight(request), request.context) // page.tokens) + 1
    held = min(page.window + _in_flight(request), request.context) if page.kind == "chunked" else request.context
    return -(-held // page.tokens)


def _read_bytes(page: _Page, request: KvRequest) -> int:
    """What one layer reads for the next token of a request with its full context."""
    if page.kind == "state":
        return page.size
    return page.size // page.tokens * min(page.window or request.context, request.context)


def _in_flight(request: KvRequest) -> int:
    """Tokens of the steps under way at once: a window cannot slide over them yet."""
    # One step for each pipeline stage, and on GPUs one more that is prepared meanwhile.
    steps = request.parallel.pipeline + (0 if request.device == "cpu" else 1)
    return steps * request.batched_tokens


def _arithmetic(groups: Sequence[Sequence[_Placed]], request: KvRequest, block_bytes: int, request_blocks: int) -> str:
    names = {"full": "attention", "latent": "latent attention", "sliding": "window", "chunked": "chunks", "state": "state"}
    found: dict[str, int] = {}
    for group in groups:
        page = group[0][1]
        window = f" of {page.window:,}" if page.window else ""
        text = f"{names[page.kind]}{window}: {_blocks(page, request):,} blocks of {page.tokens} tokens"
        found[text] = found.get(text, 0) + 1
    parts = [f"{count} x {text}" if count > 1 else text for text, count in found.items()]
    return f"{' + '.join(parts)} = {request_blocks:,} blocks of {block_bytes:,} bytes for {request.context:,} tokens"
