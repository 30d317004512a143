from __future__ import annotations

import re
from dataclasses import replace

import pytest

from llmdeploy.errors import StackError
from llmdeploy.machine import MachineType, Slot
from llmdeploy.serving.model import Parallel
from llmdeploy.sizing import Sizing, SizingRequest, choose, explore
from tests.sizing.world import GIB, VLLM, facts, gpu, machine, request

L4 = machine("l4", 1, 1.0)
L4X4 = machine("l4", 4, 5.0)
L40S = machine("l40s", 1, 2.0)
L40SX4 = machine("l40s", 4, 10.0)
A100X2 = machine("a100_80", 2, available=1)
H100X8 = machine("h100_sxm", 8, 55.0)
RENTED = (L4, L4X4, L40S, L40SX4, H100X8)


def size(wish: SizingRequest) -> Sizing:
    return choose(wish, VLLM)


def refused(wish: SizingRequest) -> str:
    with pytest.raises(StackError) as error:
        choose(wish, VLLM)
    return str(error.value)


def test_the_cheapest_machine_that_holds_it() -> None:
    found = size(request("llama-3.1-8b-instruct", *RENTED, concurrency=1))
    assert (found.gpu, found.placement.type, found.placement.count) == ("l4", L4, 1)
    assert found.placement.slots == (Slot(0, 0, 0, (0,)),)
    more = size(request("llama-3.1-8b-instruct", *RENTED, concurrency=16))
    assert (more.gpu, more.gpus_per_machine) == ("l40s", 1)


def test_the_kv_cache_takes_all_that_is_left_in_whole_blocks() -> None:
    found = size(request("llama-3.1-8b-instruct", L40S))
    memory = found.memory
    assert memory.total == gpu("l40s").memory_bytes
    assert memory.usable == int(memory.total * VLLM.gpu_memory_fraction())
    assert memory.cache % found.layout.block_bytes == 0
    assert memory.available - found.layout.block_bytes < memory.cache <= memory.available
    assert memory.needed == found.layout.bytes_for(8) <= memory.cache
    assert memory.weights + memory.overhead + memory.cache + memory.free == memory.total
    assert found.kv_cache_tokens == memory.cache // found.layout.block_bytes * 16
    assert (found.max_model_len, found.max_num_seqs, found.batched_tokens) == (8192, 8, 2048)


def test_the_tokens_of_a_step_that_the_stack_file_sets_are_those_that_are_sized() -> None:
    usual = request("gemma-3-27b-it", L40SX4, context=32768)
    wide = replace(usual, args={"max-num-batched-tokens": 16384})
    before, after = size(usual), size(wide)
    assert (before.batched_tokens, after.batched_tokens) == (2048, 16384)
    assert after.memory.overhead == VLLM.gpu_overhead_bytes(wide.facts, after.parallel, 16384) > before.memory.overhead
    assert after.layout.request_blocks > before.layout.request_blocks
    assert size(replace(wide, gpu="none", machines=())).batched_tokens == 16384


def test_layers_are_split_over_the_gpus_of_one_machine() -> None:
    found = size(request("llama-3.3-70b-instruct", L40SX4, concurrency=2))
    assert (found.parallel, found.gpus_per_machine, found.machines_per_replica) == (Parallel(4), 4, 1)
    assert found.placement.slots == (Slot(0, 0, 0, (0, 1, 2, 3)),)
    assert "70.6 billion parameters" in found.explanation[0]


def test_heads_that_do_not_divide_make_stages() -> None:
    # 28 query heads and 4 for keys and values: not over 8 GPUs.
    found = size(request("qwen2.5-7b-instruct", machine("t4", 8, 1.0), context=32768, concurrency=16, count=8))
    assert found.parallel == Parallel(4, 2)


