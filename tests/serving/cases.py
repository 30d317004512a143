"""Requests whose renderings are golden files, and go through the real parser end to end."""

from __future__ import annotations

from typing import Any

from llmdeploy.serving import Parallel, Quantization, RenderRequest
from tests.serving.gpus import A100, B200, GIB, H100, L4, T4

MIB = 2**20

CASES = {
    "tiny": RenderRequest("tiny-random", context=4096, concurrency=4, kv_cache_bytes=64 * MIB, weight_bytes=5 * MIB),
    "one-request": RenderRequest("org/model-v1.5", context=1, concurrency=1, kv_cache_bytes=MIB, weight_bytes=5 * MIB, seed=7),
    "many-requests": RenderRequest("m", context=512, concurrency=3000, kv_cache_bytes=900 * MIB, weight_bytes=5 * MIB),
    "bf16": RenderRequest("m", context=2048, concurrency=2, kv_cache_bytes=64 * MIB, weight_bytes=5 * MIB, quant="bf16"),
    "every-option": RenderRequest(
        "m",
        context=2048,
        concurrency=8,
        kv_cache_bytes=64 * MIB,
        weight_bytes=40 * 2**30,
        extra_args={
            "chat-template-content-format": "string",
            "custom-histogram-buckets": {"request_latency": [0.1, 1.0]},
            "default-chat-template-kwargs": {"enable_thinking": False},
            "disable-cascade-attn": True,
            "enable-auto-tool-choice": True,
            "enable-chunked-prefill": True,
            "enable-prefix-caching": False,
            "enable-prompt-tokens-details": True,
            "exclude-tools-when-tool-choice-none": True,
            "generation-config": "vllm",
            "h11-max-header-count": 100,
            "h11-max-incomplete-event-size": 65536,
            "language-model-only": True,
            "limit-mm-per-prompt": {"image": 0},
            "logprobs-mode": "processed_logprobs",
            "long-prefill-token-threshold": 1024,
            "long-prefill-token-threshold-adaptive": False,
            "max-logprobs": 5,
            "max-num-batched-tokens": 4096,
            "max-num-queued-reqs": 10,
            "max-num-queued-tokens": 100000,
            "override-generation-config": {"temperature": 0.2},
            "prefix-caching-hash-algo": "sha256",
            "reasoning-parser": "granite",
            "response-role": "assistant",
            "return-tokens-as-token-ids": True,
            "scheduler-reserve-full-isl": True,
            "scheduling-policy": "priority",
            "seed": 42,
            "sse-keep-alive-interval": 15,
            "stream-interval": 2,
            "structured-outputs-config": {"backend": "xgrammar"},
            "tool-call-parser": "hermes",
            "tool-strict-level": "auto",
            "watermark": 0.01,
        },
    ),
}

BF16 = Quantization("bf16", "published", 2.0, 2.0, 2, "bf16", native=True)
FP16 = Quantization("fp16", "published", 2.0, 2.0, 2, "fp16", native=True)
FP8_AT_LOAD = Quantization("fp8_per_tensor", "load", 1.0, 2.0, 2, "fp8", native=True, flag="fp8_per_tensor")
FP8_VARIANT = Quantization("fp8", "variant", 1.0, 2.0, 2, "fp8", native=True, repository="org/m-fp8")
NVFP4 = Quantization("nvfp4", "published", 0.5625, 2.0, 2, "fp4", native=True)


def _cuda(name: str, **fields: Any) -> RenderRequest:
    given: dict[str, Any] = {"context": 8192, "concurrency": 32, "kv_cache_bytes": 8 * GIB, "weight_bytes": 16 * GIB, **fields}
    return RenderRequest(name, device="cuda", **given)


WIDE = Parallel(tensor=4, pipeline=2, machines=2)

CUDA_CASES = {
    "cuda-one-gpu": _cuda("llama-3.1-8b", gpu=L4, quantization=BF16, kv_cache_tokens=65536),
    "cuda-old-gpu": _cuda("m", gpu=T4, quantization=FP16, concurrency=2, weight_bytes=8 * GIB),
    "cuda-made-at-load": _cuda("m", gpu=H100, quantization=FP8_AT_LOAD),
    "cuda-four-gpus": _cuda("llama-3.3-70b", gpu=A100, quantization=FP8_VARIANT, parallel=Parallel(tensor=4)),
    "cuda-many-requests": _cuda("m", gpu=B200, quantization=NVFP4, concurrency=20000),
    "cuda-first-machine": _cuda("llama-3.1-405b", gpu=H100, quantization=BF16, parallel=WIDE, weight_bytes=95 * GIB),
    "cuda-second-machine": _cuda("llama-3.1-405b", gpu=H100, quantization=BF16, parallel=WIDE, weight_bytes=95 * GIB, rank=1),
}
