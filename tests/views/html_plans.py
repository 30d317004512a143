"""Plans made by hand for the HTML view: with machines, a front, stores, and the documents of sizing and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmdeploy.change import Action, Change
from llmdeploy.identity import Identity
from llmdeploy.plan import Plan
from llmdeploy.policy import Finding
from llmdeploy.prices import CostLine
from llmdeploy.resource import UNKNOWN, Ref, Resource
from llmdeploy.traits import DataFlow, Traits
from tests.views.plans import CREATED_AT, LINEAGE

REGION = "eu-central-1"
_GIB = 2**30
_STORED = Traits(region=REGION, at_rest="encrypted", custody="kms")
_STACK: tuple[tuple[str, Traits, Mapping[str, Any]], ...] = (
    ("cloud_kms_key.main", Traits(region=REGION, custody="kms"), {"rotation_days": 365}),
    ("cloud_network.main", Traits(region=REGION), {"cidr": "10.42.0.0/16"}),
    ("cloud_security_group.nodes", Traits(region=REGION), {"ingress": [{"port": 8443, "from": "10.42.0.0/16"}]}),
    ("cloud_bucket.weights", _STORED.model_copy(update={"in_transit": "encrypted"}), {"versioning": True, "tls_only": True}),
    ("cloud_secret.support-backend", _STORED, {"principal": "arn:aws:iam::111122223333:role/support-backend"}),
    ("cloud_secret.batch", _STORED, {"principal": "arn:aws:iam::111122223333:role/batch"}),
    ("cloud_log_group.main", _STORED.model_copy(update={"retention_days": 30}), {"retention_days": 30}),
    (
        "cloud_load_balancer.main",
        Traits(region=REGION, in_transit="encrypted", exposure="public"),
        {"port": 443, "scheme": "internet-facing", "cross_zone": True},
    ),
    ("tls_ca.stack", Traits(custody="operator-file"), {"common_name": "llmdeploy support-chat", "days": 3650}),
)
_MACHINE: tuple[tuple[str, Traits, Mapping[str, Any], tuple[str, ...]], ...] = (
    (
        "cloud_instance",
        Traits(region=REGION, at_rest="encrypted", custody="kms"),
        {"instance_type": "g6e.12xlarge", "disk_gib": 300, "metadata_tokens": "required"},
        ("cloud_kms_key.main", "cloud_security_group.nodes"),
    ),
    ("host_gpu_driver", Traits(pinned=True), {"branch": "570"}, ()),
    ("host_container_runtime", Traits(pinned=True), {"kind": "containerd"}, ()),
    ("host_hardening", Traits(), {"unattended_upgrades": True}, ()),
    (
        "host_volume",
        Traits(at_rest="encrypted", custody="kms"),
        {"encryption": "luks2", "size_gib": 200},
        ("cloud_kms_key.main",),
    ),
    (
        "host_weights",
        Traits(in_transit="encrypted", pinned=True, data_flows=(DataFlow(what="requests for weights", to="huggingface.co"),)),
        {"manifest": {"kind": "hub", "location": "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "files": 19}},
        ("cloud_bucket.weights",),
    ),
    (
        "host_engine",
        Traits(in_transit="local", retention_days=30),
        {"argv": ["vllm", "serve", "--tensor-parallel-size=4"]},
        (),
    ),
    (
        "host_gateway",
        Traits(
            in_transit="encrypted",
            exposure="private",
            retention_days=30,
            data_flows=(DataFlow(what="metadata of requests", to="cloud logs", region=REGION),),
        ),
        {"port": 8443, "sticky": "x-session-id", "keys": UNKNOWN},
        ("cloud_secret.support-backend", "cloud_secret.batch", "cloud_log_group.main"),
    ),
)


def _change(address: str, traits: Traits, after: Mapping[str, Any], group: str, needs: tuple[str, ...] = ()) -> Change:
    kind = address.partition(".")[0]
    provider = "cloud" if kind.startswith("cloud") else "hosts"
    return Change(address, kind, provider, "create", after=after, traits=traits, group=group, dependencies=needs)


def machines(count: int, *, action: Action = "create") -> tuple[Change, ...]:
    """Return the changes of so many machines."""
    return tuple(
        replace(_change(f"{kind}.gpu-{number}", traits, after, f"gpu-{number}", needs), action=action)
        for number in range(count)
        for kind, traits, after, needs in _MACHINE
    )


def _memory() -> dict[str, int]:
    total, usable = 45776 * 2**20, int(0.92 * 45776 * 2**20)
    weights, overhead, needed = int(16.44 * _GIB), int(2.91 * _GIB), 10 * _GIB
    cache = usable - weights - overhead
    return {
        "total_bytes": total,
        "usable_bytes": usable,
        "weights_bytes": weights,
        "kv_cache_bytes": cache,
        "kv_needed_bytes": needed,
        "overhead_bytes": overhead,
        "free_bytes": total - usable,
    }


def _candidate(machine: str, gpu: str, gpus: int, price: float | None, reason: str = "", **more: Any) -> dict[str, Any]:
    return {
        "machine": machine,
        "gpu": gpu,
        "gpus": gpus,
        "machines": 2,
        "tensor_parallel": gpus,
        "pipeline_parallel": 1,
        "quantization": "fp8",
        "fits": not reason,
        "reason": reason,
        "usd_per_hour": price,
        "headroom_bytes": int(11.8 * _GIB),
        "kv_tokens": 285_120,
        "requests": 34,
        "decode_tokens_per_s": {"planning": 930.0, "bound": 1620.0},
        **more,
    }


def sizing() -> dict[str, Any]:
    """Return the document of a large model on two machines with four GPUs each."""
    return {
        "fits": True,
        "reason": "",
        "model": {
            "id": "llama-3.3-70b-instruct",
            "repository": "meta-llama/Llama-3.3-70B-Instruct",
            "license": "llama3.3",
            "commercial": True,
            "gated": True,
            "parameters": 70_553_706_496,
            "active_parameters": 70_553_706_496,
            "confidence": "seen",
        },
        "quantization": {"name": "fp8", "made": "variant", "repository": "x/y", "compute": "fp8", "native": True},
        "gpu": "l40s",
        "machine": "g6e.12xlarge",
        "machines": 2,
        "replicas": 2,
        "machines_per_replica": 1,
        "gpus_per_replica": 4,
        "tensor_parallel": 4,
        "pipeline_parallel": 1,
        "context": 8192,
        "concurrency": 16,
        "batched_tokens": 8192,
        "memory": _memory(),
        "kv_cache": {"tokens": 285_120, "requests": 34, "block_tokens": 16, "token_bytes": 81_920},
        "disk_bytes": 110 * _GIB,
        "throughput": {
            "prediction": True,
            "decode_tokens_per_s": {"planning": 930.0, "bound": 1620.0},
            "request_tokens_per_s": {"planning": 31.4, "bound": 48.9},
            "prefill_tokens_per_s": {"planning": 5200.0, "bound": 10_270.0},
            "time_to_first_token_s": {"planning": 1.58, "bound": 0.8},
        },
        "explanation": [
            "weights: 70,553,706,496 parameters in fp8 = 65.77 GiB, over 4 GPUs 16.44 GiB each",
            "KV cache: 80 layers x 8 heads x 128 x 2 x 2 bytes = 327,680 bytes per token, over 4 GPUs 81,920 bytes each",
            "needed: 16 requests x 8,192 tokens = 131,072 tokens = 10.00 GiB on each GPU",
        ],
        "candidates": [
            _candidate("g6e.12xlarge", "l40s", 4, 26.2316),
            _candidate("g7e.2xlarge", "rtx-pro-6000", 1, None, headroom_bytes=int(5.3 * _GIB), kv_tokens=52_000, requests=6),
            _candidate("p5.4xlarge", "h100", 1, 13.76, "weights and engine leave 3.12 GiB for the KV cache, 40.00 GiB are needed",
                       headroom_bytes=int(-36.88 * _GIB)),
            _candidate("g6.12xlarge", "l4", 4, 11.504, "weights and engine leave 1.20 GiB for the KV cache, 10.00 GiB are needed",
                       headroom_bytes=int(-8.8 * _GIB)),
            _candidate("g5.12xlarge", "a10g", 4, 14.18, "fp8 needs compute capability 8.9; A10G has 8.6: use awq or int8",
                       headroom_bytes=None),
        ],
    }  # fmt: skip


def _lines() -> tuple[CostLine, ...]:
    aws = "catalogue: a public price list, 2026-07-20"
    return (
        CostLine("g6e.12xlarge, on demand", 2, "hour", 13.1158, "hour", aws, "derived", "one machine for each replica"),
        CostLine("disk, gp3", 600, "GB-month", 0.0952, "month", aws, "seen", "300 GiB on each machine"),
        CostLine("load balancer", 1, "hour", 0.027, "hour", aws, "seen"),
        CostLine("load balancer, capacity units", 0.6, "LCU-hour", 0.006, "hour", aws, "unverified", "from the expected traffic"),
        CostLine("KMS key", 1, "month", 1.0, "month", aws, "seen"),
        CostLine("secrets", 2, "month", 0.4, "month", aws, "seen"),
        CostLine("log ingestion", 12.4, "GB", 0.63, "month", aws, "derived", "1 KB for each request"),
        CostLine("NAT, processing of the weights", 142.6, "GB", 0.052, "once", aws, "derived", "two copies"),
        CostLine("WAF", 1, "month", None, "month", "no price waf.acl", "unverified"),
    )


_HOSTED = {
    "claude-sonnet-4.6": (3.0, 0.3, 15.0),
    "gpt-5": (1.25, 0.125, 10.0),
    "claude-haiku-4.5": (1.0, 0.1, 5.0),
    "gemini-2.5-flash": (0.3, 0.075, 2.5),
    "llama-3.3-70b (hosted)": (0.72, None, 0.72),
}


def economics() -> dict[str, Any]:
    """Return the document of that bill against five hosted APIs: 80 % input, 40 % use."""
    lines = _lines()
    month = sum(line.usd_per_month or 0.0 for line in lines)
    unit_usd, unit_tokens = 13.1158 * 730, 3.38e9
    tokens = [round(10 ** (8 + step / 20)) for step in range(61)]
    blended = {name: 0.8 * prices[0] + 0.2 * prices[2] for name, prices in _HOSTED.items()}
    evens = {"claude-sonnet-4.6": 3_552_000_000.0, "gpt-5": 41_500_000_000.0}
    return {
        "usd_per_hour": month / 730,
        "usd_per_month": month,
        "usd_once": 142.6 * 0.052,
        "prior_usd_per_month": 9612.34,
        "unpriced": ["WAF"],
        "lines": [
            {
                "label": line.label,
                "quantity": line.quantity,
                "unit": line.unit,
                "usd_per_unit": line.usd_per_unit,
                "per": line.per,
                "usd_per_hour": line.usd_per_hour,
                "usd_per_month": line.usd_per_month,
                "usd_once": line.usd_once,
                "source": line.source,
                "confidence": line.confidence,
                "note": line.note,
            }
            for line in lines
        ],
        "assumptions": {
            "hours_per_month": 730,
            "utilization": 0.4,
            "input_share": 0.8,
            "cached_share": 0.0,
            "tokens_per_request": 1500,
            "operations_usd_per_month": 0.0,
            "tokens_per_month": 4_000_000_000.0,
        },
        "capacity_tokens_per_month": 16_900_000_000.0,
        "usd_per_million_tokens": [{"utilization": u, "usd": month / (16_900 * u)} for u in (0.1, 0.25, 0.4, 0.7, 1.0)],
        "idle": {"utilization": 0.237, "usd_per_month": 14_610.0, "of_usd_per_month": 19_149.07},
        "at": {
            "tokens_per_month": 4_000_000_000,
            "replicas": 2,
            "self_hosted_usd": month,
            "hosted": {name: usd * 4000 for name, usd in blended.items()},
        },
        "against": [
            {
                "name": name,
                "input": prices[0],
                "cached": prices[1],
                "output": prices[2],
                "as_of": "2026-06-02",
                "blended": blended[name],
                "break_even_tokens_per_month": evens.get(name),
                "note": ""
                if name in evens
                else f"dearer at every volume: machines alone cost 2.83 USD per million tokens, the API {blended[name]:.2f}",
            }
            for name, prices in _HOSTED.items()
        ],
        "curve": {
            "tokens_per_month": tokens,
            "self_hosted_usd": [month + unit_usd * (max(2, -(-t // unit_tokens)) - 2) for t in tokens],
            "hosted": {name: [usd * t / 1e6 for t in tokens] for name, usd in blended.items()},
        },
        "notes": ["a month is 730 hours (365 x 24 / 12)", "sums leave out what has no price: WAF"],
        "stale": ["prices of hosted APIs are 171 days old"],
    }


def rich(count: int = 2) -> Plan:
    """Return a plan of machines in a region, behind a load balancer, with all documents."""
    stack = tuple(_change(address, traits, after, "stack") for address, traits, after in _STACK)
    changes = (*stack, *machines(count))
    resources = tuple(
        Resource(change.address, change.type, change.provider, {}, frozenset(change.dependencies), change.group)
        for change in changes
    )
    return Plan(
        stack="support-chat",
        mode="apply",
        identity=Identity("support-chat", LINEAGE),
        serial=7,
        created_at=CREATED_AT,
        stack_sha256="a" * 64,
        lock_sha256="b" * 64,
        changes=changes,
        resources=resources,
        outputs={
            "endpoint": "https://llm.example.com",
            "base_url": "https://llm.example.com/v1",
            "model": "llama-3.3-70b-instruct",
            "keys": {"support-backend": {"secret": Ref("cloud_secret.support-backend", "arn")}},
        },
        summary={"Sizing": ("4 x L40S",), "Compliance": ("gdpr: 31 controls hold, 2 are for people to check",)},
        cost=_lines(),
        prior_cost=(CostLine("g6e.12xlarge", 1, "hour", 13.1158),),
        sizing=sizing(),
        economics=economics(),
        findings=(
            Finding(
                "TRF-02",
                "warn",
                "asks a server outside the EU for weights",
                "host_weights.gpu-0",
                "GDPR Art. 44",
                "model.id",
                "mirror the weights into the bucket with `llmdeploy bundle`",
            ),
        ),
        warnings=("prices of machines are 124 days old; `llmdeploy catalog refresh` brings new ones",),
        account={"cloud.account": "111122223333", "cloud.region": REGION},
        variables={"replicas": 2},
        expires_at="2026-01-03T03:04:05+00:00",
    )


def large(count: int) -> Plan:
    """Return a plan of many machines that are alike."""
    return rich(count)