def test_replicas_share_a_machine_when_its_gpus_hold_them() -> None:
    found = size(request("llama-3.1-8b-instruct", L40SX4, replicas=2))
    assert found.placement.count == 1
    assert found.placement.slots == (Slot(0, 0, 0, (0, 1)), Slot(0, 1, 0, (2, 3)))
    assert "both replicas stand on one machine: when it fails, they fail together" in found.explanation
    assert found.parallel == Parallel(2)
    five = size(request("llama-3.1-8b-instruct", L40SX4, replicas=5))
    assert five.placement.count == 2
    assert [(slot.machine, slot.gpus) for slot in five.placement.slots] == [(0, (0,)), (1, (0,)), (0, (1,)), (1, (1,)), (0, (2,))]


def test_two_small_machines_cost_less_than_one_large() -> None:
    found = size(request("llama-3.1-8b-instruct", *RENTED, replicas=2, concurrency=1))
    assert (found.placement.type, found.placement.count) == (L4, 2)
    assert found.placement.slots == (Slot(0, 0, 0, (0,)), Slot(1, 1, 0, (0,)))
    assert found.candidates[0].usd_per_hour == 2.0


def test_several_machines_only_where_no_single_one_holds_it() -> None:
    found = size(request("deepseek-v3", H100X8, machine("l4", 8, 1.0), replicas=2, quant="fp8"))
    assert (found.machines_per_replica, found.placement.count, found.gpus_per_machine) == (2, 4, 8)
    assert found.parallel == Parallel(8, 2, 2)
    assert [(slot.machine, slot.replica, slot.rank) for slot in found.placement.slots] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 1, 0),
        (3, 1, 1),
    ]
    single = size(request("deepseek-v3", H100X8, machine("h200", 8, 500.0), quant="fp8"))
    assert single.machines_per_replica == 1


def test_auto_takes_the_best_numbers_that_fit() -> None:
    wish = request("llama-3.3-70b-instruct", L40SX4, concurrency=2)
    assert size(wish).quantization.made == "published"
    narrower = size(request("llama-3.3-70b-instruct", L40SX4, concurrency=16)).quantization
    assert (narrower.made, narrower.linear_bytes) == ("load", 1.0)
    narrow = size(request("llama-3.3-70b-instruct", machine("l40s", 2, 5.0), concurrency=8)).quantization
    assert (narrow.made, narrow.linear_bytes < 1) == ("variant", True)
    assert narrow.repository == facts("llama-3.3-70b-instruct").variants[narrow.name]


def test_auto_converts_at_load_only_where_the_gpu_computes_in_it() -> None:
    found = explore(request("llama-3.3-70b-instruct", machine("a100_80", 2, 5.0), context=32768, concurrency=1), VLLM)
    assert found[0].fits
    assert found[0].loaded is not None
    assert found[0].loaded.quantization.made == "variant"


def test_narrower_numbers_that_cost_less_are_told() -> None:
    wish = request("llama-3.3-70b-instruct", L40SX4, machine("h100_sxm", 1, 5.0), concurrency=2)
    assert any(
        one.startswith("cheaper with narrower numbers:") and "1 x 1xh100_sxm, 5.00 USD per hour" in one
        for one in size(wish).explanation
    )


def test_what_has_no_price_comes_last() -> None:
    unpriced = machine("h200", 1)
    found = size(request("llama-3.1-8b-instruct", unpriced, H100X8))
    assert found.placement.type == H100X8
    narrower = size(request("llama-3.3-70b-instruct", machine("h200", 8), L40SX4, concurrency=16))
    assert (narrower.placement.type, narrower.quantization.made) == (L40SX4, "load")
    both = explore(request("llama-3.1-8b-instruct", machine("h200", 2), unpriced), VLLM)
    assert [one.machine.gpus for one in both] == [1, 2]


