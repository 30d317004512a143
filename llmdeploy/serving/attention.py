"""What each layer of a model keeps of the tokens that it has seen, read from config.json. It knows architectures, not engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from ..manifest import ModelConfig
from ..resource import as_mapping
from .config_fields import missing, need, number, text_fields
from .model import stack_error


@dataclass(frozen=True)
class Attention:
    """Keys and values of tokens: `kv_heads` heads, `key_dim` and `value_dim` numbers each.

    window: tokens that are kept, 0 for all. chunked: the window does not slide but starts anew every `window` tokens.
    """

    kv_heads: int
    key_dim: int
    value_dim: int
    window: int = 0
    chunked: bool = False


@dataclass(frozen=True)
class Latent:
    """One compressed vector of `width` numbers for each token (multi-head latent attention); no head has a part of its own.

    key_dim, value_dim: numbers of one head, to which it is expanded while a prompt is read.
    """

    width: int
    key_dim: int = 0
    value_dim: int = 0


@dataclass(frozen=True)
class State:
    """What a recurrent layer remembers, whatever the number of tokens.

    A convolution keeps `rows` x `channels` numbers, and for each of `groups` groups `rows` x `group_channels` more; the
    recurrence keeps `numbers`. number_bytes: of one of these where the model says so, else None. selective: of the Mamba 2 kind.
    """

    rows: int
    channels: int
    numbers: int
    groups: int = 0
    group_channels: int = 0
    number_bytes: int | None = None
    selective: bool = False


Cache = Attention | Latent | State


@dataclass(frozen=True)
class Architecture:
    """heads, kv_heads, head_dim: of attention as config.json names them; layers: what each decoder layer keeps, in order.

    A layer without an entry keeps nothing of its own: it shares the keys and values of another, or has no attention.
    """

    heads: int
    kv_heads: int
    head_dim: int
    layers: tuple[tuple[Cache, ...], ...]

    @property
    def caches(self) -> tuple[Cache, ...]:
        """What all layers keep."""
        return tuple(cache for layer in self.layers for cache in layer)

    def token_numbers(self) -> int:
        """Return the numbers that one token adds in all layers while nothing slides out of a window."""
        return sum(_token_numbers(cache) for cache in self.caches)

    def attention_operations(self, tokens: int) -> float:
        """Return the floating-point operations that attention between the tokens of one prompt takes, in all layers."""
        return sum(_operations(cache, self.heads, tokens) for cache in self.caches)


def architecture(config: ModelConfig) -> Architecture:
    """Return what a decoded config.json describes.

    Raises:
        StackError: names the fields that are missing, or the kind of layer that this version does not know.
    """
    fields = text_fields(config)
    if fields.get("is_encoder_decoder"):
        raise _unknown("it is an encoder-decoder model, whose cache also holds the encoder's output")
    kind = str(fields.get("model_type", ""))
    _check(fields)
    if as_mapping(fields.get("attn_config")):
        return _uniform(fields, _dbrx(fields))
    family = _FAMILIES.get(kind)
    if family is not None:
        return family(fields)
    mark = next((name for name in _MARKS if fields.get(name)), "")
    if mark:
        raise _unknown(f'its layers are described by "{mark}", and of model_type "{kind}" this version knows no such layer')
    return _transformer(fields)


# --- kinds of models -----------------------------------------------------------------------------------------------------------


def _transformer(fields: ModelConfig) -> Architecture:
    """Attention in every layer: over all tokens, or over a window as `layer_types` or `sliding_window` say."""
    window = _window(fields)
    kinds = _layer_types(fields)
    if kinds is None:
        return _uniform(fields, _attention(fields, window))
    known = {"full_attention": 0, "attention": 0, "sliding_attention": window}
    caches: list[tuple[Cache, ...]] = []
    for kind in kinds:
        if kind not in known:
            raise _unknown(
                f'a layer of the kind "{kind}" (layer_types) is not known for model_type "{fields.get("model_type", "")}"'
            )
        caches.append((_attention(fields, known[kind]),))
    return _whole(fields, caches)


def _qwen(fields: ModelConfig) -> Architecture:
    """Qwen 2 and 3: a window only when it is switched on, and then for the layers from `max_window_layers` on."""
    window = _window(fields) if fields.get("use_sliding_window") else 0
    count = _layers(fields)
    first = number(fields, "max_window_layers")
    sliding = count - min(count, 28 if first is None else first) if window else 0
    if sliding not in (0, count):
        raise _unknown("a window in some of its layers (max_window_layers) is not served by the engines that llmdeploy knows")
    return _uniform(fields, _attention(fields, window if sliding else 0))


def _alternating(fields: ModelConfig, *, every: int, beyond: int = 0) -> Architecture:
    """A window in all layers but each `every`-th one; the window holds `beyond` tokens more than it is said to."""
    pattern = fields.get("sliding_window_pattern") or fields.get("_sliding_window_pattern") or every
    kinds = _layer_types(fields)
    if kinds is None:
        if not isinstance(pattern, int):
            raise _unknown(f'sliding_window_pattern "{pattern}" is not a number')
        kinds = ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(_layers(fields))]
    window = _window(fields)
    sliding = _attention(fields, window + beyond if window else 0)
    return _whole(fields, [(sliding if kind == "sliding_attention" else _attention(fields),) for kind in kinds])


def _gemma2(fields: ModelConfig) -> Architecture:
    return _alternating(fields, every=2)


def _gemma3(fields: ModelConfig) -> Architecture:
    return _alternating(fields, every=6)


def _cohere2(fields: ModelConfig) -> Architecture:
    return _alternating(fields, every=4, beyond=1)


def _gemma3n(fields: ModelConfig) -> Architecture:
    """The last layers read the keys and values of earlier ones."""
    made = _alternating(fields, every=5)
    shared = number(fields, "num_kv_shared_layers") or 0
    own = len(made.layers) - shared
    return _whole(fields, [caches if i < own else () for i, caches in enumerate(made.layers)])


def _gpt_oss(fields: ModelConfig) -> Architecture:
    count = _layers(fields)
    sliding, full = _attention(fields, _window(fields)), _attention(fields)
    return _whole(fields, [(full if i % 2 else sliding,) for i in range(count)])


def _llama4(fields: ModelConfig) -> Architecture:
    chunk = number(fields, "attention_chunk_size") or 0
    given, every = fields.get("no_rope_layers"), number(fields, "no_rope_layer_interval") or 4
    local = [bool(flag) for flag in given] if given else [bool((i + 1) % every) for i in range(_layers(fields))]
    whole = _attention(fields)
    part = Attention(whole.kv_heads, whole.key_dim, whole.value_dim, chunk, chunked=True) if chunk else whole
    return _whole(fields, [(part if is_local else whole,) for is_local in local])


def _latent(fields: ModelConfig) -> Architecture:
    """DeepSeek's kind: one latent vector for each token."""
    mark = next((name for name in ("index_topk", "compress_ratios", "linear_attn_config") if fields.get(name)), "")
    if mark:
        raise _unknown(f'its attention has a cache of its own kind ("{mark}")')
    if number(fields, "kv_lora_rank") is None:
        return _transformer(fields)
    width = need(fields, "kv_lora_rank") + need(fields, "qk_rope_head_dim")
    key_dim = need(fields, "qk_rope_head_dim") + (number(fields, "qk_nope_head_dim") or 0)
    cache = Latent(width, key_dim, number(fields, "v_head_dim") or 0)
    return Architecture(_heads(fields), 1, width, ((cache,),) * _layers(fields))


