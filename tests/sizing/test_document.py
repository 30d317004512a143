from __future__ import annotations

import json

from llmdeploy.sizing import SizingRequest, choose, document, report
from tests.sizing.test_cpu import size as on_cpu
from tests.sizing.world import VLLM, machine, request

L40SX4 = machine("l40s", 4, 10.0)


def wish(**changed: object) -> SizingRequest:
    return request("llama-3.3-70b-instruct", L40SX4, machine("l4", 1, 1.0), machine("h200", 1), concurrency=2, **changed)


def test_the_document_is_plain_json_and_complete() -> None:
    found = document(choose(wish(replicas=2, repository="meta-llama/Llama-3.3-70B-Instruct"), VLLM))
    assert json.loads(json.dumps(found)) == found
    assert found["fits"] is True
    assert found["reason"] == ""
    assert found["model"] == {
        "id": "llama-3.3-70b-instruct",
        "repository": "meta-llama/Llama-3.3-70B-Instruct",
        "license": "llama3.3",
        "commercial": True,
        "gated": True,
        "parameters": 70_553_706_496,
        "active_parameters": 70_553_706_496,
        "confidence": "seen",
    }
    assert (found["gpu"], found["machine"], found["machines"], found["replicas"]) == ("l40s", "4xl40s", 2, 2)
    assert (found["machines_per_replica"], found["gpus_per_replica"]) == (1, 4)
    assert (found["tensor_parallel"], found["pipeline_parallel"]) == (4, 1)
    assert found["quantization"]["made"] == "published"
    memory = found["memory"]
    parts = memory["weights_bytes"] + memory["kv_cache_bytes"] + memory["overhead_bytes"] + memory["free_bytes"]
    assert parts == memory["total_bytes"]
    assert found["kv_cache"]["tokens"] >= 2 * found["context"]
    assert found["throughput"]["prediction"] is True
    for name in ("decode_tokens_per_s", "request_tokens_per_s", "prefill_tokens_per_s"):
        assert 0 < found["throughput"][name]["planning"] <= found["throughput"][name]["bound"]
    assert [row["fits"] for row in found["candidates"]] == [True, True, False]
    assert found["candidates"][0]["machine"] == "4xl40s"
    assert found["candidates"][0]["usd_per_hour"] == 20.0
    assert found["candidates"][1]["usd_per_hour"] is None
    assert found["candidates"][2]["headroom_bytes"] < 0
    assert "more than the usable" in found["candidates"][2]["reason"]


def test_the_document_of_the_cpu() -> None:
    found = document(on_cpu())
    assert (found["gpu"], found["machine"], found["machines"], found["throughput"]) == (None, None, 1, None)
    assert found["memory"]["kv_cache_bytes"] == found["memory"]["kv_needed_bytes"]
    assert (found["memory"]["total_bytes"], found["memory"]["free_bytes"]) == (0, 0)
    assert found["candidates"] == [
        {
            "machine": None,
            "gpu": None,
            "gpus": 0,
            "machines": 1,
            "tensor_parallel": 1,
            "pipeline_parallel": 1,
            "quantization": found["quantization"]["name"],
            "fits": True,
            "reason": "",
            "usd_per_hour": None,
            "headroom_bytes": 0,
            "kv_tokens": found["kv_cache"]["tokens"],
            "requests": 3,
            "decode_tokens_per_s": None,
        }
    ]


def test_a_report_of_what_fits_nowhere_has_reason_hint_and_candidates() -> None:
    found = report(request("llama-3.3-70b-instruct", machine("l4", 1, 1.0, available=1), quant="bf16"), VLLM)
    assert json.loads(json.dumps(found)) == found
    assert found["fits"] is False
    assert found["reason"].startswith("llama-3.3-70b-instruct as bf16 does not fit: 1xl4: weights 131.4 GiB")
    assert [row["fits"] for row in found["candidates"]] == [False]
    assert found["candidates"][0]["reason"] in found["reason"]


def test_a_report_of_a_model_that_cannot_be_sized_says_why() -> None:
    found = report(wish(context=10**6), VLLM)
    assert (found["fits"], found["candidates"]) == (False, [])
    assert found["reason"].startswith("1,000,000 tokens are more than the 131,072")
    assert found["explanation"] == ["at most 131072"]
