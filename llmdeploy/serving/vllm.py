"""vLLM, as the rest of llmdeploy sees it.

Checked against the real engine: `vllm_flags.json` is its own parser, dumped; every rendering is parsed by it, and the KV caches
of models of every kind are compared with what it reports, in the end-to-end tests. Numbers marked "measured" come from the CPU
build of 0.32.0 on an idle two-core machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ..diagnostics import Diagnostic, Diagnostics, nearest
from ..errors import NotBuilt
from ..machine import Gpu
from ..manifest import ModelFacts
from ..process import ProcessSpec
from . import advisories, vllm_kv, vllm_parallel, vllm_privacy, vllm_quant, vllm_render
from .attention import architecture
from .model import Device, Engine, KvLayout, KvRequest, Parallel, Quantization, RenderRequest, stack_error
from .vllm_args import TUNABLE, check_arg, refused

CPU_RUNTIME_BYTES: Final = 1800 * 10**6
"""Disk of the installed packages, compiled (measured)."""

CUDA_RUNTIME_BYTES: Final = 30 * 10**9
"""Disk of the unpacked container image and the kernels compiled into the cache. A planning value, not measured."""


class _Vllm:
    name = "vllm"
    default_version = "0.32.0"
    versions = ("0.32.0",)

    @cached_property
    def flags(self) -> Mapping[str, Mapping[str, Any]]:
        """Every option of the real parser, by name without dashes."""
        return json.loads(Path(__file__).with_name("vllm_flags.json").read_bytes())["flags"]

    @property
    def refused_args(self) -> Mapping[str, str]:
        return {name: refused(name) for name in self.flags if name not in TUNABLE}

    # --- the installed engine --------------------------------------------------------------------------------------------

    def requirements(self, version: str, device: Device) -> str:
        self._check_version(version)
        if device != "cpu":
            raise NotBuilt(f"vLLM on {device} in a virtual environment is not built; it runs in its container")
        return Path(__file__).with_name("vllm_cpu_requirements.txt").read_text(encoding="ascii")

    def image(self, version: str) -> str:
        self._check_version(version)
        return f"vllm/vllm-openai:v{version}"

    def runtime_disk_bytes(self, device: Device) -> int:
        return CPU_RUNTIME_BYTES if device == "cpu" else CUDA_RUNTIME_BYTES

    def _check_version(self, version: str) -> None:
        if version not in self.versions:
            hint = nearest(version, self.versions) or f"one of: {' '.join(self.versions)}"
            known = "".join(f"; {sentence}" for sentence in self.bypasses(version))
            raise stack_error("engine.version", f"vLLM {version} is not known to this version of llmdeploy{known}", hint=hint)

    # --- the model -------------------------------------------------------------------------------------------------------

    def quantize(self, model: ModelFacts, quant: str, gpu: Gpu | None) -> Quantization:
        return vllm_quant.quantize(model, quant, gpu)

    def quantizations(self, model: ModelFacts, gpu: Gpu | None) -> tuple[str, ...]:
        return vllm_quant.quantizations(model, gpu)

    def kv_layout(self, model: ModelFacts, request: KvRequest) -> KvLayout:
        return vllm_kv.kv_layout(architecture(model.config), request)

    def batched_tokens(self, concurrency: int, gpu: Gpu | None, args: Mapping[str, Any]) -> int:
        return vllm_parallel.batched_tokens(concurrency, gpu, args)

    def parallel_problem(self, model: ModelFacts, parallel: Parallel, quantization: Quantization) -> str:
        return vllm_parallel.parallel_problem(model, parallel, quantization)

    def overhead_bytes(self, device: Device) -> int:
        if device != "cpu":
            raise NotBuilt(f"the memory of vLLM on {device} is that of its GPUs")
        return vllm_render.CPU_OVERHEAD_BYTES

    def gpu_overhead_bytes(self, model: ModelFacts, parallel: Parallel, batched_tokens: int) -> int:
        return vllm_parallel.gpu_overhead_bytes(model, parallel, batched_tokens)

    def gpu_memory_fraction(self) -> float:
        return vllm_parallel.MEMORY_FRACTION

    # --- what it tells of itself ------------------------------------------------------------------------------------------

    def leaks(self, argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
        options = vllm_privacy.options_of(self.flags, argv)
        return (*vllm_privacy.runs_something_else(argv), *vllm_privacy.leaks(options, env))

    def reports(self, argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
        return vllm_privacy.reports(vllm_privacy.options_of(self.flags, argv), env)

    def keeps_content(self, argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
        return vllm_privacy.keeps_content(vllm_privacy.options_of(self.flags, argv), env)

    def bypasses(self, version: str) -> tuple[str, ...]:
        return advisories.bypasses(advisories.VLLM, version)

    # --- the process -----------------------------------------------------------------------------------------------------

    def check_args(self, args: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
        return tuple(finding for name, value in args.items() if (finding := check_arg(self.flags, name, value)))

    def render(self, request: RenderRequest) -> ProcessSpec:
        Diagnostics(list(self.check_args(request.extra_args))).raise_if_errors()
        return vllm_render.render(request)


VLLM: Final[Engine] = _Vllm()