def _gemma4(fields: ModelConfig) -> Architecture:
    """Layers over all tokens have wider heads, and other ones, than layers with a window; the last ones share."""
    count = _layers(fields)
    kinds = _layer_types(fields) or ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(count)]
    # The class makes the last layer one over all tokens, whatever the file says.
    kinds = [*kinds[:-1], "full_attention"]
    dim = number(fields, "global_head_dim") or 512
    heads = number(fields, "num_global_key_value_heads") if fields.get("attention_k_eq_v") else None
    full = Attention(heads or _kv_heads(fields), dim, dim)
    sliding = _attention(fields, _window(fields))
    own = count - (number(fields, "num_kv_shared_layers") or 0)
    layers = [(sliding if kind == "sliding_attention" else full,) if i < own else () for i, kind in enumerate(kinds)]
    return _whole(fields, layers)


def _code(fields: ModelConfig) -> Architecture:
    """Nemotron NAS (DeciLM), OpenELM."""
    kind = fields.get("model_type")
    raise _unknown(f'model_type "{kind}" is read by code among the model\'s files (trust_remote_code), which is never run')


# --- models with recurrent layers ----------------------------------------------------------------------------------------------


def _jamba(fields: ModelConfig) -> Architecture:
    width = need(fields, "mamba_expand") * need(fields, "hidden_size")
    state = State(need(fields, "mamba_d_conv") - 1, width, width * need(fields, "mamba_d_state"))
    period, offset = need(fields, "attn_layer_period"), need(fields, "attn_layer_offset")
    kept = (_attention(fields),)
    return _whole(fields, [kept if i % period == offset else (state,) for i in range(_layers(fields))])