def test_own_machines_are_all_used_and_give_as_few_gpus_as_hold_it() -> None:
    owned = machine("l40s", 4, available=2, members=("a", "b"))
    found = size(request("llama-3.1-8b-instruct", owned, replicas=3))
    assert (found.placement.count, found.gpus_per_machine) == (2, 1)
    assert found.placement.slots == (Slot(0, 0, 0, (0,)), Slot(1, 1, 0, (0,)), Slot(0, 2, 0, (1,)))
    large = size(request("llama-3.3-70b-instruct", owned, replicas=2, quant="fp8_per_tensor", concurrency=2))
    assert (large.placement.count, large.gpus_per_machine) == (2, 2)
    assert large.placement.slots == (Slot(0, 0, 0, (0, 1)), Slot(1, 1, 0, (0, 1)))
    assert not any("stand on one machine" in sentence for sentence in large.explanation)
    reason = refused(request("llama-3.3-70b-instruct", owned, replicas=3, quant="bf16", concurrency=2))
    assert "3 machines of this kind are needed, there are 2" in reason


def test_count_fixes_the_gpus_of_a_replica() -> None:
    assert size(request("llama-3.1-8b-instruct", L40SX4, count=4)).parallel == Parallel(4)
    assert size(request("llama-3.1-8b-instruct", L40SX4, count=1)).parallel == Parallel(1)
    two = size(request("llama-3.1-8b-instruct", L40SX4, count=8))
    assert (two.machines_per_replica, two.parallel) == (2, Parallel(4, 2, 2))
    assert "1xl40s: 1 GPU, hardware.count asks for 3" in refused(request("llama-3.1-8b-instruct", L40S, count=3))


def test_a_gpu_or_an_instance_type_narrows_the_choice() -> None:
    found = size(request("llama-3.1-8b-instruct", *RENTED, gpu="h100_sxm"))
    assert found.placement.type == H100X8
    assert found.parallel == Parallel(8)
    assert size(request("llama-3.1-8b-instruct", *RENTED, instance_type="4xl4")).placement.type == L4X4


def test_what_cannot_be_had_is_named_with_what_can() -> None:
    wish = request("llama-3.1-8b-instruct", *RENTED, gpu="l40")
    assert 'hardware.gpu: there is no GPU "l40" in the catalogue (did you mean "l40s"?)' in refused(wish)
    known = request("llama-3.1-8b-instruct", *RENTED, gpu="a100_80")
    assert "hardware.gpu: a100_80 is not among the machines that can be had here (valid: h100_sxm, l4, l40s)" in refused(known)
    typed = request("llama-3.1-8b-instruct", *RENTED, instance_type="4xl44")
    assert 'hardware.instance_type: 4xl44 is not among the machines that can be had here (did you mean "4xl4"?)' in refused(typed)
    away = request("llama-3.1-8b-instruct", *RENTED, gpu="h200", elsewhere={"h200": ("eu-north-1", "us-east-1")})
    assert "hardware.gpu: h200 is not offered in this region (it is in eu-north-1, us-east-1)" in refused(away)
    pair = request("llama-3.1-8b-instruct", *RENTED, gpu="l4", instance_type="1xl40s")
    assert "hardware.instance_type: 1xl40s has no l4 (leave gpu or instance_type out)" in refused(pair)
    assert "hardware.gpu: l4: no machine here has a GPU" in refused(request("llama-3.1-8b-instruct", gpu="l4"))


def test_a_refusal_names_the_nearest_that_fits() -> None:
    text = refused(request("llama-3.3-70b-instruct", A100X2, H100X8, gpu="a100_80", quant="bf16", context=32768))
    assert "model.context: llama-3.3-70b-instruct as bf16 does not fit: 2xa100_80: weights" in text
    assert "less than one request of 32,768" in text
    assert "what fits: context: " in text
    assert "; quant: " in text
    assert "; gpu: h100_sxm on 1 x 8xh100_sxm, 55.00 USD per hour" in text


def test_the_nearest_context_fits_and_one_step_more_does_not() -> None:
    def wish(context: int) -> SizingRequest:
        return request("llama-3.3-70b-instruct", A100X2, quant="bf16", concurrency=1, context=context)

    offered = re.search(r"what fits: context: (\d+)K", refused(wish(65536)))
    assert offered is not None
    tokens = 1024 * int(offered[1])
    assert size(wish(tokens)).max_model_len == tokens
    refused(wish(tokens + 1024))


