from __future__ import annotations

import pytest

from llmdeploy.catalog import Catalog, gpus
from llmdeploy.catalog.strict import check

GPUS = Catalog.load(None).gpus


@pytest.mark.parametrize("name", gpus.rows())
def test_every_row_is_whole(name: str) -> None:
    row = gpus.rows()[name]
    assert list(check(row, gpus.GpuRow)) == []
    assert row["source"]
    assert row["capability"] is None or len(row["capability"]) == 2


def test_every_gpu_that_is_known_is_there() -> None:
    assert set(GPUS) == {
        "t4", "a10g", "a10", "l4", "l40s", "rtx3090", "rtx4090", "rtx5090", "rtx_pro_4500", "rtx_pro_6000",
        "a100_40", "a100_80", "h100_sxm", "h100_pcie", "h200", "b200", "b300", "mi300x",
    }  # fmt: skip


def test_names_are_words_that_a_stack_file_takes() -> None:
    assert all(name == name.lower() and name.replace("_", "").isalnum() and len(name) <= 32 for name in GPUS)


def test_figures_come_in_the_units_of_the_noun() -> None:
    l40s = GPUS["l40s"]
    assert (l40s.capability, l40s.bandwidth, l40s.flops["fp8"], l40s.watts) == ((8, 9), 864e9, 733e12, 350)
    assert (l40s.link, GPUS["h100_sxm"].link) == (0.0, 900e9)
    assert (l40s.memory_bytes, l40s.confidence) == (int(44.39 * 2**30), "seen")


def test_a_format_without_hardware_is_not_there() -> None:
    assert "bf16" not in GPUS["t4"].flops
    assert "fp8" not in GPUS["a100_80"].flops
    assert {name for name, gpu in GPUS.items() if "fp4" in gpu.flops} == {
        "rtx5090",
        "rtx_pro_4500",
        "rtx_pro_6000",
        "b200",
        "b300",
    }


def test_the_a10g_of_a_cloud_is_not_the_a10() -> None:
    assert (GPUS["a10g"].flops["bf16"], GPUS["a10"].flops["bf16"]) == (70e12, 125e12)


def test_no_gpu_reports_as_much_memory_as_its_name_says() -> None:
    named_gb = {
        "t4": 16,
        "l4": 24,
        "a10g": 24,
        "l40s": 48,
        "a100_40": 40,
        "a100_80": 80,
        "h100_sxm": 80,
        "rtx5090": 32,
        "rtx_pro_6000": 96,
    }
    assert all(GPUS[name].memory_bytes < gb * 2**30 for name, gb in named_gb.items())


def test_the_confidence_of_a_gpu_is_that_of_its_worst_known_figure() -> None:
    assert (GPUS["h200"].confidence, GPUS["b300"].confidence, GPUS["rtx_pro_4500"].confidence) == (
        "seen",
        "derived",
        "unverified",
    )


def test_hardware_without_cuda_has_no_capability() -> None:
    assert {name for name, gpu in GPUS.items() if gpu.capability is None} == {"mi300x"}