def _mamba2(fields: ModelConfig) -> State:
    """The state of a layer whose fields are called as in Granite and Falcon."""
    width = number(fields, "mamba_d_ssm") or int(float(fields.get("mamba_expand") or 0) * need(fields, "hidden_size"))
    size = need(fields, "mamba_d_state")
    return State(
        rows=need(fields, "mamba_d_conv") - 1,
        channels=width,
        numbers=need(fields, "mamba_n_heads") * need(fields, "mamba_d_head") * size,
        groups=need(fields, "mamba_n_groups"),
        group_channels=2 * size,
        selective=True,
    )


def _granite_hybrid(fields: ModelConfig) -> Architecture:
    kinds = _layer_types(fields) or []
    if not kinds:
        raise missing("layer_types")
    return _mixed(fields, kinds, _mamba2(fields) if set(kinds) - _ATTENTION_NAMES else None)


def _falcon_h1(fields: ModelConfig) -> Architecture:
    return _whole(fields, [(_mamba2(fields), _attention(fields))] * _layers(fields))


def _nemotron_h(fields: ModelConfig) -> Architecture:
    pattern = fields.get("hybrid_override_pattern")
    letters = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    kinds = [letters.get(letter, letter) for letter in pattern] if isinstance(pattern, str) else _layer_types(fields)
    if not kinds:
        raise missing("hybrid_override_pattern", "layers_block_type")
    heads, dim, size = need(fields, "mamba_num_heads"), need(fields, "mamba_head_dim"), need(fields, "ssm_state_size")
    state = State(
        rows=need(fields, "conv_kernel") - 1,
        channels=heads * dim,
        numbers=heads * dim * size,
        groups=need(fields, "n_groups"),
        group_channels=2 * size,
        number_bytes=_BYTES[str(fields.get("mamba_ssm_cache_dtype") or "float32")],
        selective=True,
    )
    return _mixed(fields, kinds, state)


def _gated_delta(fields: ModelConfig) -> Architecture:
    """Qwen3-Next and Qwen 3.5."""
    every = number(fields, "full_attention_interval") or 4
    kinds = _layer_types(fields) or ["linear_attention" if (i + 1) % every else "full_attention" for i in range(_layers(fields))]
    keys = need(fields, "linear_num_key_heads") * need(fields, "linear_key_head_dim")
    values = need(fields, "linear_num_value_heads") * need(fields, "linear_value_head_dim")
    said = fields.get("mamba_ssm_dtype") if str(fields.get("model_type", "")).startswith("qwen3_5") else None
    state = State(
        rows=need(fields, "linear_conv_kernel_dim") - 1,
        channels=2 * keys + values,
        numbers=values * need(fields, "linear_key_head_dim"),
        number_bytes=_BYTES[str(said)] if said else None,
    )
    return _mixed(fields, kinds, state)


def _short_convolution(fields: ModelConfig) -> Architecture:
    """LFM 2."""
    indices = fields.get("full_attn_idxs")
    kinds = _layer_types(fields)
    if kinds is None and isinstance(indices, list):
        kinds = ["full_attention" if i in indices else "conv" for i in range(_layers(fields))]
    if not kinds:
        raise missing("layer_types", "full_attn_idxs")
    return _mixed(fields, kinds, State(need(fields, "conv_L_cache") - 1, need(fields, "conv_dim", "hidden_size"), 0))


def _mixed(fields: ModelConfig, kinds: list[str], state: State | None) -> Architecture:
    """Layers by name: attention, recurrent, or without anything to keep."""
    layers: list[tuple[Cache, ...]] = []
    for kind in kinds:
        if kind in _ATTENTION_NAMES:
            layers.append((_attention(fields),))
        elif kind in _STATE_NAMES and state is not None:
            layers.append((state,))
        elif kind in _EMPTY_NAMES:
            layers.append(())
        else:
            raise _unknown(f'a layer of the kind "{kind}" is not known for model_type "{fields.get("model_type", "")}"')
    return _whole(fields, layers)


_ATTENTION_NAMES: Final = frozenset({"attention", "full_attention"})
_STATE_NAMES: Final = frozenset({"mamba", "mamba2", "linear_attention", "conv", "short_conv"})
_EMPTY_NAMES: Final = frozenset({"mlp", "moe"})

_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}

_FAMILIES: Final = {
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3", "qwen3_moe"), _qwen),
    "gemma2": _gemma2,
    **dict.fromkeys(("gemma3", "gemma3_text"), _gemma3),
    "gemma3n_text": _gemma3n,
    "cohere2": _cohere2,
    "gpt_oss": _gpt_oss,
    **dict.fromkeys(("llama4", "llama4_text"), _llama4),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "kimi_k2", "glm4_moe_lite"), _latent),
    **dict.fromkeys(("gemma4", "gemma4_text"), _gemma4),
    **dict.fromkeys(("deci", "nemotron-nas", "openelm"), _code),
    "jamba": _jamba,
    **dict.fromkeys(("granitemoehybrid", "granitehybrid"), _granite_hybrid),
    "falcon_h1": _falcon_h1,
    "nemotron_h": _nemotron_h,
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _gated_delta),
    **dict.fromkeys(("lfm2", "lfm2_moe"), _short_convolution),
}
"""model_type -> how its layers are read, where the general rule is not enough."""

