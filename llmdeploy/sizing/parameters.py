"""How many parameters a model has, and which of them a token uses, counted from its `config.json`.

The count goes by the fields, so that a model nobody listed can be counted too; `model_type` only decides what no field tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from ..manifest import ModelConfig, ModelFacts
from ..resource import as_mapping, as_sequence
from ..serving import stack_error
from ..serving.config_fields import number, text_fields

_PLAIN: Final = frozenset({
    "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "nemotron", "opt", "persimmon",
    "phi", "starcoder2", "xglm",
})  # fmt: skip
"""Model types whose feed-forward layers are two matrices; the others have three (a gate)."""

_GATED: Final = frozenset({
    "baichuan", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "ernie4_5", "ernie4_5_moe", "gemma", "gemma2", "gemma3",
    "gemma3_text", "glm", "glm4", "glm4_moe", "gpt_oss", "granite", "granitemoe", "internlm2", "internlm3", "kimi_k2", "llama",
    "llama4", "llama4_text", "minicpm", "mistral", "mistral3", "mixtral", "olmo", "olmo2", "olmoe", "phi3", "phimoe", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "solar", "stablelm",
})  # fmt: skip

_TIED: Final = frozenset({
    "bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "gpt_bigcode", "gpt_neo", "mpt",
    "opt", "starcoder2", "xglm",
})  # fmt: skip
"""Model types whose output head is the table of embeddings unless `tie_word_embeddings` says otherwise."""

_LEARNED_POSITIONS: Final = frozenset({"gpt2", "gpt_bigcode", "gpt_neo", "opt"})
_FOREIGN: Final = ("block_configs", "conv_L_cache", "linear_conv_", "linear_num_", "lru_", "mamba_", "rwkv", "ssm_", "state_size")
"""Beginnings of fields of layers that are neither attention nor feed-forward."""

_STORED_BYTES: Final[Mapping[str, float]] = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}

_HIDDEN: Final = ("hidden_size", "n_embd", "d_model")
_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
_FEED: Final = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
_EXPERTS: Final = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_USED: Final = ("num_experts_per_tok", "experts_per_token", "moe_k", "moe_top_k")


@dataclass(frozen=True)
class Layer:
    """Parameters of one layer, by how tensor parallelism treats them.

    split: divided over all ranks. kv: projections to keys and values, divided over at most as many ranks as there are KV heads.
    whole: linear layers that every rank holds. other: norms and routers, on every rank, in 16 bits whatever the quantization.
    experts: of all routed experts, divided over all ranks.
    """

    split: int
    kv: int
    whole: int
    other: int
    experts: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.split + self.kv + self.whole + self.other + self.experts


@dataclass(frozen=True)
class Parameters:
    """What a model consists of.

    embedding: the table that tokens are looked up in (and learned positions). head: the output matrix, 0 when it is that table.
    vision: encoder of images and its projector, in 16 bits. idle: layers that are in the files and not loaded, because they only
    guess several tokens ahead; no total has them. expert_share: part of the routed experts that one token uses.
    kv_heads: of one layer. uses: parameters of one token where they are known otherwise. factor: what every count is multiplied
    with to meet the known total. known: the count was checked against published totals for this type of model. note: what a
    reader should know about the count.
    """

    layers: tuple[Layer, ...]
    embedding: int
    head: int
    vision: int = 0
    idle: int = 0
    expert_share: float = 1.0
    kv_heads: int = 1
    uses: int | None = None
    factor: float = 1.0
    known: bool = True
    note: str = ""

    @cached_property
    def total(self) -> int:
        """All parameters."""
        return round(self.factor * (sum(layer.total for layer in self.layers) + self.embedding + self.head + self.vision))

    @cached_property
    def active(self) -> int:
        """Parameters that one token uses; the whole table of embeddings counts, as in published figures."""
        if self.uses is not None:
            return self.uses
        idle = (1 - self.expert_share) * sum(layer.experts for layer in self.layers)
        return round(self.total - self.factor * idle)

    @cached_property
    def in_layers(self) -> int:
        """Parameters that one token of a prompt is multiplied with: the output matrix is for the last one only."""
        return max(1, round(self.active - self.factor * (self.vision + self.embedding + self.head)))

    @cached_property
    def multiplied(self) -> int:
        """Parameters that one token of an answer is multiplied with: without the encoder of images and what is looked up in."""
        return self.in_layers + round(self.factor * (self.head or self.embedding))


def parameters_of(facts: ModelFacts) -> Parameters:
    """Return the parameters of a model: counted from its config.json, and brought to its known total where there is one.

    An architecture that cannot be counted is taken as one block of as many parameters as its weight files hold.

    Raises:
        StackError: it cannot be counted and the size of its files is not known; names what config.json lacks.
    """
    fields = text_fields(facts.config)
    foreign, lacking = _foreign(fields), _lacking(fields)
    if not foreign and not lacking:
        return _fitted(_counted(fields), facts)
    if facts.weight_bytes is None and facts.parameters is None:
        raise _uncountable(fields, foreign, lacking)
    total = facts.parameters or round((facts.weight_bytes or 0) / stored_bytes(facts.config))
    note = f"{_named(fields)}: its parameters were taken from the size of its files, not counted"
    embedding = min(total, (number(fields, "vocab_size") or 0) * (number(fields, *_HIDDEN) or 0))
    block = Layer(split=total - embedding, kv=0, whole=0, other=0)
    return Parameters((block,), embedding, 0, uses=facts.active_parameters, known=False, note=note)


def stored_bytes(config: ModelConfig) -> float:
    """Return the bytes of one parameter in the published files, as far as config.json tells; 2 when it does not."""
    fields = text_fields(config)
    settings = as_mapping(fields.get("quantization_config"))
    if settings is None:
        return _STORED_BYTES.get(str(fields.get("dtype") or fields.get("torch_dtype")).removeprefix("torch."), 2)
    bits = number(settings, "bits", "w_bit")
    return bits / 8 if bits else {"mxfp4": 0.53125}.get(str(settings.get("quant_method")), 1.0)


def is_quantized(config: ModelConfig) -> bool:
    """Whether the published checkpoint is already quantized."""
    return as_mapping(text_fields(config).get("quantization_config")) is not None


def _fitted(counted: Parameters, facts: ModelFacts) -> Parameters:
    """Bring a count to the known total: of the catalogue, or of files whose number format is known."""
    factor = 1.0
    if facts.parameters is not None:
        factor = facts.parameters / counted.total
    elif facts.weight_bytes is not None and not is_quantized(facts.config):
        factor = facts.weight_bytes / stored_bytes(facts.config) / (counted.total + counted.idle)
    return replace(counted, uses=facts.active_parameters, factor=factor)


# --- what config.json says --------------------------------------------------------------------------------------------------


def _lacking(fields: ModelConfig) -> list[str]:
    """Return what a count needs and config.json has under none of the names that it goes by."""
    needed: list[tuple[str, ...]] = [_HIDDEN, _LAYERS, _HEADS, ("vocab_size",)]
    if fields.get("model_type") not in _PLAIN and not number(fields, *_EXPERTS):
        needed.append(_FEED)
    if number(fields, *_EXPERTS):
        needed += [_USED, ("moe_intermediate_size", "intermediate_size")]
    return [" or ".join(names) for names in needed if not number(fields, *names)]


def _foreign(fields: ModelConfig) -> list[str]:
    """Return fields of layers that are not attention, whose parameters nobody here can count."""
    return sorted(name for name in fields if name.startswith(_FOREIGN))


def _uncountable(fields: ModelConfig, foreign: list[str], lacking: list[str]) -> Exception:
    why = f"has no {', no '.join(lacking)}" if lacking else f"describes layers of another kind ({', '.join(foreign[:3])})"
    return stack_error(
        "model.id",
        f"{_named(fields)}: config.json {why}, so its weights cannot be counted, and the size of its files is not known",
        hint="a folder or a repository with its .safetensors files, or their index, tells the size",
    )


def _named(fields: ModelConfig) -> str:
    names = as_sequence(fields.get("architectures"))
    found = names[0] if names else fields.get("model_type")
    return f"architecture {found}" if found else "an architecture without a name"


def _need(fields: ModelConfig, *names: str) -> int:
    """Return a field that `_lacking` has looked for."""
    return next(found for name in names if (found := number(fields, name)))


# --- the count --------------------------------------------------------------------------------------------------------------


def _counted(fields: ModelConfig) -> Parameters:
    kind = fields.get("model_type")
    hidden, layers, vocab = _need(fields, *_HIDDEN), _need(fields, *_LAYERS), _need(fields, "vocab_size")
    heads = _need(fields, *_HEADS)
    head_dim = number(fields, "head_dim") or hidden // heads
    kv_heads = _kv_heads(fields, heads)
    positions = (number(fields, "n_positions", "max_position_embeddings") or 0) if kind in _LEARNED_POSITIONS else 0
    attention = _attention(fields, hidden, heads, head_dim, kv_heads)
    known = kind in _PLAIN | _GATED
    built = _stack(fields, layers, hidden, attention)
    return Parameters(
        layers=built,
        embedding=(vocab + positions) * hidden,
        vision=_vision(fields, hidden),
        # Each has a projection of two hidden states and tables of its own besides.
        idle=(number(fields, "num_nextn_predict_layers") or 0) * (built[-1].total + 2 * hidden * (hidden + vocab)),
        head=0 if fields.get("tie_word_embeddings", kind in _TIED) else vocab * hidden,
        expert_share=_need(fields, *_USED) / _need(fields, *_EXPERTS) if number(fields, *_EXPERTS) else 1.0,
        kv_heads=kv_heads,
        known=known,
        note="" if known else f"{_named(fields)} is not one that was checked: its parameters were counted from config.json",
    )


def _kv_heads(fields: ModelConfig, heads: int) -> int:
    if fields.get("multi_query") and not fields.get("new_decoder_architecture"):
        return 1
    return number(fields, "num_key_value_heads", "num_kv_heads", "n_head_kv") or heads


def _attention(fields: ModelConfig, hidden: int, heads: int, head_dim: int, kv_heads: int) -> Layer:
    norms = 2 * hidden
    latent = number(fields, "kv_lora_rank")
    if latent is None:
        width = heads * head_dim
        return Layer(split=2 * hidden * width, kv=2 * hidden * kv_heads * head_dim, whole=0, other=norms)
    plain, rope = number(fields, "qk_nope_head_dim") or 0, number(fields, "qk_rope_head_dim") or 0
    value = number(fields, "v_head_dim") or head_dim
    query = number(fields, "q_lora_rank")
    down = hidden * (latent + rope) + (hidden * query if query else 0)
    up = (query or hidden) * heads * (plain + rope) + latent * heads * (plain + value)
    return Layer(split=up + heads * value * hidden, kv=0, whole=down, other=norms + latent + (query or 0))


def _stack(fields: ModelConfig, layers: int, hidden: int, attention: Layer) -> tuple[Layer, ...]:
    """Return all layers: of some models every one is a mixture of experts, others begin with dense layers, or mix them in."""
    plain = fields.get("model_type") in _PLAIN or fields.get("hidden_act") in ("relu", "relu2")
    rows = (2 if plain else 3) * hidden
    feed = number(fields, "intermediate_size_mlp", *_FEED) or 4 * hidden
    dense = replace(attention, split=attention.split + rows * feed)
    experts = number(fields, *_EXPERTS)
    if not experts:
        return (dense,) * layers
    each = rows * _need(fields, "moe_intermediate_size", "intermediate_size")
    sparse = replace(
        attention,
        split=attention.split + _shared(fields, rows, each),
        other=attention.other + hidden * experts,
        experts=experts * each,
    )
    first = number(fields, "first_k_dense_replace") or 0
    step = number(fields, "interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_freq") or 1
    listed = as_sequence(fields.get("mlp_only_layers")) or ()
    return tuple(sparse if i >= first and (i + 1) % step == 0 and i not in listed else dense for i in range(layers))


def _shared(fields: ModelConfig, rows: int, each: int) -> int:
    """Return the parameters of the experts that every token uses. rows: matrices x hidden size; each: of one routed expert."""
    width = number(fields, "shared_expert_intermediate_size", "shared_intermediate_size")
    if width is not None:
        return rows * width
    count = number(fields, "n_shared_experts") or (1 if fields.get("model_type") == "llama4_text" else 0)
    return count * each


def _vision(fields: ModelConfig, hidden: int) -> int:
    """Return the parameters of an encoder of images like SigLIP or Pixtral and of its projection to the model's own width."""
    vision = as_mapping(fields.get("vision_config")) or {}
    width, layers, feed = (number(vision, name) for name in ("hidden_size", "num_hidden_layers", "intermediate_size"))
    if not width or not layers or not feed:
        return 0
    pixels, patch = number(vision, "image_size") or 0, number(vision, "patch_size") or 1
    tables = 3 * patch * patch * width + (pixels // patch) ** 2 * width
    return layers * (4 * width * width + 2 * width * feed) + tables + width * hidden
