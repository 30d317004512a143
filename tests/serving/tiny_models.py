"""Tiny models of every kind of attention, as config.json: their KV caches are predicted, and made by the real engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MIB = 2**20

_BASE: Mapping[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 8192,
    "dtype": "bfloat16",
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "rope_theta": 10000.0,
}

_GEMMA: Mapping[str, Any] = {"query_pre_attn_scalar": 32, "hidden_activation": "gelu_pytorch_tanh"}

_MAMBA2: Mapping[str, Any] = {
    "mamba_expand": 2,
    "mamba_d_state": 32,
    "mamba_d_conv": 4,
    "mamba_n_heads": 8,
    "mamba_d_head": 32,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 128,
}


@dataclass(frozen=True)
class TinyModel:
    """A model, the longest request, the tokens of one step, and options of the engine that shape its cache."""

    config: Mapping[str, Any]
    context: int = 4096
    step: int = 2048
    kv_bytes: int = 2
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])


def config(kind: str, architecture: str, **fields: Any) -> dict[str, Any]:
    """Return a config.json: of four layers, unless `fields` say otherwise."""
    return {**_BASE, "model_type": kind, "architectures": [architecture], **fields}


LLAMA = config("llama", "LlamaForCausalLM")

TINY_MODELS: Mapping[str, TinyModel] = {
    "grouped heads": TinyModel(LLAMA),
    "grouped heads, FP8 cache": TinyModel(LLAMA, kv_bytes=1, options={"kv_cache_dtype": "fp8"}),
    "a cache for every head": TinyModel({**LLAMA, "num_key_value_heads": 4}, context=1000),
    "one head for all": TinyModel({**LLAMA, "num_key_value_heads": 1}, context=300),
    "wide heads": TinyModel(config("qwen3", "Qwen3ForCausalLM", head_dim=128, num_hidden_layers=5), context=2048),
    "one window for all": TinyModel(config("mistral", "MistralForCausalLM", sliding_window=512)),
    "a window longer than requests": TinyModel(
        config("phi3", "Phi3ForCausalLM", sliding_window=262144, pad_token_id=0), context=2048
    ),
    "gemma 2": TinyModel(
        config("gemma2", "Gemma2ForCausalLM", **_GEMMA, sliding_window=512, num_hidden_layers=6, final_logit_softcapping=30.0),
        step=512,
    ),
    "gemma 3": TinyModel(
        config("gemma3_text", "Gemma3ForCausalLM", **_GEMMA, sliding_window=256, sliding_window_pattern=6, num_hidden_layers=13),
        step=1024,
    ),
    "gemma 3n": TinyModel(
        config(
            "gemma3n_text",
            "Gemma3nForCausalLM",
            hidden_activation="gelu_pytorch_tanh",
            num_hidden_layers=10,
            num_kv_shared_layers=4,
            sliding_window=128,
            vocab_size_per_layer_input=259,
            hidden_size_per_layer_input=32,
            altup_num_inputs=2,
            altup_active_idx=0,
            laurel_rank=8,
            activation_sparsity_pattern=[0.0] * 10,
        ),
        context=2048,
        step=1024,
    ),
    "gemma 4": TinyModel(
        config(
            "gemma4_text",
            "Gemma4ForCausalLM",
            hidden_activation="gelu_pytorch_tanh",
            num_hidden_layers=8,
            num_kv_shared_layers=2,
            sliding_window=128,
            head_dim=96,
            global_head_dim=128,
            vocab_size_per_layer_input=259,
            hidden_size_per_layer_input=0,
            layer_types=[
                *["sliding_attention", "sliding_attention", "full_attention"] * 2,
                "sliding_attention",
                "full_attention",
            ],
        ),
        context=2048,
        step=1024,
    ),
    "cohere 2": TinyModel(
        config(
            "cohere2",
            "Cohere2ForCausalLM",
            sliding_window=256,
            layer_types=[*["sliding_attention"] * 3, "full_attention"],
            logit_scale=1.0,
            layer_norm_eps=1e-5,
        ),
        context=3000,
        step=512,
    ),
    "gpt-oss": TinyModel(
        config("gpt_oss", "GptOssForCausalLM", sliding_window=128, num_local_experts=4, num_experts_per_tok=2),
        context=3000,
        step=1024,
    ),
    "llama 4": TinyModel(
        config(
            "llama4_text",
            "Llama4ForCausalLM",
            attention_chunk_size=512,
            num_local_experts=2,
            num_experts_per_tok=1,
            intermediate_size_mlp=256,
            interleave_moe_layer_step=1,
            no_rope_layers=[1, 1, 1, 0],
            use_qk_norm=True,
            attn_temperature_tuning=False,
        ),
        context=2048,
        step=1024,
    ),
    "deepseek 2": TinyModel(
        config(
            "deepseek_v2",
            "DeepseekV2ForCausalLM",
            q_lora_rank=None,
            kv_lora_rank=512,
            qk_nope_head_dim=128,
            qk_rope_head_dim=64,
            v_head_dim=128,
            first_k_dense_replace=3,
            n_routed_experts=4,
            n_shared_experts=1,
            num_experts_per_tok=2,
            moe_intermediate_size=64,
            n_group=1,
            topk_group=1,
            num_hidden_layers=3,
            num_key_value_heads=4,
            head_dim=64,
        ),
        step=4096,
        # A processor with AMX has another backend, with blocks of another size.
        options={"attention_backend": "CPU_MLA"},
    ),
    "qwen 3 next": TinyModel(
        config(
            "qwen3_next",
            "Qwen3NextForCausalLM",
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=32,
            linear_value_head_dim=32,
            linear_conv_kernel_dim=4,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=64,
            shared_expert_intermediate_size=64,
            decoder_sparse_step=1,
            norm_topk_prob=True,
            partial_rotary_factor=0.25,
        ),
        context=2048,
    ),
    "jamba": TinyModel(
        config(
            "jamba",
            "JambaForCausalLM",
            mamba_expand=2,
            mamba_d_state=16,
            mamba_d_conv=4,
            mamba_dt_rank=8,
            attn_layer_period=4,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            num_experts=2,
            num_experts_per_tok=1,
            use_mamba_kernels=False,
        ),
        context=2048,
    ),
    "granite 4, nothing cached between requests": TinyModel(
        config(
            "granitemoehybrid",
            "GraniteMoeHybridForCausalLM",
            **_MAMBA2,
            layer_types=["mamba", "mamba", "attention", "mamba"],
            num_local_experts=0,
            num_experts_per_tok=0,
            shared_intermediate_size=256,
            embedding_multiplier=1.0,
            attention_multiplier=1.0,
            residual_multiplier=1.0,
            logits_scaling=1.0,
            position_embedding_type="nope",
        ),
        context=2048,
        options={"enable_prefix_caching": False},
        args={"enable-prefix-caching": False},
    ),
    "falcon h1": TinyModel(config("falcon_h1", "FalconH1ForCausalLM", **_MAMBA2, mamba_d_ssm=256), context=2048),
    "nemotron h": TinyModel(
        config(
            "nemotron_h",
            "NemotronHForCausalLM",
            hybrid_override_pattern="M-M*-M",
            num_hidden_layers=6,
            mamba_num_heads=8,
            mamba_head_dim=32,
            ssm_state_size=32,
            n_groups=1,
            conv_kernel=4,
            chunk_size=128,
            mlp_hidden_act="relu2",
            expand=2,
        ),
        context=2048,
    ),
    "lfm 2": TinyModel(
        config(
            "lfm2",
            "Lfm2ForCausalLM",
            layer_types=["conv", "full_attention", "conv", "conv"],
            conv_L_cache=3,
            conv_bias=False,
            conv_dim=128,
            block_dim=128,
            block_multiple_of=32,
            block_ff_dim=256,
            block_auto_adjust_ff_dim=False,
            norm_eps=1e-5,
        ),
        context=2048,
    ),
}