def test_a_pair_that_cannot_be_is_the_reason_of_that_machine() -> None:
    found = explore(request("llama-3.1-8b-instruct", machine("t4", 1, 0.5), L40S, quant="mxfp4"), VLLM)
    assert all(not one.fits and one.loaded is None for one in found)
    assert {one.reason for one in found} != {""}


def test_more_context_than_the_model_has_names_both_numbers() -> None:
    text = refused(request("llama-3.1-8b-instruct", L40S, context=262_144))
    assert "model.context: 262,144 tokens are more than the 131,072 that the model was made for" in text


def test_files_beyond_main_memory_are_a_warning() -> None:
    small = machine("h100_sxm", 4, 1.0, memory_bytes=64 * GIB)
    found = size(request("llama-3.3-70b-instruct", small))
    assert any("131.4 GiB of model files pass through 64.0 GiB of main memory on 4xh100_sxm" in one for one in found.warnings)
    assert not size(request("llama-3.3-70b-instruct", machine("h100_sxm", 4, 1.0, memory_bytes=512 * GIB))).warnings


def test_an_unknown_gpu_has_no_prediction() -> None:
    bare = gpu("l40s")
    unknown = MachineType("own", type(bare)("mystery", "Mystery", "ada", (8, 9), 48 * GIB, 0.0, {}), 1, 48 * GIB)
    found = size(request("llama-3.1-8b-instruct", unknown))
    assert found.throughput is None
    assert not any("prediction" in one for one in found.explanation)


def test_equal_wishes_give_equal_answers() -> None:
    wish = request("llama-3.3-70b-instruct", *RENTED, concurrency=4)
    turned = request("llama-3.3-70b-instruct", *reversed(RENTED), concurrency=4)
    assert explore(wish, VLLM) == explore(wish, VLLM) == explore(turned, VLLM)


def test_a_region_without_machines_is_not_this_machine() -> None:
    elsewhere = {"g6e.xlarge": ("us-east-1", "us-west-2")}
    with pytest.raises(StackError) as error:
        choose(request("llama-3.1-8b-instruct", region="us-est-1", elsewhere=elsewhere), VLLM)
    assert 'region: no machines are known in "us-est-1" (did you mean "us-east-1"?' in str(error.value)


def test_without_prices_the_smallest_machine_with_the_same_gpus_is_taken() -> None:
    large = machine("l40s", 1, None, name="g6e.16xlarge", memory_bytes=512 * GIB, vcpus=64)
    small = machine("l40s", 1, None, name="g6e.xlarge", memory_bytes=32 * GIB, vcpus=4)
    found = choose(request("llama-3.1-8b-instruct", large, small), VLLM)
    assert [one.machine.name for one in found.candidates] == ["g6e.xlarge", "g6e.16xlarge"]


def test_too_many_replicas_for_the_machines_of_ones_own_name_how_many_there_is_room_for() -> None:
    own = machine("l40s", 2, None, available=1)
    with pytest.raises(StackError, match=r"replicas: .*what fits: replicas: 2\)"):
        choose(request("llama-3.1-8b-instruct", own, replicas=5), VLLM)


def test_a_gpu_that_comes_in_several_forms_names_them() -> None:
    with pytest.raises(StackError, match=r'did you mean "h100_pcie" or "h100_sxm"\?'):
        choose(request("llama-3.1-8b-instruct", machine("l40s", 1), gpu="h100"), VLLM)


def test_no_gpu_at_all_says_what_to_do() -> None:
    with pytest.raises(StackError, match=r"l40s: no machine here has a GPU \(say which GPUs the machines have, or `gpu: none`"):
        choose(request("llama-3.1-8b-instruct", MachineType("box", None, 0, 0, available=1), gpu="l40s"), VLLM)
