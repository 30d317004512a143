"""Requests whose renderings are golden files, and go through the real parser end to end."""

from __future__ import annotations

from llmdeploy.serving import RenderRequest

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
            "disable-sliding-window": True,
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
