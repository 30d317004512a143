"""One GPU of each class that number formats and kernels depend on."""

from __future__ import annotations

from llmdeploy.machine import Gpu

GIB = 2**30


def gpu(name: str, capability: tuple[int, int] | None, gib: int = 80) -> Gpu:
    """Return a GPU of which only what the engine's rules read is set."""
    return Gpu(name, f"NVIDIA {name.upper()}", "", capability, gib * GIB, 0.0, {})


T4 = gpu("t4", (7, 5), 15)
A10G = gpu("a10g", (8, 6), 22)
A100 = gpu("a100_80", (8, 0), 79)
L4 = gpu("l4", (8, 9), 22)
H100 = gpu("h100", (9, 0), 79)
B200 = gpu("b200", (10, 0), 179)
RTX5090 = gpu("rtx5090", (12, 0), 31)
V100 = gpu("v100", (7, 0), 16)
MI300X = Gpu("mi300x", "AMD MI300X", "", None, 192 * GIB, 0.0, {})