_MARKED = """
    kv_lora_rank index_topk compress_ratios linear_attn_config hybrid_layer_pattern attn_type_list interleaved_sliding_window
    rswa_window sparse_attention_config block_configs hybrid_override_pattern layers_block_type attn_layer_period mamba_d_state
    ssm_state_size state_size linear_num_value_heads full_attention_interval conv_L_cache full_attn_idxs mamba_d_conv ssm_cfg
    global_head_dim num_kv_shared_layers attention_chunk_size cross_attention_layers num_global_key_value_heads
"""

_MARKS: Final = tuple(_MARKED.split())
"""Fields that only models with special layers have: a model_type that is not listed and has one is refused, never guessed."""


_LAYERS: Final = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_WIDTHS: Final = ("hidden_size", "head_dim", "n_embd", "d_model", "hidden_size_per_head", "attention_head_dim")


# --- fields --------------------------------------------------------------------------------------------------------------------


def _check(fields: ModelConfig) -> None:
    """Tell everything that is missing at once."""
    lacking = [names for names in (_LAYERS, _HEADS, _WIDTHS) if number(fields, *names) is None]
    if _LAYERS in lacking and (_layer_types(fields) or fields.get("hybrid_override_pattern")):
        lacking.remove(_LAYERS)
    if lacking:
        raise missing(*(" or ".join(names[:2]) for names in lacking), every=True)


def _unknown(reason: str) -> Exception:
    return stack_error(
        "model.id",
        f"the KV cache of the model cannot be sized: {reason}",
        hint="a model of another architecture, or a newer llmdeploy",
    )


def _layers(fields: ModelConfig) -> int:
    return need(fields, *_LAYERS)


def _window(fields: ModelConfig) -> int:
    return number(fields, "sliding_window") or 0


def _layer_types(fields: ModelConfig) -> list[str] | None:
    for name in ("layer_types", "layers_block_type"):
        listed = fields.get(name)
        if isinstance(listed, (list, tuple)):
            count = number(fields, "num_hidden_layers")
            return [str(kind) for kind in cast("Sequence[Any]", listed)][: count or None]
    return None


def _heads(fields: ModelConfig) -> int:
    return need(fields, *_HEADS)


def _kv_heads(fields: ModelConfig) -> int:
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
    listed = next((name for name in names if isinstance(fields.get(name), (list, tuple))), "")
    if listed:
        raise _unknown(
            f"{listed} is a list: every layer has its own number of heads, and how this version of it is served is not known"
        )
    if fields.get("multi_query") and not fields.get("new_decoder_architecture"):
        return 1
    return number(fields, *names) or _heads(fields)


def _head_dim(fields: ModelConfig) -> int:
    # Never hidden_size / heads when it is there: Qwen3, Gemma and Mistral differ.
    said = number(fields, "head_dim", "hidden_size_per_head", "attention_head_dim")
    return said or need(fields, "hidden_size", "n_embd", "d_model") // _heads(fields)


def _attention(fields: ModelConfig, window: int = 0) -> Attention:
    dim = _head_dim(fields)
    other = number(fields, "v_head_dim")
    if other not in (None, dim):
        raise _unknown(f"its values have another width than its keys (v_head_dim {other}, head_dim {dim})")
    return Attention(_kv_heads(fields), dim, dim, window)


def _dbrx(fields: ModelConfig) -> Attention:
    inner = as_mapping(fields.get("attn_config")) or {}
    dim = _head_dim(fields)
    return Attention(number(inner, "kv_n_heads") or _heads(fields), dim, dim)


def _uniform(fields: ModelConfig, cache: Attention) -> Architecture:
    return Architecture(_heads(fields), cache.kv_heads, cache.key_dim, ((cache,),) * _layers(fields))


def _whole(fields: ModelConfig, layers: Sequence[tuple[Cache, ...]]) -> Architecture:
    return Architecture(_heads(fields), _kv_heads(fields), _head_dim(fields), tuple(layers))


def _token_numbers(cache: Cache) -> int:
    if isinstance(cache, Attention):
        return cache.kv_heads * (cache.key_dim + cache.value_dim)
    return cache.width if isinstance(cache, Latent) else 0


def _operations(cache: Cache, heads: int, tokens: int) -> float:
    """A token looks at those before it, half of all on average, or at a window of them."""
    if isinstance(cache, State):
        return 0
    window = cache.window if isinstance(cache, Attention) else 0
    return 2 * heads * (cache.key_dim + cache.value_dim) * tokens * min(tokens / 2, window or tokens)
