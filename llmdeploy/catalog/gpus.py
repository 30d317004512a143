"""The GPUs that llmdeploy knows, from `gpus.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict

from ..machine import Gpu
from ..prices import Confidence
from .shipped import table

Format = Literal["bf16", "fp16", "fp8", "int8", "fp4"]


class GpuCertainty(TypedDict):
    """How well the figures of a row are known."""

    memory: Confidence
    bandwidth: Confidence
    tflops: Confidence


class OwnGpu(TypedDict):
    """One kind of GPU, as users may add it.

    capability: CUDA compute capability, major and minor; None where there is no CUDA. memory_gib: what CUDA reports as total.
    tflops: dense, 10^12 operations per second, by number format; a format without hardware is left out. link_gb_per_s: NVLink,
    10^9 bytes per second, 0 without.
    """

    title: str
    architecture: str
    capability: list[int] | None
    memory_gib: float
    bandwidth_gb_per_s: float
    tflops: dict[Format, float]
    link_gb_per_s: NotRequired[float]
    watts: NotRequired[int]
    notes: NotRequired[str]


class GpuRow(OwnGpu):
    """One kind of GPU with its source, and how well it is known."""

    source: str
    confidence: GpuCertainty


_ORDER: tuple[Confidence, ...] = ("seen", "derived", "unverified")


def rows() -> Mapping[str, GpuRow]:
    """Return every GPU that is shipped, by name."""
    return table("gpus")["gpus"]


def gpu_of(name: str, row: GpuRow, as_of: str) -> Gpu:
    """Return the GPU of a row. Its confidence is that of the figure that is known worst."""
    certainty = row["confidence"]
    capability = row["capability"]
    return Gpu(
        name=name,
        title=row["title"],
        architecture=row["architecture"],
        capability=(capability[0], capability[1]) if capability else None,
        memory_bytes=int(row["memory_gib"] * 2**30),
        bandwidth=row["bandwidth_gb_per_s"] * 1e9,
        flops={kind: value * 1e12 for kind, value in row["tflops"].items()},
        link=row.get("link_gb_per_s", 0) * 1e9,
        watts=row.get("watts", 0),
        source=row["source"],
        as_of=as_of,
        confidence=_worst(certainty["memory"], certainty["bandwidth"], certainty["tflops"]),
        notes=row.get("notes", ""),
    )


def _worst(*certain: Confidence) -> Confidence:
    return max(certain, key=_ORDER.index)
